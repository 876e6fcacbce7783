"""Utilities for processes: their command line, their identity, whether they still run, and the cores they may use."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import sys
import time
from pathlib import Path

import psutil

from pipeline.system.limits import cpu_quota

HEARTBEAT_SECONDS = 30.0
# Seconds without a heartbeat after which a process on another machine counts as ended. Ten heartbeats may be missed, so
# that a slow tracking server does not make a running process look dead.
STALE_SECONDS = 300.0


def command() -> str:
    """Return the command line of this process, quoted so that it can be run again."""
    # `__spec__` belongs to MODULE in `python -m MODULE`; it is None for a file that was run by its path.
    spec = sys.modules["__main__"].__spec__
    program = [Path(sys.argv[0]).name]
    if spec is not None:
        program = ["python", "-m", spec.name.removesuffix(".__main__")]
    return shlex.join([*program, *sys.argv[1:]])


# The environment variable by which joblib's workers know the process that they must not outlive.
COMMAND_PROCESS = "LAB_COMMAND_PROCESS"


def cores() -> int:
    """Return the number of cores that this process may use."""
    # SLURM or a container may allow fewer cores than the machine has. macOS does not have this function.
    available = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        available = len(os.sched_getaffinity(0))
    return max(1, math.ceil(min(available, cpu_quota())))


def owner() -> str:
    """Identify this process as JSON: its machine, its process id, and when it started."""
    # The start time is needed because the system reuses process ids.
    return json.dumps({"host": platform.node(), "process": os.getpid(), "started": psutil.Process().create_time()})


def is_running(process: int, started: float | None = None) -> bool:
    """Whether a process of this machine still runs.

    Args:
        process: its id.
        started: its start time in seconds since 1970, because another process may have its id now. None: not checked.
    """
    try:
        found = psutil.Process(process)
        # psutil derives a start from the system clock, so two readings of it can differ slightly.
        same = started is None or abs(found.create_time() - started) < 1
        # A zombie has exited; only its parent has not read the exit code yet.
        return bool(same and found.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def is_gone(owner: str, heartbeat: str | None) -> bool:
    """Whether a process has ended. One on another machine counts as ended when its heartbeat is stale.

    Args:
        owner: the result of `owner` in that process.
        heartbeat: the time of its last heartbeat, in milliseconds since 1970; None: it has sent none.
    """
    read = _read_owner(owner)
    if read is None:
        return False
    host, process, started = read
    if host == platform.node():
        return not is_running(process, started)
    try:
        return time.time() - int(heartbeat or 0) / 1000 > STALE_SECONDS
    except ValueError:
        # Another program wrote this value, so nothing is known about the process.
        return False


def _read_owner(text: str) -> tuple[str, int, float] | None:
    """Read machine, process id and start time from a result of `owner`; None: another program wrote the text."""
    # Checked by hand, because importing pydantic takes longer than everything else that the command line imports.
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
