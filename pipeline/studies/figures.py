"""The figures of a point, a sweep and a study, as their kind draws them. Nothing here writes files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.drawing.axes import Figures
from pipeline.points.point import Point
from pipeline.studies.grids import Backends
from pipeline.studies.kinds import kind_of, parts, study_kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def point_figures(config: Config, history: History) -> Figures:
    """The figures of one point by name."""
    return kind_of(config).point_figures(config, history)


def sweep_figures(points: Sequence[Point]) -> Figures:
    """The figures of a sweep by name; maps have no part in them."""
    for kind, members in parts(points):
        yield from kind.sweep_figures(members)


def study_figure(study: str, backends: Backends) -> Figure:
    """The one picture of a study that answers its question.

    Args:
        study: its name, for the title.
        backends: the points of each backend; at least one of one.
    """
    return study_kind(next(iter(backends.values()))).study_figure(study, backends)
