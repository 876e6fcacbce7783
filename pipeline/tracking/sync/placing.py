"""Places the runs of a sweep's points in MLflow: below which run, and with which names and colours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.config.schema import Config
from pipeline.tracking.pages.labels import Labels
from pipeline.tracking.pages.presentation import point_tags
from pipeline.tracking.sync.points import PointSync
from pipeline.tracking.tracker import Tracker


@dataclass(frozen=True)
class Placing:
    """Where MLflow shows the runs of the points of a sweep.

    Attributes:
        shown: the labels of its points.
        sweep_tags: the tags that the runs of all its points have.
    """

    shown: Labels
    sweep_tags: Mapping[str, str]

    def tags(self, name: str, config: Config) -> dict[str, str]:
        """Return the tags that place the run of the point of this name."""
        return {**point_tags(name, config, self.shown), **self.sweep_tags}

    def place(self, tracker: Tracker, point: PointSync) -> None:
        """Place the run of a point, if it has one that is not placed like this."""
        if point.run_id is None or point.folder.config is None:
            return
        tags = self.tags(point.attempt.name, point.folder.config)
        if tags != point.placement:
            point.place(tracker, tags)
