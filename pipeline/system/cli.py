"""What every entry point shares: Hydra composes, errors become one message, exit codes tell what happened."""

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

GRID = 10_000
"""Points that one command may ask for; Hydra composes them all, at some 0.07 s each, before the first is trained."""


def run(task: Callable[[DictConfig], object], config_name: str, finish: Callable[[], None] = lambda: None) -> int:
    """Run a Hydra task and return the exit code: 0 done, 1 refused or failed, 130 interrupted.

    Args:
        task: gets the composed config.
        config_name: root config in conf/.
        finish: called when Hydra has returned, however it ended; may raise LabError too.
    """
    if completion.wanted(sys.argv):
        if "install=bash" in sys.argv:
            print(completion.INSTALL_BASH)
            return 0
        completion.translate_line()
    failures: list[LabError] = []

    @functools.wraps(task)
    def guarded(config: DictConfig) -> object:
        try:
            return task(config)
        except LabError as error:  # kept until Hydra has returned: it would print a line of its own
            failures.append(error)
        except OmegaConfBaseException as error:
            failures.append(_explain(error, config_name))
        return None

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands exceptions on instead of printing them
    signal.signal(signal.SIGTERM, end_at_once)
    OmegaConf.register_new_resolver("plain", _plain, replace=True)
    main = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(guarded)
    try:
        _check_secrets(sys.argv[1:])
        _check_grid(sys.argv[1:])
        try:
            main()
        finally:
            try:
                finish()
            except LabError as error:
                failures.append(error)
    except LabError as error:
        failures.append(error)
    except KeyboardInterrupt:
        for failure in failures:
            print(f"error: {failure}", file=sys.stderr)
        print("interrupted: what was finished is kept; the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of `... --help | head` has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (HydraException, OmegaConfBaseException) as error:  # before OSError: a missing config is both
        failures.append(_explain(error, config_name))
    except OSError as error:  # of Hydra's own folders; ours are explained where they are written
        failures.append(
            LabError(
                f"{error.filename or 'A file'} cannot be read or written.",
                received=error.strerror or str(error),
                fix="make room or mend the permissions, then run the same command again",
            )
        )
    except (ValueError, TypeError, LookupError, AttributeError, AssertionError, RuntimeError, YAMLError) as error:
        if not _comes_from_hydra(error):
            raise
        failures.append(_explain(error, config_name))
    for message in dict.fromkeys(map(str, failures)):
        text = message.encode("utf-8", "backslashreplace").decode()  # what was typed may be no UTF-8
        print(f"error: {text}", file=sys.stderr)
    return 1 if failures else 0


def positive(text: str) -> int:
    """Type of an argument of argparse: a whole number from 1.

    Raises:
        argparse.ArgumentTypeError: it is less.
        ValueError: it is not a whole number.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, received {number}")
    return number


def _plain(name: object) -> str:
    """What Hydra's own folders are called, which it makes before the config is looked at: nothing leads elsewhere."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", str(name)).strip(".")[:100] or "_"


def _check_secrets(arguments: Sequence[str]) -> None:
    """Refuse a password on the command line before Hydra has written down what was typed.

    Raises:
        LabError: there is one, which is not repeated.
    """
    if any(re.match(r"[+]*tracking\b[^=]*=.*@", argument, re.DOTALL) for argument in arguments):
        raise LabError(
            "The address of a tracking server holds no user and no password.",
            expected="tracking.uri=https://HOST, without an @",
            received="an address with an @, which is not shown as it may hold a password",
            fix="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment; what was typed is in "
            "the history of the shell, so change that password",
        )


def _check_grid(arguments: Sequence[str]) -> None:
    """Refuse a grid that would fill the memory with its configs, or never end.

    Raises:
        LabError: it has more than GRID points.
    """
    points, parser = 1.0, OverridesParser.create()
    for argument in arguments:
        try:
            value = parser.parse_override(argument).value()
        except (HydraException, ValueError):  # Hydra will say so itself
            continue
        if isinstance(value, ChoiceSweep):
            points *= len(value.list)
        elif isinstance(value, RangeSweep):
            points *= _length(value)
    if not points <= GRID:
        raise LabError("The grid is too large.", expected=f"at most {GRID} points", received=f"{points:.7g} points")


def _length(value: RangeSweep) -> float:
    """How many values a range has; nan for one that is none."""
    start, stop, step = value.start or 0, value.stop or 0, value.step
    try:
        return max(math.ceil((stop - start) / step), 0) if step else 1  # Hydra refuses a step of 0
    except OverflowError:
        return math.inf
    except ValueError:
        return math.nan


def _comes_from_hydra(error: BaseException) -> bool:
    """Whether none of our code was under way: Hydra could not use what was typed, as with optimizer=null."""
    modules = {str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__)}
    return not any(name == "__main__" or name.startswith("pipeline.") for name in modules - {__name__})


def _explain(error: Exception, config_name: str) -> LabError:
    """Hydra's and OmegaConf's errors in the words of a person who typed an override."""
    text = str(error) + (f"\n{error.__cause__}" if error.__cause__ else "")
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
    near = difflib.get_close_matches(option, options, n=1)
    return LabError(
        f"There is no {group}={option}.",
        expected=f"one of {', '.join(options)}",
        received=option,
        fix=f"did you mean {group}={near[0]}?" if near else f"name one of them, or write conf/{group}/{option}.yaml",
    )


def _unknown_key(key: str, config_name: str) -> LabError:
    keys = _keys(config_name)
    if keys.get(key):
        owners = f"{key.split('.')[0]}={' or '.join(keys[key])}"
        return LabError(
            f"The key {key} belongs to {owners}.", received="another choice", fix=f"add {owners.split(' or ')[0]}"
        )
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    return LabError(
        f"There is no key {key}.",
        expected="a key of conf/config.yaml or of its groups",
        received=key,
        fix=f"did you mean {near[0]}?" if near else "`--cfg job` prints every key",
    )


def _keys(config_name: str) -> dict[str, list[str]]:
    """Every key of the root config and of the groups under its full name, with the group options that have it."""
    keys: dict[str, list[str]] = {path.name: [] for path in CONF.iterdir() if path.is_dir() and path.name != "hydra"}

    def walk(prefix: str, node: DictConfig, owner: list[str]) -> None:
        for key in node:
            if prefix or key not in ("defaults", "hydra"):
                keys.setdefault(f"{prefix}{key!s}", []).extend(owner)
                inner = node._get_node(key)
                if isinstance(inner, DictConfig):
                    walk(f"{prefix}{key!s}.", inner, owner)

    for file in [CONF / f"{config_name}.yaml", *sorted(CONF.glob("*/*.yaml"))]:
        loaded = OmegaConf.load(file)
        if isinstance(loaded, DictConfig) and file.parent.name != "experiment":
            walk("", loaded, []) if file.parent == CONF else walk(f"{file.parent.name}.", loaded, [file.stem])
    return keys
