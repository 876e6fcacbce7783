"""Messages about a key or an option that does not exist, with the one that was probably meant."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.system.errors import LabError
from pipeline.system.hints import nearest_key, nearest_option
from pipeline.system.project import CONF

# Groups whose files change keys of other groups, and define none.
OF_OTHER_GROUPS = ("experiment", "feature", "profile")


def unknown_option(error: MissingConfigException) -> LabError | None:
    """Return the message about an option that a group does not have; None if another file is missing."""
    missing = str(error.missing_cfg_file or "")
    text = str(error)
    named = re.search(r"Available options in '([^']+)'", text) or re.search(r"Could not load '([^'/]+)/", text)
    if named is None:
        return None
    group = named.group(1)
    option = missing.removeprefix(f"{group}/")
    options = sorted(error.options or (path.stem for path in (CONF / group).glob("*.yaml")))
    fix = "use one of these"
    near = nearest_option(option, options)
    if near:
        fix = f"did you mean {group}={near}?"
    elif group == "data":
        # Often the path of a file.
        fix = (
            "use one of these, or write conf/data/NAME.yaml, and type data=NAME: docs/your-own.md shows it for a CSV, "
            "images and others"
        )
    elif re.fullmatch(r"\w+", option):
        fix = f"use one of these, or create conf/{group}/{option}.yaml"
    return LabError(
        f"Unknown option: {group}={option}.", expected=f"one of {', '.join(options)}", received=option, fix=fix
    )


def unknown_key(key: str, config_name: str, arguments: Sequence[str]) -> LabError:
    """Return the message about a key that the config of a command does not have.

    Args:
        key: its full name.
        config_name: the root config of the command.
        arguments: the command line, whose choices decide which keys there are.
    """
    keys = _keys(config_name, arguments)
    # Not every command has every group.
    owners = {other: options for other, options in _owners().items() if other.partition(".")[0] in keys}
    if key in owners:
        group = key.partition(".")[0]
        return LabError(
            f"The key {key} is available only with {group}={' or '.join(owners[key])}.",
            received=f"another choice for {group}",
            fix=f"choose {group}={owners[key][0]}",
        )
    fix = "`--cfg job` prints every key"
    # Hydra's own keys are hints only for each other.
    of_hydra = key.startswith("hydra.")
    near = nearest_key(key, [other for other in keys if other.startswith("hydra.") == of_hydra])
    elsewhere = nearest_key(key, owners)
    if near:
        fix = f"did you mean {near}?"
    elif elsewhere:
        group = elsewhere.partition(".")[0]
        fix = f"{elsewhere} is available only with {group}={' or '.join(owners[elsewhere])}"
    return LabError(
        f"Unknown key: {key}.", expected=f"a key of conf/{config_name}.yaml or of its groups", received=key, fix=fix
    )


def _owners() -> dict[str, list[str]]:
    """Map the full name of every key of a group to the options of the group that define it."""
    owners: dict[str, list[str]] = {}
    for file in sorted(CONF.glob("*/*.yaml")):
        group = file.parent.name
        if group not in OF_OTHER_GROUPS:
            # As plain Python, so that a value that is missing or refers to another one is not resolved.
            for key in _names(OmegaConf.to_container(OmegaConf.load(file)), f"{group}."):
                owners.setdefault(key, []).append(file.stem)
    return owners


def _keys(config_name: str, arguments: Sequence[str]) -> set[str]:
    """Return the full name of every key that a command has with each of the options that it chooses for its groups."""
    # A command that failed inside Hydra may have left its own state, which `initialize_config_dir` does not replace.
    hydra = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return _composed_keys(config_name, _choices(arguments))
    except (HydraException, OmegaConfBaseException):
        # The choices do not fit together either, which the next command reports.
        return set()
    finally:
        GlobalHydra.instance().hydra = hydra


def _composed_keys(config_name: str, typed: Mapping[str, Sequence[str]]) -> set[str]:
    """Compose the config of a command with each option, and return the keys that all of them have."""

    def composed(overrides: Sequence[str]) -> Any:
        return OmegaConf.to_container(compose(config_name, [*overrides], return_hydra_config=True), resolve=False)

    first = composed([options[0] for options in typed.values()])
    # The grid of an experiment may contain options too.
    axes = first["hydra"]["sweeper"].get("params") or {}
    choices = {**_choices([f"{key}={values}" for key, values in axes.items()]), **typed}
    keys = set(_names(first, ""))
    for group, options in choices.items():
        others = {other: chosen[0] for other, chosen in choices.items()}
        for option in options[1:]:
            keys &= set(_names(composed([*{**others, group: option}.values()]), ""))
    # Groups such as `experiment`, whose files change keys of other groups, are not keys, but can be typed.
    return keys | set(first["hydra"]["runtime"]["choices"])


def _choices(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Return the overrides that choose options of groups, by group; several for a group that is swept over."""
    choices: dict[str, list[str]] = {}
    parser = OverridesParser.create()
    for argument in arguments:
        try:
            override = parser.parse_override(argument)
        except (HydraException, ValueError):
            continue
        group = override.key_or_group
        if not (CONF / group).is_dir():
            continue
        value = override.value()
        if isinstance(value, ChoiceSweep):
            choices[group] = [f"{group}={option}" for option in value.list]
        # Hydra takes no other value for a group.
        elif isinstance(value, str | list):
            choices[group] = [argument]
    return choices


def _names(node: Any, prefix: str) -> list[str]:
    """Return the full names of all keys of nested dictionaries."""
    names: list[str] = []
    if isinstance(node, dict):
        for key, inner in node.items():
            names += [f"{prefix}{key}", *_names(inner, f"{prefix}{key}.")]
    return names
