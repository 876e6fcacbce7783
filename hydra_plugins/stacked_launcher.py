"""A Hydra launcher that passes all points of a sweep in one call; the sweeper that goes with it: stacked_sweeper.py.

The command is the object whose bound method is Hydra's task. It may have two more members:

- `train_all` is called once instead of the task, with the configs of all points, so that points can train as one stack.
  It returns a result for each point. An exception instead of a result is raised in that point's job; `TrainCommand`
  returns NaN instead, and reports failed points at its end. Its argument `total` is the number of points of the
  command; None: the sweeper may pass further points later, as one that chooses them by earlier results does.
- `idle`, an attribute, is true if `train_all` has found nothing to do. Then there are no jobs either, unless callbacks
  wait for them.

Without `train_all`, the task is called for each point, as by Hydra's basic launcher. In both cases each point is a
Hydra job, with its own folder, config and callbacks; after `train_all` the jobs only replay the results.

Launchers and sweepers are outside pipeline/ because Hydra looks for plugins only in the namespace package
hydra_plugins.
"""

import inspect
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from pipeline.system.composing import Composer
from pipeline.system.errors import LabError
from pipeline.system.last_line import doing

log = logging.getLogger(__name__)
# Overrides that only a sweep uses.
FOR_SWEEPS = ("hydra/launcher", "hydra.launcher", "hydra/sweeper", "hydra.sweeper")
# Launchers that may be named for a single point. It trains in this process, as with the first two; joblib's processes
# are on this machine as well, and a DVC stage names it for studies of one point and of many.
FOR_ONE_POINT = ("hydra/launcher=stacked", "hydra/launcher=basic", "hydra/launcher=joblib")


class StackedLauncher(Launcher):
    """Passes all points of a sweep to the command in one call; see the module."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra passes to every launcher, and find the command: the object whose method the task is."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config
        # `cli.run` has wrapped the task to catch its errors.
        task: Any = inspect.unwrap(task_function)
        self.command = getattr(task, "__self__", task)
        # The number of points of the command, which only its sweeper tells.
        self.total: int | None = None

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch of points, and return a JobReturn for each, in order."""
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        configs: list[DictConfig] = []
        train_all = getattr(self.command, "train_all", None)
        if train_all is not None:
            # Hydra sets up the log of a job when the job starts, but here all points are trained before that.
            with read_write(self.config.hydra.runtime), open_dict(self.config.hydra.runtime):
                self.config.hydra.runtime.output_dir = str(self.config.hydra.sweep.dir)
            configure_log(self.config.hydra.job_logging, self.config.hydra.verbose)
        composer = Composer(self.hydra_context.config_loader, self.config)
        with doing("composing points", len(job_overrides)) as step:
            for index, overrides in enumerate(job_overrides):
                configs.append(composer.compose(overrides))
                # As Hydra's basic launcher does.
                with open_dict(configs[-1]):
                    configs[-1].hydra.job.id = initial_job_idx + index
                    configs[-1].hydra.job.num = initial_job_idx + index
                step.count(len(configs), len(job_overrides))
        tasks: Sequence[TaskFunction] = [self.task_function] * len(configs)
        if train_all is not None:
            results = self.train(train_all, configs)
            if getattr(self.command, "idle", False) and not self.hydra_context.callbacks.callbacks:
                return [_not_run(*job) for job in zip(job_overrides, results, strict=True)]
            # The jobs below only return these results, so that Hydra writes their folders and calls their callbacks.
            tasks = [_replay(result) for result in results]
        returns = []
        for config, task, overrides in zip(configs, tasks, job_overrides, strict=True):
            log.debug("#%s: %s", config.hydra.job.num, " ".join(filter_overrides(overrides)))
            returns.append(
                run_job(
                    hydra_context=self.hydra_context,
                    task_function=task,
                    config=config,
                    job_dir_key="hydra.sweep.dir",
                    job_subdir_key="hydra.sweep.subdir",
                )
            )
            # `run_job` has set up the log of its job.
            configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return returns

    def train(self, train_all: Callable[..., Sequence[Any]], configs: Sequence[DictConfig]) -> Sequence[Any]:
        """Call `train_all`, which trains the points in this process, and return a result for each."""
        return train_all(configs, total=self.total)


def refused_launcher(hydra: Any) -> LabError:
    """Return the error for a launcher that runs points in processes where nothing of them would be recorded.

    Args:
        hydra: Hydra's section of the composed config.
    """
    return LabError(
        f"hydra/launcher={hydra.runtime.choices.get('hydra/launcher')} cannot be used here.",
        expected="stacked (the default), basic, joblib, ray or slurm, which record what they train",
        received=str(hydra.launcher.get("_target_")),
        fix="hydra/launcher=joblib for processes on this machine, ray or slurm for a cluster: docs/machines.md",
    )


def check_one_point(overrides: Sequence[str]) -> None:
    """Refuse overrides that have no effect on the training of a single point.

    Args:
        overrides: those of Hydra's section, as typed.

    Raises:
        LabError: a launcher, or a key of the sweeper, is among them.
    """
    ignored = [override for override in overrides if override.lstrip("+~").startswith(FOR_SWEEPS)]
    ignored = [override for override in ignored if override not in FOR_ONE_POINT]
    if ignored:
        raise LabError(
            "This command trains one point in this process; launchers and sweepers are for sweeps.",
            expected="no hydra.launcher or hydra.sweeper, or -m",
            received=" ".join(ignored),
            fix="add -m",
        )


def _not_run(overrides: Sequence[str], result: Any) -> JobReturn:
    """Return what a job without a folder returns, of which sweepers read the result."""
    job = JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED)
    job.return_value = result
    return job


def _replay(result: Any) -> Callable[[Any], Any]:
    """Make a task that returns the result of a trained point, or raises its exception."""

    def task(_config: DictConfig) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    return task
