"""A grid on the real SLURM: whatever is killed on the way, it comes to what Hydra's basic launcher comes to."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.once import copy_of_the_project
from tests.support.services import missing
from tests.support.slurm import JOB_SECONDS, Slurm, one_node
from tests.support.swept import Content, in_mlflow, left_in_points, on_disk

pytestmark = pytest.mark.slow
GRID = ("experiment=three_bits", "optimizer.learning_rate=0.1,1", "model.hidden_size=4", "training.epochs=2000")
HELD = """
from pathlib import Path

FIRST_SECONDS = 0.0
_keep = StackCheckpoints.keep


def _keep_and_wait(self, epoch, states):
    _keep(self, epoch, states)
    while Path("hold").exists():
        time.sleep(0.05)


StackCheckpoints.keep = _keep_and_wait
"""
"""What the copy of the project has at the end of pacing.py: who trains keeps a checkpoint, and trains no further
while there is a file called hold. So jobs are met while they train, however fast or slow this machine is."""
Result = tuple[dict[str, dict[str, Any]], Content]


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    if importlib.util.find_spec("submitit") is None:
        missing("the packages of the extra cluster (make cluster)")
    with one_node() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def undisturbed(slurm: Slurm, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What the basic launcher makes of the grid: on the disk, and in MLflow."""
    folder = lab_that_is_held(tmp_path_factory.mktemp("basic"), empty_store)
    with head(slurm, folder, "basic") as process:
        completed(slurm, process)
    return on_disk(folder), in_mlflow(folder, "three_bits")


@pytest.fixture
def project(slurm: Slurm, tmp_path: Path, empty_store: Path) -> Iterator[Path]:
    """A project of its own, where who trains is held."""
    folder = lab_that_is_held(tmp_path / "lab", empty_store)
    (folder / "hold").touch()
    yield folder
    slurm.cancel_all()  # of a test that failed


def lab_that_is_held(folder: Path, store: Path) -> Path:
    copy_of_the_project(folder)
    with (folder / "pipeline" / "sweep" / "pacing.py").open("a") as module:
        module.write(HELD)
    (folder / "mlruns").mkdir()
    shutil.copy(store, folder / "mlruns" / "mlflow.db")
    return folder


@contextmanager
def head(slurm: Slurm, folder: Path, launcher: str = "slurm") -> Iterator[subprocess.Popen[str]]:
    """The command that hands the grid out, and waits for it."""
    typed = [sys.executable, "-m", "pipeline.train", *GRID, f"hydra/launcher={launcher}"]
    typed += ["hydra.launcher.workers=2"] if launcher == "slurm" else []
    process = subprocess.Popen(
        typed,
        cwd=folder,
        env=os.environ | slurm.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def completed(slurm: Slurm, process: subprocess.Popen[str]) -> str:
    """Wait for a head that comes to its end, and for its jobs, which end after they have answered.

    Returns:
        What it said on its way.
    """
    out, told = process.communicate(timeout=JOB_SECONDS)
    assert process.returncode == 0, told
    assert out.count("finished") == 2
    assert "Traceback" not in told
    slurm.wait_for(lambda: not slurm.unfinished())
    return told


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for something while a head goes on."""
    give_up = time.monotonic() + JOB_SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.05)


def held(slurm: Slurm, folder: Path, process: subprocess.Popen[str]) -> list[str]:
    """Wait until both points have a checkpoint, and are held there; returns the ids of their jobs."""
    until(lambda: len(list(folder.glob(".points/*.training/checkpoint.npz"))) == 2, process)
    jobs = slurm.unfinished()
    assert [slurm.states()[job] for job in jobs] == ["RUNNING", "RUNNING"]
    return jobs


def ends_as(undisturbed: Result, slurm: Slurm, folder: Path) -> None:
    """The same numbers bit for bit, each point one run that says the same, and nothing that runs on."""
    points, runs = undisturbed
    assert on_disk(folder) == points
    assert in_mlflow(folder, "three_bits") == runs
    assert [name for name in left_in_points(folder) if name not in points] == []
    slurm.wait_for(lambda: {name for name, *_ in slurm.processes().values()} == {"munged", "slurmctld", "slurmd"})


def test_the_controller_is_killed_and_started_again_while_jobs_run(
    slurm: Slurm, project: Path, undisturbed: Result
) -> None:
    with head(slurm, project) as process:
        jobs = held(slurm, project, process)
        seen = time.time()
        slurm.typed("scontrol", "update", f"jobid={jobs[0]}", "comment=running")  # something to write down
        until(lambda: slurm.saved() > seen, process)
        slurm.end_controller(signal.SIGKILL)
        (project / "hold").unlink()
        until(lambda: not list(project.glob(".points/*.training")), process)
        slurm.start_controller()
        told = completed(slurm, process)
    assert "handed out again" not in told
    assert [slurm.states()[job] for job in jobs] == ["COMPLETED", "COMPLETED"]
    ends_as(undisturbed, slurm, project)


def test_the_head_is_killed_and_the_same_command_waits_for_its_jobs(
    slurm: Slurm, project: Path, undisturbed: Result
) -> None:
    with head(slurm, project) as process:
        jobs = held(slurm, project, process)
        process.kill()
    with head(slurm, project) as process:
        logs = project / "multirun" / "three_bits"
        until(lambda: "waiting for" in "".join(log.read_text() for log in logs.rglob("*.err")), process)
        (project / "hold").unlink()
        told = completed(slurm, process)
    assert "2 points: 2 to continue" in told
    assert [slurm.states()[job] for job in jobs] == ["COMPLETED", "COMPLETED"]
    ends_as(undisturbed, slurm, project)


def test_jobs_that_are_cancelled_or_killed_are_told_once_and_go_on(
    slurm: Slurm, project: Path, undisturbed: Result
) -> None:
    with head(slurm, project) as process:
        cancelled, killed = held(slurm, project, process)
        slurm.typed("scancel", cancelled)
        worker_of(slurm, killed).kill()
        until(lambda: slurm.unfinished() == [], process)
        (project / "hold").unlink()
        told = completed(slurm, process)
    assert told.count("2 points are handed out again. ") == told.count("handed out again") == 1
    assert (slurm.states()[cancelled], slurm.states()[killed]) == ("CANCELLED", "FAILED")
    ends_as(undisturbed, slurm, project)


def worker_of(slurm: Slurm, job: str) -> psutil.Process:
    """The process that trains in an element of an array."""
    return next(
        process
        for process, (name, *typed) in slurm.processes().items()
        if name.startswith("python")
        and "submitit.core._submit" in typed
        and process.environ()["SLURM_ARRAY_TASK_ID"] == job.partition("_")[2]
    )


def test_ctrl_c_in_the_head_ends_its_jobs(slurm: Slurm, project: Path, undisturbed: Result) -> None:
    with head(slurm, project) as process:
        held(slurm, project, process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=JOB_SECONDS)
        assert process.returncode == 130
    slurm.wait_for(lambda: not slurm.unfinished())
    (project / "hold").unlink()
    with head(slurm, project) as process:
        completed(slurm, process)
    ends_as(undisturbed, slurm, project)
