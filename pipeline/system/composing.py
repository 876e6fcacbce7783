"""Compose the points of a sweep: Hydra composes each choice of config files once, and values are set in copies of it.

Hydra itself would read all files again for each point, which takes 0.07 s of one core.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import cached_property

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


class Composer:
    """Composes points of one sweep, each as `load_sweep_config` of Hydra's loader would.

    Args:
        loader: Hydra's loader.
        sweep: the config of the sweep, which Hydra has composed from the command line.

    Example:
        >>> Composer(hydra_context.config_loader, config).compose(["optimizer.learning_rate=0.1"])
    """

    def __init__(self, loader: ConfigLoader, sweep: DictConfig) -> None:
        self._loader = loader
        self._sweep = sweep
        self._parser = OverridesParser.create(config_loader=loader)
        self._parsed: dict[str, Override] = {}
        self._is_group: dict[str, bool] = {}
        # By the overrides that are more than a value, as `pickle` writes it: reading that is five times as fast as a
        # deep copy, of which OmegaConf makes one for each node.
        self._templates: dict[tuple[str, ...], bytes] = {}
        typed = [self._parse(text) for text in sweep.hydra.overrides.task]
        self._keys = {override.key_or_group for override in typed if self._is_value(override)}
        # Points that choose the same files as the sweep itself. A choice that is missing is an error for a point only.
        self._choices: tuple[str, ...] | None = None
        chosen = sweep.hydra.runtime.choices
        if not any(OmegaConf.is_missing(chosen, group) for group in chosen):
            self._choices = self._more_than_values(typed)

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Return the config of a point.

        Args:
            overrides: those of the point, with those typed for all points.

        Raises:
            HydraException: the overrides cannot be used.
        """
        parsed = [self._parse(text) for text in overrides]
        if self._is_set_twice(parsed):
            return self._loader.load_sweep_config(self._sweep, list(overrides))
        config: DictConfig = pickle.loads(self._template(parsed))  # noqa: S301 - written by this process
        try:
            for override in parsed:
                if self._is_value(override):
                    OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:
            # Raises the error in Hydra's words.
            return self._loader.load_sweep_config(self._sweep, list(overrides))
        of_point = [override for override in parsed if not override.is_hydra_override()]
        config.hydra.overrides.task = [override.input_line for override in of_point]
        config.hydra.job.override_dirname = _folder_name(of_point, config.hydra.job.config.override_dirname)
        OmegaConf.copy_cache(from_config=self._sweep, to_config=config)
        return config

    def _template(self, parsed: Sequence[Override]) -> bytes:
        """Return a config with the files that the overrides choose, in which every value of theirs is still to be set.

        A value that was typed for the sweep, but is not among the overrides, is not in it.
        """
        choices = self._more_than_values(parsed)
        if choices == self._choices and self._keys <= {override.key_or_group for override in parsed}:
            return self._of_sweep
        if choices not in self._templates:
            self._templates[choices] = pickle.dumps(self._loader.load_sweep_config(self._sweep, list(choices)))
        return self._templates[choices]

    @cached_property
    def _of_sweep(self) -> bytes:
        return pickle.dumps(self._sweep)

    def _is_set_twice(self, parsed: Sequence[Override]) -> bool:
        """Whether a key is added or deleted, and it, or one above or below it, is set too: the last one counts."""
        # With a dot at the end, a key starts with those above it, and with no other.
        values = [f"{override.key_or_group}." for override in parsed if self._is_value(override)]
        others = [f"{override.key_or_group}." for override in parsed if override.type != OverrideType.CHANGE]
        return any(value.startswith(other) or other.startswith(value) for other in others for value in values)

    def _more_than_values(self, parsed: Sequence[Override]) -> tuple[str, ...]:
        return tuple(str(override.input_line) for override in parsed if not self._is_value(override))

    def _parse(self, text: str) -> Override:
        # The points of a grid have few different overrides.
        if text not in self._parsed:
            [self._parsed[text]] = self._parser.parse_overrides([text])
        return self._parsed[text]

    def _is_value(self, override: Override) -> bool:
        """Whether an override only sets a key that is there: it neither chooses a file, nor adds or deletes a key."""
        if override.type != OverrideType.CHANGE or override.package is not None or override.is_hydra_override():
            return False
        key = override.key_or_group
        if key not in self._is_group:
            self._is_group[key] = bool(self._loader.get_group_options(key))
        return not self._is_group[key]


def _folder_name(overrides: Sequence[Override], style: DictConfig) -> str:
    """Return overrides as Hydra writes them in the name of a job's folder."""
    lines = [str(one.input_line) for one in overrides if one.key_or_group not in style.exclude_keys]
    return str(style.item_sep).join(sorted(lines)).replace("=", style.kv_sep)
