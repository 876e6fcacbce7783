"""The project folder, and the version of the code in it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pipeline
from pipeline.system.errors import LabError

PROJECT = Path(pipeline.__file__).resolve().parent.parent
CONF = PROJECT / "conf"


def expanded(path: str, key: str) -> Path:
    """Return a path of the user with the home folder in place of `~`, which no shell replaces within quotes.

    Args:
        path: as typed.
        key: the key that it was typed for.

    Raises:
        LabError: there is no such user, or the user has no home folder.
    """
    # Not `Path.expanduser`, which also replaces the ~ of `./~`.
    found = os.path.expanduser(path)  # noqa: PTH111
    if found.startswith("~"):
        raise LabError(
            f"{key} begins with ~, but that home folder does not exist.",
            expected="a path, or ~/ and a path",
            received=path,
            fix="write the full path, or ./ before a folder whose name begins with ~",
        )
    return Path(found)


def search_path(hydra: Any) -> list[Path]:
    """Return the folders in which Hydra looks for configs, such as that of --config-dir.

    Args:
        hydra: Hydra's own section of a composed config.
    """
    return [Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file"]


def store_root(project: Path) -> Path:
    """Return the folder that contains .points/ and mlruns/: the project, or the original of a temporary copy by DVC."""
    # `dvc exp run --temp` and `--queue` train in a temporary checkout below .dvc/tmp/exps, which is deleted afterwards.
    # Points that were stored in it would be lost.
    for folder in project.parents:
        if folder.name == "exps" and folder.parent.name == "tmp" and folder.parent.parent.name == ".dvc":
            return folder.parent.parent.parent
    return project


def code_state(project: Path) -> dict[str, str]:
    """Describe the code as tags: the commit, whether the working tree differs from it, and the SHA-256 of dvc.lock.

    A project without git or DVC has only some of the tags.
    """

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(project), *arguments],  # noqa: S607 - the user's own git
                capture_output=True,
                # Not the encoding of the locale, which may lack the letters of a file name.
                encoding="utf-8",
                errors="replace",
                timeout=30,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode != 0:
            return None
        return done.stdout.strip()

    state = {}
    commit = git("rev-parse", "HEAD")
    changes = git("status", "--porcelain")
    if commit is not None:
        # MLflow itself uses this name, and shows the commit in its own column.
        state["mlflow.source.git.commit"] = commit
    if changes is not None:
        state["git.dirty"] = str(bool(changes)).lower()
    with contextlib.suppress(OSError):
        state["dvc.lock"] = hashlib.sha256((project / "dvc.lock").read_bytes()).hexdigest()
    return state
