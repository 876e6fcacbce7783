"""A Hydra launcher that lets another one distribute a sweep, in units that train as one stack.

The other one is the engine: Hydra's launcher for joblib, Ray or SLURM. A method `train_all` gets the configs of all
points in one call, as from the stacked launcher, and with them an engine, whose `run` calls a function on workers; the
engine's launcher sees each call as one Hydra job. A task without that method is handed to the engine point by point.
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
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.stacked_launcher import StackedLauncher
from pipeline.system.errors import EngineError, LabError
from pipeline.system.processes import cores
from pipeline.system.signals import SIGNALS

log = logging.getLogger(__name__)
REACH_SECONDS = 10.0
OWN = ("joblib", "ray")
"""Launchers whose plugins store a config under the same name, which Hydra would take for the schema of our file."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


class OwnConfigs(SearchPathPlugin):
    """Lets our files in conf/hydra/launcher/ stand for themselves. Hydra calls it when all plugins are imported."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Take the plugins' configs of the same names out of Hydra's store."""
        launchers = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
        for name in OWN:
            launchers.pop(f"{name}.yaml", None)


class ClusterLauncher(StackedLauncher):
    """See the module.

    Args:
        name: what the engine is called.
        engine: config of the engine's launcher, with its `_target_`.
        workers: how many units run at the same time; null: as many as this machine has cores.
        shared_disk: whether workers see this project's folder under the same path.
        threads: of each worker on this machine; null: its share of the cores. Elsewhere the engine says.
    """

    def __init__(
        self, name: str, engine: DictConfig, workers: int | None, shared_disk: bool = True, threads: int | None = None
    ) -> None:
        for key, number in (("workers", workers), ("threads", threads)):
            if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
                raise LabError(
                    f"hydra.launcher.{key} cannot be used.", expected="a whole number from 1", received=repr(number)
                )
        if not isinstance(shared_disk, bool):
            raise LabError(
                "hydra.launcher.shared_disk cannot be used.", expected="true or false", received=repr(shared_disk)
            )
        self.name, self.shared_disk = name, shared_disk
        self.workers = workers or cores()
        self.threads = threads or max(cores() // self.workers, 1)
        self.engine = OmegaConf.merge(engine, {"n_jobs": self.workers}) if name == "joblib" else engine

    def train(self, train_all: Callable[..., Sequence[Any]], configs: Sequence[DictConfig]) -> Sequence[Any]:
        """Hand the points to the task, which hands their units back to `run`."""
        self._launcher(self.task_function)  # packages that are missing are told before anything is begun
        if self.name == "slurm":
            _find_programs()
        if self.name == "ray":
            _reach(OmegaConf.select(self.engine, "ray.init.address"))
        return train_all(configs, engine=self)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch of points; one JobReturn each, in order."""
        self._overrides = list(job_overrides[0]) if job_overrides else []
        if hasattr(self.command, "train_all"):
            return super().launch(job_overrides, initial_job_idx)
        returns: Sequence[JobReturn] = self._launcher(self.task_function).launch(job_overrides, initial_job_idx)
        return returns

    def run(self, task: Callable[[DictConfig], Any], units: Sequence[str]) -> list[Any]:
        """See `pipeline.sweep.workers.distribution.Engine`."""
        if self.name == "joblib":  # whose processes are started with this environment
            for variable in THREADS:
                os.environ.setdefault(variable, str(self.threads))
        launcher = self._launcher(task)
        if self.name == "slurm":
            from pipeline.sweep.workers.slurm_queue import watch_queue

            watch_queue()
        if not self.config.hydra.verbose:  # they would list units by the overrides of one point
            logging.getLogger("hydra_plugins").setLevel(logging.WARNING)
        folder = json.dumps(str(Path(str(self.config.hydra.sweep.dir)).absolute()))  # a worker has a folder of its own
        common = [*self._overrides, f"hydra.sweep.dir={folder}", "hydra.output_subdir=null"]
        jobs = [[*common, f"hydra.sweep.subdir=unit_{number}", f'+unit="{text}"'] for number, text in enumerate(units)]
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            if self.name == "ray":
                self._start_ray()
                for number, handler in handlers.items():  # Ray's own would end the command where it stands
                    signal.signal(number, handler)
            return [returned.return_value for returned in launcher.launch(jobs, 0)]
        except LabError:
            raise
        except KeyboardInterrupt:
            self._clean_up()
            raise
        except Exception as error:  # whatever an engine raises where it lost a worker: each has classes of its own
            log.debug("%s", traceback.format_exc())
            self._clean_up()
            raise EngineError(
                f"{self.name} did not bring back every unit.",
                received=" ".join([f"{type(error).__name__}:", *str(error).split("\n")[:2]]),
                fix="the same command goes on from the last checkpoints; hydra.verbose=true shows the traceback",
            ) from error

    def _start_ray(self) -> None:
        """Connect to the cluster, or start one, as the engine's launcher would."""
        import ray

        if not ray.is_initialized():
            options: Any = OmegaConf.to_container(self.engine.ray.init, resolve=True)
            ray.init(**options)

    def _clean_up(self) -> None:
        """After units were lost, or the command was interrupted: nothing of this attempt goes on beside the next."""
        if self.name == "ray":
            import ray

            ray.shutdown()  # what it knows of a cluster that has ended would be used again
        elif self.name == "slurm":
            from pipeline.sweep.workers.slurm_queue import cancel_jobs

            cancel_jobs()

    def _launcher(self, task: Callable[[DictConfig], Any]) -> Any:
        """The engine's launcher.

        Raises:
            LabError: its packages are not installed.
        """
        try:
            launcher = instantiate(self.engine, _recursive_=False)
        except (HydraException, ImportError) as error:
            causes = [error, error.__cause__, getattr(error.__cause__, "__cause__", None)]
            if not any(isinstance(cause, ImportError) for cause in causes):
                raise
            raise LabError(
                f"hydra/launcher={self.name} needs packages that are not installed.",
                expected="those of the extra cluster of pyproject.toml, which make cluster installs with others",
                received=str(next(cause for cause in reversed(causes) if isinstance(cause, ImportError))),
                fix="make cluster",
            ) from None
        launcher.setup(hydra_context=self.hydra_context, task_function=task, config=self.config)
        return launcher


def _find_programs() -> None:
    """Look whether this is a machine from which jobs can be sent.

    Raises:
        LabError: it is not.
    """
    lacking = [name for name in ("sbatch", "srun", "squeue", "scancel") if shutil.which(name) is None]
    if lacking:
        raise LabError(
            "There is no SLURM here.",
            expected="sbatch, srun, squeue and scancel on PATH",
            received=f"no {', '.join(lacking)}",
            fix="type the command on a login node of the cluster",
        )


def _reach(address: str | None) -> None:
    """Look whether a Ray cluster answers; Ray itself would try for a quarter of an hour.

    Raises:
        LabError: it does not.
    """
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit() and "//" not in host:
        try:
            socket.create_connection((host, int(port)), REACH_SECONDS).close()
        except OSError as error:
            raise LabError(
                "The Ray cluster does not answer.",
                expected=f"its head node at {address}",
                received=error.strerror or str(error),
                fix="ray start --head there, or mend hydra.launcher.engine.ray.init.address",
            ) from None
