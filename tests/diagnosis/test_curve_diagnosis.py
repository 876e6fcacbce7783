"""Verdicts on balls on a curve, and their evidence."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.diagnosis.baseline import baseline_loss
from pipeline.diagnosis.curves import ending
from pipeline.diagnosis.verdicts import PROBLEMS
from pipeline.points.point import Point
from pipeline.report.overview import render
from pipeline.report.rows import curve_rows, study_metrics
from pipeline.report.study_page import study_page
from pipeline.studies.kinds import answers, headline
from tests.support.curves import BASINS, ball_point, study

RATES = [f"optimizer.learning_rate={rate}" for rate in ("0.1", "0.5", "1", "1.05")]


@pytest.fixture(scope="module")
def divergence() -> list[Point]:
    return study("curve_divergence", *RATES)


@pytest.fixture(scope="module")
def restarts() -> Point:
    return ball_point("experiment=curve_restarts")


def label(point: Point) -> str:
    return point.diagnosis.label


def test_rates_around_the_limit_settle_swing_and_diverge(divergence: list[Point]) -> None:
    assert [label(p) for p in divergence] == ["converged", "converged", "oscillating (back and forth)", "diverged"]
    said = list(answers(divergence))
    limit = "the curvature at the minimum is 2: rates above 2 / 2 = 1 diverge there, because each step lands farther"
    assert said[0].startswith(f"the curve has 1 minimum, at x = 0; {limit}")
    assert said[1] == "rates 0.1 and 0.5 converge; 1 oscillates (back and forth); 1.05 diverges."
    assert "at rate 1, 3 of 3 balls are oscillating back and forth after 200 updates." in said
    assert said[-1] == "each step lands farther from the minimum than the one before: 1.1 times at rate 1.05."
    assert len(said) == 5
    assert headline(divergence) == said[1].removesuffix(".")


def test_a_slope_too_small_holds_a_ball_and_a_larger_rate_frees_it() -> None:
    points = study("curve_stuck", *(f"optimizer.learning_rate={rate}" for rate in ("0.1", "0.3", "1", "4")))
    assert [label(p) for p in points] == [
        "too slow (slope too shallow)", "too slow (slope too shallow)", "too slow (still moving)", "converged"
    ]  # fmt: skip
    assert PROBLEMS["too slow"] == "slopes too small"


def test_a_local_minimum_holds_a_ball_until_rate_or_momentum_gets_it_out() -> None:
    grid = [(rate, momentum) for rate in ("0.01", "0.05", "0.2") for momentum in ("0", "0.9")]
    points = study("curve_local_minimum", *(f"optimizer.learning_rate={r} optimizer.momentum={m}" for r, m in grid))
    held, out = "stalled (local minimum)", "converged"
    assert dict(zip(grid, map(label, points), strict=True)) == {
        ("0.01", "0"): held, ("0.01", "0.9"): held, ("0.05", "0"): held,
        ("0.05", "0.9"): out, ("0.2", "0"): out, ("0.2", "0.9"): "diverged",
    }  # fmt: skip
    assert PROBLEMS["stalled"] == "stuck in a minimum"
    said = " ".join(answers(points))
    assert "at rate 0.05 with momentum 0.9, the ball settled at x = -2.06" in said
    assert "the lowest minimum; it left its starting valley." in said
    assert headline(points) == (
        "rates 0.01 and 0.05 (only momentum 0) stall (local minimum); "
        "0.05 (only momentum 0.9) and 0.2 (only momentum 0) converge; 0.2 (only momentum 0.9) diverges"
    )


def test_random_starts_end_in_exactly_the_minima_of_the_curve(restarts: Point) -> None:
    found = ending(restarts.config, restarts.history)
    np.testing.assert_allclose(np.unique(found.end.round(9)), found.curve.minima.round(9), atol=2e-9)
    assert found.crossed == 0
    said = " ".join(answers([restarts]))
    assert "the 100 random starts all end in the curve's 5 minima, and each minimum is found." in said
    assert "the number of starts needed is 10 for 50%, 21 for 95%, 29 for 99%." in said
    counts = [int((found.minimum == index).sum()) for index in range(5)]
    assert all(f"({count} balls)" in said for count in counts)
    assert headline([restarts]).startswith("converged: 100 of 100 balls settled in all 5 minima of the curve by update")


def test_nothing_untrue_is_said_of_a_short_run_or_few_balls() -> None:
    said = " ".join(answers([ball_point("experiment=curve_restarts", "training.epochs=2", "balls.random=7")]))
    assert "each minimum is found" not in said
    assert " of the 7 random starts end in a minimum, and " in said
    few = " ".join(answers([ball_point("experiment=curve_restarts", "balls.random=3")]))
    assert "each minimum is found" not in few
    assert "(1 ball)" in few
    assert "1 balls" not in few


def test_a_map_says_how_many_balls_settle_and_leave_their_valley() -> None:
    point = ball_point(*BASINS)
    (sentence,) = answers([point])
    assert sentence.startswith("map: ")
    assert "of 90 balls settle, in 5 of the 5 minima; 0.0% diverge; 0.0% settle in a different valley" in sentence
    assert study_metrics([point])["map/minima_found"] == 5


def test_a_curve_without_minima_and_a_short_run_have_a_diagnosis() -> None:
    point = ball_point(
        "experiment=curve_divergence", "data.expression=x", "training.epochs=2", "optimizer.learning_rate=1"
    )
    assert label(point) == "too slow (still moving)"
    assert next(answers([point])) == "the curve has no minimum."


def test_a_curve_has_no_baseline(restarts: Point) -> None:
    with pytest.raises(TypeError):
        baseline_loss(restarts.config, restarts.history)


def test_the_report_has_a_page_for_a_study_of_balls(divergence: list[Point]) -> None:
    page = study_page("curve_divergence", {"numpy": divergence}, {})
    assert "![curve_divergence](curve_divergence.png)" in page
    assert "numpy: each step lands farther from the minimum than the one before: 1.1 times at rate 1.05." in page
    assert "keras" not in page
    assert "| NumPy only |" in render({"curve_divergence": {"numpy": divergence}})
    assert {row["point"] for row in curve_rows({"numpy": divergence})} == {point.name for point in divergence}
