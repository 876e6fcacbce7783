"""The option `--config-dir` of a command line, in commands to type that follow from it."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Sequence

# The commands that choose a data set or a model.
OF_DATA = "fetch|prepare|study|train"


def with_own_folder(text: str, arguments: Sequence[str]) -> str:
    """Return a text in which commands to type have the folder of one's own that the command line names.

    Without it, the next command would not find the data set or the model that this one was about.

    Args:
        text: the text, such as a message.
        arguments: the command line.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    try:
        folder = parser.parse_known_args(list(arguments))[0].config_dir
    except (argparse.ArgumentError, SystemExit):
        # Hydra refuses such a command line in its own words.
        return text
    if folder is None:
        return text
    option = f"--config-dir {shlex.quote(folder)}"
    commands = rf"(python -m pipeline\.(?:{OF_DATA}))\b(?! --config-dir)"
    # Not a text, in which a backslash of the folder would be an escape.
    return re.sub(commands, lambda found: f"{found[1]} {option}", text)
