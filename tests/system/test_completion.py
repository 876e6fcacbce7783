"""Shell completion as bash calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.system.project import PROJECT

DRIVER = """
eval "$(python -m pipeline.train -sc install=bash)"
COMP_LINE=$1 COMP_POINT=${#1} words=($1)
COMP_CWORD=$((${#words[@]} - 1))
_learning_rate_lab
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("python -m pipeline.train experiment=th", {"experiment=thirteen_lines", "experiment=three_bits"}),
        ("python -m pipeline.train experiment=mnist optimizer.l", {"optimizer.learning_rate="}),
        ("python -m pipeline.fetch data=fash", {"data=fashion_mnist"}),
        ("python -m json.tool no", {""}),
    ],
)
def test_bash_completes(line: str, expected: set[str]) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", DRIVER, "bash", line], cwd=PROJECT, env=environment, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.rstrip("\n").split("\n")) == expected
