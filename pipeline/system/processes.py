"""This process and others: how it was started, whose it is, whether it still runs, what it may use."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import time
from pathlib import Path

import psutil

HEARTBEAT_SECONDS = 30.0
STALE_SECONDS = 300.0
"""After how long without a heartbeat a process on another machine counts as gone."""


def command() -> str:
    """What was typed, as it can be typed again."""
    spec = sys.modules["__main__"].__spec__  # of `python -m MODULE`; None for a file that was run by its path
    program = [Path(sys.argv[0]).name]
    if spec is not None:
        program = ["python", "-m", spec.name.removesuffix(".__main__")]
    return shlex.join([*program, *sys.argv[1:]])


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    read = _read_owner(owner)
    if read is None:
        return False
    host, process, started = read
    if host == platform.node():
        return not lives(process, started)
    try:
        return time.time() - int(heartbeat or 0) / 1000 > STALE_SECONDS
    except ValueError:  # written by somebody else
        return False


def _read_owner(text: str) -> tuple[str, int, float] | None:
    """Machine, process id and start of what `owner` returned; None: somebody else has written it.

    Checked by hand, because the command line imports this module, and pydantic takes longer to import than all of it.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    host, process, started = (content.get(key) for key in ("host", "process", "started"))
    if isinstance(host, str) and isinstance(process, int) and process >= 0 and isinstance(started, int | float):
        return host, process, float(started)
    return None
