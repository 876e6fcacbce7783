"""Predicted and seen breaking rates: which points they belong to, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.backends.shared.history import History
from pipeline.points.breaking_rates import BreakingRate, key_of, training_of
from pipeline.points.point import Point, outcome_of, point_name
from pipeline.report.breaking_page import breaking_lines
from pipeline.report.study_page import study_page
from pipeline.studies.breaking import Network, breaking_section, breaking_sentences, networks, with_breaking_rates
from pipeline.studies.kinds import study_figure
from tests.support.trained import config, sweep

COMMON = ("experiment=three_bits", "training.epochs=30")
TRAINING = training_of(config(*COMMON, "optimizer.learning_rate=1"))
SETTLES = {0: 1.0, 30: 0.01}
OVERSHOOTS = {0: 1.0, 2: 1.5, 30: 0.01}
RUNS_AWAY = {0: 1.0, 2: 1e5, 30: 1e9}


def point(rate: float, losses: dict[int, float], *more: str) -> Point:
    own = [f"optimizer.learning_rate={rate}", *more]
    made = config(*COMMON, *own)
    history = History(epochs=30)
    for step, loss in losses.items():
        history.record(step, {"train/loss": loss})
    return Point(point_name(made, own), Path(), made, history, outcome_of(history))


def predicted(points: Sequence[Point], rate: float | None, **more: object) -> list[Point]:
    """The points, all with one prediction for each of their networks and seeds."""
    curvature = None if rate is None else 2 / rate
    rows = [
        BreakingRate(*key_of(one.config), False, "sgd", curvature, rate, **more)  # type: ignore[arg-type]
        for one in points
    ]
    return with_breaking_rates(points, {row.key: row for row in rows})


def only(points: Sequence[Point]) -> Network:
    (network,) = networks(points)
    return network


def test_training_breaks_between_two_rates_of_the_grid_and_fails_later() -> None:
    points = [point(0.1, SETTLES), point(1, OVERSHOOTS), point(10, RUNS_AWAY), point(100, RUNS_AWAY)]
    network = only(predicted(points, 0.5))
    assert (network.holds, network.breaks, network.fails) == (0.1, 1, 10)
    assert network.is_inside
    assert network.text == "0.5, 0.1 to 1"
    assert network.seen == pytest.approx(0.1**0.5)
    (said,) = breaking_sentences(predicted(points, 0.5))
    assert said == (
        "predicted to break at 0.5; at 0.1 the loss stays at or below its start; at 1 the loss rises above its "
        "start; training fails from 10 on."
    )


def test_the_smallest_rate_at_which_a_seed_breaks_counts() -> None:
    points = [point(rate, SETTLES, "seed=1") for rate in (0.1, 1, 10)]
    points += [point(rate, losses, "seed=2") for rate, losses in ((0.1, SETTLES), (1, OVERSHOOTS), (10, SETTLES))]
    network = only(predicted(points, 2.0))
    assert (network.holds, network.breaks, network.fails) == (0.1, 1, None)
    assert not network.is_inside


def test_grids_that_end_before_or_begin_after_the_breaking_rate() -> None:
    ends = only(predicted([point(0.1, SETTLES), point(1, SETTLES)], 9.0))
    assert (ends.holds, ends.breaks, ends.seen, ends.text) == (1, None, None, "9, above 1")
    assert (ends.is_inside, ends.never_broke, ends.always_broke) == (False, True, False)
    begins = only(predicted([point(1, RUNS_AWAY), point(10, RUNS_AWAY)], 9.0))
    assert (begins.holds, begins.breaks, begins.seen, begins.text) == (None, 1, None, "9, below 1")
    assert (begins.is_inside, begins.never_broke, begins.always_broke) == (False, False, True)
    assert begins.fails == 1
    assert "predicted to break at 9; at 1 the loss rises above its start" in next(
        breaking_sentences(predicted([point(1, RUNS_AWAY)], 9.0))
    )


def test_a_bisected_rate_is_shown_in_the_place_of_the_two_of_the_grid() -> None:
    points = predicted([point(0.1, SETTLES), point(1, RUNS_AWAY)], 0.5, training=TRAINING, holds=0.44, breaks=0.45)
    network = only(points)
    assert network.text == "0.5, 0.445"
    assert network.seen == pytest.approx((0.44 * 0.45) ** 0.5)
    assert "seen at 0.445" in next(breaking_sentences(points))


def test_where_no_rate_broke_the_largest_one_tried_is_named() -> None:
    points = [point(0.1, SETTLES), point(1, SETTLES)]
    assert only(predicted(points, 0.5, training=TRAINING, holds=33333.0)).text == "0.5, none up to 3e+04"


@pytest.mark.parametrize("other", ["backend=keras", "training.epochs=31", "gradient=finite_difference"])
def test_what_was_seen_in_one_training_is_not_said_of_another(other: str) -> None:
    points = [point(0.1, SETTLES, other), point(1, RUNS_AWAY, other)]
    assert only(predicted(points, 0.5, training=TRAINING, holds=0.44, breaks=0.45)).text == "0.5, 0.1 to 1"


def test_a_range_test_has_no_rate_of_its_own() -> None:
    made = config("experiment=lr_range_test")
    one = Point("a", Path(), made, History(epochs=1), outcome_of(History(epochs=1)))
    assert networks(predicted([one], 0.5)) == []


def test_each_network_has_a_line_of_its_own_and_many_have_one_together() -> None:
    few = [point(rate, SETTLES, f"model.hidden_size={size}") for size in (2, 4) for rate in (0.1, 1)]
    said = list(breaking_sentences(predicted(few, 9.0)))
    assert [sentence.split(" is ")[0] for sentence in said] == ["hidden size 2", "hidden size 4"]
    many = [
        point(rate, losses, f"model.hidden_size={size}")
        for size in (2, 3, 4, 5)
        for rate, losses in ((1, SETTLES), (4, RUNS_AWAY if size > 2 else SETTLES))
    ]
    (together,) = breaking_sentences(predicted(many, 1.0))
    assert together == (
        "where training breaks was predicted for 4 networks, for 0 of them between the rates seen; the rate seen is 2 "
        "times the predicted one, the median of 3 (from 2 to 2); 1 network broke at no rate of the grid."
    )


def test_without_a_prediction_nothing_is_said_but_why() -> None:
    points = [point(0.1, SETTLES), point(1, RUNS_AWAY)]
    assert networks(points) == []
    assert breaking_section(points) == []
    assert with_breaking_rates(points, {}) == points
    unclear = predicted(points, None, unclear="Lion is Lion")
    assert list(breaking_sentences(unclear)) == []
    ((heading, lines),) = breaking_section(unclear)
    assert heading == "Where it breaks"
    assert "No prediction: Lion is Lion." in lines
    assert any("no prediction, 0.1 to 1" in line for line in lines)


def test_the_evidence_of_a_rate_that_was_too_large_names_the_prediction() -> None:
    small, large = predicted([point(0.1, SETTLES), point(9, RUNS_AWAY)], 5.0)
    assert "curvature" not in small.diagnosis.evidence
    assert "the rate was 1.8 times what the curvature at the start allows" in large.diagnosis.evidence


def test_the_recorded_curvature_goes_before_the_prediction() -> None:
    (one,) = predicted([point(9, RUNS_AWAY)], 5.0)
    one.history.record(0, {"curvature/breaking_rate": 3.0})
    assert "the rate was 3 times" in replace(one).diagnosis.evidence


def test_page_and_picture_show_it() -> None:
    grid = [(f"optimizer.learning_rate={rate}", f"model.hidden_size={n}") for n in (2, 4) for rate in (0.1, 1, 10)]
    points = predicted(sweep(COMMON, grid), 0.5)
    page = study_page("bits", {"numpy": points}, {})
    assert "## Where it breaks" in page
    assert "breaks at (predicted, seen)" in page
    assert "predicted to break at 0.5" in page
    plain = study_page("bits", {"numpy": [replace(one, breaking_rate=None) for one in points]}, {})
    assert "breaks at" not in plain
    figure = study_figure("bits", {"numpy": points})
    vertical = [line for line in figure.axes[0].lines if np.array_equal(line.get_xdata(), [0.5, 0.5])]
    assert len(vertical) == 2  # in the styles of the two sizes
    assert len({line.get_linestyle() for line in vertical}) == 2
    without = study_figure("bits", {"numpy": [replace(one, breaking_rate=None) for one in points]})
    assert len(without.axes[0].lines) == len(figure.axes[0].lines) - 2


def test_the_report_sums_up_methods_on_full_batches_and_minibatches() -> None:
    points = predicted([point(1, SETTLES), point(4, RUNS_AWAY)], 1.5)
    page = "\n".join(breaking_lines({"three_bits": {"numpy": points}}))
    assert "| sgd | all rows | 1 | 1 | 1.33 | 0 | 0 |" in page
    assert "| all methods | all rows | 1 | 1 | 1.33 | 0 | 0 |" in page
    assert "minibatches |" not in page
    assert "[three_bits](studies/three_bits.md)" in page
    assert "Nothing was predicted" in breaking_lines({"three_bits": {"numpy": [point(1, SETTLES)]}})[0]
