"""Shell completion for `python -m pipeline.train`. The script that comes with Hydra supports only `python FILE`."""

from __future__ import annotations

import os
import re

# `eval "$(python -m pipeline.train -sc install=bash)"` installs this function; zsh needs `bashcompinit` first.
# Removing = from COMP_WORDBREAKS makes bash complete `group=opt` as one word.
INSTALL_BASH = """\
_learning_rate_lab() {
    local words=($COMP_LINE) choices
    if [ "${words[1]}" == -m ] && [[ "${words[2]}" == pipeline.* ]]; then
        choices=$(COMP_POINT=$COMP_POINT COMP_LINE=$COMP_LINE "${words[0]}" -m "${words[2]}" -sc query=bash 2>/dev/null)
        COMPREPLY=($(compgen -W "$choices" -- "${words[$COMP_CWORD]}"))
    fi
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _learning_rate_lab python python3
"""


def wanted(arguments: list[str]) -> bool:
    """Whether a command line asks for shell completion."""
    return "-sc" in arguments or "--shell-completion" in arguments


def translate_line() -> None:
    """Rewrite the line that the shell passed, `python -m pipeline.train ...`, into the form that Hydra understands."""
    line = os.environ.get("COMP_LINE", "")
    cursor = os.environ.get("COMP_POINT", "0")
    module = re.match(r"\S+ +-m +(pipeline\.\w+)", line)
    if module:
        # Hydra drops the first two words of the line, as in `python FILE`. The cursor moves with the text that follows.
        program = f"python {module.group(1)}"
        os.environ["COMP_LINE"] = program + line[module.end() :]
        os.environ["COMP_POINT"] = str(int(cursor) - module.end() + len(program))
