"""The processor time, memory and open files that this process may use: a container or SLURM may allow less than all.

Linux keeps the limits of a container in files of its control groups: https://docs.kernel.org/admin-guide/cgroup-v2.html
for version 2, and https://docs.kernel.org/admin-guide/cgroup-v1/memory.html for version 1.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

# Where Linux shows the control groups, and which of them this process is in.
GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def cpu_quota() -> float:
    """Return the processor time that the control groups allow, in cores; inf without a limit."""
    quotas = [math.inf]
    for folder in _groups("cpu"):
        # Version 2: "QUOTA PERIOD" in one file. Version 1: a file for each. Both in microseconds; no number, or a
        # negative one, is no limit.
        numbers = _numbers(folder / "cpu.max")
        if not numbers:
            numbers = _numbers(folder / "cpu.cfs_quota_us") + _numbers(folder / "cpu.cfs_period_us")
        if len(numbers) == 2 and min(numbers) > 0:
            quotas.append(numbers[0] / numbers[1])
    return min(quotas)


def memory() -> int:
    """Return the memory that this process may use, in bytes: that of the machine, or less in a container."""
    # All of it, not what is free now: other programs may end before it is needed.
    limits = [psutil.virtual_memory().total]
    for folder in _groups("memory"):
        limits += _numbers(folder / "memory.max") + _numbers(folder / "memory.limit_in_bytes")
    return min(limit for limit in limits if limit > 0)


def open_files() -> int:
    """Return how many files this process may have open, after raising its own limit as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # macOS refuses a limit above that of its kernel.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    if soft == resource.RLIM_INFINITY:
        return 2**31
    return soft


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups that limit this process: its own, and all above it.

    Args:
        controller: what is limited: cpu or memory.
    """
    # A system without control groups, such as macOS, does not have the file.
    lines: list[str] = []
    with suppress(OSError):
        lines = MEMBERSHIP.read_text(encoding="utf-8").splitlines()
    for line in lines:
        # For instance `4:memory:/docker/0123` in version 1, and `0::/user.slice` in version 2.
        _, controllers, group = line.split(":", 2)
        root = GROUPS
        if controllers:
            root = GROUPS / controller
        if controllers and controller not in controllers.split(","):
            continue
        # In a container, the root may already be the group of the container, and the path that of another system.
        own = root / group.lstrip("/")
        yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(root) and folder.exists())


def _numbers(file: Path) -> list[int]:
    """Read the numbers in a file; none if it does not exist, or says `max`, which means no limit."""
    with suppress(OSError, ValueError):
        return [int(word) for word in file.read_text(encoding="utf-8").split()]
    return []
