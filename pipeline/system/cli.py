"""Run an entry point: Hydra composes the config, every error becomes one message, the exit code says how it ended."""

from __future__ import annotations

import argparse
import difflib
import functools
import math
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from pipeline.system import completion
from pipeline.system.errors import LabError
from pipeline.system.project import CONF
from pipeline.system.signals import end_at_once

# Limit on the points of one command. Hydra composes them all before the first trains, at about 0.07 s each.
GRID = 10_000
# What Hydra raises, besides its own exceptions, for overrides that it cannot use.
HYDRA_ERRORS = (ValueError, TypeError, LookupError, AttributeError, AssertionError, RuntimeError, YAMLError)


def run(task: Callable[[DictConfig], object], config_name: str, finish: Callable[[], None] = lambda: None) -> int:
    """Run a Hydra task and return the exit code: 0 for success, 1 for an error, 130 for an interruption.

    Args:
        task: gets the composed config.
        config_name: root config in conf/.
        finish: called after Hydra has returned or raised; may raise LabError too.

    Example:
        if __name__ == "__main__":
            sys.exit(cli.run(task, "config"))
    """
    if completion.wanted(sys.argv):
        if "install=bash" in sys.argv:
            print(completion.INSTALL_BASH)
            return 0
        completion.translate_line()
    # Makes Hydra raise exceptions; otherwise it would print them and exit.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    signal.signal(signal.SIGTERM, end_at_once)
    OmegaConf.register_new_resolver("plain", _plain, replace=True)
    failures: list[LabError] = []
    try:
        _call_hydra(task, config_name, finish, failures)
    except KeyboardInterrupt:
        _print_errors(failures)
        print("interrupted: what was finished is kept; the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of `... --help | head` has ended. Python would fail once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        failure = _as_message(error, config_name)
        if failure is None:
            raise
        failures.append(failure)
    _print_errors(failures)
    return int(bool(failures))


def _call_hydra(
    task: Callable[[DictConfig], object], config_name: str, finish: Callable[[], None], failures: list[LabError]
) -> None:
    """Check what was typed, let Hydra call the task for each point, and finish; LabErrors of both go to `failures`."""

    @functools.wraps(task)
    def guarded(config: DictConfig) -> object:
        # Hydra would print a line of its own about an error, and would not call the task for the points after it.
        try:
            return task(config)
        except LabError as error:
            failures.append(error)
        except OmegaConfBaseException as error:
            failures.append(_explain(error, config_name))
        return None

    main = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(guarded)
    # Before Hydra starts: it writes what was typed to disk, and it composes all points of a grid.
    _check_secrets(sys.argv[1:])
    _check_grid(sys.argv[1:])
    try:
        main()
    finally:
        try:
            finish()
        except LabError as error:
            failures.append(error)


def _as_message(error: Exception, config_name: str) -> LabError | None:
    """Turn an exception that the user can do something about into a message; None for a bug of ours."""
    if isinstance(error, LabError):
        return error
    # Before OSError, because Hydra's exception for a missing config is both.
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _explain(error, config_name)
    # This comes from Hydra's own folders: our code explains its errors where it writes.
    if isinstance(error, OSError):
        return LabError(
            f"{error.filename or 'A file'} cannot be read or written.",
            received=error.strerror or str(error),
            fix="make room or fix the permissions, then run the same command again",
        )
    if isinstance(error, HYDRA_ERRORS) and _comes_from_hydra(error):
        return _explain(error, config_name)
    return None


def _print_errors(failures: Sequence[LabError]) -> None:
    """Print each message once, on stderr."""
    for message in dict.fromkeys(map(str, failures)):
        # A message may repeat what was typed, which need not be valid UTF-8.
        text = message.encode("utf-8", "backslashreplace").decode()
        print(f"error: {text}", file=sys.stderr)


def positive(text: str) -> int:
    """Convert an argument of argparse to a whole number from 1.

    Raises:
        argparse.ArgumentTypeError: the number is less than 1.
        ValueError: the text is not a whole number.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, received {number}")
    return number


def _plain(name: object) -> str:
    """Turn a study's name into the name of a folder; the resolver `plain` of conf/."""
    # Hydra makes its folders before the config is checked, so the name must not lead out of them.
    return re.sub(r"[^A-Za-z0-9_.-]", "_", str(name)).strip(".")[:100] or "_"


def _check_secrets(arguments: Sequence[str]) -> None:
    """Refuse a password on the command line.

    Raises:
        LabError: an address of a tracking server contains an @; the message does not repeat it.
    """
    if any(re.match(r"[+]*tracking\b[^=]*=.*@", argument, re.DOTALL) for argument in arguments):
        raise LabError(
            "The address of a tracking server must not contain a user or a password.",
            expected="tracking.uri=https://HOST, without an @",
            received="an address with an @, which is not shown because it may contain a password",
            fix="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment; change that password, "
            "because what was typed is in the history of the shell",
        )


def _check_grid(arguments: Sequence[str]) -> None:
    """Refuse a grid whose configs would fill the memory, or which has no end.

    Raises:
        LabError: the grid has more than GRID points.
    """
    # A float, because a range may have infinitely many values.
    points = 1.0
    parser = OverridesParser.create()
    for argument in arguments:
        try:
            value = parser.parse_override(argument).value()
        except (HydraException, ValueError):
            # Hydra parses the argument again and reports this error itself.
            continue
        if isinstance(value, ChoiceSweep):
            points *= len(value.list)
        elif isinstance(value, RangeSweep):
            points *= _length(value)
    # Not `points > GRID`, which is false for nan.
    if not points <= GRID:
        raise LabError("The grid is too large.", expected=f"at most {GRID} points", received=f"{points:.7g} points")


def _length(value: RangeSweep) -> float:
    """Count the values of a range: inf for one without an end, nan for one whose limits are not numbers."""
    # Hydra refuses a step of 0 itself.
    if not value.step:
        return 1
    try:
        return max(math.ceil(((value.stop or 0) - (value.start or 0)) / value.step), 0)
    except OverflowError:
        return math.inf
    except ValueError:
        return math.nan


def _comes_from_hydra(error: BaseException) -> bool:
    """Whether none of our code was running: Hydra could not use what was typed, for instance optimizer=null."""
    modules = {str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__)}
    # This module calls Hydra, so its own frames are always there.
    return not any(name == "__main__" or name.startswith("pipeline.") for name in modules - {__name__})


def _explain(error: Exception, config_name: str) -> LabError:
    """Reword an exception of Hydra or OmegaConf for someone who typed an override."""
    text = str(error)
    if error.__cause__:
        text += f"\n{error.__cause__}"
    # Neither library gives the key or the group as an attribute, so they are read from the message.
    group_option = re.search(r"(?:Could not find|Could not override) '([^']+)/([^'/]+)'", text)
    if group_option:
        return _unknown_option(*group_option.groups())
    key = re.search(r"full_key: (\S+)", text) or re.search(r"Could not (?:override|append to) '([^']+)'", text)
    if isinstance(error, MissingMandatoryValue) and key:
        return LabError(f"{key.group(1)} has no value.", fix=f"give it one: {key.group(1)}=VALUE")
    if key and ("is not in struct" in text or "No match in the defaults list" in text):
        return _unknown_key(key.group(1), config_name)
    return LabError(
        "The command cannot be understood.",
        expected="overrides like optimizer.learning_rate=0.1, or optimizer.learning_rate=0.1,1 to sweep with -m",
        received=(text.splitlines() or [type(error).__name__])[0],
        fix="see --help",
    )


def _unknown_option(group: str, option: str) -> LabError:
    options = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    fix = f"choose one of them, or write conf/{group}/{option}.yaml"
    near = difflib.get_close_matches(option, options, n=1)
    if near:
        fix = f"did you mean {group}={near[0]}?"
    return LabError(f"There is no {group}={option}.", expected=f"one of {', '.join(options)}", received=option, fix=fix)


def _unknown_key(key: str, config_name: str) -> LabError:
    keys = _keys(config_name)
    if keys.get(key):
        group = key.split(".")[0]
        owners = [f"{group}={keys[key][0]}", *keys[key][1:]]
        return LabError(
            f"The key {key} belongs to {' or '.join(owners)}.", received="another choice", fix=f"add {owners[0]}"
        )
    fix = "`--cfg job` prints every key"
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    if near:
        fix = f"did you mean {near[0]}?"
    return LabError(
        f"There is no key {key}.", expected="a key of conf/config.yaml or of its groups", received=key, fix=fix
    )


def _keys(config_name: str) -> dict[str, list[str]]:
    """Map every key of the root config and of the groups, by its full name, to the group options that have it."""
    keys: dict[str, list[str]] = {path.name: [] for path in CONF.iterdir() if path.is_dir() and path.name != "hydra"}

    def walk(prefix: str, node: dict[Any, Any], owner: list[str]) -> None:
        for key, inner in node.items():
            # At the top of the root config these two belong to Hydra.
            if prefix or key not in ("defaults", "hydra"):
                keys.setdefault(f"{prefix}{key!s}", []).extend(owner)
                if isinstance(inner, dict):
                    walk(f"{prefix}{key!s}.", inner, owner)

    for file in [CONF / f"{config_name}.yaml", *sorted(CONF.glob("*/*.yaml"))]:
        # As plain Python, so that a value that is missing or refers to another one is not resolved.
        loaded = OmegaConf.to_container(OmegaConf.load(file))
        # An experiment sets keys of other groups, and has none of its own.
        if not isinstance(loaded, dict) or file.parent.name == "experiment":
            continue
        if file.parent == CONF:
            walk("", loaded, [])
        else:
            walk(f"{file.parent.name}.", loaded, [file.stem])
    return keys
