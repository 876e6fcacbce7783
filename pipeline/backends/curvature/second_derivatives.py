"""Derivatives of slopes: how f' of an activation and the slope of a loss change with the sums."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.layers import activation_slope
from pipeline.backends.numpy.losses import DELTA, Targets
from pipeline.backends.numpy.network import ACTIVATIONS, Array, sigmoid, softmax


def _sigmoid(_sums: Array, values: Array) -> Array:
    return values * (1 - values) * (1 - 2 * values)


def _tanh(_sums: Array, values: Array) -> Array:
    return -2 * values * (1 - values * values)


def _softplus(sums: Array, _values: Array) -> Array:
    share = sigmoid(sums)
    return share * (1 - share)


def _gelu(sums: Array, _values: Array) -> Array:
    # With p the standard normal density, (z P(z))'' = 2 p(z) + z p'(z), and p'(z) = -z p(z).
    squares = sums * sums
    density = np.exp(-squares / 2) / np.sqrt(2 * np.pi)
    result: Array = density * (2 - squares)
    return result


# By name, as functions of the sums and of their values; the others are piecewise linear, and have none: 0.
CURVED: dict[str, Callable[[Array, Array], Array]] = {
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "softplus": _softplus,
    "gelu": _gelu,
}


def activation_curvature(name: str, sums: Array, values: Array) -> Array | float:
    """Compute f''(sums), elementwise.

    A rectifier has no curvature: its kink, where f'' does not exist, counts as 0, as every framework has it.

    Args:
        name: the activation in the config.
        sums: what the activation is applied to.
        values: f(sums).
    """
    if name not in CURVED:
        return 0.0
    return CURVED[name](sums, values)


def moved_slope(loss: str, activation: str, sums: Array, targets: Targets, moved: Array) -> Array:
    """Compute the change of a loss's slope with the sums: the loss's Hessian in the sums, times `moved`.

    With o = f(z) the outputs, d = o - y, and n the number of rows times outputs, the diagonal of the Hessian is

    - `mean_squared_error`: 2 / n (f'^2 + d f''); `half_summed_squared_error`: f'^2 + d f'';
    - `mean_absolute_error`: sign(d) f'' / n, with 0 at the kink;
    - `huber`: (f'^2 [|d| <= 1] + clip(d, -1, 1) f'') / n;
    - `binary_cross_entropy`: o (1 - o) / n.

    `cross_entropy` is the only one whose rows have a full Hessian, (diag(p) - p p^T) / rows with p = softmax(z).

    Args:
        loss: its name in the config.
        activation: the name in the config of the last layer's activation.
        sums: the last layer's sums, (grid, rows, outputs).
        targets: in the form that `losses.loss_and_slope` accepts.
        moved: the derivative of the sums along a direction of the weights, in their shape.
    """
    rows, outputs = sums.shape[-2:]
    result: Array
    if loss == "cross_entropy":
        shares = softmax(sums)
        result = shares * (moved - (shares * moved).sum(axis=-1, keepdims=True)) / rows
        return result
    if loss == "binary_cross_entropy":
        activation = "sigmoid"
    values = ACTIVATIONS[activation](sums)
    slope = activation_slope(activation, sums, values)
    if loss == "binary_cross_entropy":
        # The derivative of its slope, sigmoid - y, is that of the sigmoid.
        diagonal: Array | NDArray[np.bool_] | float = slope
    else:
        bend = activation_curvature(activation, sums, values)
        diagonal = _of_differences(loss, values - targets, slope, bend)
    result = diagonal * moved
    if loss != "half_summed_squared_error":
        result /= rows * outputs
    return result


def _of_differences(
    loss: str, differences: Array, slope: Array | NDArray[np.bool_] | float, bend: Array | float
) -> Array:
    """Compute the diagonal of the Hessian of a sum over differences d, given f' and f''."""
    diagonal: Array
    if loss == "mean_absolute_error":
        diagonal = np.sign(differences) * bend
    elif loss == "huber":
        inside = np.abs(differences) <= DELTA
        diagonal = inside * slope * slope + np.clip(differences, -DELTA, DELTA) * bend
    else:
        diagonal = slope * slope + differences * bend
        if loss == "mean_squared_error":
            diagonal = 2 * diagonal
    return diagonal
