"""A Hydra launcher that passes all points of a sweep in one call, and the sweeper that goes with it.

The command is the object whose bound method is Hydra's task. It may have two more members:

- `train_all` is called once instead of the task, with the configs of all points, so that points can train as one stack.
  It returns a result for each point. An exception instead of a result is raised in that point's job; `TrainCommand`
  returns NaN instead, and reports failed points at its end. Its argument `total` is the number of points of the
  command; None: the sweeper may pass further points later, as one that chooses them by earlier results does.
- `idle`, an attribute, is true if `train_all` has found nothing to do. Then there are no jobs either, unless callbacks
  wait for them.

Without `train_all`, the task is called for each point, as by Hydra's basic launcher. In both cases each point is a
Hydra job, with its own folder, config and callbacks; after `train_all` the jobs only replay the results.

Both classes are outside pipeline/ because Hydra looks for plugins only in the namespace package hydra_plugins.
"""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeGuard

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from pipeline.system.composing import Composer
from pipeline.system.errors import LabError
from pipeline.system.last_line import doing
from pipeline.system.spaced import extend_hydra, has_spaced, has_whole_ends, written_out

log = logging.getLogger(__name__)
extend_hydra()

# Overrides that only a sweep uses.
FOR_SWEEPS = ("hydra/launcher", "hydra.launcher", "hydra/sweeper", "hydra.sweeper")


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
        # The number of points of the command, which only the sweeper below tells.
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


class StackedSweeper(BasicSweeper):
    """Hydra's basic sweeper with these differences.

    - Composing the points is left to the launcher above, which gets them all at once.
    - A grid can be thinned.
    - A list of spaced values is written out before the points are made: `logspace(0.0001,1,9)`; see
      `pipeline/system/spaced.py`.
    - In a sweep over files that have axes of their own, such as `experiment=three_bits,mnist`, each keeps its axes.

    Args:
        max_batch_size: maximum number of points to train at the same time; None: no limit. The launcher passes it on.
        params: the axes in the config: keys, and their values as typed.
        values_per_axis: maximum number of values to keep of each of these axes: the first, the last, and others that
            are evenly spread between them. None: all values. Axes on the command line keep all their values.
        groups_with_axes: the config groups whose files may set `params` or `values_per_axis`.
    """

    def __init__(
        self,
        max_batch_size: int | None,
        params: dict[str, str] | None = None,
        values_per_axis: int | None = None,
        groups_with_axes: Sequence[str] = (),
    ) -> None:
        super().__init__(None, params)
        self.batch_size = max_batch_size
        self.values_per_axis = values_per_axis
        self.groups_with_axes = groups_with_axes
        self._points: list[list[str]] = []

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the launcher.

        Raises:
            LabError: it runs points in other processes, where nothing of them would be recorded; or `max_batch_size` is
                not a whole number from 1.
        """
        # Not in `__init__`, whose errors Hydra turns into another one.
        _check_number("max_batch_size", self.batch_size, 1, "all points")
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self._compose = partial(hydra_context.config_loader.load_sweep_config, config)
        if not (_is_stacked(self.launcher) or isinstance(self.launcher, BasicLauncher)):
            raise refused_launcher(config.hydra)

    def sweep(self, arguments: list[str]) -> Any:
        """Run all points, and return their jobs.

        Args:
            arguments: the overrides as typed.

        Raises:
            LabError: `values_per_axis` is not a whole number from 2, or spaced values cannot be whole numbers.
        """
        arguments = self._written_out(arguments, self.config)
        self._points = self._points_of_choices(arguments)
        return super().sweep(arguments)

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        """Return all points, each as a list of overrides."""
        batch: Sequence[Sequence[str]] = super().get_job_batch()
        return self._points or batch

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Check the points of a batch, unless the launcher does so."""
        # Hydra's basic sweeper composes all points to check them. The launcher above composes all points before it runs
        # the first one, so they would be composed twice.
        if _is_stacked(self.launcher):
            self.launcher.total = len(batch)
        else:
            super().validate_batch_is_legal(batch)

    def _parse_config(self) -> list[str]:
        """Return the axes in the config as thinned overrides. Hydra adds those of the command line later."""
        return self._axes(self.params, self.values_per_axis, self.config)

    def _points_of_choices(self, arguments: list[str]) -> list[list[str]]:
        """Return the points of a sweep over files with axes of their own; none for any other sweep."""
        chosen = self._parsed(arguments)
        groups = [override for override in chosen if _group(override) in self.groups_with_axes]
        if not any(override.is_discrete_sweep() for override in groups):
            return []
        points: list[list[str]] = []
        others = [str(override.input_line) for override in chosen if override not in groups]
        for choices in product(*(_values(override) for override in groups)):
            config = self._compose(list(choices))
            sweeper = config.hydra.sweeper
            axes = self._axes(sweeper.params or {}, sweeper.values_per_axis, config)
            points += self.split_arguments(self._parsed([*axes, *choices, *others]), None)[0]
        return points

    def _axes(self, params: Mapping[str, str], most: int | None, config: Any) -> list[str]:
        """Return axes as overrides, each with at most this many values; None: all of them."""
        axes = self._written_out([f"{key}={values}" for key, values in params.items()], config)
        _check_number("values_per_axis", most, 2, "all values of an axis")
        if most is None:
            return axes
        return [_thinned(axis, override, most) for axis, override in zip(axes, self._parsed(axes), strict=True)]

    def _written_out(self, overrides: list[str], config: Any) -> list[str]:
        """Return overrides with their spaced values written out; the others stay as they are.

        Args:
            overrides: overrides as typed.
            config: the composed config that they change.
        """
        written = []
        for text, override in zip(overrides, self._parsed(overrides), strict=True):
            line = text
            if has_spaced(override):
                line = written_out(override, _is_whole(override, config))
            written.append(line)
        return written

    def _parsed(self, overrides: list[str]) -> list[Override]:
        # The loader resolves a glob.
        loader = self.hydra_context.config_loader if self.hydra_context else None
        parsed: list[Override] = OverridesParser.create(config_loader=loader).parse_overrides(overrides)
        return parsed


def _is_stacked(launcher: object) -> TypeGuard[StackedLauncher]:
    """Whether a launcher is the one above, or derived from it."""
    # Not isinstance: Hydra executes each module of plugins anew, also one that another of them has imported.
    return hasattr(launcher, "total")


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
    # These two train a point in this process, as happens here.
    ignored = [override for override in ignored if override not in ("hydra/launcher=stacked", "hydra/launcher=basic")]
    if ignored:
        raise LabError(
            "This command trains one point in this process; launchers and sweepers are for sweeps.",
            expected="no hydra.launcher or hydra.sweeper, or -m",
            received=" ".join(ignored),
            fix="add -m",
        )


def _check_number(key: str, value: object, least: int, null: str) -> None:
    """Check a key of the sweeper.

    Raises:
        LabError: the value is neither null nor a whole number from `least`.
    """
    # In Python True is an int too.
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= least):
        return
    raise LabError(
        f"hydra.sweeper.{key} cannot be used.",
        expected=f"a whole number from {least}, or null for {null}",
        received=repr(value),
        fix=f"hydra.sweeper.{key}={least}",
    )


def _is_whole(override: Override, config: Any) -> bool:
    """Whether a key takes whole numbers only, to which its spaced values are rounded."""
    # Imports pydantic and NumPy, which Hydra's other uses of this module do not need.
    from pipeline.config.own_model import section_kind
    from pipeline.config.whole import takes_whole_numbers

    key = override.key_or_group
    if key.startswith("model.") and section_kind(config.get("model")) == "own":
        # A knob has no type. A default of 0 can stand for a share, so the ends must be whole numbers too.
        return type(OmegaConf.select(config, key)) is int and has_whole_ends(override)
    return bool(takes_whole_numbers(key))


def _group(override: Override) -> str:
    """Return the key of an override without the `+` by which Hydra adds one."""
    return str(override.get_key_element()).lstrip("+")


def _values(override: Override) -> list[str]:
    """Return an override for each of its values."""
    if override.is_discrete_sweep():
        return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    return [str(override.input_line)]


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
