"""The mean of a curve over seeds, and its band."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.studies.statistics.bands import mean_band
from pipeline.studies.statistics.intervals import estimate

EPOCHS = np.array([0, 1, 5])


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=2, max_size=6))
def test_a_band_has_at_each_epoch_the_interval_of_its_values(curves: list[list[float]]) -> None:
    band = mean_band([(EPOCHS, np.array(curve)) for curve in curves], "test/accuracy")
    for index, values in enumerate(zip(*curves, strict=True)):
        expected = estimate(values, "test/accuracy")
        assert band.mean[index] == pytest.approx(expected.mean, abs=1e-12)
        assert (band.low[index], band.high[index]) == pytest.approx(expected.interval, abs=1e-12)


def test_only_epochs_that_all_seeds_recorded_have_a_mean() -> None:
    longer = (np.array([0, 1, 2, 5]), np.array([1.0, 2.0, 9.0, 4.0]))
    band = mean_band([(EPOCHS, np.array([3.0, 4.0, 6.0])), longer], "train/loss")
    np.testing.assert_array_equal(band.epochs, EPOCHS)
    np.testing.assert_allclose(band.mean, [2, 3, 5])


def test_one_seed_has_no_band() -> None:
    band = mean_band([(EPOCHS, np.array([3.0, 2.0, 1.0]))], "train/loss")
    np.testing.assert_array_equal(band.mean, [3, 2, 1])
    assert np.isnan(band.low).all()
    assert np.isnan(band.high).all()


def test_a_band_of_huge_losses_does_not_overflow_and_none_is_below_zero() -> None:
    curves = [(EPOCHS, np.full(3, value)) for value in (1.7e308, 1.6e308, 1e300)]
    with np.errstate(over="raise"):
        band = mean_band(curves, "train/loss")
    assert np.isfinite(band.mean).all()
    assert (band.low == 0).all()
