"""What every entry point shares: Hydra composes, errors become one message, exit codes tell what happened."""

from __future__ import annotations

import difflib
import functools
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from pipeline import completion
from pipeline.errors import LabError

PROJECT = Path(__file__).resolve().parent.parent
CONF = PROJECT / "conf"


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
    signal.signal(signal.SIGTERM, _interrupt)
    main = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(guarded)
    try:
        try:
            main()
        finally:
            finish()
        if failures:
            raise LabError("\n".join(map(str, failures)))
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing half-written is left; the same command starts again", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of `... --help | head` has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if isinstance(error, ValueError) and not _comes_from_hydra(error):
            raise
        print(f"error: {_explain(error, config_name)}", file=sys.stderr)
        return 1
    return 0


def _comes_from_hydra(error: BaseException) -> bool:
    """Whether Hydra itself raised an error, as it does for overrides like optimizer=null."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", "")).startswith("hydra.")


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


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
        received=text.splitlines()[0],
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
