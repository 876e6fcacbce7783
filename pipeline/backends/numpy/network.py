"""The forward pass of a stack of dense networks, one for each point of the grid.

Parameters carry the grid axis first: weights (grid, inputs, outputs), biases (grid, 1, outputs). A single network
is a stack of one. `matmul` multiplies slice by slice, so that a network in a stack computes exactly what it
computes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # a copy of this module goes with each model to MLflow, and the rest of the package stays here
    from pipeline.initial_weights import Weights
    from pipeline.model_sections import Model

Array = NDArray[np.floating]
Parameters = dict[str, Array]


def stack(networks: Sequence[Weights]) -> Parameters:
    """Networks of one shape as one stack: weights (grid, inputs, outputs), biases (grid, 1, outputs)."""
    return {
        name: np.stack([np.atleast_2d(network[name]) for network in networks])
        for name in networks[0]
    }  # fmt: skip


def unstack(parameters: Mapping[str, Array], point: int) -> Weights:
    """One network of a stack: weights (inputs, outputs), biases (outputs,)."""
    return {name: array[point, 0] if name.endswith("bias") else array[point] for name, array in parameters.items()}


def sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)), elementwise; exp may overflow to inf, which gives 0."""
    result: Array = 1 / (1 + np.exp(-z))
    return result


def relu(z: Array) -> Array:
    """max(z, 0), elementwise."""
    result: Array = np.maximum(z, 0)
    return result


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
    "softmax": softmax,
}
"""Activation by name."""

SLOPES: dict[str, Callable[[Array], Array | float]] = {
    "identity": lambda a: 1.0,
    "sigmoid": lambda a: a * (1 - a),
    "relu": lambda a: (a > 0).astype(a.dtype),
}
"""Derivative of an activation, written in its own output `a`, as backpropagation has it at hand."""


def forward(model: Model, parameters: Mapping[str, Array], inputs: Array) -> list[Array]:
    """Run the stack.

    Args:
        model: activations, and whether there are biases.
        parameters: the stack.
        inputs: (rows, features) shared by all points, or (grid, rows, features).

    Returns:
        What each layer gets, then the last layer's sums before its activation:
        [inputs, hidden (grid, rows, hidden_size), sums (grid, rows, outputs)].
    """
    layers = sum(name.endswith("weights") for name in parameters)
    values = [inputs]
    for layer in range(layers):
        sums = values[-1] @ parameters[f"layer_{layer}/weights"]
        if model.bias:
            sums += parameters[f"layer_{layer}/bias"]
        values.append(ACTIVATIONS[model.hidden_activation](sums) if layer < layers - 1 else sums)
    return values


def predict(model: Model, parameters: Mapping[str, Array], inputs: Array) -> Array:
    """The outputs of the stack: (grid, rows, outputs)."""
    return ACTIVATIONS[model.output_activation](forward(model, parameters, inputs)[-1])
