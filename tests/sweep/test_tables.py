"""The tables that a command prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.backends.shared.history import History
from pipeline.points.folder import PointFolder
from pipeline.points.job import Job, JobState
from pipeline.points.point import Point, name_of, outcome_of
from pipeline.sweep.tables import plan_table, points_table
from pipeline.system.errors import LabError
from tests.points.test_reading import ONE

Make = Callable[..., Job]


def ended(loss: float, diverged: int | None = None, seconds: float = 1.25) -> Point:
    history = History(seconds=seconds, epochs=4, diverged_step=diverged)
    history.record(0, {"train/loss": 9.0, "train/accuracy": 0.25})
    history.record(4, {"train/loss": loss, "train/accuracy": 0.5, "weights/norm": 3.0})
    return Point("", Path(), ONE, history, outcome_of(history))


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def job(knobs: dict[str, str], state: JobState, point: Point | None = None, sign: str = "a" * 16) -> Job:
        return Job(ONE, [], name_of(knobs), sign, PointFolder(tmp_path, sign), knobs, state, point=point)

    return job


def test_a_plan_has_a_column_for_each_knob_of_any_point(make: Make) -> None:
    jobs = [
        make({"learning_rate": "0.1", "hidden_size": "4"}, "done"),
        make({"learning_rate": "10"}, "to continue", sign="b" * 16),
        make({"learning_rate": "1", "seed": "2"}, "to run", sign="c" * 16),
    ]
    assert plan_table(jobs).splitlines() == [
        "learning_rate  hidden_size  seed  signature         state",
        "0.1            4                  aaaaaaaaaaaaaaaa  done",
        "10                                bbbbbbbbbbbbbbbb  to continue",
        "1                           2     cccccccccccccccc  to run",
    ]


def test_the_points_of_a_command_with_outcome_metrics_and_seconds(make: Make) -> None:
    jobs = [
        make({"learning_rate": "0.1"}, "complete", ended(0.123456789)),
        make({"learning_rate": "1"}, "done", ended(1e-20, seconds=100)),
        make({"learning_rate": "10"}, "complete", ended(3.0, diverged=7)),
        make({"learning_rate": "100"}, "failed"),
        make({"learning_rate": "1000"}, "killed"),
        make({"learning_rate": "2"}, "to run"),
        make({"learning_rate": "3"}, "to continue"),
    ]
    assert points_table(jobs).splitlines() == [
        "learning_rate  outcome               train/loss  train/accuracy  seconds",
        "0.1            finished              0.12346     0.5             1.2",
        "1              finished              1e-20       0.5             100.0",
        "10             diverged at update 7  3           0.5             1.2",
        "100            failed",
        "1000           stopped",
        "2              not trained",
        "3              not trained",
    ]


@pytest.mark.parametrize("state", ["failed", "killed"])
def test_a_failed_point_is_shown_without_the_numbers_of_an_earlier_one(make: Make, state: JobState) -> None:
    job = make({"learning_rate": "1"}, state, ended(0.5))
    job.error = LabError("no room")
    assert "0.5" not in points_table([job])


def test_metrics_that_no_point_has_get_no_column_and_what_one_lacks_stays_empty(make: Make) -> None:
    without = ended(0.5)
    without = replace(without, outcome=replace(without.outcome, final={"test/loss": 2.0}))
    table = points_table([make({"seed": "1"}, "done", without), make({"seed": "2"}, "done", ended(0.5))])
    assert table.splitlines() == [
        "seed  outcome   train/loss  train/accuracy  test/loss  seconds",
        "1     finished                              2          1.2",
        "2     finished  0.5         0.5                        1.2",
    ]


def test_a_command_without_points_has_a_header() -> None:
    assert plan_table([]) == "signature  state"
    assert points_table([]) == "outcome  seconds"
