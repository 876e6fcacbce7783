from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends.shared.history import History
from pipeline.points.point import Point, outcome_of
from pipeline.report.parity_page import parity_table
from pipeline.studies.variants.picture import variants_study
from pipeline.studies.variants.table import comparison, variant_table
from pipeline.studies.variants.variants import SMOOTHED, Variant, final_loss, knob, steps_to_target, target, variants
from tests.support.trained import config

STUDY = ("experiment=three_bits", "model.hidden_size=4")
RATES = (0.1, 1.0, 10.0, 100.0)


def point(optimizer: str, rate: float, losses: Mapping[int, float], diverged: int | None = None) -> Point:
    """A point as training would leave it, with these training losses by epoch."""
    chosen = config(*STUDY, f"optimizer={optimizer}", f"optimizer.learning_rate={rate}")
    history = History(diverged_step=diverged, epochs=max(losses, default=0))
    for epoch, loss in losses.items():
        history.record(epoch, {"train/loss": loss})
    return Point(f"learning_rate={rate:g} optimizer={optimizer}", Path(), chosen, history, outcome_of(history))


@pytest.fixture(scope="module")
def points() -> list[Point]:
    """The target of three_bits is 0.1: a fifth of 1/2, the loss of the constant output 1/2."""
    return [
        point("sgd", 10, {0: 0.5, 40: 0.04, 100: 0.001}),
        point("sgd", 0.1, {0: 0.5, 100: 0.2}),
        point("sgd", 1, {0: 0.5, 90: 0.049, 100: 0.04}),
        point("sgd", 100, {0: 0.5, 2: 0.01}, diverged=3),
        point("adam", 0.1, {0: 0.5, 20: 0.03, 100: 0.0001}),
        point("adam", 1, {0: 0.5, 100: 0.3}),
        point("adam", 10, {0: 0.5, 100: 0.3}),
        point("adam", 100, {0: 0.5, 100: 0.05}),
        *(point("momentum", rate, {0: 0.5, 100: 0.4}) for rate in RATES),
    ]


def test_what_differs_beside_the_rate_makes_variants(points: Sequence[Point]) -> None:
    assert knob(points) == "optimizer.name"
    assert knob([one for one in points if one.config.optimizer.name == "sgd"]) is None
    assert variants([points[0]]) == []


def test_losses_range_and_steps_of_each(points: Sequence[Point]) -> None:
    sgd, adam, momentum = variants(points)
    assert [sgd.name, adam.name, momentum.name] == ["sgd", "adam", "momentum"]
    assert target(points[0]) == pytest.approx(0.1)
    assert sgd.rates.tolist() == list(RATES)
    assert sgd.losses.tolist() == [0.2, 0.04, 0.001, math.inf]
    assert (sgd.range, sgd.decades, sgd.at_the_edge) == ((1.0, 10.0), 1.0, False)
    assert sgd.steps.tolist()[1:3] == [90, 40]
    assert sgd.fastest == 2  # not the 2 updates of the rate that diverged
    # What is usable beyond a gap is no part of the range; of two as wide it is the one that ends lower.
    assert adam.usable.tolist() == [True, False, False, True]
    assert (adam.range, adam.decades, adam.at_the_edge) == ((0.1, 0.1), 0.0, True)
    assert momentum.best == 0
    assert (momentum.range, momentum.decades, momentum.fastest) == (None, None, None)


@given(st.lists(st.sampled_from([0.01, 0.02, 0.3, math.inf]), min_size=1, max_size=9))
def test_a_range_is_usable_throughout_and_cannot_be_wider(losses: list[float]) -> None:
    values, rates = np.array(losses), np.logspace(-3, len(losses) - 4, len(losses))
    variant = Variant("any", rates, values, values <= 0.05, np.full(len(losses), np.nan))
    if not (values <= 0.05).any():
        assert variant.range is None
        return
    assert variant.range is not None
    low, high = (int(np.flatnonzero(rates == end)[0]) for end in variant.range)
    assert (values[low : high + 1] <= 0.05).all()
    assert low == 0 or values[low - 1] > 0.05
    assert high == len(values) - 1 or values[high + 1] > 0.05
    runs = [list(run) for usable, run in groupby(values, key=lambda value: value <= 0.05) if usable]
    assert high - low + 1 == max(map(len, runs))
    assert values[low : high + 1].min() == min(min(run) for run in runs if len(run) == high - low + 1)


def test_half_decades_are_as_wide_wherever_they_begin() -> None:
    points = [
        point(name, rate, {0: 0.5, 9: 0.05 if rate in usable else 0.4})
        for name, usable in (("sgd", (0.03, 0.1, 0.3, 1)), ("adam", (0.1, 0.3, 1, 3)), ("lion", (1,)))
        for rate in (0.01, 0.03, 0.1, 0.3, 1, 3, 10)
    ]
    assert comparison(points)[0] == "the widest range of usable rates: sgd and adam, 1.5 decades."


def test_the_losses_of_minibatches_are_averaged_before_they_count() -> None:
    one = point("sgd", 1, {0: 0.5, 1: 0.01})
    losses = [0.5] * 30 + [0.0] * 30
    one.history.tables["updates"] = [{"update": float(n), "loss": loss} for n, loss in enumerate(losses)]
    # The mean of SMOOTHED losses is at most a fifth of 0.5 when at most a fifth of them are 0.5.
    assert steps_to_target(one) == 30 + SMOOTHED * 8 // 10 - 1
    one.history.tables["updates"] = one.history.tables["updates"][:30]
    assert math.isnan(steps_to_target(one))


def test_a_penalty_does_not_count() -> None:
    one = point("sgd", 1, {0: 0.5, 1: 0.3, 2: 0.25})
    assert final_loss(one) == 0.25
    assert math.isnan(steps_to_target(one))
    for epoch, penalty in ((0, 0.05), (1, 0.21), (2, 0.2)):
        one.history.record(epoch, {"weights/penalty": penalty})
    penalised = Point(one.name, Path(), one.config, one.history, outcome_of(one.history))
    assert final_loss(penalised) == pytest.approx(0.05)
    assert steps_to_target(penalised) == 1
    losses = [0.5] * SMOOTHED + [0.3] * SMOOTHED
    rows = [{"update": float(n), "loss": loss, "penalty": 0.25} for n, loss in enumerate(losses)]
    penalised.history.tables["updates"] = rows
    assert steps_to_target(penalised) == SMOOTHED + SMOOTHED * 3 // 4 - 1


def test_the_test_rows_decide_where_there_are_some() -> None:
    one = point("sgd", 1, {0: 0.5, 1: 0.2})
    assert final_loss(one) == 0.2
    history = one.history
    history.record(1, {"test/loss": 0.3})
    assert final_loss(Point(one.name, Path(), one.config, history, outcome_of(history))) == 0.3


def test_sentences_and_table(points: Sequence[Point]) -> None:
    assert comparison(points) == [
        "the widest range of usable rates: sgd, 1.0 decades.",
        "the narrowest: adam, a single rate.",
        "the lowest loss: adam, 0.0001 at rate 0.1.",
        "the fewest steps to the target: adam, 20 at rate 0.1.",
        "the target is not reached by momentum at any rate.",
    ]
    rows = [line for line in variant_table(points) if line.startswith("| ")]
    assert rows[0].startswith("| method | best rate | loss at best rate | usable rates | decades |")
    assert rows[2:] == [
        "| sgd | 10 | 0.001 | 1 to 10 | 1.0 | 40 | 10 |",
        "| adam | 0.1 | 0.0001 | 0.1 | 0.0+ | 20 | 0.1 |",
        "| momentum | 0.1 | 0.4 | none |  |  |  |",
    ]


def test_nothing_is_said_of_ranges_at_a_single_rate(points: Sequence[Point]) -> None:
    single = [one for one in points if one.learning_rate == 0.1]
    assert comparison(single)[0].startswith("the lowest loss: adam")
    assert comparison(single)[-1] == "the target is not reached by sgd and momentum at rate 0.1 (the only rate tested)."
    assert comparison([points[1], points[8]]) == ["none reaches the target at rate 0.1 (the only rate tested)."]


def test_backends_are_compared_point_by_point(points: Sequence[Point]) -> None:
    theirs = [point("sgd", 1, {0: 0.5, 90: 0.05, 100: 0.04}), point("lion", 1, {0: 0.5})]
    rows = parity_table({"methods": {"numpy": list(points), "keras": theirs}}, "methods")
    assert rows[2:] == ["| `learning_rate=1 optimizer=sgd` | 0.02 | 90 | 0.04 | 0.04 |"]
    assert parity_table({"methods": {"numpy": list(points)}}, "methods") == []


@pytest.mark.parametrize("rate", [0.01, 0.1, 1, 10])
def test_a_single_rate_has_a_picture_too(rate: float, recwarn: pytest.WarningsRecorder) -> None:
    for names in (("sgd", "adam"), ("sgd", "adam", "lion")):  # matplotlib warned of some, by rounding
        figure = variants_study("methods", {"numpy": [point(name, rate, {0: 0.5, 40: 0.04}) for name in names]})
        assert figure.axes[0].get_xlim() == pytest.approx((rate / 1.8, rate * 1.8))
    assert not recwarn.list


def test_the_picture_has_axes_for_each_variant_and_shades_its_range(points: Sequence[Point]) -> None:
    figure = variants_study("methods", {"numpy": points})
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in shown] == ["sgd", "adam", "momentum"]
    assert [ax.get_title(loc="right") for ax in shown] == ["1.0 decades", "one rate", "none"]
    assert [len(ax.patches) for ax in shown] == [1, 1, 0]
    sgd = shown[0]
    markers = [line for line in sgd.lines if line.get_marker() in ("o", "x")]
    assert [line.get_marker() for line in markers] == ["o", "o", "o", "x"]
    assert sgd.get_yscale() == "log"
