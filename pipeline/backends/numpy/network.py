"""The forward pass of a stack of dense networks, one for each point of the grid.

The grid axis of the parameters comes first: weights (grid, inputs, outputs), biases (grid, 1, outputs). A single
network is a stack of one. `matmul` multiplies slice by slice, so that a network gives exactly the same results in a
stack as on its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

# Types only: each model in MLflow contains a copy of this module, and has to load without the rest of the package.
if TYPE_CHECKING:
    from pipeline.backends.shared.initial_weights import Weights
    from pipeline.config.model import Model

Array = NDArray[np.floating]
Parameters = dict[str, Array]
# Batch normalization divides by sqrt(variance + epsilon): Keras' default.
EPSILON = 0.001
# The slope of a leaky rectifier below 0: Keras' default.
LEAK = 0.2


def stack(networks: Sequence[Weights]) -> Parameters:
    """Join networks of the same shape into a stack: weights (grid, inputs, outputs), biases (grid, 1, outputs)."""
    return {name: np.stack([np.atleast_2d(network[name]) for network in networks]) for name in networks[0]}


def sigmoid(z: Array) -> Array:
    """Compute 1 / (1 + exp(-z)), elementwise. exp may overflow to inf, which gives 0."""
    result: Array = 1 / (1 + np.exp(-z))
    return result


def relu(z: Array) -> Array:
    """Compute max(z, 0), elementwise."""
    result: Array = np.maximum(z, 0)
    return result


def leaky_relu(z: Array) -> Array:
    """Compute z above 0 and 0.2 z below, elementwise (Maas, Hannun and Ng 2013)."""
    result: Array = np.where(z > 0, z, z.dtype.type(LEAK) * z)
    return result


def softplus(z: Array) -> Array:
    """Compute log(1 + exp(z)), elementwise."""
    # log(exp(z) + exp(0)), which does not overflow for a large z.
    result: Array = np.logaddexp(z, z.dtype.type(0))
    return result


def normal_share(z: Array) -> Array:
    """Compute the share of a standard normal distribution below z, 1/2 (1 + erf(z / sqrt(2))), elementwise."""
    # Imported here because SciPy takes long to import, and only GELU networks use it.
    from scipy.special import erf

    result: Array = 0.5 * (1 + erf(z / math.sqrt(2)))
    return result


def gelu(z: Array) -> Array:
    """Compute z times the share of a standard normal below z, elementwise (Hendrycks and Gimpel 2016)."""
    return z * normal_share(z)


def softmax(z: Array) -> Array:
    """Compute exp(z) / sum(exp(z)) over the last axis."""
    # exp(z - max) cannot overflow, and the common factor exp(-max) cancels.
    shifted = np.exp(z - z.max(axis=-1, keepdims=True))
    result: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def identity(z: Array) -> Array:
    """Return z itself: the activation of a linear layer."""
    return z


# Activation functions by their names in the config.
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

# Derivative of each activation as a function of its own output `a`, which backpropagation has stored. The input of a
# GELU cannot be recovered from its output, so its slope is computed from the sums; see `layers.activation_slope`.
SLOPES: dict[str, Callable[[Array], Array | float]] = {
    "identity": lambda _: 1.0,
    "sigmoid": lambda a: a * (1 - a),
    "relu": lambda a: (a > 0).astype(a.dtype),
    "tanh": lambda a: 1 - a * a,
    "leaky_relu": lambda a: np.maximum((a > 0).astype(a.dtype), a.dtype.type(LEAK)),
    "softplus": lambda a: -np.expm1(-a),
}


def forward(model: Model, parameters: Mapping[str, Array], inputs: Array) -> list[Array]:
    """Compute all layers of the stack, for inference.

    The activation of a hidden layer is applied to its sums, or with batch normalization to
    (sums - moving_mean) / sqrt(moving_variance + epsilon) * scale + shift.

    Args:
        model: activations.
        parameters: the stack, including moving statistics.
        inputs: (rows, features) shared by all points, or (grid, rows, features).

    Returns:
        The input of each layer, then the last layer's sums before its activation:
        [inputs, hidden (grid, rows, hidden_size), ..., sums (grid, rows, outputs)].
    """
    layers = sum(name.endswith("weights") for name in parameters)
    values = [inputs]
    for layer in range(layers):
        name = f"layer_{layer}"
        sums: Array = values[-1] @ parameters[f"{name}/weights"]
        if f"{name}/bias" in parameters:
            sums += parameters[f"{name}/bias"]
        if f"{name}/scale" in parameters:
            # One factor scale / sqrt(...) instead of a division and a product over all rows.
            sums -= parameters[f"{name}/moving_mean"]
            sums *= parameters[f"{name}/scale"] / np.sqrt(parameters[f"{name}/moving_variance"] + EPSILON)
            sums += parameters[f"{name}/shift"]
        # The last layer keeps its sums: losses are computed from them more precisely than from the outputs.
        if layer < layers - 1:
            sums = ACTIVATIONS[model.hidden_activation](sums)
        values.append(sums)
    return values


def predict(model: Model, parameters: Mapping[str, Array], inputs: Array) -> Array:
    """Compute the outputs of the stack: (grid, rows, outputs)."""
    return ACTIVATIONS[model.output_activation](forward(model, parameters, inputs)[-1])
