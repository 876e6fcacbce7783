from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.points.point import Point, outcome_of
from pipeline.report.parity_page import parity_table
from pipeline.report.rows import study_metrics
from pipeline.studies.certainty import ONE_SEED
from pipeline.studies.kinds import headline, study_kind
from pipeline.studies.variants.picture import variants_study
from pipeline.studies.variants.table import comparison, variant_table
from pipeline.studies.variants.variants import (
    SMOOTHED,
    Variant,
    final_loss,
    knob,
    lowest,
    steps_to_target,
    target,
    variants,
)
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
    by_seed = tuple({1: loss} for loss in losses)
    variant = Variant("any", rates, by_seed, values <= 0.05, np.full(len(losses), np.nan))
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
    widest = "the widest range of usable rates: sgd and adam, 1.5 decades; the narrowest: lion, a single rate"
    assert comparison(points)[0] == f"{widest} (one seed)."


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
        "the widest range of usable rates: sgd, 1.0 decades; the narrowest: adam, a single rate (one seed).",
        f"the lowest training loss: adam, 0.0001 at rate 0.1 ({ONE_SEED}).",
        "the fewest steps to the target: adam, 20 at rate 0.1 (one seed).",
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
    assert comparison(single)[0].startswith("the lowest training loss: adam")
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


def seeded(optimizer: str, rate: float, losses: Sequence[float]) -> list[Point]:
    """Points with these final losses, one for each seed; inf: it diverged."""
    found = []
    for seed, loss in enumerate(losses, start=1):
        diverged = None
        if math.isinf(loss):
            diverged = 3
        one = point(optimizer, rate, {0: 0.5, 100: min(loss, 1.0)}, diverged)
        found.append(replace(one, config=one.config.model_copy(update={"seed": seed})))
    return found


def test_neither_a_lucky_seed_nor_the_last_one_decides() -> None:
    points = [
        *seeded("sgd", 1, [0.05, 0.051, 0.049, 0.05, 0.05]),
        # The luckiest and the last seed of adam are lower than all of sgd.
        *seeded("adam", 1, [0.09, 0.092, 0.001, 0.09, 0.002]),
    ]
    sgd, adam = variants(points)
    assert sgd.losses.tolist() == pytest.approx([0.05])
    assert adam.losses.tolist() == pytest.approx([0.055])
    best = lowest(variants(points))
    assert [variant.name for variant in best.variants] == ["sgd", "adam"]
    assert best.tested
    text = "the lowest training loss: sgd, 0.0500 ± 0.0009 at rate 1; it cannot be told from adam at rate 1 (5 seeds)."
    assert text in comparison(points)
    rows = [line for line in variant_table(points) if line.startswith("| ")]
    assert rows[2].startswith("| sgd | 1 | 0.0500 ± 0.0009 (5) | 1 |")
    # The picture draws the same means.
    figure = variants_study("methods", {"numpy": points})
    ends = [float(np.asarray(line.get_ydata())[0]) for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert ends == pytest.approx([0.05])


def test_a_variant_that_is_told_apart_has_the_lowest_loss() -> None:
    points = [*seeded("sgd", 1, [0.05, 0.051, 0.049]), *seeded("adam", 1, [0.09, 0.092, 0.091])]
    assert "the lowest training loss: sgd, 0.0500 ± 0.0025 at rate 1 (3 seeds)." in comparison(points)


def test_a_rate_at_which_a_seed_diverged_is_not_usable_and_not_the_best() -> None:
    points = [*seeded("sgd", 1, [0.05, 0.06]), *seeded("sgd", 10, [0.01, math.inf]), *seeded("adam", 1, [0.07, 0.08])]
    sgd = variants(points)[0]
    assert (sgd.best, sgd.usable.tolist()) == (0, [True, False])
    assert sgd.losses.tolist() == pytest.approx([0.055, 0.01])
    assert [one.text for one in sgd.estimates] == ["0.06 ± 0.06 (2)", "0.01 (1 of 2)"]


def test_points_that_differ_in_more_than_the_seed_are_not_merged() -> None:
    """Of sizes and seeds under each method, one of six points was kept, and nothing said that."""
    sizes = [replace(one, config=with_size(one, size)) for size in (4, 8) for one in seeded("sgd", 1, [0.1, 0.2])]
    with pytest.raises(ValueError, match="two points of sgd have the rate 1 and the same seed"):
        variants([*sizes, *seeded("adam", 1, [0.3])])
    # Such a study is none of variants: each size has its own cells.
    points = sizes + [replace(one, config=with_size(one, n)) for n in (4, 8) for one in seeded("adam", 1, [0.3, 0.4])]
    assert study_kind(points).name == "network"
    assert study_metrics(points)["best"]["train/loss"] == pytest.approx(0.15)
    assert headline(points).startswith(
        "hidden sizes 4 and 8 are among the best for every value of optimizer; lowest training loss 0.2 ± 0.6 at "
    )


def with_size(one: Point, size: int) -> Config:
    model = one.config.model.model_copy(update={"hidden_size": size})
    return one.config.model_copy(update={"model": model})


def test_equal_losses_are_said_to_be_equal() -> None:
    points = [point(name, 1, {0: 0.5, 100: 0.05}) for name in ("sgd", "adam")]
    equal = "the lowest training loss: sgd, 0.05 at rate 1, and exactly as low: adam at rate 1"
    assert f"{equal} ({ONE_SEED})." in comparison(points)
    assert lowest(variants([point(name, 1, {0: 0.5}, diverged=1) for name in ("sgd", "adam")])).variants == ()


def test_all_that_need_the_fewest_steps_are_named() -> None:
    points = [point(name, 1, {0: 0.5, 28: 0.05}) for name in ("adam", "adamw", "sgd")]
    slow = point("momentum", 1, {0: 0.5, 29: 0.05})
    same = "the fewest steps to the target: adam, adamw and sgd, 28 at rate 1 (one seed)."
    assert same in comparison([*points, slow])
    other = [*points[:2], point("sgd", 10, {0: 0.5, 28: 0.05}), slow]
    assert (
        "the fewest steps to the target: 28, adam at rate 1, adamw at rate 1 and sgd at rate 10 (one seed)."
        in comparison(other)
    )
    repeated = [*seeded("sgd", 1, [0.05, 0.06]), *seeded("adam", 1, [0.07, 0.08])]
    assert "the fewest steps to the target: sgd and adam, 100 at rate 1 (median of 2 seeds)." in comparison(repeated)


def test_a_rate_that_is_lower_where_it_trains_is_said() -> None:
    points = [*seeded("sgd", 1, [0.05, 0.06]), *seeded("sgd", 10, [0.01, math.inf]), *seeded("adam", 1, [0.07, 0.08])]
    (said,) = [sentence for sentence in comparison(points) if "lowest" in sentence]
    first, better = said.split("; ")
    assert first == "the lowest training loss where every seed trains: sgd, 0.06 ± 0.06 at rate 1 (2 seeds)"
    assert better == "lower where it trains: sgd at rate 10 (1 of 2 seeds)."
    assert any(row.startswith("| sgd | 1 (lower where it trains: 10) |") for row in variant_table(points))


def test_the_loss_is_named_by_its_rows() -> None:
    points = [point(name, 1, {0: 0.5, 100: 0.05}) for name in ("sgd", "adam")]
    for one in points:
        one.outcome.final["test/loss"] = 0.06
    assert comparison(points)[0].startswith("the lowest test loss: sgd, 0.06 at rate 1")
