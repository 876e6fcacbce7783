"""Stage 3: train one point, or a grid of them.

python -m pipeline.train experiment=three_bits
python -m pipeline.train -m optimizer.learning_rate=0.001,0.01 model.hidden_size=32,128
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from pipeline.system import cli
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT

if TYPE_CHECKING:  # NumPy and what trains are imported with the first point: --help and completion need none of it
    from pipeline.config.schema import Config
    from pipeline.points.point import Outcome
    from pipeline.sweep.sweep import Sweep
    from pipeline.sweep.workers.unit import Engine


class TrainCommand:
    """One command, from its first point to its end: the process that writes to MLflow, and the sweep.

    `train_point` is Hydra's task; our launchers call `begin` and `train_all` in its place.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._sweep: Sweep | None = None

    def train_point(self, composed: DictConfig) -> Outcome | None:
        """Train one point, single or of a sweep that trains its points one by one."""
        hydra = HydraConfig.get()
        total = 1 if hydra.mode == RunMode.RUN else None
        return self._train([(composed, list(hydra.overrides.task))], total)[0]

    def begin(self, composed: DictConfig) -> None:
        """Take the first point of a sweep: MLflow is imported while Hydra composes the others."""
        self._launch(_read(_without_hydra(composed)))

    def train_all(self, composed: Sequence[DictConfig], engine: Engine | None = None) -> Sequence[Outcome | None]:
        """Train all points of a sweep.

        Args:
            composed: a config for each point, which still holds Hydra's own part.
            engine: what runs workers, where the launcher has some.
        """
        requests = [(_without_hydra(config), list(config.hydra.overrides.task)) for config in composed]
        return self._train(requests, len(requests), engine)

    def finish(self) -> None:
        """Close what the command opened.

        Raises:
            LabError: telling every point that failed.
        """
        try:
            if self._sweep is not None:
                self._sweep.finish()
        finally:
            if self._process is not None:
                from pipeline.tracking.sync.process import end

                end(self._process)

    def _launch(self, first: Config) -> None:
        """Start the process that writes to MLflow, unless it was started."""
        from pipeline.tracking.sync.process import launch

        if self._process is None:
            self._process = launch(first)

    def _train(
        self, requests: Sequence[tuple[DictConfig, list[str]]], total: int | None, engine: Engine | None = None
    ) -> Sequence[Outcome | None]:
        if not requests:
            raise LabError("The grid has no points.", received="a glob that nothing matches", fix="see --help")
        points = [(_read(composed), overrides) for composed, overrides in requests]
        first = points[0][0]
        self._launch(first)
        from pipeline.sweep.sweep import Sweep  # takes a while, like the reading of the data; the process uses the time

        if self._sweep is None:
            self._sweep = Sweep(PROJECT, first, total, self._process, engine)
        return self._sweep.train_all(points)


def _without_hydra(config: DictConfig) -> DictConfig:
    with open_dict(config):
        return OmegaConf.masked_copy(config, [key for key in map(str, config) if key != "hydra"])


def _read(composed: DictConfig) -> Config:
    from pipeline.config.reading import read_config

    plain: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    return read_config(plain)


if __name__ == "__main__":
    command = TrainCommand()
    sys.exit(cli.run(command.train_point, "config", command.finish))
