"""A Hydra launcher that passes all points of a sweep in one call, and the sweeper that goes with it.

The command is the object whose bound method is Hydra's task. It may have two more methods:

- `train_all` is called once instead of the task, with the configs of all points, so that points can train as one stack.
  It returns a result for each point. An exception instead of a result is raised in that point's job; `TrainCommand`
  returns None instead, and reports failed points at its end.
- `begin` is called with the config of the first point, before the other points are composed.

Without `train_all`, the task is called for each point, as by Hydra's basic launcher. In both cases each point is a
Hydra job, with its own folder, config and callbacks; after `train_all` the jobs only replay the results.

Both classes are outside pipeline/ because Hydra looks for plugins only in the namespace package hydra_plugins.
"""

import inspect
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from pipeline.system.errors import LabError

log = logging.getLogger(__name__)


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

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch of points, and return a JobReturn for each, in order."""
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        configs: list[DictConfig] = []
        begin = getattr(self.command, "begin", None)
        for index, overrides in enumerate(job_overrides):
            configs.append(self._compose(overrides, initial_job_idx + index))
            # Composing a point takes about 0.07 s. Meanwhile a process that `begin` has started can import MLflow.
            if index == 0 and begin is not None:
                begin(configs[0])
        train_all = getattr(self.command, "train_all", None)
        tasks: Sequence[TaskFunction] = [self.task_function] * len(configs)
        if train_all is not None:
            # Hydra sets up the log of a job when the job starts, but here all points are trained before that.
            with read_write(self.config.hydra.runtime), open_dict(self.config.hydra.runtime):
                self.config.hydra.runtime.output_dir = str(self.config.hydra.sweep.dir)
            configure_log(self.config.hydra.job_logging, self.config.hydra.verbose)
            # The jobs below only return these results, so that Hydra writes their folders and calls their callbacks.
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
            # `run_job` has set up the log of its job.
            configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return returns

    def train(self, train_all: Callable[..., Sequence[Any]], configs: Sequence[DictConfig]) -> Sequence[Any]:
        """Call `train_all`, which trains the points in this process, and return a result for each."""
        return train_all(configs)

    def _compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        """Compose the config of one point, and set the number of its job as Hydra's basic launcher does."""
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = number
            config.hydra.job.num = number
        return config


class StackedSweeper(BasicSweeper):
    """Hydra's basic sweeper, which can also thin a grid, and leaves composing the points to the launcher above.

    Args:
        max_batch_size: as in Hydra's basic sweeper.
        params: the axes in the config: keys, and their values as typed.
        values_per_axis: maximum number of values to keep of each of these axes: the first, the last, and others that
            are evenly spread between them. None: all values. Axes on the command line keep all their values.
    """

    def __init__(
        self, max_batch_size: int | None, params: dict[str, str] | None = None, values_per_axis: int | None = None
    ) -> None:
        super().__init__(max_batch_size, params)
        self.values_per_axis = values_per_axis

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Check the points of a batch, unless the launcher does so."""
        # Hydra's basic sweeper composes all points to check them. The launcher above composes all points before it runs
        # the first one, so they would be composed twice.
        if not isinstance(self.launcher, StackedLauncher):
            super().validate_batch_is_legal(batch)

    def _parse_config(self) -> list[str]:
        """Return the axes in the config as thinned overrides. Hydra adds those of the command line later.

        Raises:
            LabError: `values_per_axis` is not a whole number from 2.
        """
        axes: list[str] = super()._parse_config()
        most = self.values_per_axis
        if most is None:
            return axes
        # In Python True is an int too.
        if not isinstance(most, int) or isinstance(most, bool) or most < 2:
            raise LabError(
                "hydra.sweeper.values_per_axis cannot be used.",
                expected="a whole number from 2, for the two ends of an axis, or null for all values",
                received=repr(most),
                fix="hydra.sweeper.values_per_axis=2",
            )
        # The loader resolves a glob in an axis.
        loader = self.hydra_context.config_loader if self.hydra_context else None
        parser = OverridesParser.create(config_loader=loader)
        return [
            _thinned(axis, override, most) for axis, override in zip(axes, parser.parse_overrides(axes), strict=True)
        ]


def _thinned(axis: str, override: Override, most: int) -> str:
    """Keep at most this many values of an axis: both ends, and others that are evenly spread between them."""
    # An interval, for instance, has no values to choose from.
    if not override.is_discrete_sweep():
        return axis
    values = list(override.sweep_string_iterator())
    if len(values) <= most:
        return axis
    kept = [values[round(index * (len(values) - 1) / (most - 1))] for index in range(most)]
    return f"{override.get_key_element()}={','.join(kept)}"


def _replay(result: Any) -> Callable[[Any], Any]:
    """Make a task that returns the result of a trained point, or raises its exception."""

    def task(_config: DictConfig) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    return task
