"""A Hydra launcher that hands a whole sweep to the task at once, and the sweeper that goes with it.

A task that is a method of an object with a method `train_all` too is not called: `train_all` gets the configs of all
points in one call and returns, for each, its result or the exception that ended it, so that points train as one stack
where they can. Each point still becomes a Hydra job of its own, with its folder, its config and its callbacks. Any
other task is run point by point, as Hydra's basic launcher does. A method `begin` gets the config of the first point
before the others are composed.

They stand outside pipeline/ because Hydra looks for plugins in the namespace package hydra_plugins only.
"""

import inspect
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from pipeline.system.errors import LabError

log = logging.getLogger(__name__)


class StackedLauncher(Launcher):
    """See the module."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands to every launcher."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        task: Any = inspect.unwrap(task_function)  # whoever catches its errors has wrapped it
        self.command = getattr(task, "__self__", task)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch of points; one JobReturn each, in order."""
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        configs: list[DictConfig] = []
        for place, overrides in enumerate(job_overrides):
            configs.append(self._compose(overrides, initial_job_idx + place))
            if place == 0:
                getattr(self.command, "begin", lambda config: None)(configs[0])
        train_all = getattr(self.command, "train_all", None)
        tasks: Sequence[TaskFunction] = [self.task_function] * len(configs)
        if train_all is not None:
            tasks = [_replay(result) for result in self.train(train_all, configs)]
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

    def train(self, train_all: Callable[..., Sequence[Any]], configs: Sequence[DictConfig]) -> Sequence[Any]:
        """Hand the points to the task, which trains them in this process."""
        return train_all(configs)

    def _compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = number
            config.hydra.job.num = number
        return config


class StackedSweeper(BasicSweeper):
    """Hydra's basic sweeper, which can thin a grid, and which leaves composing to the launcher above.

    Hydra's composes all points to check them before it lets the launcher compose them. The launcher above composes them
    all before it runs any: beside it there is nothing to check.

    Args:
        max_batch_size: as Hydra's.
        params: the axes that the config gives, each a key and its values as they would be typed.
        values_per_axis: at most so many values of each of these axes are kept, the first and the last among them and
            the others evenly spread; None: all. Axes that are typed on the command line keep all their values.
    """

    def __init__(
        self, max_batch_size: int | None, params: dict[str, str] | None = None, values_per_axis: int | None = None
    ) -> None:
        super().__init__(max_batch_size, params)
        self.values_per_axis = values_per_axis

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Check the points of a batch, unless the launcher will."""
        if not isinstance(self.launcher, StackedLauncher):
            super().validate_batch_is_legal(batch)

    def _parse_config(self) -> list[str]:
        """The axes of the config as overrides, thinned; `sweep` adds what was typed.

        Raises:
            LabError: `values_per_axis` is no whole number from 2.
        """
        axes: list[str] = super()._parse_config()
        most = self.values_per_axis
        if most is None:
            return axes
        if not isinstance(most, int) or isinstance(most, bool) or most < 2:
            raise LabError(
                "hydra.sweeper.values_per_axis cannot be used.",
                expected="a whole number from 2, for the two ends of an axis, or null for all values",
                received=repr(most),
                fix="hydra.sweeper.values_per_axis=2",
            )
        loader = self.hydra_context.config_loader if self.hydra_context else None  # finds what a glob matches
        parser = OverridesParser.create(config_loader=loader)
        thinned = []
        for axis, override in zip(axes, parser.parse_overrides(axes), strict=True):
            values = list(override.sweep_string_iterator()) if override.is_discrete_sweep() else []
            if len(values) > most:
                kept = [values[round(place * (len(values) - 1) / (most - 1))] for place in range(most)]
                axis = f"{override.get_key_element()}={','.join(kept)}"
            thinned.append(axis)
        return thinned


def _replay(result: Any) -> Callable[[Any], Any]:
    """A task that ends as the point already has."""

    def task(config: DictConfig) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    return task
