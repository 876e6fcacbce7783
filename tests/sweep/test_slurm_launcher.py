"""A grid on a real SLURM: whatever is killed, the results equal those of Hydra's basic launcher."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.cluster_runs import (
    RATES,
    checkpoints,
    ended_with,
    finish,
    go_on,
    left_alone,
    make_lab,
    start,
    the_same,
    training_processes,
    until,
)
from tests.support.services import missing
from tests.support.slurm import Slurm, one_node
from tests.support.swept import left_in_points, on_disk, statuses

pytestmark = pytest.mark.slow
SLURM = ("hydra/launcher=slurm", "hydra.launcher.workers=2")
# In slurm_queue.py of a lab: it asks each second whether jobs have ended without a result.
SELDOM, OFTEN = "QUERY_SECONDS = 15\n", "QUERY_SECONDS = 1\n"


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    if importlib.util.find_spec("submitit") is None:
        missing("the packages of the extra cluster (make cluster)")
    with one_node() as cluster:
        yield cluster


@pytest.fixture
def lab(slurm: Slurm, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project whose training waits at a checkpoint."""
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    lab = make_lab(tmp_path, empty_store, held=True)
    module = lab / "pipeline" / "sweep" / "workers" / "slurm_queue.py"
    before, line, after = module.read_text().partition(SELDOM)
    assert line
    module.write_text(before + OFTEN + after)
    yield lab
    # A test that failed may have left jobs.
    slurm.cancel_all()


def while_running(command: subprocess.Popen[bytes], condition: Callable[[], object]) -> None:
    """Wait for a condition, and fail when the command ends before it holds."""

    def met() -> object:
        assert command.poll() is None
        return condition()

    until(met)


def held(slurm: Slurm, lab: Path, command: subprocess.Popen[bytes]) -> list[str]:
    """Wait until every point is trained by a job, and held there at a checkpoint; returns the ids of these jobs."""
    while_running(command, lambda: len(training_processes(lab)) == len(RATES) == len(checkpoints(lab)))
    jobs = slurm.unfinished()
    assert [slurm.states()[job] for job in jobs] == ["RUNNING"] * len(RATES)
    return jobs


def completed(slurm: Slurm, lab: Path, command: subprocess.Popen[bytes], calm: Path) -> str:
    """Wait for a command that must succeed and for its jobs, which end a little after they have returned their points.

    The numbers must be bit for bit those of an undisturbed command, with one run for each point, and no process may be
    left.

    Returns:
        What the commands of the lab have printed.
    """
    output = finish(lab, command)
    assert "Traceback" not in output
    slurm.wait_for(lambda: not slurm.unfinished())
    the_same(lab, calm)
    assert [name for name in left_in_points(lab) if name not in on_disk(calm)] == []
    slurm.wait_for(lambda: {name for name, *_ in slurm.processes().values()} == {"munged", "slurmctld", "slurmd"})
    return output


@pytest.fixture
def calm(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    return left_alone(tmp_path_factory, empty_store)


def test_the_head_and_the_controller_are_killed_and_the_same_command_waits_for_the_jobs(
    slurm: Slurm, lab: Path, calm: Path
) -> None:
    command = start(lab, *SLURM)
    with ended_with(command):
        jobs = held(slurm, lab, command)
    command = start(lab, *SLURM)
    with ended_with(command):
        logs = lab / "multirun" / "three_bits"
        while_running(command, lambda: "waiting for" in "".join(log.read_text() for log in logs.rglob("*.err")))
        seen = time.time()
        # The controller saves its state only when something has changed.
        slurm.typed("scontrol", "update", f"jobid={jobs[0]}", "comment=running")
        while_running(command, lambda: slurm.saved() > seen)
        slurm.end_controller(signal.SIGKILL)
        go_on(lab)
        while_running(command, lambda: not list(lab.glob(".points/*.training")))
        slurm.start_controller()
        output = completed(slurm, lab, command, calm)
    assert "2 points: 2 to continue" in output
    assert "resubmitting" not in output
    assert [slurm.states()[job] for job in jobs] == ["COMPLETED", "COMPLETED"]


def test_ctrl_c_ends_the_jobs_and_those_that_are_cancelled_or_killed_are_handed_out_again(
    slurm: Slurm, lab: Path, calm: Path
) -> None:
    command = start(lab, *SLURM)
    with ended_with(command):
        held(slurm, lab, command)
        command.send_signal(signal.SIGINT)
        assert command.wait() == 130
    slurm.wait_for(lambda: not slurm.unfinished())
    assert "RUNNING" not in statuses(lab, "three_bits").values()
    command = start(lab, *SLURM)
    with ended_with(command):
        cancelled, killed = held(slurm, lab, command)
        slurm.typed("scancel", cancelled)
        worker_of(slurm, killed).kill()
        while_running(command, lambda: slurm.unfinished() == [])
        go_on(lab)
        output = completed(slurm, lab, command, calm)
    assert output.count("resubmitting 2 points. ") == output.count("resubmitting") == 1
    assert (slurm.states()[cancelled], slurm.states()[killed]) == ("CANCELLED", "FAILED")


def worker_of(slurm: Slurm, job: str) -> psutil.Process:
    """The process that trains in an element of an array."""
    return next(
        process
        for process, (name, *typed) in slurm.processes().items()
        if name.startswith("python")
        and "submitit.core._submit" in typed
        and process.environ()["SLURM_ARRAY_TASK_ID"] == job.partition("_")[2]
    )
