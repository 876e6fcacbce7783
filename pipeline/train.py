"""Train one point, or a grid of points.

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

from pipeline.system import cli, environment
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT

# NumPy and the code that trains are imported with the first point: --help and completion must answer at once.
if TYPE_CHECKING:
    from pipeline.config.schema import Config
    from pipeline.points.point import Outcome
    from pipeline.sweep.sweep import Sweep
    from pipeline.sweep.workers.unit import Engine


class TrainCommand:
    """The lifetime of one training command: its sweep, and the process that writes to MLflow.

    `train_point` is Hydra's task. Our launchers find this object through that bound method, and call `begin` and
    `train_all` instead of it; see hydra_plugins/stacked_launcher.py.

    Example:
        command = TrainCommand()
        sys.exit(cli.run(command.train_point, "config", command.finish))
    """

    def __init__(self) -> None:
        self._mlflow_process: subprocess.Popen[bytes] | None = None
        self._sweep: Sweep | None = None

    def train_point(self, composed: DictConfig) -> Outcome | None:
        """Train one point: the only one of the command, or the next of a sweep with Hydra's basic launcher."""
        hydra = HydraConfig.get()
        environment.refuse_fixed(hydra.job.env_set)
        # The basic launcher does not say how many points it will run.
        total = 1 if hydra.mode == RunMode.RUN else None
        return self._train([(composed, list(hydra.overrides.task))], total)[0]

    def begin(self, composed: DictConfig) -> None:
        """Start the process that writes to MLflow with the config of a sweep's first point."""
        # The process imports MLflow while Hydra composes the other points.
        self._start_mlflow_process(_read(_without_hydra(composed)))

    def train_all(self, composed: Sequence[DictConfig], engine: Engine | None = None) -> Sequence[Outcome | None]:
        """Train all points of a sweep.

        Args:
            composed: a config for each point, including Hydra's own section.
            engine: trains the points on workers; None: they are trained in this process.

        Returns:
            Outcomes in the order of the points; None in a dry run and for a point that failed.
        """
        for config in composed:
            environment.refuse_fixed(config.hydra.job.env_set)
        requests = [(_without_hydra(config), list(config.hydra.overrides.task)) for config in composed]
        return self._train(requests, len(requests), engine)

    def finish(self) -> None:
        """Close the sweep, and end the process that writes to MLflow.

        Raises:
            LabError: some points failed; the message lists them.
        """
        try:
            if self._sweep is not None:
                self._sweep.finish()
        finally:
            if self._mlflow_process is not None:
                from pipeline.tracking.sync.process import end

                end(self._mlflow_process)

    def _start_mlflow_process(self, first: Config) -> None:
        """Start the process that writes to MLflow, unless it has been started."""
        from pipeline.tracking.sync.process import launch

        # `launch` returns None when no process is needed, as in a dry run or for Keras; then it is simply asked again.
        if self._mlflow_process is None:
            self._mlflow_process = launch(first)

    def _train(
        self, requests: Sequence[tuple[DictConfig, list[str]]], total: int | None, engine: Engine | None = None
    ) -> Sequence[Outcome | None]:
        if not requests:
            raise LabError("The grid has no points.", received="a glob that nothing matches", fix="see --help")
        points = [(_read(composed), overrides) for composed, overrides in requests]
        first = points[0][0]
        self._start_mlflow_process(first)
        # After the launch: this import and reading the data are slow, and meanwhile the process imports MLflow.
        from pipeline.sweep.sweep import Sweep

        if self._sweep is None:
            self._sweep = Sweep(PROJECT, first, total, self._mlflow_process, engine)
        return self._sweep.train_all(points)


def _without_hydra(config: DictConfig) -> DictConfig:
    # A launcher passes complete configs, while Hydra removes its section before it calls a task.
    with open_dict(config):
        return OmegaConf.masked_copy(config, [key for key in map(str, config) if key != "hydra"])


def _read(composed: DictConfig) -> Config:
    from pipeline.config.reading import read_config

    plain: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    return read_config(plain)


if __name__ == "__main__":
    command = TrainCommand()
    sys.exit(cli.run(command.train_point, "config", command.finish))
