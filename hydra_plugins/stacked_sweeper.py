"""A Hydra sweeper that leaves the composing of points to the stacked launcher, and thins a grid."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any, TypeGuard

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.stacked_launcher import StackedLauncher, refused_launcher
from pipeline.system.errors import LabError
from pipeline.system.spaced import extend_hydra, has_spaced, has_whole_ends, written_out

extend_hydra()


class StackedSweeper(BasicSweeper):
    """Hydra's basic sweeper with these differences.

    - Composing the points is left to the stacked launcher, which gets them all at once.
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
        check_number("max_batch_size", self.batch_size, 1, "all points")
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
        # Hydra's basic sweeper composes all points to check them. The stacked launcher composes all points before it
        # runs the first one, so they would be composed twice.
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
        check_number("values_per_axis", most, 2, "all values of an axis")
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
    """Whether a launcher is the stacked launcher, or derived from it."""
    # Not isinstance: Hydra executes each module of plugins anew, also one that another of them has imported.
    return hasattr(launcher, "total")


def check_number(key: str, value: object, least: int, null: str) -> None:
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
