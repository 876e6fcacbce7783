from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.backends.numpy.network import sigmoid
from pipeline.backends.shared.history import History
from pipeline.config.data import TableData
from pipeline.config.schema import Config
from pipeline.studies.images import data as image_data
from tests.support.trained import config

LINE = config("experiment=line_y3x", "optimizer.learning_rate=0.1")
THREE_BITS = config("experiment=three_bits", "optimizer.learning_rate=10", "model.hidden_size=4")
WEIGHTS = hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e300, 1e300))


def lasting(one: Config, epochs: int, **recording: int) -> Config:
    """A config that trains and records for other numbers of epochs."""
    return one.model_copy(
        update={
            "training": one.training.model_copy(update={"epochs": epochs}),
            "recording": one.recording.model_copy(update=recording),
        }
    )


def snapshots_at(*epochs: int, last: float = 1.0) -> History:
    """A history of networks of one weight and one bias; the weight is `last` at the last of the epochs, else 1."""
    history = History(epochs=epochs[-1])
    for epoch in epochs:
        weight = last if epoch == epochs[-1] else 1.0
        history.snapshot(epoch, {"layer_0/weights": np.array([[weight]]), "layer_0/bias": np.array([0.5])})
    return history


def test_steps_are_ten_of_the_snapshots() -> None:
    found = image_data.image_steps(LINE, snapshots_at(*range(1001)))
    assert list(found) == [0, 1, 2, 6, 13, 32, 75, 178, 422, 1000]
    assert list(found) == list(found.values())


def test_few_snapshots_are_all_shown() -> None:
    one = lasting(LINE, 20, metrics_every=1, snapshots=5)
    assert list(image_data.image_steps(one, snapshots_at(0, 1, 3, 7, 20))) == [0, 1, 3, 7, 20]


def test_a_run_that_ended_early_has_the_same_steps_and_shows_its_last_weights() -> None:
    found = image_data.image_steps(LINE, snapshots_at(*range(17)))
    assert found == {0: 0, 1: 1, 2: 2, 6: 6, 13: 13, 32: 16, 75: 16, 178: 16, 422: 16, 1000: 16}


@pytest.mark.parametrize("broken", [math.inf, math.nan])
def test_weights_that_are_inf_or_nan_are_not_shown(broken: float) -> None:
    found = image_data.image_steps(LINE, snapshots_at(*range(17), last=broken))
    assert set(found.values()) == {0, 1, 2, 6, 13, 15}
    assert image_data.image_steps(LINE, snapshots_at(0, last=broken)) == {}


@given(st.integers(1, 5000), st.integers(1, 300), st.integers(2, 60))
def test_steps_are_few_and_have_first_and_last(epochs: int, every: int, snapshots: int) -> None:
    one = lasting(THREE_BITS, epochs, metrics_every=every, snapshots=snapshots)
    steps = list(image_data.image_steps(one, snapshots_at(0)))
    assert 2 <= len(steps) <= image_data.STEPS
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (0, epochs)


def test_largest_units_are_those_with_the_largest_norm_in_their_order() -> None:
    weights = np.array([[1.0, 5, 0, 3], [1, 0, 0, 3], [1, 0, 9, 3]])  # norms 1.7, 5, 9, 5.2
    assert image_data.largest_units(weights, 2).tolist() == [2, 3]
    assert image_data.largest_units(weights, 3).tolist() == [1, 2, 3]
    assert image_data.largest_units(weights).tolist() == [0, 1, 2, 3]
    assert image_data.largest_units(weights * 1e300, 2).tolist() == [2, 3]
    assert image_data.largest_units(weights * 0, 2).tolist() == [0, 1]


def test_tiles_are_pictures_of_the_units_one_pixel_apart() -> None:
    weights = np.arange(12.0).reshape(4, 3)  # the first unit is 0, 3 above 6, 9
    nan = np.nan
    np.testing.assert_array_equal(
        image_data.tiles(weights),
        [
            [0, 3, nan, 1, 4],
            [6, 9, nan, 7, 10],
            [nan, nan, nan, nan, nan],
            [2, 5, nan, nan, nan],
            [8, 11, nan, nan, nan],
        ],
    )


@pytest.mark.parametrize(("units", "columns"), [(1, 1), (2, 2), (4, 2), (5, 4), (16, 4), (17, 8), (64, 8)])
def test_tiles_are_about_as_wide_as_high(units: int, columns: int) -> None:
    assert image_data.tile_columns(units) == columns
    assert image_data.tiles(np.zeros((9, units))).shape[1] == 4 * columns - 1


def test_full_colour_is_the_largest_weight_without_a_few_outliers() -> None:
    assert image_data.colour_limit([np.array([0.1, -3.0]), np.array([2.0, 0.5])]) == 3
    many = np.ones(1000)
    many[:4] = 100
    assert image_data.colour_limit([many]) == 1
    many[:6] = 100
    assert image_data.colour_limit([many]) == 100
    assert image_data.colour_limit([np.zeros(3)]) == 1


def test_colours_are_symmetric_around_zero_and_cut_off_at_the_limit() -> None:
    weights = np.array([-9.0, -2, -1, 0, 1, 2, 9, np.nan])
    assert image_data.colour_indices(weights, 2.0).tolist() == [1, 1, 64, 128, 192, 255, 255, 0]


def test_colours_of_exploded_weights_are_logarithmic() -> None:
    weights = np.array([-1e30, -1e15, 0, 1e15, 1e30])
    indices = image_data.colour_indices(weights, 1e30).astype(int)
    assert indices[[0, 2, 4]].tolist() == [1, 128, 255]
    assert indices[3] == round(128 + 127 * math.log(2e15) / math.log(2e30))
    assert indices[1] == 256 - indices[3]


@given(st.lists(hnp.arrays(np.float64, 30, elements=st.floats(-900, 900)), min_size=1, max_size=3))
def test_bars_count_as_numpy_does(arrays: list[Any]) -> None:
    found = image_data.bars(arrays)
    assert not found.signed_log
    edges = np.linspace(found.low, found.high, found.counts.shape[1] + 1)
    near_an_edge = [np.abs(a[:, None] - edges[1:-1]).min(axis=1) < 1e-9 * (found.high - found.low) for a in arrays]
    for array, counts, rounded in zip(arrays, found.counts, near_an_edge, strict=True):
        difference = np.abs(counts - np.histogram(array, edges)[0]).sum()
        assert difference <= 2 * rounded.sum()


@given(st.lists(WEIGHTS, min_size=1, max_size=3))
def test_bars_hold_all_weights_at_all_steps(arrays: list[Any]) -> None:
    found = image_data.bars(arrays)
    assert found.counts.sum(axis=1).tolist() == [len(array) for array in arrays]
    assert found.low < found.high
    assert found.low <= min(array.min() for array in arrays)
    assert found.high >= max(array.max() for array in arrays)


def test_bars_of_exploded_weights_are_logarithmic() -> None:
    found = image_data.bars([np.array([-1e20, -1e10, 0.0, 1e10, 1e20])])
    assert found.signed_log
    (bins,) = np.nonzero(found.counts[0])
    width = 2 * math.asinh(1e20) / 24
    assert bins.tolist() == [0, int((math.asinh(1e20) - math.asinh(1e10)) / width), 12,
                             int((math.asinh(1e20) + math.asinh(1e10)) / width), 23]  # fmt: skip


def test_more_weights_have_more_bars() -> None:
    assert image_data.bars([np.linspace(0, 1, 200)]).counts.shape == (1, 24)
    assert image_data.bars([np.linspace(0, 1, 201)]).counts.shape == (1, 60)


def test_heights_of_bars() -> None:
    counts = np.array([[0, 1, 3], [4, 0, 0]])
    np.testing.assert_allclose(image_data.bar_heights(counts, 4), counts / 4)
    np.testing.assert_allclose(image_data.bar_heights(counts, 1000), np.log(1 + counts) / math.log(5))


def test_ticks_of_counts() -> None:
    assert image_data.count_ticks(2, 4) == [(0, 0), (1, 0.5), (2, 1)]
    assert [count for count, _ in image_data.count_ticks(24, 96)] == [0, 5, 10, 15, 20]
    assert [count for count, _ in image_data.count_ticks(4000, 10_000)] == [1, 10, 100, 1000]
    assert [count for count, _ in image_data.count_ticks(400_000, 784_000)] == [1, 100, 10_000]
    assert dict(image_data.count_ticks(99, 1000))[10] == pytest.approx(math.log(11) / math.log(100))


def test_ticks_of_weights() -> None:
    assert image_data.weight_ticks(-10, 10) == [(-10, 0), (-5, 0.25), (0, 0.5), (5, 0.75), (10, 1)]
    assert len(image_data.weight_ticks(-0.05625, 0.24375)) >= 2  # a third of it is a hair below a power of ten
    ticks = image_data.weight_ticks(-0.058, 0.061)
    assert [value for value, _ in ticks] == pytest.approx([-0.04, -0.02, 0, 0.02, 0.04, 0.06])
    assert ticks[0][1] == pytest.approx(0.018 / 0.119)


def test_ticks_of_exploded_weights() -> None:
    ticks = image_data.weight_ticks(-1e20, 1e20, signed_log=True)
    assert [value for value, _ in ticks] == [-1e20, -1e10, 0, 1e10, 1e20]
    assert [position for _, position in ticks] == pytest.approx([0, 0.2463, 0.5, 0.7537, 1], abs=1e-4)
    assert [value for value, _ in image_data.weight_ticks(0, 5000, signed_log=True)] == [0, 10, 100, 1000]


@given(st.floats(-1e300, 1e300), st.floats(1e-3, 1e300))
def test_ticks_are_few_and_in_order(low: float, width: float) -> None:
    high = low + max(width, abs(low) * 1e-3)
    ticks = image_data.weight_ticks(low, high, signed_log=max(abs(low), high) > image_data.EXPLOSION)
    assert len(ticks) <= 9
    assert all(low <= value <= high for value, _ in ticks)
    assert all(one < other for one, other in pairwise(position for _, position in ticks))
    assert all(-1e-9 <= position <= 1 + 1e-9 for _, position in ticks)


def test_only_square_inputs_of_images_are_tiles() -> None:
    mnist = config("experiment=mnist", "optimizer.learning_rate=0.01")
    assert image_data.shows_tiles(mnist, 784)
    assert not image_data.shows_tiles(mnist, 780)
    assert not image_data.shows_tiles(mnist, 9)
    assert not image_data.shows_tiles(THREE_BITS, 784)


def test_fitted_outputs_are_those_of_a_line() -> None:
    inputs = np.array([0.0, 1, 2])
    found = image_data.fitted(LINE, snapshots_at(0, 1, last=3.0), [0, 1], inputs)
    np.testing.assert_allclose(found, [inputs + 0.5, 3 * inputs + 0.5])
    curved = LINE.model_copy(update={"model": LINE.model.model_copy(update={"output_activation": "sigmoid"})})
    np.testing.assert_allclose(
        image_data.fitted(curved, snapshots_at(0, 1), [0], inputs)[0], sigmoid(np.array([0.5, 1.5, 2.5]))
    )


def test_fitted_outputs_of_an_exploded_line_are_finite() -> None:
    assert np.isfinite(image_data.fitted(LINE, snapshots_at(0, 1, last=1e308), [0, 1], np.array([-20.0, 0, 20]))).all()


def test_axes_of_a_fit_hold_the_data_and_the_origin() -> None:
    def table(inputs: list[float], targets: list[float]) -> TableData:
        return TableData(
            kind="table",
            name="table",
            inputs=tuple((value,) for value in inputs),
            targets=tuple((value,) for value in targets),
        )

    (left, right), (low, high) = image_data.fit_limits(table([1, 2, 4], [-10, -20, -40]))
    assert (left, right, low, high) == pytest.approx((-0.8, 4.4, -52, 12))
    (left, right), (low, high) = image_data.fit_limits(table([0], [0]))
    assert left < right
    assert low < high


def test_losses_are_in_bands() -> None:
    losses = np.linspace(3, 5, 321).reshape(1, -1)
    indices = image_data.loss_indices(losses)
    assert indices.min() == 1
    assert indices.max() == 255
    assert set(np.unique(indices, return_counts=True)[1]) == {20, 21}, "16 bands, equally wide"
    assert (np.diff(indices[0].astype(int)) >= 0).all()
    assert image_data.loss_indices(np.full((2, 2), 0.3)).tolist() == [[1, 1], [1, 1]]
