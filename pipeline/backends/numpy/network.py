"""The forward pass of a stack of dense networks, one for each point of the grid.

Parameters carry the grid axis first: weights (grid, inputs, outputs), biases (grid, 1, outputs). A single network
is a stack of one. `matmul` multiplies slice by slice, so that a network in a stack computes exactly what it
computes alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # a copy of this module goes with each model to MLflow, and the rest of the package stays here
    from pipeline.backends.shared.initial_weights import Weights
    from pipeline.config.model import Model

Array = NDArray[np.floating]
Parameters = dict[str, Array]
EPSILON = 0.001
"""What batch normalization adds to a variance before it divides by its root: Keras' default."""
LEAK = 0.2
"""Slope of a leaky rectifier below 0: Keras' default."""


def stack(networks: Sequence[Weights]) -> Parameters:
    """Networks of one shape as one stack: weights (grid, inputs, outputs), biases (grid, 1, outputs)."""
    return {
        name: np.stack([np.atleast_2d(network[name]) for network in networks])
        for name in networks[0]
    }  # fmt: skip


def sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)), elementwise; exp may overflow to inf, which gives 0."""
    result: Array = 1 / (1 + np.exp(-z))
    return result


def relu(z: Array) -> Array:
    """max(z, 0), elementwise."""
    result: Array = np.maximum(z, 0)
    return result


def leaky_relu(z: Array) -> Array:
    """Z above 0, 0.2 z below, elementwise (Maas, Hannun and Ng 2013)."""
    result: Array = np.where(z > 0, z, z.dtype.type(LEAK) * z)
    return result


def softplus(z: Array) -> Array:
    """log(1 + exp(z)), elementwise."""
    result: Array = np.logaddexp(z, z.dtype.type(0))
    return result


def normal_share(z: Array) -> Array:
    """The share of a standard normal distribution below z, 1/2 (1 + erf(z / sqrt(2))), elementwise."""
    from scipy.special import erf  # most networks do without it

    result: Array = 0.5 * (1 + erf(z / math.sqrt(2)))
    return result


def gelu(z: Array) -> Array:
    """Z times the share of a standard normal distribution below z, elementwise (Hendrycks and Gimpel 2016)."""
    return z * normal_share(z)


def softmax(z: Array) -> Array:
    """exp(z) / sum(exp(z)) over the last axis, shifted by the maximum so that exp cannot overflow."""
    shifted = np.exp(z - z.max(axis=-1, keepdims=True))
    result: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def identity(z: Array) -> Array:
    return z


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "identity": identity,
    "sigmoid": sigmoid,
    "relu": relu,
    "tanh": np.tanh,
    "gelu": gelu,
    "leaky_relu": leaky_relu,
    "softplus": softplus,
    "softmax": softmax,
}
"""Activation by name."""

SLOPES: dict[str, Callable[[Array], Array | float]] = {
    "identity": lambda a: 1.0,
    "sigmoid": lambda a: a * (1 - a),
    "relu": lambda a: (a > 0).astype(a.dtype),
    "tanh": lambda a: 1 - a * a,
    "leaky_relu": lambda a: np.maximum((a > 0).astype(a.dtype), a.dtype.type(LEAK)),
    "softplus": lambda a: -np.expm1(-a),
}
"""Derivative of an activation, written in its own output `a`, as backpropagation has it at hand.

The output of a GELU does not tell its input; see `layers.activation_slope`.
"""


def forward(model: Model, parameters: Mapping[str, Array], inputs: Array) -> list[Array]:
    """Run the stack.

    A hidden layer's activation gets its sums, or with batch normalization (sums - moving_mean) /
    sqrt(moving_variance + epsilon) * scale + shift.

    Args:
        model: activations.
        parameters: the stack, moving statistics included.
        inputs: (rows, features) shared by all points, or (grid, rows, features).

    Returns:
        What each layer gets, then the last layer's sums before its activation:
        [inputs, hidden (grid, rows, hidden_size), ..., sums (grid, rows, outputs)].
    """
    layers = sum(name.endswith("weights") for name in parameters)
    values = [inputs]
    for layer in range(layers):
        name = f"layer_{layer}"
        sums = values[-1] @ parameters[f"{name}/weights"]
        if f"{name}/bias" in parameters:
            sums += parameters[f"{name}/bias"]
        if f"{name}/scale" in parameters:
            sums -= parameters[f"{name}/moving_mean"]
            sums *= parameters[f"{name}/scale"] / np.sqrt(parameters[f"{name}/moving_variance"] + EPSILON)
            sums += parameters[f"{name}/shift"]
        values.append(ACTIVATIONS[model.hidden_activation](sums) if layer < layers - 1 else sums)
    return values


def predict(model: Model, parameters: Mapping[str, Array], inputs: Array) -> Array:
    """The outputs of the stack: (grid, rows, outputs)."""
    return ACTIVATIONS[model.output_activation](forward(model, parameters, inputs)[-1])
