"""Where a run comes from: code, command, project folder, process."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import TypeAdapter

HEARTBEAT_SECONDS = 30.0
STALE_SECONDS = 300.0
"""After how long without a heartbeat a process on another machine counts as gone."""


@dataclass(frozen=True)
class _Owner:
    host: str
    process: int
    started: float


OWNER = TypeAdapter(_Owner)


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


def owner() -> str:
    """This process as JSON: machine, process id, and when it started, for ids are used again."""
    return json.dumps({"host": platform.node(), "process": os.getpid(), "started": psutil.Process().create_time()})


def lives(process: int, started: float | None = None) -> bool:
    """Whether a process of this machine still runs.

    Args:
        process: its id.
        started: when it started, in seconds since 1970; another one may have got its id since.
    """
    try:
        found = psutil.Process(process)
        same = started is None or abs(found.create_time() - started) < 1
        return bool(same and found.status() != psutil.STATUS_ZOMBIE)  # killed, and nobody has asked for its exit code
    except psutil.NoSuchProcess:
        return False


def is_gone(owner: str, heartbeat: str | None) -> bool:
    """Whether a process has ended. One on another machine counts as ended when its heartbeat is stale.

    Args:
        owner: what `owner` returned there.
        heartbeat: milliseconds since 1970 when it last showed itself.
    """
    try:
        told = OWNER.validate_json(owner, strict=True)
        if told.host == platform.node():
            return not lives(told.process, told.started)
        return time.time() - int(heartbeat or 0) / 1000 > STALE_SECONDS
    except ValueError:  # written by somebody else
        return False
