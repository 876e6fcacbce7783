"""Make the jobs of a command: each of its points with its name, its signature and its folder.

Imports nothing that trains, draws or writes to MLflow, so that a command with nothing to do answers at once.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.config.schema import Config
from pipeline.points.folder import PointFolder
from pipeline.points.identity import signature
from pipeline.points.job import Job
from pipeline.points.point import knobs, name_of
from pipeline.points.repeats import distance, seeds_of
from pipeline.sweep.shared_arrays import SharedArrays
from pipeline.system.engines import DEFAULT, keras_engine
from pipeline.system.last_line import doing
from pipeline.system.project import store_root


class JobMaker:
    """Makes jobs, and holds the data that their signatures depend on.

    Args:
        project: folder that contains data/; the points are in .points/ of its `store_root`.
        first: config of the first point. Points on another backend are named after that, and repeats of another split
            after their split seed.
        shown: whether the terminal says that the data is read.

    Raises:
        LabError: the data of the first point is missing.

    Example:
        job = JobMaker(project, config).job(config, ["optimizer.learning_rate=0.1"])
    """

    def __init__(self, project: Path, first: Config, shown: bool = True) -> None:
        self.project = project
        self.root = store_root(project)
        self.first = first
        self.data = SharedArrays(project)
        # This reports missing data, before anything is written.
        with doing(f"reading {first.data.name}", shown=shown):
            self.data.load(first)

    def job(self, config: Config, overrides: list[str]) -> Job:
        """Make the job of a point from its config and the overrides typed for it.

        Raises:
            LabError: the data of the point is missing; or Keras has no engine.
        """
        data = self.data.outline(config)
        named = knobs(config, overrides)
        if config.backend.name != self.first.backend.name:
            # Otherwise the same point on two backends would have one name.
            named["backend"] = config.backend.name
        if config.repeats_split and distance(seeds_of(config)) != distance(seeds_of(self.first)):
            named["split_seed"] = str(seeds_of(config)[1])
        if config.backend.name == "keras" and keras_engine() != DEFAULT:
            named["engine"] = keras_engine()
        sign = signature(config, data.checksums, data.row_shape)
        return Job(config, overrides, name_of(named), sign, PointFolder(self.root, sign), named)
