"""The forward pass of a stack against sums written out row by row."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.backends.numpy.network import ACTIVATIONS, SLOPES, forward, predict, softmax, stack
from pipeline.backends.shared.initial_weights import Weights
from pipeline.config.model import Model
from tests.support.plain_network import NO_FEATURES

RANDOM = np.random.default_rng(3)


def mlp(activation: str, output: str, bias: bool, hidden: int | None = 3) -> Model:
    return Model.model_validate(
        {
            "hidden_size": hidden,
            "hidden_activation": activation,
            "output_activation": output,
            "bias": bias,
            "initializer": "uniform",
            "initial_weight": 0.0,
            "initial_bias": 0.0,
            **NO_FEATURES,
        }
    )


def network(bias: bool) -> Weights:
    weights: Weights = {"layer_0/weights": RANDOM.normal(size=(2, 3)), "layer_1/weights": RANDOM.normal(size=(3, 2))}
    if bias:
        weights |= {"layer_0/bias": RANDOM.normal(size=3), "layer_1/bias": RANDOM.normal(size=2)}
    return weights


def scalar(name: str, sums: list[float]) -> list[float]:
    if name == "softmax":
        whole = sum(math.exp(z) for z in sums)
        return [math.exp(z) / whole for z in sums]
    single: dict[str, Callable[[float], float]] = {
        "identity": lambda z: z,
        "relu": lambda z: max(z, 0.0),
        "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
    }
    return [single[name](z) for z in sums]


def by_hand(model: Model, weights: Weights, row: NDArray[np.floating]) -> list[float]:
    values = [float(x) for x in row]
    for layer, name in enumerate((model.hidden_activation, model.output_activation)):
        matrix = weights[f"layer_{layer}/weights"]
        bias = weights.get(f"layer_{layer}/bias", np.zeros(matrix.shape[1]))
        sums = [
            sum(x * float(matrix[i, j]) for i, x in enumerate(values)) + float(bias[j]) for j in range(matrix.shape[1])
        ]
        values = scalar(name, sums)
    return values


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("output", ["identity", "sigmoid", "softmax"])
@pytest.mark.parametrize("hidden", ["sigmoid", "relu"])
def test_predict_is_what_each_network_computes_row_by_row(hidden: str, output: str, bias: bool) -> None:
    model = mlp(hidden, output, bias)
    networks = [network(bias) for _ in range(3)]
    inputs = RANDOM.normal(size=(5, 2))
    outputs = predict(model, stack(networks), inputs)
    assert outputs.shape == (3, 5, 2)
    for weights, of_point in zip(networks, outputs, strict=True):
        expected = [by_hand(model, weights, row) for row in inputs]
        np.testing.assert_allclose(of_point, expected, rtol=1e-12)


def test_forward_gives_what_each_layer_gets_and_the_last_sums() -> None:
    model = mlp("relu", "softmax", bias=True)
    weights = network(bias=True)
    inputs = RANDOM.normal(size=(4, 2))
    given, hidden, sums = forward(model, stack([weights]), inputs)
    assert given is inputs
    expected = np.maximum(inputs @ weights["layer_0/weights"] + weights["layer_0/bias"], 0)
    np.testing.assert_allclose(hidden[0], expected, rtol=1e-12)
    np.testing.assert_allclose(sums[0], expected @ weights["layer_1/weights"] + weights["layer_1/bias"], rtol=1e-12)


def test_without_a_hidden_layer_the_sums_are_one_product() -> None:
    model = mlp("sigmoid", "identity", bias=True, hidden=None)
    weights: Weights = {"layer_0/weights": np.array([[2.0], [3.0]]), "layer_0/bias": np.array([0.5])}
    assert predict(model, stack([weights]), np.array([[1.0, 10.0]])).tolist() == [[[32.5]]]


def test_points_may_have_rows_of_their_own() -> None:
    model = mlp("sigmoid", "sigmoid", bias=True)
    networks = [network(bias=True) for _ in range(2)]
    inputs = RANDOM.normal(size=(2, 4, 2))
    outputs = predict(model, stack(networks), inputs)
    for place in range(2):
        assert np.array_equal(outputs[place], predict(model, stack([networks[place]]), inputs[place])[0])


def test_a_stack_has_the_grid_axis_first() -> None:
    networks = [network(bias=True) for _ in range(3)]
    stacked = stack(networks)
    assert {name: array.shape for name, array in stacked.items()} == {
        "layer_0/weights": (3, 2, 3),
        "layer_0/bias": (3, 1, 3),
        "layer_1/weights": (3, 3, 2),
        "layer_1/bias": (3, 1, 2),
    }
    for place, weights in enumerate(networks):
        assert all(np.array_equal(stacked[name][place], np.atleast_2d(weights[name])) for name in weights)


def test_activations_at_the_ends_of_the_number_range() -> None:
    huge = np.array([-1e308, -1000.0, 0.0, 1000.0, 1e308])
    with np.errstate(over="ignore"):
        assert ACTIVATIONS["sigmoid"](huge).tolist() == [0, 0, 0.5, 1, 1]
    assert ACTIVATIONS["relu"](huge).tolist() == [0, 0, 0, 1000, 1e308]
    assert softmax(np.array([1e308, 1e308])).tolist() == [0.5, 0.5]
    assert softmax(np.array([1000.0, -1000.0])).tolist() == [1, 0]


@pytest.mark.parametrize("name", ["identity", "sigmoid", "relu"])
def test_slopes_are_the_derivatives(name: str) -> None:
    z = np.array([-3.0, -0.7, 0.2, 2.5])
    difference = (ACTIVATIONS[name](z + 1e-6) - ACTIVATIONS[name](z - 1e-6)) / 2e-6
    np.testing.assert_allclose(SLOPES[name](ACTIVATIONS[name](z)) * np.ones(4), difference, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["identity", "sigmoid", "relu", "softmax"])
def test_activations_keep_the_dtype(name: str, dtype: str) -> None:
    assert ACTIVATIONS[name](np.ones(3, dtype=dtype)).dtype == dtype
