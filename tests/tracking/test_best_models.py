"""`recording.models=best`: the best point of a sweep has models, also if the rest of the sweep was sent before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.schema import Models, Tracking
from pipeline.points.point import Point
from pipeline.points.sweep_record import SweepRecord
from pipeline.tracking.sync import parent as parent_module
from pipeline.tracking.sync.parent import ParentRun
from pipeline.tracking.tracker import Tracker
from tests.support.ended import ended

LOCAL = Tracking(name="local", uri=None)


@pytest.fixture
def tracker(project: Path) -> Tracker:
    return Tracker(LOCAL, "three_bits", project)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that got models."""
    found: list[str] = []
    monkeypatch.setattr(parent_module, "log_models", lambda client, experiment, run_id, *_: found.append(run_id))
    return found


def points_of(*losses: float) -> list[Point]:
    points = [ended(loss, f"optimizer.learning_rate={number + 1}") for number, loss in enumerate(losses)]
    return [replace(point, folder=Path(str(number))) for number, point in enumerate(points)]


def send(project: Path, tracker: Tracker, models: Models, points: list[Point], runs: dict[str, str]) -> ParentRun:
    """Send the sweep as a command does, if that is needed."""
    record = SweepRecord(
        "a" * 16, "three_bits", "numpy", True, "command", LOCAL, {}, 1, ended=9, status="FINISHED", models=models
    )
    parent = ParentRun(project, record, "owner", lambda: None)
    parent.open(tracker, "here")
    if not parent.settled or parent.lacks_models(tracker, record, runs.values()):
        parent.send(tracker, record, points, runs, newest=False)
    assert not parent.parts.errors
    return parent


def test_a_sweep_that_was_sent_without_models_gets_those_of_its_best_point_once(
    project: Path, tracker: Tracker, logged: list[str]
) -> None:
    points = points_of(0.3, 0.1, 0.2)
    runs = {point.folder.name: tracker.start_run(point.name, {"lab.role": "point"}) for point in points}
    send(project, tracker, "none", points, runs)
    assert logged == []
    for _ in range(2):
        send(project, tracker, "best", points, runs)
    assert logged == [runs["1"]]
    # A person deletes the best run in MLflow; its point has another run now, without models.
    tracker.delete_run(runs["1"])
    deleted = runs["1"]
    runs["1"] = tracker.start_run(points[1].name, {"lab.role": "point"})
    for _ in range(2):
        send(project, tracker, "best", points, runs)
    assert logged == [deleted, runs["1"]]


def test_the_sweep_names_the_run_that_is_the_best_now(project: Path, tracker: Tracker, logged: list[str]) -> None:
    """What was the best of half of the points keeps its models."""
    points = points_of(0.3, 0.2, 0.1)
    runs = {point.folder.name: tracker.start_run(point.name, {"lab.role": "point"}) for point in points}
    for count in (2, 3):
        record = SweepRecord("a" * 16, "three_bits", "numpy", True, "command", LOCAL, {}, 1, ended=count, models="best")
        parent = ParentRun(project, record, "owner", lambda: None)
        parent.open(tracker, "here")
        parent.send(tracker, record, points[:count], runs, newest=False)
    assert logged == [runs["1"], runs["2"]]
    (run,) = tracker.runs(sweep="a" * 16)
    link = f"[{points[2].name}](#/experiments/{tracker.experiment_id}/runs/{runs['2']})"
    assert run.tags["mlflow.note.content"].endswith(f"Models of the best point: {link}.")
    assert run.tags["lab.best"] == runs["2"]


def test_a_sweep_of_which_all_diverged_is_not_sent_again_and_again(
    project: Path, tracker: Tracker, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    points = points_of(float("inf"))
    send(project, tracker, "best", points, {"0": "run"})
    monkeypatch.setattr(ParentRun, "send", lambda *_, **__: pytest.fail("sent again"))
    send(project, tracker, "best", points, {"0": "run"})
    assert logged == []
