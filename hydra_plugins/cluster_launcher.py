"""A Hydra launcher that distributes a sweep with another launcher, in units that train as one stack.

The other launcher is the engine: Hydra's launcher for joblib, Ray or SLURM. Control passes back and forth:

1. `launch` of this launcher calls `train_all` of the command with the configs of all points, as the stacked launcher
   does, and with itself as `engine`.
2. The command (`pipeline.sweep.workers.distribution`) splits the points into units and calls `run` of this launcher.
3. `run` calls `launch` of the engine's launcher, for which each unit is one Hydra job on a worker.

A command without a method `train_all` has its points run by the engine, one Hydra job for each.
"""

import json
import logging
import os
import shutil
import signal
import socket
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from hydra_plugins.stacked_launcher import StackedLauncher
from pipeline.system.errors import EngineError, LabError
from pipeline.system.processes import COMMAND_PROCESS, cores, threads_to_use
from pipeline.system.signals import NOTICES, SIGNALS, interruptions

log = logging.getLogger(__name__)
# How long to wait for an answer from the Ray cluster.
REACH_SECONDS = 10.0
# Launchers whose plugins store a config with the name of our file. Hydra would use it as the schema of our file.
LAUNCHERS_WITH_SCHEMA = ("joblib", "ray")
# The variable that limits the threads of a worker. Ray sets it, and for SLURM conf/hydra/launcher/slurm.yaml does.
THREADS = "OMP_NUM_THREADS"


class OwnConfigs(SearchPathPlugin):
    """Makes Hydra read our files in conf/hydra/launcher/ without the schemas that the plugins of engines store."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Remove the plugins' configs from Hydra's store, and leave the search path as it is."""
        # Hydra calls this when it has imported all plugins, so their configs are in the store by now.
        launchers = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
        for name in LAUNCHERS_WITH_SCHEMA:
            launchers.pop(f"{name}.yaml", None)


class ClusterLauncher(StackedLauncher):
    """Passes the points of a sweep to the command together with an engine, which is this object; see the module.

    Args:
        name: the name of the engine: joblib, ray or slurm.
        engine: config of the engine's launcher, with its `_target_`.
        workers: number of units that run at the same time; null: the number of cores of this machine.
        shared_disk: whether workers see this project's folder under the same path.

    Raises:
        LabError: a value cannot be used.
    """

    def __init__(self, name: str, engine: DictConfig, workers: int | None, shared_disk: bool = True) -> None:
        # In Python True is an int too.
        if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 1):
            raise LabError(
                "hydra.launcher.workers cannot be used.", expected="a whole number from 1", received=repr(workers)
            )
        if not isinstance(shared_disk, bool):
            raise LabError(
                "hydra.launcher.shared_disk cannot be used.", expected="true or false", received=repr(shared_disk)
            )
        self.name = name
        self.shared_disk = shared_disk
        self.workers = workers or cores()
        # Threads of each worker on this machine: its share of those that this process may use.
        self.threads = max(threads_to_use(None) // self.workers, 1)
        self.engine: DictConfig | ListConfig = engine
        if name == "joblib":
            # `workers` may be null in conf/, which joblib itself would treat as one process.
            self.engine = OmegaConf.merge(engine, {"n_jobs": self.workers})

    def train(self, train_all: Callable[..., Sequence[Any]], configs: Sequence[DictConfig]) -> Sequence[Any]:
        """Call `train_all`, which passes units of these points to `run`, and return a result for each point.

        Raises:
            LabError: the engine's packages are not installed, or the engine cannot be reached.
        """
        # Before `train_all` writes anything, these calls check that the engine can be used.
        self._launcher(self.task_function)
        if self.name == "slurm":
            _find_programs()
        if self.name == "ray":
            _reach(OmegaConf.select(self.engine, "ray.init.address"))
        return train_all(configs, total=self.total, engine=self)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch of points, and return a JobReturn for each, in order."""
        # Hydra composes a unit's job from overrides. Those of the first point serve for all units, because the points
        # in a unit have their own configs.
        self._overrides: list[str] = []
        if job_overrides:
            self._overrides = list(job_overrides[0])
        if hasattr(self.command, "train_all"):
            return super().launch(job_overrides, initial_job_idx)
        returns: Sequence[JobReturn] = self._launcher(self.task_function).launch(job_overrides, initial_job_idx)
        return returns

    def run(self, task: Callable[[DictConfig], Any], units: Sequence[str]) -> list[Any]:
        """Call a task on workers, once for each unit; see `pipeline.sweep.workers.unit.Engine`.

        Raises:
            EngineError: the engine did not return every unit.
        """
        launcher = self._launcher(task)
        self._prepare()
        if not self.config.hydra.verbose:
            # The engines' launchers log each unit with the overrides of the first point, which would be misleading.
            logging.getLogger("hydra_plugins").setLevel(logging.WARNING)
        jobs = self._job_overrides(units)
        handlers = {number: signal.getsignal(number) for number in (*SIGNALS, *NOTICES)}
        before = interruptions()
        try:
            if self.name == "ray":
                self._start_ray()
                # Ray sets handlers that would end this process at once, without closing its runs.
                for number, handler in handlers.items():
                    signal.signal(number, handler)
            return [returned.return_value for returned in launcher.launch(jobs, 0)]
        except LabError:
            raise
        except KeyboardInterrupt:
            self._clean_up()
            raise
        except Exception as error:
            # Each engine has its own exceptions for a lost worker, without a common base class.
            log.debug("%s", traceback.format_exc())
            self._clean_up()
            # The signal may have ended a worker too, whose loss the engine then raises instead.
            if interruptions() > before:
                raise KeyboardInterrupt from None
            raise EngineError(
                f"{self.name} did not return every unit.",
                received=" ".join([f"{type(error).__name__}:", *str(error).split("\n")[:2]]),
                fix="run the same command to resume from the last checkpoints; hydra.verbose=true shows the traceback",
            ) from error

    def _job_overrides(self, units: Sequence[str]) -> list[list[str]]:
        """Return the overrides of a Hydra job for each unit."""
        # The path is absolute, because a worker has its own working directory, and quoted, because it may contain
        # characters that Hydra would parse. A unit needs no folder .hydra.
        folder = json.dumps(str(Path(str(self.config.hydra.sweep.dir)).absolute()))
        common = [*self._overrides, f"hydra.sweep.dir={folder}", "hydra.output_subdir=null"]
        return [[*common, f"hydra.sweep.subdir=unit_{number}", f'+unit="{text}"'] for number, text in enumerate(units)]

    def _prepare(self) -> None:
        """Set up this process for its engine."""
        if self.name == "joblib":
            # joblib starts its processes with the environment of this one.
            os.environ[THREADS] = str(self.threads)
            os.environ[COMMAND_PROCESS] = str(os.getpid())
        elif self.name == "slurm":
            from pipeline.sweep.workers.slurm_queue import watch_queue

            watch_queue()

    def _start_ray(self) -> None:
        """Connect to the cluster, or start one on this machine, as the engine's launcher would do."""
        # Not left to that launcher: the signal handlers have to be restored between this and the first unit.
        import ray

        if not ray.is_initialized():
            options: Any = OmegaConf.to_container(self.engine.ray.init, resolve=True)
            ray.init(**options)

    def _clean_up(self) -> None:
        """End workers that still run after an interruption or a loss, so that none runs during the next attempt."""
        if self.name == "ray":
            import ray

            # Otherwise the next attempt would use the connection to a cluster that may have ended.
            ray.shutdown()
        elif self.name == "slurm":
            from pipeline.sweep.workers.slurm_queue import cancel_jobs

            cancel_jobs()

    def _launcher(self, task: Callable[[DictConfig], Any]) -> Any:
        """Make the engine's launcher for a task.

        Raises:
            LabError: the engine's packages are not installed.
        """
        try:
            launcher = instantiate(self.engine, _recursive_=False)
        except (HydraException, ImportError) as error:
            # Hydra wraps an ImportError once or twice. The innermost one names the package.
            causes = [error, error.__cause__, getattr(error.__cause__, "__cause__", None)]
            missing = [cause for cause in causes if isinstance(cause, ImportError)]
            if not missing:
                raise
            raise LabError(
                f"hydra/launcher={self.name} needs packages that are not installed.",
                expected="those of the extra `cluster` of pyproject.toml, which `make cluster` installs with others",
                received=str(missing[-1]),
                fix="make cluster",
            ) from None
        launcher.setup(hydra_context=self.hydra_context, task_function=task, config=self.config)
        return launcher


def _find_programs() -> None:
    """Check that jobs can be submitted to SLURM from this machine.

    Raises:
        LabError: a program of SLURM is missing.
    """
    missing = [name for name in ("sbatch", "srun", "squeue", "scancel") if shutil.which(name) is None]
    if missing:
        raise LabError(
            "SLURM is not available on this machine.",
            expected="sbatch, srun, squeue and scancel on PATH",
            received=f"no {', '.join(missing)}",
            fix="run the command on a login node of the cluster",
        )


def _reach(address: str | None) -> None:
    """Check that a Ray cluster answers.

    Raises:
        LabError: the cluster does not answer.
    """
    # Ray itself would try for a quarter of an hour. Other forms of an address, such as `auto`, are left to it.
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit() and "//" not in host:
        try:
            socket.create_connection((host, int(port)), REACH_SECONDS).close()
        except OSError as error:
            raise LabError(
                "The Ray cluster does not answer.",
                expected=f"its head node at {address}",
                received=error.strerror or str(error),
                fix="run `ray start --head` there, or fix hydra.launcher.engine.ray.init.address",
            ) from None
