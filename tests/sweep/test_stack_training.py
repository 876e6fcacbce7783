"""Training in this process, as a command and a worker call it. test_sweep.py tests complete commands."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import pytest

from pipeline.points.folder import PointFolder
from pipeline.points.job import Job
from pipeline.points.reading import read_run
from pipeline.sweep import pacing
from pipeline.sweep import training as training_module
from pipeline.sweep.jobs import JobMaker
from pipeline.sweep.training import RESERVED_FILES, StackTraining, take_over
from pipeline.system.errors import LabError
from pipeline.system.processes import owner
from tests.support.swept import STUDY, Request, rates, request

pytestmark = pytest.mark.usefixtures("sketched")


class Called:
    """A training that records the order of its calls."""

    def __init__(self, project: Path, first: Request, bar: bool = True) -> None:
        self.order: list[str] = []
        self.training = StackTraining(JobMaker(project, first[0]), {"command": "typed"}, self.label, self.start, bar)

    def label(self, jobs: Sequence[Job]) -> str:
        self.order.append(f"label {len(jobs)}")
        return "a stack"

    def start(self) -> None:
        self.order.append("start")

    def train(self, requests: Sequence[Request]) -> list[Job]:
        jobs = [self.training.job(*one) for one in requests]
        self.training.train(jobs)
        return jobs


def test_points_of_one_shape_train_as_one_stack_and_keep_their_tags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    requests = rates("0.01", "0.1")
    called = Called(tmp_path, requests[0], bar=False)
    jobs = called.train(requests)
    assert called.order == ["label 2", "start"]
    assert [job.state for job in jobs] == ["complete", "complete"]
    assert [job.name for job in jobs] == ["learning_rate=0.01", "learning_rate=0.1"]
    for job in jobs:
        run = read_run(job.folder.final)
        assert run is not None
        assert run.tags["command"] == "typed"
        assert run.owner == owner()
    assert capsys.readouterr().err.startswith("a stack: 30 epochs\n")


def test_what_is_trained_already_is_taken_over(tmp_path: Path) -> None:
    requests = rates("0.01", "0.1")
    Called(tmp_path, requests[0]).train(requests[:1])
    called = Called(tmp_path, requests[0])
    jobs = called.train(requests)
    assert [job.state for job in jobs] == ["done", "complete"]
    assert called.order == ["label 1", "start"]
    assert jobs[0].run == read_run(jobs[0].folder.final)


def test_a_rerun_that_was_given_up_is_deleted_unless_another_process_holds_it(tmp_path: Path) -> None:
    only = request("optimizer.learning_rate=0.1")
    (job,) = Called(tmp_path, only).train([only])
    job.folder.begin()
    holder = PointFolder(tmp_path, job.signature)
    assert holder.lock()
    take_over(job)
    assert job.folder.path.exists()
    holder.unlock()
    take_over(job)
    assert not job.folder.path.exists()


def test_what_goes_wrong_stays_with_its_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = PointFolder.keep

    def keep(folder: PointFolder, epoch: int, state: object, history: object) -> None:
        if folder.path == broken:
            raise LabError("The disk is full.")
        real(folder, epoch, state, history)  # type: ignore[arg-type]

    requests = rates("0.01", "0.1")
    called = Called(tmp_path, requests[0])
    broken = called.training.job(*requests[0]).folder.path
    monkeypatch.setattr(PointFolder, "keep", keep)
    jobs = called.train(requests)
    assert [job.state for job in jobs] == ["failed", "complete"]
    assert str(jobs[0].error) == "The disk is full."
    # The lock of the point that failed was released.
    assert jobs[0].folder.lock()
    jobs[0].folder.unlock()


def checkpoints_at_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(pacing, "COST_FACTOR", 0)


def test_a_folder_that_is_deleted_while_its_point_trains_costs_that_point_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints_at_every_epoch(monkeypatch)
    requests = rates("0.01", "0.1", "0.5")
    called = Called(tmp_path, requests[0])
    deleted = called.training.job(*requests[1]).folder.path
    monkeypatch.setattr(called, "start", lambda: shutil.rmtree(deleted))
    called.training = StackTraining(JobMaker(tmp_path, requests[0][0]), {}, called.label, called.start)
    jobs = called.train(requests)
    assert [job.state for job in jobs] == ["complete", "failed", "complete"]
    assert deleted.name in str(jobs[1].error)
    again = Called(tmp_path, requests[0]).train(requests)
    assert [job.state for job in again] == ["done", "complete", "done"]


@pytest.mark.parametrize("stopped", [False, True])
def test_what_cannot_be_written_ends_training_when_it_is_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    """With `stopped`, a signal arrives together with the error, and the command ends."""
    checkpoints_at_every_epoch(monkeypatch)
    epochs: list[int] = []

    def keep(folder: PointFolder, epoch: int, state: object, history: object) -> None:
        epochs.append(epoch)
        if stopped and len(epochs) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        raise LabError(f"{folder.path.name} is on a full disk.")

    monkeypatch.setattr(PointFolder, "keep", keep)
    requests = rates("0.01", "0.1")
    training = Called(tmp_path, requests[0]).training
    jobs = [training.job(*one) for one in requests]
    ending: AbstractContextManager[object] = nullcontext()
    if stopped:
        ending = pytest.raises(KeyboardInterrupt)
    with ending:
        training.train(jobs)
    assert epochs == [1, 1]
    assert [job.state for job in jobs] == ["failed", "failed"]
    for job in jobs:
        assert str(job.error) == f"{job.folder.path.name} is on a full disk."


@pytest.mark.parametrize(
    ("raised", "ended"),
    [
        (LabError("There is no GPU."), "failed after"),
        (MemoryError(), "failed after"),
        (KeyboardInterrupt(), "stopped after"),
        (None, r"a stack:"),
    ],
)
def test_only_a_stack_that_has_trained_shows_its_seconds_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException | None,
    ended: str,
) -> None:
    def train(*_: object) -> None:
        raise raised or AssertionError

    requests = rates("0.01")
    called = Called(tmp_path, requests[0])
    if raised is not None:
        monkeypatch.setattr(training_module, "trainer", lambda config: train)
    with suppress(KeyboardInterrupt):
        called.train(requests)
    assert re.search(rf"{ended} \d+\.\d s\n", capsys.readouterr().err)


def test_data_is_kept_for_the_points_that_share_it(tmp_path: Path) -> None:
    first = request("optimizer.learning_rate=0.1")
    training = Called(tmp_path, first).training
    assert training.data.load(first[0]).train_inputs is training.data.load(first[0]).train_inputs
    other = request("data=line_y3x", common=STUDY)
    assert training.data.load(other[0]).checksums != training.data.load(first[0]).checksums


def test_a_name_contains_the_backend_where_it_differs_from_the_first(tmp_path: Path) -> None:
    first = request("optimizer.learning_rate=0.1")
    training = Called(tmp_path, first).training
    assert training.job(*request("backend=keras", "optimizer.learning_rate=0.1")).name.endswith("backend=keras")
    assert "backend" not in training.job(*first).name


def test_a_point_that_cannot_be_locked_fails_alone_and_no_lock_is_held_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = rates("0.01", "0.1", "0.5")
    called = Called(tmp_path, requests[0])
    refused = called.training.job(*requests[1]).signature
    lock = PointFolder.lock

    def full(folder: PointFolder) -> bool:
        if folder.final.name == refused:
            raise LabError("No space left on device")
        return lock(folder)

    with monkeypatch.context() as patched:
        patched.setattr(PointFolder, "lock", full)
        jobs = called.train(requests)
    assert [job.state for job in jobs] == ["complete", "failed", "complete"]
    assert str(jobs[1].error) == "No space left on device"
    assert all(PointFolder(tmp_path, job.signature).lock() for job in jobs)


def test_an_interruption_between_two_locks_releases_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = rates("0.01", "0.1")
    called = Called(tmp_path, requests[0])
    first, second = (called.training.job(*one).signature for one in requests)
    lock = PointFolder.lock

    def interrupted(folder: PointFolder) -> bool:
        if folder.final.name == second:
            raise KeyboardInterrupt
        return lock(folder)

    with monkeypatch.context() as patched:
        patched.setattr(PointFolder, "lock", interrupted)
        with pytest.raises(KeyboardInterrupt) as interruption:
            called.train(requests)
    # The frames of the traceback still hold the jobs, so the lock did not end with them.
    assert interruption.tb is not None
    assert PointFolder(tmp_path, first).lock()


def test_a_limit_of_open_files_makes_stacks_smaller_and_costs_no_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each point that is locked has a file open."""
    held: set[PointFolder] = set()
    most = 0
    lock, unlock = PointFolder.lock, PointFolder.unlock

    def counted_lock(folder: PointFolder) -> bool:
        nonlocal most
        held.add(folder)
        most = max(most, len(held))
        return lock(folder)

    def counted_unlock(folder: PointFolder) -> None:
        held.discard(folder)
        unlock(folder)

    monkeypatch.setattr(PointFolder, "lock", counted_lock)
    monkeypatch.setattr(PointFolder, "unlock", counted_unlock)
    monkeypatch.setattr("pipeline.sweep.training.open_files", lambda: RESERVED_FILES + 2)
    requests = rates("0.01", "0.02", "0.03", "0.1", "0.5")
    called = Called(tmp_path, requests[0])
    jobs = called.train(requests)
    assert [job.state for job in jobs] == ["complete"] * 5
    assert called.order == ["label 2", "start", "label 2", "start", "label 1", "start"]
    assert most == 2


def test_points_of_another_stack_are_left_to_other_commands_until_it_is_their_turn(tmp_path: Path) -> None:
    """Two commands with the same points share the work, stack by stack."""
    grid = [request(f"optimizer={name}", "optimizer.learning_rate=0.1") for name in ("sgd", "momentum")]
    others: list[PointFolder] = []
    free: list[bool] = []

    def label(jobs: Sequence[Job]) -> str:
        others.extend(PointFolder(tmp_path, job.signature) for job in made)
        free.extend(other.lock() for other in others)
        for other in others:
            other.unlock()
        return "a stack"

    training = StackTraining(JobMaker(tmp_path, grid[0][0]), {}, label, lambda: None)
    made = [training.job(*one) for one in grid]
    training.train(made)
    assert [job.state for job in made] == ["complete", "complete"]
    assert free[:2] == [False, True]


@pytest.fixture
def hints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Callable[[list[str], int, str], list[str]]:
    """What two points say of joblib, by what is typed, the number of cores, and the engine of Keras."""

    def said(typed: list[str], cores: int, engine: str) -> list[str]:
        def train(*_: object) -> None:
            raise LabError("Not here.")

        requests = rates("0.01", "0.1", more=typed)
        called = Called(tmp_path, requests[0])
        monkeypatch.setattr(training_module, "cores", lambda: cores)
        monkeypatch.setattr(training_module, "keras_engine", lambda: engine)
        monkeypatch.setattr(training_module, "trainer", lambda config: train)
        caplog.set_level("INFO")
        called.train(requests)
        told = [record.message.partition("hydra/launcher=joblib ")[2] for record in caplog.records]
        return [text for text in told if text]

    return said


def test_a_sweep_that_leaves_cores_idle_says_how_to_use_them(
    hints: Callable[[list[str], int, str], list[str]],
) -> None:
    assert hints(["backend=keras"], 4, "tensorflow") == ["trains 2 at a time"]


@pytest.mark.parametrize(
    ("typed", "cores", "engine"),
    [
        (["backend=keras"], 1, "tensorflow"),
        (["backend=keras", "threads=2"], 4, "tensorflow"),
        (["backend=keras"], 4, "jax"),
        (["backend=numpy"], 4, "tensorflow"),
    ],
)
def test_a_sweep_without_idle_cores_says_nothing_of_them(
    hints: Callable[[list[str], int, str], list[str]], typed: list[str], cores: int, engine: str
) -> None:
    assert hints(typed, cores, engine) == []
