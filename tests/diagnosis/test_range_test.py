from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends.shared.history import History, note_update
from pipeline.diagnosis.range_test import (
    BETA,
    GROWN,
    RangeTest,
    averaged,
    noise,
    range_test,
    shortage,
    slopes_per_decade,
    standard_error,
    suggestion,
)
from pipeline.drawing.plot_data import Floats

RATES = np.geomspace(1e-5, 10, 601)


def history(losses: Floats) -> History:
    found = History()
    for update, (rate, loss) in enumerate(zip(RATES, losses, strict=True)):
        note_update(found, update, float(rate), float(loss))
    return found


def falling(fastest: float, noise: float = 0.0) -> Floats:
    """A loss that falls along a logistic curve of log10(rate), fastest at a known rate, and explodes beyond 1."""
    logs = np.log10(RATES)
    losses = 2.3 - 2 / (1 + np.exp(-4 * (logs - math.log10(fastest))))
    random = np.random.default_rng(3)
    result: Floats = losses + noise * random.normal(size=len(logs)) + np.where(RATES > 1, (RATES - 1) * 20, 0)
    return result


def read(losses: Floats) -> RangeTest:
    found = range_test(history(losses))
    assert found is not None
    return found


@pytest.mark.parametrize("fastest", [0.003, 0.02, 0.1])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_where_the_loss_falls_fastest_and_where_it_is_lowest(fastest: float, noise: float) -> None:
    found = read(falling(fastest, noise))
    assert found.steepest is not None
    # The mean is behind by its memory, some 20 of 100 updates a decade.
    assert fastest / 1.5 < found.rates[found.steepest] < fastest * 2.5
    # It falls until the rate is 1, from where on it explodes.
    assert 0.2 < found.rates[found.lowest] < 1.2
    assert found.suggested_rate == pytest.approx(found.rates[found.lowest] / 3)


def test_the_run_ends_where_the_mean_has_diverged() -> None:
    found = read(falling(0.02))
    assert found.means[found.last] > GROWN * found.means[: found.last].min()
    assert found.means[: found.last].max() <= found.means[0] * GROWN
    assert found.steepest is not None
    assert found.steepest < found.lowest < found.last


def test_a_loss_that_only_rises_suggests_nothing() -> None:
    assert read(1 + np.log10(RATES / RATES[0])).suggested_rate is None
    assert range_test(History()) is None


def test_losses_that_are_no_numbers_are_left_out() -> None:
    losses = falling(0.02)
    losses[-20:] = np.nan
    losses[-25] = np.inf
    found = read(losses)
    assert len(found.losses) == len(losses) - 21
    assert found.suggested_rate == read(falling(0.02)).suggested_rate


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 50])
def test_too_few_updates_are_reported_and_not_judged(count: int) -> None:
    short = History()
    for update, rate in enumerate(np.geomspace(1e-5, 100, count)):
        note_update(short, update, float(rate), 2.36 - 0.8 * update / count)
    needed = 3 if count < 3 else 59
    assert suggestion(short).startswith(f"too short to judge: it needs at least {needed} updates with a finite loss")
    assert suggestion(short).endswith(f", and has {count}")
    found = range_test(short)
    assert found is None or found.suggested_rate is None


@given(st.floats(-9, 0), st.floats(0.26, 12))
def test_as_many_updates_as_are_asked_for_are_enough(start: float, decades: float) -> None:
    def falling_in(count: int) -> History:
        found = History()
        for update, rate in enumerate(np.logspace(start, start + decades, count)):
            note_update(found, update, float(rate), 2 - update / count)
        return found

    asked = re.search(r"at least (\d+) updates", shortage(falling_in(3))[0])
    assert asked is not None
    judged = range_test(falling_in(int(asked[1])))
    assert judged is not None
    assert judged.judged
    assert judged.steepest is not None


def test_rates_that_hardly_rise_are_reported() -> None:
    constant = History()
    for update in range(20):
        note_update(constant, update, 0.1, 2.0 - update / 20)
    assert suggestion(constant) == (
        "too short to judge: it needs losses that do not diverge over at least 0.25 decades of rates, "
        "and has 0, from rate 0.1 to 0.1"
    )


@given(st.lists(st.floats(0, 10), min_size=1, max_size=50))
def test_the_mean_has_no_bias(losses: list[float]) -> None:
    means = averaged(np.array(losses))
    assert means[0] == pytest.approx(losses[0])
    assert np.all(means <= max(losses) * (1 + 1e-9) + 1e-12)
    assert np.all(means >= min(losses) * (1 - 1e-9) - 1e-12)
    np.testing.assert_allclose(averaged(np.full(len(losses), 3.0)), 3.0)


def test_the_slope_of_a_straight_line_is_its_slope() -> None:
    slopes = slopes_per_decade(RATES, 5 - 0.7 * np.log10(RATES))
    assert np.isnan(slopes[[0, -1]]).all()
    np.testing.assert_allclose(slopes[np.isfinite(slopes)], -0.7, rtol=1e-9)


LOGS = np.log10(RATES)
DRAWS = st.integers(0, 2**32 - 1)


def valley(lowest: float) -> Floats:
    """A loss between 1 and 3 that is lowest at a rate, and rises over a decade to each side of it."""
    losses: Floats = 1 + np.minimum(2 * (LOGS - math.log10(lowest)) ** 2, 2)
    return losses


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        (np.full(601, 2.3), "hardly changes from 1e-05 to 10, so test larger rates"),
        (
            np.where(RATES > 1, 2.3 * RATES**4, 2.3),
            "falls by no more than the noise of the minibatches, and then rises",
        ),
        (2.3 + (LOGS - LOGS[0]), "is lowest at the start, 1e-05, so test smaller rates"),
        (2.3 - 0.3 * (LOGS - LOGS[0]), "does not rise again up to the largest rate, 10, so test larger rates"),
        (2.3 - 0.3 * np.minimum(LOGS - LOGS[0], 4), "does not rise again up to the largest rate, 10"),
        (np.interp(LOGS, [-5, -4, 0, 1], [2.3, 1, 1, 2.3]), "is flat over more than 2 decades around its minimum"),
    ],
)
@pytest.mark.parametrize("spread", [0.0, 0.02])
def test_a_minimum_that_is_not_clear_is_explained(losses: Floats, said: str, spread: float) -> None:
    if spread == 0 and "is flat" in said:
        # Without noise even a shallow minimum is clear.
        return
    one = history(losses + spread * np.random.default_rng(1).normal(size=len(losses)))
    assert suggestion(one).startswith(f"no clear minimum: the smoothed loss {said}")
    found = range_test(one)
    assert found is not None
    assert found.suggested_rate is None


@given(DRAWS, st.floats(-3, 3), st.floats(0, 1), st.sampled_from(["normal", "lognormal", "standard_t", "exponential"]))
def test_flat_losses_never_get_a_suggestion(seed: int, level: float, spread: float, kind: str) -> None:
    random = np.random.default_rng(seed)
    arguments = (3,) if kind == "standard_t" else ()
    drawn = getattr(random, kind)(*arguments, size=len(RATES))
    assert read(10**level * (1 + spread * drawn)).suggested_rate is None


@given(DRAWS, st.floats(-3.5, -0.5), st.floats(0, 0.2))
def test_a_deep_valley_always_gets_one_close_to_its_minimum(seed: int, lowest: float, spread: float) -> None:
    losses = valley(10**lowest) + spread * np.random.default_rng(seed).normal(size=len(RATES))
    rate = read(losses).suggested_rate
    assert rate is not None
    # The mean is late by 19 of 100 updates a decade, and the valley is 2 decades wide.
    assert abs(math.log10(3 * rate) - lowest - 0.19) < 0.35


def test_a_loss_that_becomes_no_number_has_risen() -> None:
    one = history(2.3 - 0.3 * (LOGS - LOGS[0]))
    assert "not rise again" in suggestion(one)
    one.diverged_step = len(RATES)
    assert suggestion(one).startswith("suggested rate 3.3, one third of 10, ")


def test_the_noise_is_that_of_the_losses_around_their_trend() -> None:
    drawn = 0.1 * np.random.default_rng(5).normal(size=20_000)
    assert noise(drawn + np.linspace(9, 1, len(drawn))) == pytest.approx(0.1, rel=0.03)
    drawn[10_000:] *= 3
    assert noise(drawn) == pytest.approx(0.3, rel=0.03)
    assert noise(np.array([1e300, -1e300, 1e300])) == pytest.approx(math.sqrt(2) * 1e300)
    assert noise(np.array([2.0])) == noise(np.full(9, 2.0)) == 0


@pytest.mark.parametrize("updates", [1, 5, 40, 400])
def test_the_standard_error_is_that_of_the_mean(updates: int) -> None:
    drawn = averaged(np.random.default_rng(6).normal(size=(4000, updates)))[:, -1]
    # The standard deviation of 4,000 draws has a standard error of 1.1 %.
    assert standard_error(1.0, updates) == pytest.approx(drawn.std(), rel=0.05)


def test_several_tests_are_averaged_at_once() -> None:
    losses = np.array([falling(0.02, 0.1), falling(0.1, 0.1)])
    # The sum over the terms, written out.
    weights = np.tril(BETA ** (np.arange(601)[:, None] - np.arange(601)).clip(0))
    expected = losses @ (weights / weights.sum(axis=1, keepdims=True)).T
    np.testing.assert_allclose(averaged(losses), expected, rtol=1e-9)
