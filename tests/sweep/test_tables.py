"""The tables that a command prints."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.points.folder import PointFolder
from pipeline.points.job import Job, JobState
from pipeline.points.point import Point, name_of, outcome_of
from pipeline.sweep.tables import plan_table, points_table
from pipeline.system.errors import LabError
from tests.points.test_reading import ONE

Make = Callable[..., Job]
JUDGED = "train/mean_absolute_error"


def ended(loss: float, diverged: int | None = None, seconds: float = 1.25, error: float = 0.5) -> Point:
    history = History(seconds=seconds, epochs=4, diverged_step=diverged)
    history.record(0, {"train/loss": 9.0, JUDGED: 3.0})
    history.record(4, {"train/loss": loss, JUDGED: error, "weights/norm": 3.0})
    return Point("", Path(), ONE, history, outcome_of(history))


def configured(knobs: dict[str, str]) -> Config:
    rate = float(knobs.get("learning_rate", "1"))
    optimizer = ONE.optimizer.model_copy(update={"learning_rate": rate})
    return ONE.model_copy(update={"optimizer": optimizer, "seed": int(knobs.get("seed", "1"))})


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def job(knobs: dict[str, str], state: JobState, point: Point | None = None, sign: str = "a" * 16) -> Job:
        folder = PointFolder(tmp_path, sign)
        if point is not None:
            point = replace(point, folder=folder.final)
        return Job(configured(knobs), [], name_of(knobs), sign, folder, knobs, state, point=point)

    return job


def seeds(make: Make, rate: str, *points: Point | None) -> list[Job]:
    """One job for each seed; None: it failed."""
    jobs = []
    for seed, point in enumerate(points, start=1):
        state: JobState = "failed" if point is None else "complete"
        jobs.append(make({"learning_rate": rate, "seed": str(seed)}, state, point, f"{rate}-{seed}"))
    return jobs


# --- the plan of a dry run


def test_a_plan_has_a_column_for_each_knob_of_any_point(make: Make) -> None:
    jobs = [
        make({"learning_rate": "0.1", "hidden_size": "4"}, "done"),
        make({"learning_rate": "10"}, "to continue", sign="b" * 16),
        make({"learning_rate": "1", "seed": "2"}, "to run", sign="c" * 16),
    ]
    assert plan_table(jobs, "a study").splitlines() == [
        "a study: 4 epochs",
        "learning rate  hidden size  seed  signature         state",
        "0.1            4                  aaaaaaaaaaaaaaaa  done",
        "10                                bbbbbbbbbbbbbbbb  to continue",
        "1                           2     cccccccccccccccc  to run",
    ]


def test_the_seeds_of_a_point_are_one_row_of_a_plan(make: Make) -> None:
    states: list[JobState] = ["done", "done", "to run"]
    jobs = [
        make({"learning_rate": "0.1", "seed": str(seed)}, state, sign=str(seed))
        for seed, state in enumerate(states, start=1)
    ]
    jobs.append(make({"learning_rate": "1", "seed": "7"}, "to run"))
    assert plan_table(jobs).splitlines()[1:] == [
        "learning rate  seeds   state",
        "0.1            1 to 3  2 done, 1 to run",
        "1              7       to run",
    ]


# --- the points of a command


def test_the_points_of_a_command_with_verdict_metrics_and_seconds(make: Make) -> None:
    jobs = [
        make({"learning_rate": "0.1", "hidden_size": "4"}, "complete", ended(0.123456789), "a"),
        make({"learning_rate": "1", "hidden_size": "4"}, "done", ended(1e-20, seconds=100), "b"),
        make({"learning_rate": "10", "hidden_size": "4"}, "complete", ended(3.0, diverged=1234), "c"),
        make({"learning_rate": "100", "hidden_size": "4"}, "failed"),
        make({"learning_rate": "1000", "hidden_size": "4"}, "killed"),
        make({"learning_rate": "2", "hidden_size": "4"}, "to run"),
        make({"learning_rate": "3", "hidden_size": "4"}, "to continue"),
    ]
    title, head, first, *others = points_table(jobs, title="a study").splitlines()
    assert title == "a study: hidden size 4, 4 epochs"
    assert head.split("  ")[0] == "learning rate"
    assert [cell.strip() for cell in head.split("  ") if cell] == [
        "learning rate", "verdict", "training loss", "training mean absolute error", "seconds"
    ]  # fmt: skip
    assert re.fullmatch(r"0\.1 +[a-z][a-z ()]+ 0\.123 +0\.5 +1\.2", first)
    assert re.fullmatch(r"1 +converged +1e-20 +0\.5 +100\.0", others[0])
    # The last numbers before it do not describe a point that diverged.
    assert re.fullmatch(r"10 +diverged at update 1,234 +1\.2", others[1])
    assert [" ".join(line.split()) for line in others[2:]] == [
        "100 failed", "1000 stopped", "2 not trained", "3 not trained"
    ]  # fmt: skip


@pytest.mark.parametrize("state", ["failed", "killed"])
def test_a_failed_point_is_shown_without_the_numbers_of_an_earlier_one(make: Make, state: JobState) -> None:
    job = make({"learning_rate": "1"}, state, ended(0.875))
    job.error = LabError("no room")
    assert "0.875" not in points_table([job])


def test_what_a_point_lacks_stays_empty(make: Make) -> None:
    without = ended(0.5)
    without = replace(without, outcome=replace(without.outcome, final={"train/loss": 2.0}))
    table = points_table([make({"seed": "1"}, "done", without), make({"learning_rate": "3"}, "done", ended(0.5))])
    assert re.search(r" 2 +1\.2$", table.splitlines()[2])
    assert re.search(r" 0\.5 +0\.5 +1\.2$", table.splitlines()[3])


def test_seeds_are_one_row_with_the_mean_its_interval_and_their_time(make: Make) -> None:
    jobs = [
        *seeds(make, "0.1", ended(1e-9, error=0.975), ended(1e-9, error=0.977), ended(1e-9, error=0.976)),
        *seeds(make, "1", ended(1e-9, error=0.5), ended(3.0, diverged=7), ended(3.0, diverged=12)),
        *seeds(make, "10", ended(1e-9), None, ended(3.0, diverged=7)),
    ]
    title, head, *rows = points_table(jobs, title="a study").splitlines()
    assert title == "a study: 4 epochs, seeds 1 to 3"
    assert "seed" not in head
    assert re.fullmatch(r"0\.1 +converged .*  0\.9760 ± 0\.0025 \(3\) +3\.8", rows[0])
    assert re.fullmatch(r"1 +1 converged, 2 diverged at updates 7 to 12 .*  0\.5 \(1 of 3\) +3\.8", rows[1])
    assert re.match(r"10 +1 converged, 1 failed, 1 diverged at update 7 .* 0\.5 \(1 of 3\) ", rows[2])


def test_points_are_judged_as_the_command_asks_for_them(make: Make) -> None:
    job = make({"learning_rate": "1"}, "done", ended(0.5))
    assert job.point is not None
    report = ONE.report.model_copy(update={"metric": "weights/norm"})
    asked = replace(job.point, config=ONE.model_copy(update={"report": report}))
    assert "weights/norm" in points_table([job], [asked])
    assert "weights/norm" not in points_table([job])


def test_a_command_without_points_has_a_header() -> None:
    assert plan_table([]) == "signature  state"
    assert points_table([]) == "verdict  seconds"


# --- the width of the terminal

NAMES = st.text("abcdefgh_", min_size=1, max_size=30)


@settings(max_examples=30, deadline=None)
@given(st.integers(40, 120), st.dictionaries(NAMES, st.text("xyz ", max_size=60), max_size=4))
def test_numbers_are_whole_at_any_width(width: int, texts: dict[str, str]) -> None:
    rates = ["0.00123456", "1000"]
    jobs = []
    for rate in rates:
        knobs = {"learning_rate": rate, **{name: f"{value}{rate}" for name, value in texts.items()}}
        folder = PointFolder(Path(), rate)
        point = replace(ended(0.123456, error=0.976), folder=folder.final)
        jobs.append(Job(configured(knobs), [], "", rate, folder, knobs, "done", point=point))
    table = points_table(jobs, width=width)
    rows = [line for line in table.splitlines() if "0.976" in line]
    for rate, row in zip(rates, rows, strict=True):
        assert row.split()[0] == rate
        assert "0.123 " in row
    if not texts:
        assert max(map(len, table.splitlines()[1:])) <= max(width, 52)


def test_a_wide_table_is_made_to_fit(make: Make) -> None:
    knobs = {"hidden_activation": "leaky_relu_with_a_long_name", "output_activation": "sigmoid"}
    jobs = [
        make({"learning_rate": "0.1", **knobs}, "done", ended(0.5)),
        make({"learning_rate": "1", **knobs | {"hidden_activation": "relu", "output_activation": "x"}}, "failed"),
    ]
    assert max(map(len, points_table(jobs).splitlines())) > 100
    lines = points_table(jobs, width=100).splitlines()
    assert max(map(len, lines)) <= 100
    assert "seconds" in "".join(lines)
    narrow = points_table(jobs, width=66).splitlines()
    assert max(map(len, narrow)) <= 66
    assert "seconds" not in "".join(narrow)
    assert [line.split()[-2:] for line in narrow if line.startswith("0.1")] == [["0.5", "0.5"]]


def test_a_verdict_that_is_too_wide_goes_on_below(make: Make) -> None:
    jobs = [
        *seeds(make, "1", ended(1e-9, error=0.5), ended(3.0, diverged=7), ended(3.0, diverged=12)),
        *seeds(make, "10", ended(1e-9), None, ended(3.0, diverged=7)),
    ]
    lines = points_table(jobs, width=60).splitlines()
    assert max(map(len, lines)) <= 60
    said = " ".join(" ".join(lines).split())
    for word in ("1 converged", "failed", "diverged", "(1 of 3)"):
        assert word in said
    assert "..." not in said
