"""The states of jobs that submitit reads from the queue of a real SLURM without accounting."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.services import missing
from tests.support.slurm import Slurm, one_node


@pytest.fixture(scope="module", autouse=True)
def submitit() -> None:
    if importlib.util.find_spec("submitit") is None:
        missing("the packages of the extra cluster (make cluster)")


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with one_node() as cluster:
        yield cluster


@pytest.fixture
def found(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)


def ended(job: str) -> bool:
    """Whether submitit considers a job as ended, in a process that asks for the first time."""
    from pipeline.sweep.workers.slurm_queue import QueueWatcher

    return bool(QueueWatcher().is_done(job, mode="force"))


@pytest.mark.usefixtures("found")
def test_a_job_has_ended_when_the_queue_says_so_and_not_while_it_waits_or_is_suspended(slurm: Slurm) -> None:
    script = ("--parsable", "--output=/dev/null", "--array=0-1%1", "--wrap=sleep 1000")
    array = slurm.typed("sbatch", *script).strip()
    running, waiting = f"{array}_0", f"{array}_1"
    slurm.wait_for(lambda: slurm.states()[running] == "RUNNING")
    assert slurm.states()[waiting] == "PENDING"
    assert not ended(running)
    assert not ended(waiting)
    slurm.typed("scontrol", "suspend", running)
    assert slurm.states()[running] == "SUSPENDED"
    assert not ended(running)
    slurm.typed("scancel", array)
    slurm.wait_for(lambda: not slurm.unfinished())
    assert slurm.states()[running] == "CANCELLED"
    assert ended(running)
    assert ended(waiting)


@pytest.mark.usefixtures("found")
def test_a_job_that_the_queue_has_forgotten_has_ended() -> None:
    assert ended("99999_0")


@pytest.mark.usefixtures("found")
def test_cancelling_jobs_waits_until_they_have_ended(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    from submitit.slurm.slurm import SlurmJob

    from pipeline.sweep.workers.slurm_queue import QueueWatcher, cancel_jobs

    monkeypatch.setattr(SlurmJob, "watcher", QueueWatcher())
    # Without jobs there is nothing to do.
    cancel_jobs()
    dawdles = "--wrap=trap 'sleep 0.7; exit' TERM; while true; do sleep 0.1; done"
    job = slurm.typed("sbatch", "--parsable", "--output=/dev/null", "--array=0", dawdles).strip()
    SlurmJob.watcher.register_job(f"{job}_0")
    slurm.wait_for(lambda: slurm.states()[f"{job}_0"] == "RUNNING")
    cancel_jobs()
    assert slurm.unfinished() == []


def test_jobs_that_cannot_be_cancelled_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from submitit.slurm.slurm import SlurmJob

    from pipeline.sweep.workers.slurm_queue import QueueWatcher, cancel_jobs

    for name, script in (("scancel", "exit 1"), ("squeue", "echo 7_0")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(SlurmJob, "watcher", QueueWatcher())
    SlurmJob.watcher.register_job("7_0")
    cancel_jobs()


def test_nothing_is_known_while_the_controller_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.sweep.workers.slurm_queue import QueueWatcher

    squeue, answer = tmp_path / "squeue", tmp_path / "answer"
    squeue.write_text(f"#!/bin/sh\ncat {answer} || {{ echo Unable to contact slurm controller >&2; exit 1; }}\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    watcher = QueueWatcher()
    for job in ("7_0", "7_1"):
        watcher.register_job(job)

    def states() -> tuple[str, str]:
        watcher.update()
        return watcher.get_state("7_0", mode="cache"), watcher.get_state("7_1", mode="cache")

    assert states() == ("UNKNOWN", "UNKNOWN")
    answer.write_text("7_0|SUSPENDED\n7_1|NODE_FAIL\n")
    assert states() == ("RUNNING", "NODE_FAIL")
    answer.unlink()
    assert states() == ("RUNNING", "NODE_FAIL")
    answer.write_text("8_0|RUNNING\n")
    assert states() == ("COMPLETED", "NODE_FAIL")
    assert watcher.is_done("7_0", mode="cache")
