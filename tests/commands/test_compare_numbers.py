"""The files that DVC's metrics and plots read."""

from __future__ import annotations

import math

import pytest

from pipeline.points.point import Point
from pipeline.report.rows import curve_rows, study_metrics
from tests.support.trained import sweep


@pytest.fixture(scope="module")
def points() -> list[Point]:
    common = ("experiment=line_y3x", "recording.snapshots=2", "training.epochs=60", "gradient=backpropagation")
    return sweep(common, [[f"optimizer.learning_rate={rate}"] for rate in (0.01, 0.1, 1)])


def test_a_line_of_numbers(points: list[Point]) -> None:
    numbers = study_metrics(points)
    ends = [point.outcome.final["train/mean_absolute_error"] for point in points[:2]]
    assert numbers["best"] == {
        "train/mean_absolute_error": pytest.approx(min(ends), rel=1e-3),
        "optimizer.learning_rate": 0.1,
        "model.hidden_size": None,
    }
    ended = {"points": 3, "converged": 2, "diverged": 1, "too_slow": 0, "stalled": 0, "oscillating": 0}
    assert {name: numbers[name] for name in ended} == ended
    # Another time on every machine: timings.csv has it.
    assert "seconds" not in numbers


def test_no_best_where_all_diverged(points: list[Point]) -> None:
    assert "best" not in study_metrics(points[2:])


def test_every_recorded_epoch_of_every_point_is_a_row(points: list[Point]) -> None:
    rows = curve_rows({"numpy": points})
    assert len(rows) == sum(len(point.history.series("train/loss")[0]) for point in points)
    for point in points:
        mine = [row for row in rows if row["point"] == point.name]
        steps, losses = point.history.series("train/loss")
        assert [row["epoch"] for row in mine] == steps.tolist()
        assert [row["train/loss"] for row in mine] == losses.tolist()
        assert {row["optimizer.learning_rate"] for row in mine} == {point.learning_rate}
        assert all(math.isfinite(row["weights/weight"]) for row in mine)
    assert "test/loss" not in rows[0]
