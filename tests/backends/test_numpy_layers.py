"""The layers of a network in training against differences and written-out formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from pipeline.backends.numpy.layers import (
    activation,
    activation_slope,
    mask,
    normalize,
    normalize_backward,
)
from pipeline.backends.numpy.network import ACTIVATIONS, EPSILON, Array

HIDDEN = ["sigmoid", "relu", "tanh", "gelu", "leaky_relu", "softplus"]
RANDOM = np.random.default_rng(8)


@pytest.mark.parametrize("name", HIDDEN)
def test_an_activation_goes_back_by_its_derivative(name: str) -> None:
    sums, delta = RANDOM.normal(size=(4, 5)), RANDOM.normal(size=(4, 5))
    difference = (ACTIVATIONS[name](sums + 1e-6) - ACTIVATIONS[name](sums - 1e-6)) / 2e-6
    slope = activation_slope(name, sums, activation(name, sums))
    np.testing.assert_allclose(delta * slope, delta * difference, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["tanh", "gelu", "leaky_relu", "softplus"])
def test_an_activation_is_its_formula(name: str) -> None:
    formulas: dict[str, Callable[[float], float]] = {
        "tanh": math.tanh,
        "gelu": lambda z: z / 2 * (1 + math.erf(z / math.sqrt(2))),
        "leaky_relu": lambda z: z if z > 0 else 0.2 * z,
        "softplus": lambda z: math.log1p(math.exp(z)),
    }
    sums = np.array([-9.0, -1.3, 0.0, 0.4, 12.0])
    np.testing.assert_allclose(
        ACTIVATIONS[name](sums), [formulas[name](float(z)) for z in sums], rtol=1e-13, atol=1e-16
    )
    assert ACTIVATIONS[name](sums.astype(np.float32)).dtype == np.float32


def test_softplus_does_not_overflow() -> None:
    assert ACTIVATIONS["softplus"](np.array([-2000.0, 2000.0])).tolist() == [0, 2000]


def test_normalized_sums_have_mean_0_and_variance_1() -> None:
    sums = RANDOM.normal(3, 5, size=(50, 4))
    found = normalize(sums)
    np.testing.assert_allclose(found.values.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(found.values.var(axis=0), sums.var(axis=0) / (sums.var(axis=0) + EPSILON), rtol=1e-12)


def test_batch_normalization_goes_back_by_its_derivatives() -> None:
    sums, scale, shift = RANDOM.normal(size=(6, 3)), RANDOM.normal(size=(1, 3)), RANDOM.normal(size=(1, 3))
    weights = RANDOM.normal(size=(6, 3))  # the loss is the sum of the outputs, each times its own

    def loss(*at: Array) -> float:
        return float((weights * (at[1] * normalize(at[0]).values + at[2])).sum())

    found = normalize_backward(weights, normalize(sums), scale)
    for number, array in enumerate((sums, scale, shift)):
        expected = np.empty_like(array)
        for place in np.ndindex(array.shape):
            moved = [[sums, scale, shift], [sums, scale, shift]]
            for which, step in enumerate((1e-6, -1e-6)):
                moved[which][number] = array.copy()
                moved[which][number][place] += step
            expected[place] = (loss(*moved[0]) - loss(*moved[1])) / 2e-6
        np.testing.assert_allclose(found[number], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dropped", [0.1, 0.5, 0.8])
def test_a_mask_leaves_out_its_share_and_keeps_the_mean(dropped: float) -> None:
    drawn = np.stack([mask((40, 25), dropped, (1, update, 1), "float64") for update in range(100)])
    assert set(np.unique(drawn)) == {0, 1 / (1 - dropped)}
    share = (drawn == 0).mean()
    assert abs(share - dropped) < 5 * math.sqrt(dropped * (1 - dropped) / drawn.size)
    assert drawn.mean() == pytest.approx(1, abs=5 * math.sqrt(dropped / (1 - dropped) / drawn.size))
    assert drawn.var() == pytest.approx(dropped / (1 - dropped), rel=0.02)
    by_place = (drawn == 0).mean(axis=0)
    assert np.abs(by_place - dropped).max() < 6 * math.sqrt(dropped * (1 - dropped) / len(drawn))


def test_a_mask_depends_on_its_key_alone() -> None:
    keys = [(1, 0, 1), (1, 0, 2), (1, 1, 1), (2, 0, 1), (0, 1, 1)]
    drawn = {key: mask((10, 10), 0.5, key, "float32").tobytes() for key in keys}
    assert len(set(drawn.values())) == len(keys)
    assert all(mask((10, 10), 0.5, key, "float32").tobytes() == kept for key, kept in drawn.items())
