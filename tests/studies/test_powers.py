"""The best rate as a power of the batch size, on points whose exponents are known exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from pipeline.backends.shared.history import History
from pipeline.points.point import Point, outcome_of
from pipeline.studies.certainty import ONE_SEED
from pipeline.studies.kinds import answers, headline, study_kind
from pipeline.studies.transfer.best_rates import best_rates
from pipeline.studies.transfer.picture import transfer_study
from pipeline.studies.transfer.powers import exponent, holds_over, peak, usable, within
from pipeline.studies.transfer.rows import BATCHES, Law
from pipeline.studies.transfer.sentences import transfer_sentences
from tests.support.trained import config

SIZES = (16, 64, 256, 1024, 4096)
# Wide enough that every best rate below lies inside.
RATES = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
# What the seeds differ in: their exponents, around the one that is asked for.
AROUND = {1: -0.02, 2: 0.0, 3: 0.02}
LINEAR, ROOT = BATCHES.laws


def point(method: str, size: int, rate: float, seed: int, loss: float) -> Point:
    """A point that ended at a loss; one that diverged has a loss of inf."""
    one = config("experiment=batch_transfer", f"optimizer={method}", f"training.batch_size={size}",
                 f"optimizer.learning_rate={rate}", f"seed={seed}")  # fmt: skip
    history = History(epochs=1, diverged_step=3 if loss == math.inf else None)
    history.record(1, {"train/loss": loss})
    return Point(f"{method} batch_size={size} {rate:g} seed={seed}", Path(), one, history, outcome_of(history))


def parabola(rate: float, best: float) -> float:
    """The loss whose logarithm is a parabola of log(rate), lowest at the best rate."""
    return 0.1 * math.exp(0.3 * math.log(rate / best) ** 2)


def method(
    name: str, best: Callable[[int, float], float], seeds: Mapping[int, float] = AROUND, sizes: Sequence[int] = SIZES
) -> list[Point]:
    """The points of a method, whose best rate is a function of the batch size and of what is added to an exponent."""
    return [
        point(name, size, rate, seed, parabola(rate, best(size, more)))
        for size, rate, (seed, more) in product(sizes, RATES, seeds.items())
    ]


def power(size: int, exponent: float) -> float:
    """A best rate of 0.01 at a batch size of 16."""
    return float(0.01 * (size / 16) ** exponent)


def study(**shapes: Callable[[int, float], float]) -> list[Point]:
    return [one for name, shape in shapes.items() for one in method(name, shape)]


def linear(size: int, more: float) -> float:
    return power(size, 1 + more)


def root(size: int, more: float) -> float:
    return power(size, 0.5 + more)


def root_then_flat(size: int, more: float) -> float:
    return power(min(size, 256), 0.5 + more) * (1 + more)


def test_the_exponent_of_a_power_is_found_exactly() -> None:
    found = best_rates(BATCHES, study(sgd=linear, adam=root))
    assert list(found) == ["sgd", "adam"]
    for name, expected in (("sgd", 1.0), ("adam", 0.5)):
        assert sorted(exponent(found[name]).values) == pytest.approx([expected - 0.02, expected, expected + 0.02])
        # Student's t with 2 degrees of freedom: 4.303 x 0.02 / sqrt(3).
        assert exponent(found[name]).half_width == pytest.approx(4.3027 * 0.02 / math.sqrt(3), rel=1e-4)
    assert within(LINEAR, exponent(found["sgd"]))
    assert within(ROOT, exponent(found["adam"]))
    assert not within(LINEAR, exponent(found["adam"]))
    assert not within(ROOT, exponent(found["sgd"]))


def test_sentences_tell_the_power_and_which_law_holds() -> None:
    points = study(sgd=linear, adam=root)
    assert study_kind(points).name == "batches"
    assert transfer_sentences(BATCHES, points) == [
        "sgd: the best rate goes with the batch size to the power 1.00 ± 0.05 from 16 to 4,096: "
        "0.01 at 16, 0.04 at 64, 0.16 at 256, 0.64 at 1,024, 2.6 at 4,096.",
        "sgd: linear (power 1) holds over all of them, "
        "square root (power 0.5) lies outside of the interval and holds over no 3 neighbouring batch sizes.",
        "adam: the best rate goes with the batch size to the power 0.50 ± 0.05 from 16 to 4,096: "
        "0.01 at 16, 0.02 at 64, 0.04 at 256, 0.08 at 1,024, 0.16 at 4,096.",
        "adam: linear (power 1) lies outside of the interval and holds over no 3 neighbouring batch sizes, "
        "square root (power 0.5) holds over all of them.",
        "each loss is the mean over 3 seeds.",
    ]
    assert list(answers(points)) == transfer_sentences(BATCHES, points)
    assert headline(points).startswith("Sgd: the best rate goes with the batch size to the power 1.00 ± 0.05")


def test_a_law_that_ends_at_large_batches_holds_up_to_there() -> None:
    points = study(sgd=linear, adam=root_then_flat)
    along = best_rates(BATCHES, points)["adam"]
    assert [best.value for best in holds_over(ROOT, along)] == [16, 64, 256]
    assert holds_over(LINEAR, along) == []
    said = transfer_sentences(BATCHES, points)[3]
    assert said.endswith("square root (power 0.5) lies outside of the interval and holds from 16 to 256 (0.50 ± 0.05).")


def test_a_law_does_not_hold_where_steeper_and_flatter_parts_cancel() -> None:
    """From 16 to 4096 the exponent is 0.5 on average, and between no two neighbours."""
    steps = dict(zip(SIZES, (0.0, 1.0, 1.0, 2.0, 2.0), strict=True))

    def stairs(size: int, more: float) -> float:
        return 0.01 * 4 ** (steps[size] * (1 + more))

    along = best_rates(BATCHES, study(sgd=linear, adam=stairs))["adam"]
    assert within(ROOT, exponent(along))
    assert holds_over(ROOT, along) == []
    said = transfer_sentences(BATCHES, study(sgd=linear, adam=stairs))[3]
    assert "square root (power 0.5) lies within the interval, though not between all neighbours" in said


def test_a_best_rate_that_falls_again_has_a_power_from_its_peak_on() -> None:
    def peaked(size: int, more: float) -> float:
        return power(size, 0.5 + more) if size <= 256 else power(256, 0.5 + more) * (256 / size) ** 0.5

    along = best_rates(BATCHES, study(sgd=peaked, adam=root))["sgd"]
    assert peak(along) == 2
    assert exponent(along[2:]).mean == pytest.approx(-0.5)
    assert ", but -0.5 ± " in transfer_sentences(BATCHES, study(sgd=peaked, adam=root))[0]
    assert peak(best_rates(BATCHES, study(sgd=linear, adam=root))["adam"]) is None


def test_a_best_rate_at_the_edge_is_left_out_and_told() -> None:
    def beyond(size: int, more: float) -> float:
        return 1e4 if size == 4096 else power(size, 0.5 + more)

    points = study(sgd=beyond, adam=root)
    along = best_rates(BATCHES, points)["sgd"]
    assert [best.value for best in usable(along)] == [16, 64, 256, 1024]
    said = transfer_sentences(BATCHES, points)
    assert "to the power 0.50 ± 0.05 from 16 to 1,024" in said[0]
    assert said[4] == "sgd at 4,096: the best rate is at the edge of the grid, and one beyond may be better."


def test_batch_sizes_at_which_every_rate_diverged_have_no_best_rate() -> None:
    points = method("adam", root)
    points += [point("sgd", size, rate, seed, math.inf) for size, rate, seed in product(SIZES, RATES, AROUND)]
    said = transfer_sentences(BATCHES, points)
    assert "adam: the best rate goes with the batch size to the power 0.50 ± 0.05" in said[0]
    assert said[2].startswith(
        "sgd: the power is unknown, because only 0 of 5 batch sizes have a best rate inside of the grid: none at 16"
    )


def test_a_seed_that_diverged_everywhere_does_not_count() -> None:
    points = [
        one if one.config.seed != 1 or one.config.training.batch_size != 64 else
        point(one.config.optimizer.name, 64, one.learning_rate, 1, math.inf)
        for one in study(sgd=linear, adam=root)
    ]  # fmt: skip
    along = best_rates(BATCHES, points)["sgd"]
    # The mean with a seed that diverged is not finite.
    assert math.isnan(along[1].rate)
    assert [best.value for best in usable(along)] == [16, 256, 1024, 4096]
    assert len(exponent([along[0], along[1], along[2]]).values) == 2


def test_a_loss_that_is_not_a_number_counts_as_diverged() -> None:
    points = study(sgd=linear, adam=root)
    for one in points:
        if one.learning_rate == RATES[0]:
            one.outcome.final["train/loss"] = math.nan
    assert exponent(best_rates(BATCHES, points)["sgd"]).mean == pytest.approx(1.0)


def test_equal_losses_have_the_first_rate_as_the_best() -> None:
    points = [point(name, size, rate, 1, 0.5) for name, size, rate in product(("sgd", "adam"), SIZES, RATES)]
    along = best_rates(BATCHES, points)["sgd"]
    assert [best.rate for best in along] == [RATES[0]] * len(SIZES)
    assert usable(along) == []


def test_one_seed_has_a_power_without_an_interval_and_no_verdict() -> None:
    points = [*method("sgd", linear, {1: 0.0}), *method("adam", root, {1: 0.0})]
    said = transfer_sentences(BATCHES, points)
    assert len(said) == 3
    assert "sgd: the best rate goes with the batch size to the power 1 from 16 to 4,096" in said[0]
    assert said[-1] == f"{ONE_SEED}."
    found = exponent(best_rates(BATCHES, points)["sgd"])
    assert not within(Law("linear", found.mean), found)


def test_seeds_trained_at_other_rates_leave_the_power_of_their_means() -> None:
    points = [
        point(name, size, rate, 1 + index % 2, parabola(rate, power(size, 0.5)))
        for name, size in product(("sgd", "adam"), SIZES)
        for index, rate in enumerate(RATES)
    ]
    found = exponent(best_rates(BATCHES, points)["sgd"])
    assert found.interval is None
    assert found.mean == pytest.approx(0.5)


def test_seeds_that_agree_to_the_last_digit_are_within_a_law() -> None:
    points = [*method("sgd", lambda size, more: power(size, 1)), *method("adam", lambda size, more: power(size, 0.5))]
    along = best_rates(BATCHES, points)["adam"]
    assert [best.value for best in holds_over(ROOT, along)] == list(SIZES)


def test_two_batch_sizes_are_too_few_for_a_power() -> None:
    points = [one for name in ("sgd", "adam") for one in method(name, root, sizes=(16, 64))]
    assert transfer_sentences(BATCHES, points)[0].startswith("sgd: the power is unknown, because only 2 of 2 batch")


def test_one_batch_size_or_all_rows_at_once_are_another_study() -> None:
    points = [one for name in ("sgd", "adam") for one in method(name, root, sizes=(16,))]
    assert study_kind(points).name == "variants"
    whole = [one.config.model_copy(update={"training": one.config.training.model_copy(update={"batch_size": None})})
             for one in points]  # fmt: skip
    more = [Point(one.name, Path(), own, one.history, one.outcome) for one, own in zip(points, whole, strict=True)]
    assert best_rates(BATCHES, more) == {}


def test_the_page_has_the_power_between_neighbours() -> None:
    points = study(sgd=linear, adam=root_then_flat)
    (heading, lines), (how, text) = study_kind(points).sections(points)
    assert heading == "The power from each batch size to the next"
    assert lines[0] == "| batch size | sgd | adam |"
    assert lines[2] == "| 16 to 64 | 1.00 ± 0.05 | 0.50 ± 0.05 |"
    assert how == "How the power is found"
    assert "Student's t" in " ".join(text)


def test_the_picture_has_the_best_rates_beside_the_losses() -> None:
    axes = transfer_study(BATCHES, "batch_transfer", {"numpy": study(sgd=linear, adam=root)}).axes
    assert [ax.get_title(loc="left") for ax in axes] == ["sgd", "adam", "best rate against batch size"]
    drawn = [line for line in axes[2].lines if line.get_marker() == "o"]
    for line, expected in zip(drawn, (1.0, 0.5), strict=True):
        slope, _ = np.polyfit(np.log(np.asarray(line.get_xdata())), np.log(np.asarray(line.get_ydata())), 1)
        assert slope == pytest.approx(expected, abs=0.01)
    dashed = [line for line in axes[2].lines if line.get_linestyle() == "--"]
    assert len(dashed) == 4
