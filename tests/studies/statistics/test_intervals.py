"""Means with their intervals, against SciPy's, and the coverage that they promise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.studies.statistics.intervals import BOUNDS, estimate, plus_minus

finite = st.floats(-1e6, 1e6)


@given(values=st.lists(finite, min_size=2, max_size=20))
def test_the_interval_is_that_of_scipy(values: list[float]) -> None:
    found = estimate(values, "a/norm")
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.interval is not None
    assert found.interval == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_the_interval_holds_the_true_mean_in_95_percent_of_1000_draws(seeds: int) -> None:
    drawn = np.random.default_rng(1).normal(0.97, 0.004, (1000, seeds))
    held = 0
    for values in drawn:
        interval = estimate(values.tolist(), "test/accuracy").interval
        assert interval is not None
        held += interval[0] <= 0.97 <= interval[1]
    assert 0.93 <= held / 1000 <= 0.97


@given(values=st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_the_interval_of_an_accuracy_stays_between_0_and_1(values: list[float]) -> None:
    interval = estimate(values, "validation/accuracy").interval
    assert interval is not None
    assert 0 <= interval[0] <= interval[1] <= 1


def test_every_metric_that_judges_has_bounds() -> None:
    from pipeline.config.metrics import LARGER_IS_BETTER

    assert set(BOUNDS) == set(LARGER_IS_BETTER)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.975, 0.977, 0.976], "0.9760 ± 0.0025 (3)"),
        ([0.9], "0.9"),
        ([0.9, math.nan], "0.9 (1 of 2)"),
        ([0.9, 0.9, math.inf], "0.9 ± 0 (2 of 3)"),
        ([math.nan, math.inf], "diverged"),
        ([], "diverged"),
    ],
)
def test_the_text_says_how_many_seeds_trained(values: list[float], text: str) -> None:
    assert estimate(values, "test/accuracy").text == text


@pytest.mark.parametrize(
    ("value", "half_width", "text"),
    [
        (0.97634, 0.0153, "0.976 ± 0.015"),
        (0.97634, 0.0353, "0.98 ± 0.04"),
        (1234.5, 67.8, "1234 ± 68"),
        (1.3e-9, 2.5e-10, "(1.30 ± 0.25)e-9"),
        (-5e-7, 3e-8, "(-5.0 ± 0.3)e-7"),
        (0.49999996, 1.8e-7, "0.5 ± 2e-07"),
        (0.97634, 0.00012, "0.9763 ± 0.0001"),
        (0.97634, 0.000034, "0.9763 ± 3e-05"),
        (12345.6, 3.4, "12346 ± 3"),
        (0.0, 0.034, "0.00 ± 0.03"),
        (1e-310, 5e-324, "1e-310 ± 5e-324"),
        (1.5e308, 2e307, "(1.50 ± 0.20)e308"),
        (1.5e308, math.inf, "1.5e+308 ± inf"),
    ],
)
def test_a_number_has_the_digits_that_its_interval_leaves(value: float, half_width: float, text: str) -> None:
    assert plus_minus(value, half_width) == text


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e-300, 1.0, 8e307])
def test_neither_huge_nor_tiny_losses_overflow(scale: float) -> None:
    found = estimate([scale, 2 * scale], "train/loss")
    assert found.mean == pytest.approx(1.5 * scale)
    assert found.deviation == pytest.approx(scale / math.sqrt(2))
    assert found.text
