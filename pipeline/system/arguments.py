"""Checks of the command line before Hydra reads it: passwords, folders, and the size of a grid."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, RangeSweep
from hydra.errors import HydraException

from pipeline.system.errors import LabError
from pipeline.system.spaced import extend_hydra, flat

# Maximum number of points of one command. Hydra composes them all, in about 0.07 s each, before the first trains.
MAX_GRID_POINTS = 10_000


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse overrides that Hydra must not see.

    Args:
        arguments: the command line, without the program.

    Raises:
        LabError: there is a password, a ~ that would become a folder, or a grid that is too large.
    """
    _check_secrets(arguments)
    _check_folders(arguments)
    _check_grid(arguments)


def _check_secrets(arguments: Sequence[str]) -> None:
    """Refuse a password on the command line.

    Raises:
        LabError: an address of a tracking server contains an @; the message does not repeat it.
    """
    if any(re.match(r"[+]*tracking\b[^=]*=.*@", argument, re.DOTALL) for argument in arguments):
        raise LabError(
            "The address of a tracking server must not contain a user or a password.",
            expected="tracking.uri=https://HOST, without an @",
            received="an address with an @ (not shown, because it may contain a password)",
            fix="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment; change that password, "
            "because it is now in the history of the shell",
        )


def _check_folders(arguments: Sequence[str]) -> None:
    """Refuse a ~ in a folder of Hydra, which would make a folder with that name.

    Raises:
        LabError: an override of a folder begins with ~.
    """
    for argument in arguments:
        folder = re.match(r"[+]*(hydra\.(?:run|sweep)\.dir)=['\"]?(~.*)", argument)
        if folder:
            raise LabError(
                f"{folder[1]} begins with ~, which Hydra does not replace by the home folder.",
                received=argument,
                fix=f"write the full path: {folder[1]}='${{oc.env:HOME}}/FOLDER'",
            )


def _check_grid(arguments: Sequence[str]) -> None:
    """Refuse a grid that is infinite, or whose configs would fill the memory.

    Raises:
        LabError: the grid has more than MAX_GRID_POINTS points.
    """
    # A float, because a range may have infinitely many values.
    points = 1.0
    extend_hydra()
    parser = OverridesParser.create()
    for argument in arguments:
        try:
            value = parser.parse_override(argument).value()
        except (HydraException, ValueError):
            # Hydra parses the argument again and reports this error itself.
            continue
        if isinstance(value, ChoiceSweep):
            points *= len(flat(value.list))
        elif isinstance(value, RangeSweep):
            points *= _length(value)
    # Not `points > MAX_GRID_POINTS`, which is false for nan.
    if not points <= MAX_GRID_POINTS:
        raise LabError(
            "The grid is too large.", expected=f"at most {MAX_GRID_POINTS} points", received=f"{points:.7g} points"
        )


def _length(value: RangeSweep) -> float:
    """Return the number of values in a range: inf if it has no end, nan if its limits are not numbers."""
    # Hydra refuses a step of 0 itself.
    if not value.step:
        return 1
    try:
        return max(math.ceil(((value.stop or 0) - (value.start or 0)) / value.step), 0)
    except OverflowError:
        return math.inf
    except ValueError:
        return math.nan
