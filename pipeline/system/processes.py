"""Utilities for processes: their command line, their identity, whether they still run, and the cores they may use."""

from __future__ import annotations

import functools
import json
import math
import os
import platform
import shlex
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.system.limits import cpu_quota

HEARTBEAT_SECONDS = 30.0
# Seconds without a heartbeat after which a process that cannot be seen from here counts as ended. Ten heartbeats may be
# missed, so that a slow tracking server does not make a running process look dead.
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
    # Not every cluster binds a job to the cores that it was given.
    granted = _number_of("SLURM_CPUS_PER_TASK") or available
    return max(1, math.ceil(min(available, granted, cpu_quota())))


def threads_to_use(wanted: int | None) -> int:
    """Return the number of threads that this process may compute with.

    The environment variable OMP_NUM_THREADS limits it, as it limits other programs: engines set it for their workers,
    so that all of them together use no more threads than there are cores.

    Args:
        wanted: the config's `threads`; None: one for each core.
    """
    limit = _number_of("OMP_NUM_THREADS")
    if limit is None:
        return wanted or cores()
    return min(wanted or limit, limit)


def _number_of(variable: str) -> int | None:
    """Read a whole number from 1 in an environment variable; None: it has no such value."""
    text = os.environ.get(variable, "")
    if not text.isdecimal():
        return None
    return int(text) or None


def owner() -> str:
    """Identify this process as JSON: its machine, its process id, when it started, and where its id is unique."""
    process = psutil.Process()
    return json.dumps(
        {
            "host": platform.node(),
            "process": process.pid,
            # The start is needed because the system reuses process ids.
            "started": process.create_time(),
            "ticks": _start_ticks(process.pid),
            "place": place(),
        }
    )


@functools.cache
def place() -> str:
    """Identify where process ids are unique: this boot of this machine and, on Linux, the PID namespace.

    The name of the machine does not suffice: containers may share it, and each counts its processes from 1.

    Returns:
        A text without hyphens that is the same for all processes that see each other; empty if that is unknown.
    """
    if sys.platform != "linux":
        return f"{uuid.getnode():x}"
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
        return f"{boot}.{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def is_running(process: int, started: float | None = None, ticks: int | None = None) -> bool:
    """Whether a process of this place still runs.

    Args:
        process: its id.
        started: its start time in seconds since 1970, because another process may have its id now. None: not checked.
        ticks: its start in clock ticks since the boot, which replaces `started` where it is known.
    """
    try:
        found = psutil.Process(process)
        # A zombie has exited; only its parent has not read the exit code yet.
        if found.status() == psutil.STATUS_ZOMBIE:
            return False
        if ticks is not None:
            return ticks == _start_ticks(process)
        # psutil derives a start from the system clock, so two readings of it can differ slightly.
        return started is None or abs(found.create_time() - started) < 1
    except psutil.NoSuchProcess:
        return _is_hidden(process)


def _is_hidden(process: int) -> bool:
    """Whether a process runs that the system does not show to this user, as with the mount option `hidepid`."""
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        pass
    return False


def _start_ticks(process: int) -> int | None:
    """Return when a process started, in clock ticks since the boot; None if the system does not say.

    Unlike a time since 1970, this does not change when the clock of the machine is set.
    """
    try:
        # The name of the program, in parentheses, may contain blanks and parentheses.
        fields = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def is_gone(owner: str, heartbeat: str | None) -> bool:
    """Whether a process has ended. One that this process cannot see counts as ended when its heartbeat is stale.

    Args:
        owner: the result of `owner` in that process.
        heartbeat: the time of its last heartbeat, in milliseconds since 1970; None: it has sent none.
    """
    read = _read_owner(owner)
    if read is None:
        return False
    # An earlier version has recorded no place: only the name of its machine, which others may have too.
    if read.place and read.place == place():
        return not is_running(read.process, read.started, read.ticks)
    try:
        return time.time() - int(heartbeat or 0) / 1000 > STALE_SECONDS
    except ValueError:
        # Another program wrote this value, so nothing is known about the process.
        return False


@dataclass(frozen=True)
class _Owner:
    """The part of `owner` that `is_gone` needs; in a text of an earlier version `place` is empty, and `ticks` None."""

    process: int
    started: float
    ticks: int | None
    place: str


def _read_owner(text: str) -> _Owner | None:
    """Read a result of `owner`; None: another program wrote the text."""
    # Checked by hand, because importing pydantic takes longer than everything else that the command line imports.
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    process, started, ticks, place = (content.get(key) for key in ("process", "started", "ticks", "place"))
    if not isinstance(process, int) or process < 0 or not isinstance(started, int | float):
        return None
    if not isinstance(ticks, int | None):
        return None
    return _Owner(process, float(started), ticks, str(place or ""))
