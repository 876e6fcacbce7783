"""The lifetime of a command that trains: its points, its sweeps, and the processes that write to MLflow."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import env_override
from hydra.types import RunMode
from omegaconf import DictConfig

from hydra_plugins.stacked_launcher import check_one_point, refused_launcher
from pipeline.sweep.agreement import Agreement, ResultsFolders, agreement_of
from pipeline.sweep.composed import environment_of, hydra_alone, read_asked, without_hydra
from pipeline.system import environment
from pipeline.system.errors import LabError, explain
from pipeline.system.last_line import doing
from pipeline.system.project import PROJECT, search_path

# NumPy and the code that trains are imported with the first point: --help and completion must answer at once.
if TYPE_CHECKING:
    from pipeline.config.schema import Config
    from pipeline.sweep.plan import DryRun
    from pipeline.sweep.predictions import Predictions
    from pipeline.sweep.sweep import Sweep
    from pipeline.sweep.workers.unit import Engine


class TrainCommand:
    """The lifetime of one training command: its sweeps, and the processes that write to MLflow.

    `train_point` is Hydra's task. Our launchers find this object through that bound method, and call `train_all`
    instead of it; see hydra_plugins/stacked_launcher.py. Both return the loss that judges each
    point (`Outcome.score`), as sweepers that search for the best point expect; NaN in a dry run and for a point that
    failed. A point with several repeats is trained once for each of its seeds; see `mean_score`.

    Points that differ in what a whole sweep has only once, such as the study, are trained as separate sweeps.

    Args:
        predicts: whether it predicts where the points break, instead of training them.

    Attributes:
        idle: whether nothing has been trained or written: a dry run, or all was done before.
        last_lines: what a sweeper leaves to be printed below all tables.
    """

    def __init__(self, predicts: bool = False) -> None:
        self.idle = True
        # Seconds since 1970: a budget is that of the whole command.
        self._begun = time.time()
        self.last_lines: list[str] = []
        self._predicts = predicts
        self._process = os.getpid()
        self._mlflow_processes: list[subprocess.Popen[bytes]] = []
        # Sweeps that may get further points, by what all points of a sweep agree on.
        self._sweeps: dict[Agreement, Sweep | DryRun | Predictions] = {}
        self._results = ResultsFolders(PROJECT)
        # The variables that `hydra.job.env_set` sets; None: no point has been read yet.
        self._environment: dict[str, str] | None = None
        # The folders of Hydra's search path, with which the code of a model of one's own may lie.
        self._configs: list[Path] = []
        self._errors: list[LabError] = []

    def train_point(self, composed: DictConfig) -> float:
        """Train one point: the only one of the command, or the next of a sweep with Hydra's basic launcher.

        Raises:
            LabError: the config is invalid, or the launcher or an override of Hydra cannot be used.
        """
        hydra = HydraConfig.get()
        if os.getpid() != self._process:
            raise refused_launcher(hydra)
        # The basic launcher does not say how many points it will run.
        total = None
        if hydra.mode == RunMode.RUN:
            total = 1
            check_one_point(hydra.overrides.hydra)
        self._set_environment([environment_of(hydra)])
        self._configs = search_path(hydra)
        return self._train([(composed, list(hydra.overrides.task))], total)[0]

    def train_all(
        self, composed: Sequence[DictConfig], total: int | None, engine: Engine | None = None
    ) -> Sequence[float]:
        """Train points of a sweep: all of them, or some of those that a sweeper chooses one after the other.

        Args:
            composed: a config for each point, including Hydra's own section.
            total: number of points of the command; None: unknown, because further ones may follow.
            engine: trains the points on workers; None: they are trained in this process.

        Returns:
            The scores in the order of the points.

        Raises:
            LabError: the points cannot be trained by one command; nothing is trained.
        """
        if not composed:
            raise LabError("The grid has no points.", received="a glob that nothing matches", fix="see --help")
        # Copying the section takes a while, and hardly ever are there variables.
        self._set_environment(
            [environment_of(hydra_alone(config)) if config.hydra.job.env_set else {} for config in composed]
        )
        self._configs = search_path(composed[0].hydra)
        requests = [(without_hydra(config), list(config.hydra.overrides.task)) for config in composed]
        batch_size = composed[0].hydra.sweeper.get("max_batch_size")
        return self._train(requests, total, batch_size, engine)

    def finish(self) -> None:
        """Close all sweeps, and end the processes that write to MLflow.

        Raises:
            LabError: some points failed; the message lists them.
        """
        try:
            with env_override(self._environment or {}):
                for key in list(self._sweeps):
                    self._finish_sweep(key)
            for line in self.last_lines:
                print(line, flush=True)
        finally:
            if self._mlflow_processes:
                from pipeline.tracking.sync.process import end

                for process in self._mlflow_processes:
                    end(process)
        if self._errors:
            raise LabError("\n".join(dict.fromkeys(map(str, self._errors))))

    def _set_environment(self, environments: Sequence[dict[str, str]]) -> None:
        """Use the variables that `hydra.job.env_set` sets, which have to be the same for all points.

        Raises:
            LabError: the points have different ones, or one is fixed in system/environment.py.
        """
        for wanted in environments:
            environment.refuse_fixed(wanted)
            if self._environment not in (None, wanted):
                raise LabError(
                    "The points of one command share one process, and so its environment.",
                    expected=f"the same hydra.job.env_set for all points, {self._environment}",
                    received=str(wanted),
                    fix="run one command for each environment",
                )
            self._environment = wanted

    def _launch(self, configs: Sequence[Config]) -> subprocess.Popen[bytes] | None:
        """Start a process that writes a sweep to MLflow, unless the sweep needs none."""
        from pipeline.tracking.sync.process import launch

        # Keras models can only be written by this process, so one point on Keras decides.
        deciding = next((config for config in configs if config.backend.name == "keras"), configs[0])
        process = launch(deciding)
        if process is not None:
            self._mlflow_processes.append(process)
        return process

    def _train(
        self,
        requests: Sequence[tuple[DictConfig, list[str]]],
        total: int | None,
        batch_size: int | None = None,
        engine: Engine | None = None,
    ) -> list[float]:
        from pipeline.sweep.seeds import for_number, mean_score, repeated

        points: list[tuple[Config, list[str]]] = []
        # For each request the indices of its points, one for each seed.
        seeds: list[range] = []
        with doing("checking points", len(requests)) as step:
            for composed, overrides in requests:
                own = repeated(read_asked(composed, self._configs, self._predicts), overrides)
                seeds.append(range(len(points), len(points) + len(own)))
                points += own
                step.count(len(seeds), len(requests))
        number = None
        if total is not None:
            number = len(points)
        points = [(for_number(config, number), overrides) for config, overrides in points]
        groups: dict[Agreement, list[int]] = {}
        for index, (config, _) in enumerate(points):
            groups.setdefault(agreement_of(config), []).append(index)
        # A prediction writes no results.
        for key in () if self._predicts else groups:
            self._results.add(key, total)
        # None: the point failed, or it is a dry run.
        scores: list[float | None] = [None] * len(points)
        with env_override(self._environment or {}):
            for key, members in groups.items():
                chosen = [points[index] for index in members]
                try:
                    found = self._scores_before(key, chosen, total, engine)
                    if found is None:
                        outcomes = self._sweeps[key].train_all(chosen, batch_size)
                        found = [None if outcome is None else outcome.score for outcome in outcomes]
                except Exception as error:  # noqa: BLE001 - an error of our own must not stop the other sweeps either
                    self._errors.append(explain(error))
                    continue
                for index, score in zip(members, found, strict=True):
                    scores[index] = score
                if key in self._sweeps and total is not None:
                    self._finish_sweep(key)
        return [mean_score([scores[index] for index in indices]) for indices in seeds]

    def _scores_before(
        self, key: Agreement, points: Sequence[tuple[Config, list[str]]], total: int | None, engine: Engine | None
    ) -> Sequence[float | None] | None:
        """Return the scores of points of which an earlier command has left nothing to do; None: they are to be trained.

        The sweep of such points is begun, unless earlier points of the command have begun it.
        """
        if key in self._sweeps:
            return None
        first = points[0][0]
        if self._predicts:
            from pipeline.sweep.predictions import Predictions

            self._sweeps[key] = Predictions(PROJECT, first)
            return None
        if first.dry_run:
            from pipeline.sweep.plan import DryRun

            self._sweeps[key] = DryRun(PROJECT, first)
            return None
        from pipeline.sweep.finished import scores_again
        from pipeline.sweep.jobs import JobMaker

        maker = JobMaker(PROJECT, first)
        # While further points may follow, nothing has ended.
        if total is not None:
            scores = scores_again(maker, points)
            if scores is not None:
                return scores
        self.idle = False
        process = self._launch([config for config, _ in points])
        number = None
        if total is not None:
            number = len(points)
        # After the launch: this import is slow, and meanwhile the process imports MLflow.
        with doing("importing libraries"):
            from pipeline.sweep.sweep import Sweep
        sweep = Sweep(PROJECT, first, number, process, engine, maker)
        if first.budget is not None:
            sweep.end_at(self._begun + first.budget)
        self._sweeps[key] = sweep
        return None

    def _finish_sweep(self, key: Agreement) -> None:
        """Close a sweep, and keep the error that says which of its points failed."""
        try:
            self._sweeps.pop(key).finish()
        except Exception as error:  # noqa: BLE001 - an error of our own must not keep the other sweeps open
            self._errors.append(explain(error))
