"""Run an entry point: let Hydra compose the config, turn errors into messages, and return the exit code."""

from __future__ import annotations

import argparse
import atexit
import functools
import gc
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence

import hydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import Mark, MarkedYAMLError, YAMLError

from pipeline.system import completion
from pipeline.system.arguments import check_arguments
from pipeline.system.errors import LabError
from pipeline.system.own_folder import with_own_folder
from pipeline.system.project import CONF
from pipeline.system.remedies import remedy
from pipeline.system.signals import ignore_notices, interrupt_on_signals
from pipeline.system.streams import keep_streams, output_error
from pipeline.system.unknown import unknown_key, unknown_option

# What a shell reports for a program that SIGPIPE has ended, such as `ls | true`.
UNREAD = 141
# The exceptions, besides its own, that Hydra raises for overrides that it cannot use.
HYDRA_ERRORS = (ValueError, TypeError, LookupError, AttributeError, AssertionError, RuntimeError, YAMLError)


def run(
    task: Callable[[DictConfig], object],
    config_name: str,
    finish: Callable[[], None] = lambda: None,
    answers: bool = False,
) -> int:
    """Run a Hydra task and return the exit code.

    This is 0 for success, 1 for an error, 130 for an interruption, and 141 if nobody has read the answer. Work does not
    depend on readers: a command that trains ends with 0 even if nobody has read its table.

    Args:
        task: called with the composed config.
        config_name: root config in conf/.
        finish: called after Hydra has returned or raised; may also raise LabError.
        answers: whether the output of the task is all that it does.

    Example:
        if __name__ == "__main__":
            sys.exit(cli.run(task, "config"))
    """
    keep_streams()
    # The last thing before Python ends. It would search all objects of TensorFlow and MLflow for garbage, in silence.
    atexit.register(gc.freeze)
    if completion.wanted(sys.argv):
        if "install=bash" in sys.argv:
            print(completion.INSTALL_BASH)
            return _exit_code([], answers=True)
        completion.translate_line()
    # Makes Hydra raise exceptions; otherwise it would print them and exit.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    interrupt_on_signals()
    OmegaConf.register_new_resolver("plain", _safe_folder_name, replace=True)
    failures: list[LabError] = []
    try:
        _call_hydra(task, config_name, finish, failures)
    except KeyboardInterrupt:
        _print_errors(failures)
        print("interrupted: finished work is kept; run the same command again to resume", file=sys.stderr)
        return 130
    except Exception as error:
        failure = _as_message(error, config_name)
        if failure is None:
            _print_errors(failures)
            raise
        failures.append(failure)
    return _exit_code(failures, answers)


def _exit_code(failures: Sequence[LabError], answers: bool) -> int:
    """Print the errors of a command that has ended, also if its output could not be written; return its exit code."""
    lost = output_error()
    # Without a reader, as in `... | true` and `... >&-`, nobody wanted the output.
    if lost is not None and not isinstance(lost, BrokenPipeError):
        unwritten = LabError(
            "The output of the command could not be written.",
            expected="a standard output that can be written",
            received=lost.strerror or str(lost),
            fix="free some disk space or write it elsewhere, then run the same command again; finished work is kept",
        )
        failures = [*failures, unwritten]
    _print_errors(failures)
    if failures:
        return 1
    if lost is not None and answers:
        return UNREAD
    return 0


def _call_hydra(
    task: Callable[[DictConfig], object], config_name: str, finish: Callable[[], None], failures: list[LabError]
) -> None:
    """Check the command line, let Hydra call the task for each point, and finish; LabErrors are added to `failures`."""
    process = os.getpid()

    @functools.wraps(task)
    def guarded(config: DictConfig) -> object:
        # Hydra would print its own line about an error, and would not call the task for the points after it.
        try:
            return task(config)
        except LabError as error:
            failure = error
        except OmegaConfBaseException as error:
            failure = _explain(error, config_name)
        # A launcher that calls the task in another process passes on what is raised there, but not this list.
        if os.getpid() != process:
            raise failure
        failures.append(failure)
        return math.nan  # the score of the point, for a sweeper that searches

    main = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(guarded)
    # Before Hydra starts, because it writes the command line to disk, and composes all points of a grid.
    check_arguments(sys.argv[1:])
    try:
        main()
    finally:
        # The command is ending: another notice must not keep it from closing its runs.
        ignore_notices()
        try:
            finish()
        except LabError as error:
            failures.append(error)


def _as_message(error: Exception, config_name: str) -> LabError | None:
    """Turn an exception that the user can fix into a message; None for a bug of ours."""
    if isinstance(error, LabError):
        return error
    # Hydra wraps what the constructor of a launcher or a sweeper raises.
    if isinstance(error.__cause__, LabError):
        return error.__cause__
    # Before OSError, because Hydra's exception for a missing config is both.
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _explain(error, config_name)
    # This comes from Hydra's own folders; our code reports such errors where it writes, with `files.explained`.
    if isinstance(error, OSError):
        return LabError(
            f"{error.filename or 'A file'} cannot be read or written.",
            received=error.strerror or str(error),
            fix=f"{remedy(error)}, then run the same command again",
        )
    if isinstance(error, HYDRA_ERRORS) and _comes_from_hydra(error):
        return _explain(error, config_name)
    return None


def _print_errors(failures: Sequence[LabError]) -> None:
    """Print each message once, on stderr."""
    for message in dict.fromkeys(map(str, failures)):
        message = with_own_folder(message, sys.argv[1:])
        # A message may quote the command line, which need not be valid UTF-8.
        text = message.encode("utf-8", "backslashreplace").decode()
        print(f"error: {text}", file=sys.stderr)


def _invalid_file(place: Mark, problem: str | None) -> LabError:
    """Return the message about a config file that is not YAML."""
    return LabError(
        f"{place.name}, line {place.line + 1}, column {place.column + 1}: not valid YAML.",
        expected="lines like `key: value`, each key once; no tabs before a key; quotes around a value with `: `",
        received=problem or "",
        fix="correct the file",
    )


def positive(text: str) -> int:
    """Convert an argument of argparse to a positive whole number.

    Raises:
        argparse.ArgumentTypeError: the number is less than 1.
        ValueError: the text is not a whole number.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, received {number}")
    return number


def _safe_folder_name(name: object) -> str:
    """Turn the name of a study into a folder name without a path; the resolver `plain` in conf/."""
    # Hydra makes its folders before the config is validated, so a name must not lead out of them.
    return re.sub(r"[^A-Za-z0-9_.-]", "_", str(name)).strip(".")[:100] or "_"


def _comes_from_hydra(error: BaseException) -> bool:
    """Whether Hydra and not our code raised an error, as it does for an override like optimizer=null."""
    modules = {str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__)}
    # This module calls Hydra, so its own frames are always there.
    return not any(name == "__main__" or name.startswith("pipeline.") for name in modules - {__name__})


def _explain(error: Exception, config_name: str) -> LabError:
    """Reword an exception of Hydra or OmegaConf for a user who typed an override."""
    # PyYAML names a text that was not read from a file <unicode string>.
    if isinstance(error, MarkedYAMLError) and error.problem_mark and not error.problem_mark.name.startswith("<"):
        return _invalid_file(error.problem_mark, error.problem)
    text = str(error)
    if error.__cause__:
        text += f"\n{error.__cause__}"
    if isinstance(error, MissingConfigException):
        unknown = unknown_option(error)
        if unknown is not None:
            return unknown
    # Neither library gives the key as an attribute, so it is read from the message.
    key = re.search(r"full_key: (\S+)", text) or re.search(
        r"Could not (?:override|append to|delete from config\.) '([^']+)'", text
    )
    if isinstance(error, MissingMandatoryValue) and key:
        return LabError(f"{key.group(1)} has no value.", fix=f"give it one: {key.group(1)}=VALUE")
    if key and re.search(r"is not in struct|' not in '|' does not exist|No match in the defaults list", text):
        return unknown_key(key.group(1), config_name, sys.argv[1:])
    absent = re.search(r"Additional config directory '(.+)' not found", text)
    if absent:
        return LabError(
            "The folder of --config-dir does not exist.",
            expected="a folder with data/, model/ or experiment/ in it",
            received=absent.group(1),
            fix="correct the path",
        )
    # The second is about `range(1,5)` and other functions.
    if text.startswith("Ambiguous value") or "requires --multirun" in text:
        return LabError(
            "Several values for one key are a sweep.",
            expected="one value, or -m to run with each of them",
            received=text.splitlines()[0],
            fix="add -m; a text that contains a comma needs quotes: \"KEY='A,B'\"",
        )
    fix = "see --help"
    if "An item is already at" in text:
        fix = "leave out the + to change it"
    return LabError(
        "The command is invalid.",
        expected="overrides like optimizer.learning_rate=0.1, or optimizer.learning_rate=0.1,1 to sweep with -m",
        received=(text.splitlines() or [type(error).__name__])[0],
        fix=fix,
    )
