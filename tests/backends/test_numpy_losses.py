"""Losses, their slopes and the other metrics, against formulas written out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.backends.numpy.losses import loss_and_slope, measure

RANDOM = np.random.default_rng(5)
SUMS = 2 * RANDOM.normal(size=(2, 4, 3))  # some are more than 1 from their targets
NUMBERS = RANDOM.uniform(size=(4, 3))
LABELS = np.array([2, 0, 1, 1])
ERRORS = [
    (loss, activation)
    for loss in ("mean_squared_error", "half_summed_squared_error", "mean_absolute_error", "huber")
    for activation in ("identity", "sigmoid")
]
CASES = [*ERRORS, ("cross_entropy", "softmax"), ("binary_cross_entropy", "sigmoid")]


def by_hand(loss: str, activation: str, sums: NDArray[np.floating], targets: Any) -> float:
    total = 0.0
    rows, outputs = sums.shape
    for row in range(rows):
        if loss == "cross_entropy":
            whole = sum(math.exp(z) for z in sums[row])
            total -= math.log(math.exp(sums[row, targets[row]]) / whole) / rows
            continue
        for column in range(outputs):
            z = float(sums[row, column])
            out = z if activation == "identity" else 1 / (1 + math.exp(-z))
            total += of_one(loss, out, float(targets[row, column])) / (
                1 if loss == "half_summed_squared_error" else rows * outputs
            )
    return total


def of_one(loss: str, out: float, target: float) -> float:
    size = abs(out - target)
    by_loss: dict[str, Callable[[], float]] = {
        "mean_squared_error": lambda: size**2,
        "half_summed_squared_error": lambda: size**2 / 2,
        "mean_absolute_error": lambda: size,
        "huber": lambda: size**2 / 2 if size <= 1 else size - 0.5,
        "binary_cross_entropy": lambda: -target * math.log(out) - (1 - target) * math.log(1 - out),
    }
    return by_loss[loss]()


@pytest.mark.parametrize(("loss", "activation"), CASES)
def test_the_loss_is_its_formula(loss: str, activation: str) -> None:
    targets = LABELS if loss == "cross_entropy" else NUMBERS
    losses, slope = loss_and_slope(loss, activation, SUMS, targets)
    np.testing.assert_allclose(losses, [by_hand(loss, activation, sums, targets) for sums in SUMS], rtol=1e-12)
    assert slope.shape == SUMS.shape


@pytest.mark.parametrize(("loss", "activation"), CASES)
def test_the_slope_is_the_derivative_by_every_sum(loss: str, activation: str) -> None:
    targets = LABELS if loss == "cross_entropy" else NUMBERS
    slope = loss_and_slope(loss, activation, SUMS, targets)[1]
    expected = np.empty_like(SUMS)
    for place in np.ndindex(SUMS.shape):
        up, down = SUMS.copy(), SUMS.copy()
        up[place] += 1e-6
        down[place] -= 1e-6
        difference = (
            loss_and_slope(loss, activation, up, targets)[0] - loss_and_slope(loss, activation, down, targets)[0]
        )
        expected[place] = difference[place[0]] / 2e-6
    np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("loss", "activation"), CASES)
def test_points_may_have_targets_of_their_own(loss: str, activation: str) -> None:
    targets = LABELS if loss == "cross_entropy" else NUMBERS
    both = np.stack([targets, targets[::-1]])
    losses, slope = loss_and_slope(loss, activation, SUMS, both)
    measured = measure(loss, activation, SUMS, both)
    for place in range(2):
        alone = loss_and_slope(loss, activation, SUMS[place : place + 1], both[place])
        assert losses[place] == alone[0][0]
        assert np.array_equal(slope[place], alone[1][0])
        for name, value in measure(loss, activation, SUMS[place : place + 1], both[place]).items():
            assert measured[name][place] == value[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cross_entropy_neither_overflows_nor_takes_the_log_of_zero(dtype: str) -> None:
    sums = np.array([[[1e30, -1e30, 0.0], [-1000.0, 0.0, 1000.0]]], dtype=dtype)
    right, slope = loss_and_slope("cross_entropy", "softmax", sums, np.array([0, 2]))
    assert right.tolist() == [0]
    assert np.all(slope == 0)
    wrong, slope = loss_and_slope("cross_entropy", "softmax", sums[:, 1:], np.array([0]))
    assert wrong.tolist() == [2000]
    assert slope[0, 0].tolist() == [-1, 0, 1]
    assert slope.dtype == wrong.dtype == dtype


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6), st.floats(-1e6, 1e6), st.data())
def test_cross_entropy_of_any_logits(logits: list[float], shift: float, data: st.DataObject) -> None:
    label = data.draw(st.integers(0, len(logits) - 1))
    sums = np.array([[logits]])
    loss, slope = loss_and_slope("cross_entropy", "softmax", sums, np.array([label]))
    assert np.isfinite(loss).all()
    assert loss[0] >= 0
    assert abs(slope.sum()) < 1e-9
    assert slope[0, 0, label] <= 0
    shifted = loss_and_slope("cross_entropy", "softmax", sums + shift, np.array([label]))[0]
    assert shifted[0] == pytest.approx(loss[0], rel=1e-9, abs=1e-8)


def test_equal_logits_cost_the_log_of_the_number_of_classes() -> None:
    losses = loss_and_slope("cross_entropy", "softmax", np.zeros((1, 5, 10)), np.arange(5))[0]
    assert losses[0] == pytest.approx(math.log(10), rel=1e-15)


def test_what_is_measured_for_class_labels() -> None:
    sums = np.array([[[3.0, 1.0, 2.0], [0.0, 5.0, 1.0], [1.0, 0.0, 9.0], [7.0, 0.0, 0.0]]])
    measured = measure("cross_entropy", "softmax", sums, np.array([0, 1, 1, 2]))
    assert list(measured) == ["loss", "accuracy"]
    assert measured["accuracy"].tolist() == [0.5]


def test_what_is_measured_for_sigmoids() -> None:
    sums = np.array([[[5.0], [-5.0], [5.0], [0.0]]])
    targets = np.array([[1.0], [0.0], [0.0], [0.0]])
    measured = measure("half_summed_squared_error", "sigmoid", sums, targets)
    assert list(measured) == ["loss", "accuracy", "mean_absolute_error"]
    high = 1 / (1 + math.exp(-5))
    assert measured["accuracy"].tolist() == [0.75]
    assert measured["mean_absolute_error"][0] == pytest.approx((2 * (1 - high) + high + 0.5) / 4, rel=1e-12)


def test_what_is_measured_for_a_line() -> None:
    measured = measure("mean_squared_error", "identity", np.array([[[1.0], [4.0]]]), np.array([[2.0], [2.0]]))
    assert {name: value.tolist() for name, value in measured.items()} == {"loss": [2.5], "mean_absolute_error": [1.5]}


def test_huber_is_both_a_square_and_a_line_here() -> None:
    far = np.abs(SUMS - NUMBERS) > 1
    assert far.any()
    assert not far.all()


@pytest.mark.parametrize("loss", ["mean_absolute_error", "huber"])
def test_an_output_without_an_error_has_no_slope(loss: str) -> None:
    losses, slope = loss_and_slope(loss, "identity", NUMBERS[None], NUMBERS)
    assert losses.tolist() == [0]
    assert np.all(slope == 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_binary_cross_entropy_neither_overflows_nor_takes_the_log_of_zero(dtype: str) -> None:
    sums = np.array([[[1e30], [-1e30], [-1000.0], [1000.0]]], dtype=dtype)
    targets = np.array([[1], [0], [0], [1]], dtype=dtype)
    with np.errstate(over="ignore"):
        right, slope = loss_and_slope("binary_cross_entropy", "sigmoid", sums, targets)
        wrong, turned = loss_and_slope("binary_cross_entropy", "sigmoid", sums[:, 2:], 1 - targets[2:])
    assert right.tolist() == [0]
    assert np.all(slope == 0)
    assert wrong.tolist() == [1000]
    assert turned[0, :, 0].tolist() == [-0.5, 0.5]
    assert slope.dtype == wrong.dtype == turned.dtype == dtype


@given(st.floats(-700, 700), st.floats(0, 1))
def test_binary_cross_entropy_is_that_of_two_softmaxes(z: float, target: float) -> None:
    two = np.array([[[0.0, z]]])
    no, yes = (loss_and_slope("cross_entropy", "softmax", two, np.array([label]))[0][0] for label in (0, 1))
    loss = loss_and_slope("binary_cross_entropy", "sigmoid", np.array([[[z]]]), np.array([[target]]))[0][0]
    assert loss == pytest.approx((1 - target) * no + target * yes, rel=1e-12, abs=1e-12)  # z - z y loses digits


@pytest.mark.parametrize(
    ("task", "loss", "activation", "names"),
    [
        ("binary", "binary_cross_entropy", "sigmoid", ["loss", "accuracy"]),
        ("binary", "huber", "identity", ["loss", "accuracy"]),
        ("regression", "mean_squared_error", "sigmoid", ["loss", "mean_absolute_error"]),
        ("regression", "huber", "identity", ["loss", "mean_absolute_error"]),
        (None, "binary_cross_entropy", "sigmoid", ["loss", "accuracy", "mean_absolute_error"]),
    ],
)
def test_what_is_measured_follows_from_the_task(task: Any, loss: str, activation: str, names: list[str]) -> None:
    sums, targets = np.array([[[3.0], [0.2], [-1.0]]]), np.array([[1.0], [0.0], [0.0]])
    measured = measure(loss, activation, sums, targets, task)
    assert list(measured) == names
    if "accuracy" in names:  # a sigmoid of 0.2 is above 1/2, the sum itself is below
        assert measured["accuracy"][0] == pytest.approx(2 / 3 if activation == "sigmoid" else 1)
