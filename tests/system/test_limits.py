"""The limits of this process, as a container, SLURM or the shell sets them."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, load
from pipeline.sweep import grouping
from pipeline.system import limits, processes
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT
from tests.support.trained import config

UNLIMITED = "9223372036854771712"
V1 = "5:cpu,cpuacct:/docker/0123\n4:memory:/docker/0123\n2:pids:/docker/0123\n"
MACHINE = psutil.virtual_memory().total


@pytest.fixture(autouse=True)
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Control groups of a test, of which there are none yet."""
    monkeypatch.setattr(limits, "GROUPS", tmp_path)
    monkeypatch.setattr(limits, "MEMBERSHIP", tmp_path / "membership")
    return tmp_path


def write(groups: Path, membership: str, files: dict[str, str]) -> None:
    (groups / "membership").write_text(membership)
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text + "\n")


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        # In a container, the root is the container's own group, and the path may be that of the host.
        ("0::/\n", {"cpu.max": "150000 100000", "memory.max": "1000000"}),
        ("0::/docker/0123\n", {"cpu.max": "150000 100000", "memory.max": "1000000"}),
        # On a machine itself, as under SLURM: the tightest limit counts, of the group or of one above it.
        (
            "0::/slurm/job/step\n",
            {
                "slurm/job/cpu.max": "150000 100000",
                "slurm/job/step/cpu.max": "max 100000",
                "slurm/job/memory.max": "2000000",
                "slurm/job/step/memory.max": "1000000",
            },
        ),
        (
            V1,
            {
                "cpu/docker/0123/cpu.cfs_quota_us": "150000",
                "cpu/docker/0123/cpu.cfs_period_us": "100000",
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
                "memory/docker/0123/memory.limit_in_bytes": "1000000",
                "memory/memory.limit_in_bytes": UNLIMITED,
            },
        ),
        (
            V1,
            {
                "cpu/cpu.cfs_quota_us": "150000",
                "cpu/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": "1000000",
            },
        ),
    ],
    ids=["v2 container", "v2 container of the host's path", "v2 SLURM", "v1", "v1 container"],
)
def test_the_limits_of_a_container_count(groups: Path, membership: str, files: dict[str, str]) -> None:
    write(groups, membership, files)
    assert limits.cpu_quota() == 1.5
    assert limits.memory() == 1_000_000
    assert 1 <= processes.cores() <= 2


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        ("", {}),
        ("0::/\n", {"cpu.max": "max 100000", "memory.max": "max"}),
        ("0::/\n", {"cpu.max": "", "memory.max": "no number"}),
        (
            V1,
            {
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": UNLIMITED,
            },
        ),
    ],
    ids=["no groups", "v2", "unreadable", "v1"],
)
def test_without_limits_all_of_the_machine_counts(groups: Path, membership: str, files: dict[str, str]) -> None:
    before = processes.cores()
    write(groups, membership, files)
    assert limits.cpu_quota() == math.inf
    assert limits.memory() == MACHINE
    assert processes.cores() == before


def test_less_than_one_core_is_one(groups: Path) -> None:
    write(groups, "0::/\n", {"cpu.max": "10000 100000"})
    assert processes.cores() == 1


def test_a_network_has_to_fit_in_the_container_and_so_does_a_stack(groups: Path) -> None:
    one = config("experiment=three_bits")
    data = grouping_data(one)
    points = [(one, data)] * 8
    assert len(grouping.stacks(points)) == 1
    needed = grouping.memory(one, data)
    write(groups, "0::/\n", {"memory.max": str(needed * 8)})
    assert [len(stack) for stack in grouping.stacks(points)] == [2, 2, 2, 2]
    grouping.check_memory(one, data)
    write(groups, "0::/\n", {"memory.max": str(needed - 1)})
    with pytest.raises(LabError, match="does not fit in memory") as refusal:
        grouping.check_memory(one, data)
    assert "memory of this machine or container" in str(refusal.value)


def grouping_data(one: Config) -> Arrays:
    return load(one.data, one.dtype, Path())


def test_the_limit_of_open_files_is_raised_as_far_as_the_system_allows() -> None:
    code = (
        "import resource; from pipeline.system.limits import open_files;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (32, 64)); print(open_files());"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["64", "(64, 64)"]


def test_slurm_may_grant_fewer_cores_than_it_binds(monkeypatch: pytest.MonkeyPatch) -> None:
    before = processes.cores()
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert processes.cores() == 1
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", str(10 * before))
    assert processes.cores() == before


@pytest.mark.parametrize(
    ("limit", "wanted", "used"),
    [("3", None, 3), ("3", 8, 3), ("3", 2, 2), (None, 8, 8), ("0", 8, 8), ("2,1", 8, 8)],
)
def test_threads_are_those_asked_for_within_the_limit(
    monkeypatch: pytest.MonkeyPatch, limit: str | None, wanted: int | None, used: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert processes.threads_to_use(None) == processes.cores()
    if limit is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert processes.threads_to_use(wanted) == used
