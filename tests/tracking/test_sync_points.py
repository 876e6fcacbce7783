"""A sync reads the folder of a point and sends it to MLflow: rows first, then the outcome of the attempt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from pipeline.backends.shared.history import History, Metric
from pipeline.config.schema import Tracking
from pipeline.points.folder import CHECKPOINT, ERROR, JOURNAL, PointFolder
from pipeline.points.identity import signature, signed_text
from pipeline.points.job import Job
from pipeline.points.sweep_record import SweepRecord
from pipeline.system.errors import LabError
from pipeline.system.processes import owner
from pipeline.tracking.sync import points
from pipeline.tracking.sync.attempts import Attempt, AttemptFolder, attempts
from pipeline.tracking.sync.points import PointSync
from pipeline.tracking.tracked_run import TrackedRun
from pipeline.tracking.tracker import Tracker
from tests.points.test_reading import CHECKSUMS, ONE

SERVER = Tracking(name="server", uri="http://127.0.0.1:5000")
SWEEP = SweepRecord("0" * 16, "another_study", "numpy", True, "command", SERVER, {}, started=0)


class Calls:
    """A tracker that records the calls it gets, and fails while it is `away`."""

    client = None
    experiment_id = "1"

    def __init__(self) -> None:
        self.made: list[tuple[Any, ...]] = []
        self.metrics: list[Metric] = []
        self.away = False
        self.root: Path | None = None
        self.refused = False

    def start_run(self, name: str, tags: dict[str, str], started: int) -> str:
        self.made.append(("start", name, tags["study"], tags["lab.attempt"]))
        return "run"

    def log_config(self, run_id: str, config: object, known: object = ()) -> None: ...

    def log_metrics(self, run_id: str, metrics: list[Metric]) -> None:
        if self.away:
            raise LabError("MLflow is away.")
        self.metrics += metrics

    def tag(self, run_id: str, tags: dict[str, str]) -> None:
        self.made += [("tag", key, value) for key, value in tags.items()]

    def reopen_run(self, run_id: str, tags: dict[str, str]) -> None:
        self.made.append(("reopen", run_id))

    def end_run(self, run_id: str, status: str) -> None:
        self.made.append(("end", status))

    def has_artifacts(self, run: object, names: object) -> bool:
        return True

    def delete_run(self, run_id: str) -> None:
        if self.refused:
            raise LabError("A call to MLflow failed.", received="no permission (403)")
        self.made.append(("delete", run_id))


class Training:
    """A point that trains, and the sync of its attempt."""

    def __init__(self, root: Path) -> None:
        sign = signature(ONE, CHECKSUMS)
        self.root, self.history, self.calls = root, History(), Calls()
        self.job = Job(ONE, [], "it", sign, PointFolder(root, sign))
        self.job.open(signed_text(ONE, CHECKSUMS), {}, "owner", restart=False)
        self.sync = self.synced()

    def synced(self, runs: tuple[TrackedRun, ...] = ()) -> PointSync:
        (attempt,) = attempts([self.job])
        sync = PointSync(PointFolder(self.root, self.job.signature), attempt, SWEEP)
        assert sync.folder.look()
        sync.open(self.tracker, list(runs), {"lab.clone": "here"}, "owner")
        return sync

    @property
    def tracker(self) -> Tracker:
        return cast(Tracker, self.calls)

    def record(self) -> None:
        self.history.record(len(self.history.metrics), {"train/loss": 0.1 + len(self.history.metrics), "norm": 1 / 3})

    def keep(self) -> None:
        self.record()
        self.job.folder.keep(1, {"updates": np.array(1)}, self.history)


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(tmp_path)


def test_an_attempt_is_known_by_its_run_json(training: Training) -> None:
    assert training.job.run is not None
    assert training.sync.attempt == Attempt("it", training.job.signature, training.job.run.attempt)
    assert training.calls.made == [("start", "it", "another_study", training.job.run.attempt)]
    assert training.sync.folder.config == ONE.model_copy(update={"study": "another_study", "tracking": SERVER})
    assert attempts([Job(ONE, [], "not begun", "a" * 16, PointFolder(training.root, "a" * 16))]) == []


def test_metrics_are_sent_as_far_as_a_checkpoint_counts_on_them(training: Training) -> None:
    training.record()
    training.job.folder.append(training.history.metrics)
    training.sync.send(training.tracker, None)
    assert training.calls.metrics == []
    for _ in range(3):
        training.keep()
        counted = list(training.history.metrics)
        training.record()
        training.job.folder.append(training.history.metrics[training.job.folder.rows :])
        training.sync.send(training.tracker, None)
        training.sync.send(training.tracker, None)
        assert training.calls.metrics == counted


def test_rows_that_mlflow_did_not_accept_are_sent_again_and_no_row_twice(training: Training) -> None:
    training.keep()
    training.sync.send(training.tracker, None)
    training.keep()
    training.calls.away = True
    with pytest.raises(LabError, match="away"):
        training.sync.send(training.tracker, None)
    training.calls.away = False
    training.sync.send(training.tracker, None)
    assert training.calls.metrics == training.history.metrics


@pytest.mark.parametrize("name", [CHECKPOINT, JOURNAL])
def test_rows_that_cannot_be_read_now_come_later(training: Training, name: str) -> None:
    """The folder may be renamed between two looks, and training starts again from a checkpoint that was cut short."""
    training.keep()
    file = training.job.folder.path / name
    content = file.read_bytes()
    for damage in (lambda: file.unlink(), lambda: file.write_bytes(content[:70])):
        damage()
        training.sync.send(training.tracker, None)
        assert len(training.calls.metrics) < len(training.history.metrics)
    file.write_bytes(content)
    training.synced().send(training.tracker, None)
    assert training.calls.metrics[-2:] == training.history.metrics


def test_an_attempt_that_failed_is_sent_with_its_error_after_its_rows(training: Training) -> None:
    training.keep()
    words = "No room.\n  to do:    make room"
    training.job.fail(LabError(words))
    training.sync.send(training.tracker, None)
    assert training.calls.metrics == training.history.metrics
    assert training.calls.made[1:] == [("tag", "error", words), ("end", "FAILED")]
    assert training.sync.settled


@pytest.mark.parametrize("status", ["KILLED", "FAILED"])
def test_an_attempt_that_is_over_without_an_error_ends_as_the_sweep_did(training: Training, status: Any) -> None:
    training.keep()
    assert not training.sync.send(training.tracker, None)
    assert not training.sync.settled
    assert not training.sync.send(training.tracker, None, status)
    assert training.calls.made[1:] == [("end", status)]
    assert training.sync.settled


def test_an_attempt_that_continues_no_longer_has_an_error(training: Training) -> None:
    training.keep()
    training.job.fail(LabError("No room."))
    assert (training.job.folder.path / ERROR).read_text() == "No room."
    again = Job(ONE, [], "it", training.job.signature, PointFolder(training.root, training.job.signature))
    again.open(signed_text(ONE, CHECKSUMS), {}, "owner", restart=False)
    assert again.run == training.job.run
    assert not (again.folder.path / ERROR).exists()


def test_another_attempt_at_the_point_is_not_mistaken_for_this_one(training: Training) -> None:
    training.keep()
    again = Job(ONE, [], "it", training.job.signature, PointFolder(training.root, training.job.signature))
    again.open(signed_text(ONE, CHECKSUMS), {}, "owner", restart=True)
    again.folder.keep(1, {"updates": np.array(1)}, training.history)
    again.fail(LabError("of the other attempt"))
    training.sync.send(training.tracker, None)
    assert training.calls.metrics == []
    assert not training.sync.settled
    assert not training.sync.folder.look()
    training.job.fail(LabError("of the attempt that is gone"))
    assert (again.folder.path / ERROR).read_text() == "of the other attempt"


def test_a_damaged_config_is_reported(training: Training) -> None:
    (training.job.folder.path / "config.json").write_text("{")
    with pytest.raises(LabError, match=r"cannot be read(.|\n)*JSONDecodeError"):
        training.sync.folder.look()


def run_of(run_id: str, attempt: str, status: str = "KILLED", **tags: str) -> TrackedRun:
    """A run of the point; `clone` is ours unless given, and empty for none."""
    all_tags = {"lab.role": "point", "lab.attempt": attempt, "lab.clone": tags.pop("clone", "here")}
    all_tags |= {f"lab.{name}": value for name, value in tags.items()}
    return TrackedRun(run_id, status, {name: value for name, value in all_tags.items() if value}, frozenset())


def test_a_run_that_exists_is_continued_or_left_as_it_is(training: Training) -> None:
    attempt = training.sync.attempt.attempt_id
    begun = run_of("begun", attempt)
    complete = run_of("complete", attempt, "FINISHED", complete="true")
    given_up = run_of("given up", "another")
    sync = training.synced((given_up, begun))
    assert (sync.run_id, sync.settled) == ("begun", False)
    sync = training.synced((given_up, complete))
    assert (sync.run_id, sync.settled) == ("complete", True)
    assert training.calls.made[1:] == [("reopen", "begun"), ("delete", "given up")]


def test_runs_of_other_clones_are_neither_continued_nor_deleted(training: Training) -> None:
    """Another clone may train the same point, or have the same attempt from results that were restored there."""
    attempt = training.sync.attempt.attempt_id
    theirs = [
        run_of("finished", "another", "FINISHED", clone="there", complete="true"),
        run_of("living", "another", "RUNNING", clone="there"),
        run_of("killed", attempt, clone="there"),
        run_of("of an earlier version", "another", clone=""),
    ]
    sync = training.synced(tuple(theirs))
    assert sync.run_id == "run"  # a new one
    complete = run_of("complete", attempt, "FINISHED", clone="there", complete="true")
    sync = training.synced((*theirs, complete))
    assert (sync.run_id, sync.settled) == ("complete", True)
    sync = training.synced((*theirs, complete, run_of("ours", attempt, "FINISHED", complete="true")))
    assert (sync.run_id, sync.settled) == ("ours", True)
    assert [call for call in training.calls.made if call[0] != "start"] == []


def test_a_run_of_an_earlier_version_is_known_by_its_attempt(training: Training) -> None:
    sync = training.synced((run_of("ours", training.sync.attempt.attempt_id, clone=""),))
    assert sync.run_id == "ours"


def test_a_local_store_is_ours_with_all_its_runs(training: Training) -> None:
    """The project was copied with its store, and the copy has an id of its own."""
    training.calls.root = Path()
    attempt = training.sync.attempt.attempt_id
    runs = (run_of("given up", "another", clone="there"), run_of("begun", attempt, clone="there"))
    assert training.synced(runs).run_id == "begun"
    complete = run_of("complete", attempt, "FINISHED", clone="there", complete="true")
    assert training.synced((*runs, complete)).settled
    assert ("delete", "given up") in training.calls.made


@pytest.mark.parametrize(
    ("process", "deleted"),
    [
        (owner(), False),
        (json.dumps(json.loads(owner()) | {"ticks": 0}), True),
        (json.dumps(json.loads(owner()) | {"place": "elsewhere"}), False),
        ("somebody", False),
    ],
    ids=["living", "killed", "elsewhere", "unknown"],
)
def test_a_running_run_is_deleted_only_if_its_process_was_killed(
    training: Training, process: str, deleted: bool
) -> None:
    complete = run_of("complete", training.sync.attempt.attempt_id, "FINISHED", complete="true")
    training.synced((run_of("again", "another", "RUNNING", owner=process), complete))
    assert (("delete", "again") in training.calls.made) is deleted


def test_a_run_that_may_not_be_deleted_is_hidden_and_reported_once(
    training: Training, capsys: pytest.CaptureFixture[str]
) -> None:
    """Users of a server with the permission EDIT may not delete."""
    training.calls.refused = True
    complete = run_of("complete", training.sync.attempt.attempt_id, "FINISHED", complete="true")
    assert training.synced((run_of("given up", "another"), complete)).settled
    assert training.calls.made[1:] == [("tag", "lab.newest", "false"), ("tag", "lab.abandoned", "true")]
    printed = capsys.readouterr().err
    assert printed == (
        "given up: the run of an earlier attempt cannot be deleted; the views hide it. no permission (403)\n"
    )
    assert training.synced((run_of("given up", "another", abandoned="true"), complete)).settled
    assert capsys.readouterr().err == ""


# --- whether a run has everything


def complete_run(training: Training, **changes: float) -> TrackedRun:
    """Complete the point, and return the run that has all of it, with some metrics changed or, if NaN, left out."""
    training.keep()
    training.keep()
    training.job.folder.write_history(training.history)
    training.job.folder.complete()
    last = {metric.name: metric.value for metric in training.history.metrics} | {"diverged": 0.0} | changes
    metrics = {name: value for name, value in last.items() if not np.isnan(value)}
    run = run_of("complete", training.sync.attempt.attempt_id, "FINISHED", complete="true")
    return replace(run, metrics=metrics)


def test_a_complete_run_is_left_as_it_is(training: Training) -> None:
    run = complete_run(training)
    training.calls.made.clear()
    assert training.synced((run,)).settled
    assert training.calls.made == []


@pytest.mark.parametrize("changes", [{"norm": np.nan}, {"train/loss": 0.1}, {"diverged": np.nan}], ids=str)
def test_a_run_that_lacks_metrics_is_written_again_though_it_says_it_is_complete(
    training: Training, changes: dict[str, float]
) -> None:
    """An earlier version trusted MLflow to log in the background, and never learned what it refused."""
    sync = training.synced((complete_run(training, **changes),))
    assert (sync.run_id, sync.settled) == ("complete", False)
    assert ("reopen", "complete") in training.calls.made


def test_infinite_values_are_not_compared(training: Training) -> None:
    """MLflow stores the greatest number instead of infinity, and some databases nothing but a zero for NaN."""
    training.history.record(0, {"loss_of_another_step": float("inf"), "undefined": float("nan")})
    run = complete_run(training, loss_of_another_step=1.7976931348623157e308, undefined=0.0)
    assert training.synced((run,)).settled


# --- models that an earlier command did not want


def test_a_point_whose_run_has_models_is_not_read(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    run = replace(complete_run(training), models=("m-1",))
    monkeypatch.setattr(AttemptFolder, "point", lambda self: pytest.fail("the point was read"))
    assert training.synced((run,)).settled


@pytest.mark.parametrize("clone", ["here", "there"])
def test_models_are_added_to_a_run_that_has_all_else(
    training: Training, monkeypatch: pytest.MonkeyPatch, clone: str
) -> None:
    """A second run of the point, or all of the first one again, is not what was asked for."""
    whole = complete_run(training)
    run = replace(whole, tags=whole.tags | {"lab.clone": clone})
    logged: list[str] = []
    monkeypatch.setattr(AttemptFolder, "point", lambda self: "the point")
    monkeypatch.setattr(points, "chosen_epochs", lambda point: {"final": 1})
    monkeypatch.setattr(points, "log_models", lambda client, experiment, run_id, *_: logged.append(run_id))
    training.calls.made.clear()
    sync = training.synced((run,))
    assert (sync.run_id, sync.settled) == ("complete", False)
    sync.send(training.tracker, None)
    assert (logged, sync.settled) == (["complete"], True)
    assert training.calls.made == []
    assert training.calls.metrics == []


def test_models_that_mlflow_does_not_accept_are_noted_as_missing(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise LabError("A call to MLflow failed.", received="no room")

    monkeypatch.setattr(AttemptFolder, "point", lambda self: "the point")
    monkeypatch.setattr(points, "chosen_epochs", lambda point: {"final": 1})
    monkeypatch.setattr(points, "log_models", refuse)
    sync = training.synced((complete_run(training),))
    sync.send(training.tracker, None)
    assert not sync.settled
    assert training.calls.made[-1] == ("tag", "lab.missing", "models: no room")
