"""The state that an earlier command left of a point determines its job in this one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.backends.contract import State
from pipeline.backends.shared.history import History
from pipeline.points import checkpoint as checkpoints
from pipeline.points.folder import CHECKPOINT, JOURNAL, PointFolder
from pipeline.points.identity import signature, signed_text
from pipeline.points.job import Job, JobState, summary
from pipeline.points.reading import read_point
from pipeline.system.errors import LabError
from pipeline.system.files import SUMS, write_sums
from tests.points.test_reading import CHECKSUMS, HISTORY, ONE
from tests.support.damage import MACHINE, check_machine_error, fail_at

SIGNED = signed_text(ONE, CHECKSUMS)
STATE: State = {"updates": np.array(2)}
TAGS = {"command": "train"}


def job(root: Path) -> Job:
    sign = signature(ONE, CHECKSUMS)
    return Job(ONE, ["training.epochs=4"], "mine", sign, PointFolder(root, sign))


def opened(root: Path, restart: bool = False) -> Job:
    one = job(root)
    one.look()
    one.open(SIGNED, TAGS, "me", restart)
    return one


def in_training(root: Path, rows: int = 3) -> Job:
    one = opened(root)
    one.folder.keep(2, STATE, History(metrics=HISTORY.metrics[:rows]))
    return one


def sealed(root: Path) -> Job:
    """A point that was killed just before it was moved to its final path."""
    one = opened(root)
    one.folder.keep(HISTORY.epochs, {}, HISTORY)
    one.folder.write_history(HISTORY)
    write_sums(one.folder.path, excluded=CHECKPOINT)
    return one


def complete(root: Path) -> Job:
    one = opened(root)
    one.folder.write_history(HISTORY)
    one.folder.complete()
    return one


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def everything(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# --- to look


def test_a_point_without_files_is_to_run(tmp_path: Path) -> None:
    one = job(tmp_path)
    one.look()
    assert (one.state, one.error, one.point, one.begun) == ("to run", None, None, 0)


def test_a_complete_point_is_done(tmp_path: Path) -> None:
    complete(tmp_path)
    one = job(tmp_path)
    one.look()
    assert (one.state, one.error) == ("done", None)
    assert one.point is not None
    assert (one.point.name, one.point.config) == ("mine", ONE)
    assert one.point.history.metrics == HISTORY.metrics


@pytest.mark.parametrize("name", ["weights.npz", "metrics.csv", "config.json", "run.json", SUMS])
def test_a_damaged_point_is_reported_and_runs_again(tmp_path: Path, name: str) -> None:
    done = complete(tmp_path)
    flip(done.folder.final / name)
    one = job(tmp_path)
    one.look()
    assert (one.state, one.point) == ("to run", None)
    assert str(done.folder.final) in str(one.error)
    one.open(SIGNED, TAGS, "me", restart=False)
    assert one.error is None
    one.folder.write_history(HISTORY)
    one.folder.complete()
    one.look()
    assert (one.state, one.error) == ("done", None)


@pytest.mark.parametrize("content", [None, "{}"])
def test_a_point_that_does_not_say_how_it_was_trained_runs_again(tmp_path: Path, content: str | None) -> None:
    folder = complete(tmp_path).folder.final
    (folder / "run.json").unlink() if content is None else (folder / "run.json").write_text(content)
    write_sums(folder)
    one = job(tmp_path)
    one.look()
    assert (one.state, one.point) == ("to run", None)
    assert "has no record of how it was trained" in str(one.error)


def test_a_damaged_point_with_a_checkpoint_of_a_later_try_goes_on(tmp_path: Path) -> None:
    flip(complete(tmp_path).folder.final / "weights.npz")
    in_training(tmp_path)
    one = job(tmp_path)
    one.look()
    assert one.state == "to continue"
    assert one.error is not None


def test_a_point_with_a_checkpoint_is_to_be_continued_and_one_without_is_not(tmp_path: Path) -> None:
    one = job(tmp_path)
    states = []
    for left in (opened, in_training):
        left(tmp_path)
        one.look()
        states.append(one.state)
    assert states == ["to run", "to continue"]


@pytest.mark.parametrize("left", [opened, in_training, sealed, complete])
def test_to_look_changes_nothing(tmp_path: Path, left: Any) -> None:
    left(tmp_path)
    before = everything(tmp_path)
    job(tmp_path).look()
    assert everything(tmp_path) == before


# --- to adopt


def test_a_sealed_point_is_put_in_its_place(tmp_path: Path) -> None:
    left = sealed(tmp_path)
    one = job(tmp_path)
    one.look()
    before = one.state
    one.adopt()
    assert (before, one.state) == ("to continue", "done")
    assert one.point is not None
    assert one.point.history.metrics == HISTORY.metrics
    assert not left.folder.path.exists()
    assert not (left.folder.final / CHECKPOINT).exists()


def test_a_sealed_point_that_had_lost_its_checkpoint_already_is_put_in_its_place(tmp_path: Path) -> None:
    (sealed(tmp_path).folder.path / CHECKPOINT).unlink()
    one = job(tmp_path)
    one.adopt()
    assert one.state == "done"


def test_a_sealed_point_replaces_a_damaged_one(tmp_path: Path) -> None:
    flip(complete(tmp_path).folder.final / "weights.npz")
    sealed(tmp_path)
    one = job(tmp_path)
    one.adopt()
    assert (one.state, one.error) == ("done", None)


@pytest.mark.parametrize("name", ["weights.npz", SUMS])
def test_a_sealed_point_that_is_damaged_goes_on_from_its_checkpoint(tmp_path: Path, name: str) -> None:
    flip(sealed(tmp_path).folder.path / name)
    one = job(tmp_path)
    one.adopt()
    assert one.state == "to continue"
    one.open(SIGNED, TAGS, "me", restart=False)
    assert one.begun == HISTORY.epochs
    assert one.history.metrics == HISTORY.metrics
    one.folder.write_history(one.history)
    assert read_point(one.folder.complete(), "mine").history.metrics == HISTORY.metrics


def test_a_point_in_training_is_left_as_it_is(tmp_path: Path) -> None:
    in_training(tmp_path)
    before = everything(tmp_path)
    one = job(tmp_path)
    one.adopt()
    assert one.state == "to continue"
    assert everything(tmp_path) == before


# --- to open


def attempt_of(one: Job) -> str:
    assert one.run is not None
    return one.run.attempt


def test_a_new_point_records_what_it_is_and_who_trains_it(tmp_path: Path) -> None:
    one = opened(tmp_path)
    assert (one.state, one.begun, one.history) == ("training", 0, History())
    assert (one.folder.path / "signed.json").read_text() == SIGNED
    assert json.loads((one.folder.path / "config.json").read_text()) == ONE.model_dump(mode="json")
    content = json.loads((one.folder.path / "run.json").read_text())
    assert one.run is not None
    assert content == asdict(one.run)
    assert set(content) == {"name", "overrides", "tags", "attempt", "started", "owner"}
    assert (content["name"], content["overrides"]) == ("mine", ["training.epochs=4"])
    assert (content["tags"], content["owner"]) == (TAGS, "me")


def test_a_point_goes_on_as_the_same_attempt(tmp_path: Path) -> None:
    left = in_training(tmp_path)
    left.folder.append(HISTORY.metrics[3:])
    one = job(tmp_path)
    one.open(SIGNED, {"command": "again"}, "you", restart=False)
    assert (one.begun, one.state) == (2, "training")
    assert one.history.metrics == HISTORY.metrics[:3]
    assert one.folder.rows == 3
    assert left.run is not None
    assert one.run == replace(left.run, tags={"command": "again"}, owner="you")


def test_a_point_without_a_checkpoint_begins_again_as_the_same_attempt(tmp_path: Path) -> None:
    """Its MLflow run, which shows nothing yet, is used, and not a second one."""
    left = opened(tmp_path)
    left.folder.append(HISTORY.metrics)
    one = opened(tmp_path)
    assert one.begun == 0
    assert one.folder.rows == 0
    assert one.run == left.run


@pytest.mark.parametrize("name", [CHECKPOINT, JOURNAL])
def test_a_point_whose_checkpoint_is_damaged_starts_again_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    left = in_training(tmp_path)
    (left.folder.path / name).write_bytes(b"step")
    one = opened(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mine restarts from scratch: its checkpoint cannot be read (")
    assert (one.begun, one.history, one.state) == (0, History(), "training")
    assert attempt_of(one) != attempt_of(left)
    assert not (one.folder.path / CHECKPOINT).exists()
    assert (one.folder.path / JOURNAL).read_bytes() == b"step,timestamp,name,value\n"


def test_what_is_forced_starts_again_and_the_old_point_stays_until_the_new_one_exists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    complete(tmp_path)
    left = in_training(tmp_path)
    one = opened(tmp_path, restart=True)
    assert one.begun == 0
    assert attempt_of(one) != attempt_of(left)
    assert capsys.readouterr().err == ""
    assert read_point(one.folder.final, "mine").history.metrics == HISTORY.metrics


@pytest.mark.parametrize("content", ["", "[]", '{"attempt": "a", "started": "noon"}', '{"started": null}', "[" * 10**5])
def test_a_damaged_run_json_does_not_stop_a_point(tmp_path: Path, content: str) -> None:
    left = in_training(tmp_path)
    (left.folder.path / "run.json").write_text(content)
    one = opened(tmp_path)
    assert one.begun == 2
    assert one.run is not None
    assert one.run.started > 0
    assert one.run.attempt


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / ".points").write_text("a file")
    with pytest.raises(LabError, match="cannot be written"):
        opened(tmp_path)


# --- to fail


@pytest.mark.parametrize("state", ["to run", "to continue", "training", "killed"])
def test_a_point_fails_with_its_message(tmp_path: Path, state: JobState) -> None:
    one, error = job(tmp_path), LabError("no room")
    one.state = state
    one.fail(error)
    assert (one.state, one.error) == ("failed", error)


@pytest.mark.parametrize("state", ["done", "complete"])
def test_a_point_that_is_complete_does_not_fail_any_more(tmp_path: Path, state: JobState) -> None:
    one = job(tmp_path)
    one.state = state
    one.fail(LabError("too late"))
    assert (one.state, one.error) == (state, None)


# --- the summary


@pytest.mark.parametrize(
    ("states", "repeated", "text"),
    [
        (["to run"], 0, "1 point: 1 to run"),
        (["done"] * 2, 0, "2 points: 2 done"),
        (["to run"] * 5 + ["done"] * 7 + ["to continue"] * 2, 0, "14 points: 7 done, 2 to continue, 5 to run"),
        (["to run", "done"], 3, "2 points (3 duplicates skipped): 1 done, 1 to run"),
    ],
)
def test_a_command_says_what_it_will_do(tmp_path: Path, states: Sequence[JobState], repeated: int, text: str) -> None:
    jobs = [job(tmp_path) for _ in states]
    for one, state in zip(jobs, states, strict=True):
        one.state = state
    assert summary(jobs, repeated) == text


# --- what may be whole


@pytest.mark.parametrize("name", ["weights.npz", "run.json", "signed.json", SUMS])
@pytest.mark.parametrize("error", MACHINE, ids=repr)
def test_a_point_that_cannot_be_read_now_fails_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: OSError | MemoryError
) -> None:
    folder = complete(tmp_path).folder
    before = everything(tmp_path)
    for step in (Job.look, Job.adopt):
        one = job(tmp_path)
        with monkeypatch.context() as patched:
            fail_at(patched, folder.final / name, error)
            step(one)
        assert (one.state, one.point) == ("failed", None)
        assert one.error is not None
        check_machine_error(one.error, error, folder.final)
        assert everything(tmp_path) == before
        step(one)
        assert one.point is not None


@pytest.mark.parametrize("error", MACHINE, ids=repr)
def test_a_sealed_point_that_cannot_be_read_now_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError | MemoryError
) -> None:
    left = sealed(tmp_path)
    before = everything(tmp_path)
    one = job(tmp_path)
    with monkeypatch.context() as patched:
        fail_at(patched, left.folder.path / "weights.npz", error)
        one.adopt()
    assert one.state == "failed"
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", [CHECKPOINT, JOURNAL, "signed.json", "run.json"])
@pytest.mark.parametrize("error", MACHINE, ids=repr)
def test_a_checkpoint_that_cannot_be_read_now_is_not_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: OSError | MemoryError
) -> None:
    folder = in_training(tmp_path).folder.path
    before = everything(tmp_path)
    with monkeypatch.context() as patched:
        fail_at(patched, folder / name, error)
        with pytest.raises(LabError) as raised:
            opened(tmp_path)
    check_machine_error(raised.value, error, folder)
    assert everything(tmp_path) == before
    assert opened(tmp_path).begun == 2


def test_a_bug_of_ours_does_not_throw_a_checkpoint_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_training(tmp_path)
    before = everything(tmp_path)

    def fail(*arguments: object) -> None:
        raise TypeError("ours")

    monkeypatch.setattr(checkpoints, "unstack_snapshots", fail)
    with pytest.raises(TypeError, match="ours"):
        opened(tmp_path)
    assert everything(tmp_path) == before
