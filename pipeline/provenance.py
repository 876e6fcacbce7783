"""Where a run comes from: code, command, project folder."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path


def store_root(project: Path) -> Path:
    """The folder that holds .points/ and mlruns/.

    It is the project's, except in the temporary checkouts of `dvc exp run --temp` and `--queue` (below
    .dvc/tmp/exps), which are deleted after the run: those use the project they were made from.
    """
    for folder in project.parents:
        if folder.name == "exps" and folder.parent.name == "tmp" and folder.parent.parent.name == ".dvc":
            return folder.parent.parent.parent
    return project


def command() -> str:
    """What was typed, as it can be typed again."""
    program = Path(sys.argv[0])
    module = f"python -m {program.parent.name}.{program.stem}" if program.suffix == ".py" else program.name
    return shlex.join([*module.split(), *sys.argv[1:]])


def git_state(project: Path) -> dict[str, str]:
    """Commit and whether the working tree differs from it; empty outside a git checkout."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(project), *arguments],  # noqa: S607 - the user's own git
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain")
    state = {} if commit is None else {"mlflow.source.git.commit": commit}
    return state if changes is None else state | {"git.dirty": str(bool(changes)).lower()}
