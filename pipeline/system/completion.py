"""Shell completion for `python -m pipeline.train`. Hydra's own script knows `python FILE` only."""

from __future__ import annotations

import os
import re

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
"""What `eval "$(python -m pipeline.train -sc install=bash)"` evaluates; for zsh, after `bashcompinit`."""


def wanted(arguments: list[str]) -> bool:
    """Whether a command line is about completion."""
    return "-sc" in arguments or "--shell-completion" in arguments


def translate_line() -> None:
    """Rewrite the line that the shell handed over, `python -m pipeline.train ...`, to the form Hydra understands."""
    line, point = os.environ.get("COMP_LINE", ""), os.environ.get("COMP_POINT", "0")
    module = re.match(r"\S+ +-m +(pipeline\.\w+)", line)
    if module:
        program = f"python {module.group(1)}"
        os.environ["COMP_LINE"] = program + line[module.end() :]
        os.environ["COMP_POINT"] = str(int(point) - module.end() + len(program))
