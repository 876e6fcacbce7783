"""A Hydra launcher that distributes a sweep with another launcher, in units that train as one stack.

The other launcher is the engine: Hydra's launcher for joblib, Ray or SLURM. As with the stacked launcher, `train_all`
gets the configs of all points in one call. It also gets an `engine`, whose method `run` calls a function on workers.
For the engine's launcher each such call is one Hydra job. A task without a method `train_all` is handed to the engine
point by point.
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
from pipeline.system.processes import cores
from pipeline.system.signals import SIGNALS

log = logging.getLogger(__name__)
# How long to wait for an answer of the Ray cluster.
REACH_SECONDS = 10.0
# Launchers whose plugins store a config under the name of our file. Hydra would use it as the schema of our file.
OWN = ("joblib", "ray")
# The variables by which NumPy's libraries and TensorFlow limit their threads.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


class OwnConfigs(SearchPathPlugin):
    """Makes Hydra read our files in conf/hydra/launcher/ without the schemas that the plugins of engines store."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Remove the plugins' configs from Hydra's store, and leave the search path as it is."""
        # Hydra calls this when it has imported all plugins, so their configs are in the store by now.
        launchers = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
        for name in OWN:
            launchers.pop(f"{name}.yaml", None)


class ClusterLauncher(StackedLauncher):
    """Hands the points of a sweep to the task together with an engine; see the module.

    Args:
        name: the name of the engine: joblib, ray or slurm.
        engine: config of the engine's launcher, with its `_target_`.
        workers: how many units run at the same time; null: as many as this machine has cores.
        shared_disk: whether workers see this project's folder under the same path.
        threads: how many threads each worker on this machine uses; null: its share of the cores. On other machines the
            engine decides.

    Raises:
        LabError: a value cannot be used.
    """

    def __init__(
        self, name: str, engine: DictConfig, workers: int | None, shared_disk: bool = True, threads: int | None = None
    ) -> None:
        for key, number in (("workers", workers), ("threads", threads)):
            # In Python True is an int too.
            if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
                raise LabError(
                    f"hydra.launcher.{key} cannot be used.", expected="a whole number from 1", received=repr(number)
                )
        if not isinstance(shared_disk, bool):
            raise LabError(
                "hydra.launcher.shared_disk cannot be used.", expected="true or false", received=repr(shared_disk)
            )
        self.name = name
        self.shared_disk = shared_disk
        self.workers = workers or cores()
        self.threads = threads or max(cores() // self.workers, 1)
        self.engine: DictConfig | ListConfig = engine
        if name == "joblib":
            # `workers` may be null in conf/, which joblib itself would take for one process.
            self.engine = OmegaConf.merge(engine, {"n_jobs": self.workers})

    def train(self, train_all: Callable[..., Sequence[Any]], configs: Sequence[DictConfig]) -> Sequence[Any]:
        """Call `train_all`, which hands units of these points back to `run`, and return a result for each point.

        Raises:
            LabError: the engine's packages are not installed, or the engine cannot be reached.
        """
        # All of this is checked before `train_all` writes anything.
        self._launcher(self.task_function)
        if self.name == "slurm":
            _find_programs()
        if self.name == "ray":
            _reach(OmegaConf.select(self.engine, "ray.init.address"))
        return train_all(configs, engine=self)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch of points, and return a JobReturn for each, in order."""
        # A unit's job is composed with the overrides of the first point; its points have configs of their own.
        self._overrides: list[str] = []
        if job_overrides:
            self._overrides = list(job_overrides[0])
        if hasattr(self.command, "train_all"):
            return super().launch(job_overrides, initial_job_idx)
        returns: Sequence[JobReturn] = self._launcher(self.task_function).launch(job_overrides, initial_job_idx)
        return returns

    def run(self, task: Callable[[DictConfig], Any], units: Sequence[str]) -> list[Any]:
        """Call a task on workers once for each unit; see `pipeline.sweep.workers.unit.Engine`.

        Raises:
            EngineError: the engine did not return every unit.
        """
        if self.name == "joblib":
            # joblib starts its processes with the environment of this one.
            for variable in THREADS:
                os.environ.setdefault(variable, str(self.threads))
        launcher = self._launcher(task)
        if self.name == "slurm":
            from pipeline.sweep.workers.slurm_queue import watch_queue

            watch_queue()
        if not self.config.hydra.verbose:
            # The engines' launchers log each unit with the overrides of one point, which would be misleading.
            logging.getLogger("hydra_plugins").setLevel(logging.WARNING)
        jobs = self._job_overrides(units)
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
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
            raise EngineError(
                f"{self.name} did not bring back every unit.",
                received=" ".join([f"{type(error).__name__}:", *str(error).split("\n")[:2]]),
                fix="the same command goes on from the last checkpoints; hydra.verbose=true shows the traceback",
            ) from error

    def _job_overrides(self, units: Sequence[str]) -> list[list[str]]:
        """Return the overrides of a Hydra job for each unit."""
        # The path is absolute, because a worker has a working directory of its own, and quoted, because it may contain
        # characters that Hydra would parse.
        folder = json.dumps(str(Path(str(self.config.hydra.sweep.dir)).absolute()))
        common = [*self._overrides, f"hydra.sweep.dir={folder}", "hydra.output_subdir=null"]
        return [[*common, f"hydra.sweep.subdir=unit_{number}", f'+unit="{text}"'] for number, text in enumerate(units)]

    def _start_ray(self) -> None:
        """Connect to the cluster, or start one on this machine, as the engine's launcher would do it."""
        # Not left to that launcher: the signal handlers have to be restored between this and the first unit.
        import ray

        if not ray.is_initialized():
            options: Any = OmegaConf.to_container(self.engine.ray.init, resolve=True)
            ray.init(**options)

    def _clean_up(self) -> None:
        """End what still runs after an interruption or lost units, so that it cannot run beside the next attempt."""
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
        LabError: it does not.
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
