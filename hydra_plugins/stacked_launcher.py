"""A Hydra launcher that hands a whole sweep to the task at once, and the sweeper that goes with it.

A task function that has an attribute `train_all` gets the configs of all points in one call and returns, for each,
its result or the exception that ended it: points that can train in one pass then do. Each point still becomes a
Hydra job of its own, with its folder, its config and its callbacks. A task function without the attribute is run
point by point, as Hydra's basic launcher does. An attribute `begin` gets the config of the first point before the
others are composed.

They stand outside pipeline/ because Hydra looks for plugins in the namespace package hydra_plugins only.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

log = logging.getLogger(__name__)


class StackedLauncher(Launcher):
    """See the module."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands to every launcher."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch of points; one JobReturn each, in order."""
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        configs: list[DictConfig] = []
        for place, overrides in enumerate(job_overrides):
            configs.append(self._compose(overrides, initial_job_idx + place))
            if place == 0:
                getattr(self.task_function, "begin", lambda config: None)(configs[0])
        train_all = getattr(self.task_function, "train_all", None)
        tasks: Sequence[TaskFunction] = [self.task_function] * len(configs)
        if train_all is not None:
            tasks = [_replay(result) for result in train_all(configs)]
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
            configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return returns

    def _compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = number
            config.hydra.job.num = number
        return config


class StackedSweeper(BasicSweeper):
    """Hydra's basic sweeper, which composes all points to check them before it lets the launcher compose them.

    The launcher above composes them all before it runs any: beside it there is nothing to check.
    """

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Check the points of a batch, unless the launcher will."""
        if not isinstance(self.launcher, StackedLauncher):
            super().validate_batch_is_legal(batch)


def _replay(result: Any) -> Callable[[Any], Any]:
    """A task that ends as the point already has."""

    def task(config: DictConfig) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    return task
