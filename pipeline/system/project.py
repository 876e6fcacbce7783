"""Where the project is, and which code it holds."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
from pathlib import Path

import pipeline

PROJECT = Path(pipeline.__file__).resolve().parent.parent
CONF = PROJECT / "conf"


def store_root(project: Path) -> Path:
    """The folder that holds .points/ and mlruns/.

    It is the project's, except in the temporary checkouts of `dvc exp run --temp` and `--queue` (below
    .dvc/tmp/exps), which are deleted after the run: those use the project they were made from.
    """
    for folder in project.parents:
        if folder.name == "exps" and folder.parent.name == "tmp" and folder.parent.parent.name == ".dvc":
            return folder.parent.parent.parent
    return project


def code_state(project: Path) -> dict[str, str]:
    """Commit, whether the working tree differs from it, SHA-256 of dvc.lock: as far as there are such, as tags."""

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
    if changes is not None:
        state["git.dirty"] = str(bool(changes)).lower()
    with contextlib.suppress(OSError):
        state["dvc.lock"] = hashlib.sha256((project / "dvc.lock").read_bytes()).hexdigest()
    return state
