from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends.shared.history import History, note_update
from pipeline.diagnosis.range_test import (
    GROWN,
    RangeTest,
    averaged,
    range_test,
    shortage,
    slopes_per_decade,
    suggestion,
)
from pipeline.drawing.plot_data import Floats
from pipeline.studies.range_picture import range_figure

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


def test_the_picture_marks_the_suggested_rate() -> None:
    found = read(falling(0.02, 0.05))
    (ax,) = range_figure("study", found).axes
    assert ax.get_xscale() == "log"
    assert any(text.get_text().startswith(f"suggested: {found.suggested_rate:.3g}") for text in ax.texts)
