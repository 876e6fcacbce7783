"""Losses of a stack, and their derivatives with respect to the last layer's sums.

The argument `sums` holds the last layer's values before its activation: (grid, rows, outputs).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.network import ACTIVATIONS, SLOPES, Array, softmax
from pipeline.config.model import Training

Targets = NDArray[np.floating] | NDArray[np.integer]


def loss_and_slope(loss: str, activation: str, sums: Array, targets: Targets) -> tuple[Array, Array]:
    """Compute a loss and its derivative with respect to `sums`.

    - `mean_squared_error`: mean over rows and outputs of (out - y)^2.
    - `half_summed_squared_error`: 1/2 * sum over rows and outputs of (out - y)^2. With a sigmoid its derivative is
      (out - y) * out * (1 - out), the delta of the 13-line network.
    - `cross_entropy`: mean over rows of -log softmax(sums)[label].

    Args:
        loss: its name in the config.
        activation: the name in the config of the last layer's activation.
        sums: (grid, rows, outputs).
        targets: (rows, outputs) or (grid, rows, outputs) numbers; for cross-entropy (rows,) or (grid, rows) labels.

    Returns:
        Loss (grid,) and derivative (grid, rows, outputs).
    """
    if loss == "cross_entropy":
        return _cross_entropy(sums, targets)
    outputs = ACTIVATIONS[activation](sums)
    differences = outputs - targets
    squares = (differences * differences).sum(axis=(-2, -1))
    if loss == "half_summed_squared_error":
        return squares / 2, differences * SLOPES[activation](outputs)
    count = sums.shape[-2] * sums.shape[-1]
    return squares / count, (2 / count) * differences * SLOPES[activation](outputs)


def _cross_entropy(sums: Array, targets: Targets) -> tuple[Array, Array]:
    """Compute the cross-entropy and its derivative, (softmax - one_hot) / rows."""
    rows = sums.shape[-2]
    labels = np.broadcast_to(targets.astype(np.intp, copy=False), sums.shape[:-1])[..., None]
    # -log softmax(z)[label] = log(sum(exp(z - max))) - (z[label] - max): neither overflows nor takes the log of 0.
    shifted = sums - sums.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    totals = exponentials.sum(axis=-1, keepdims=True)
    losses = np.log(totals) - np.take_along_axis(shifted, labels, axis=-1)
    # Subtract the one-hot targets by changing one entry of each row, without an array of zeros and ones.
    slope = exponentials / totals
    np.put_along_axis(slope, labels, np.take_along_axis(slope, labels, axis=-1) - 1, axis=-1)
    slope /= rows
    return losses[..., 0].mean(axis=-1), slope


def penalty(training: Training, parameters: Mapping[str, Array]) -> Array:
    """Compute l1 * sum |w| + l2 * sum w^2 over the weights of each point, without its biases: (grid,)."""
    weights = [array for name, array in parameters.items() if name.endswith("weights")]
    total: Array = np.zeros_like(weights[0][:, 0, 0])
    for array in weights:
        if training.l1:
            total += training.l1 * np.abs(array).sum(axis=(1, 2))
        if training.l2:
            total += training.l2 * (array * array).sum(axis=(1, 2))
    return total


def penalty_slope(training: Training, weights: Array) -> Array:
    """Compute the penalty's derivative with respect to weights, in their shape: l1 * sign(w) + 2 * l2 * w."""
    slope: Array = (2 * training.l2) * weights
    if training.l1:
        slope += training.l1 * np.sign(weights)
    return slope


def measure(loss: str, activation: str, sums: Array, targets: Targets) -> dict[str, Array]:
    """Compute the loss, and the accuracy and mean absolute error if the task has them; each (grid,).

    Accuracy is the share of rows whose largest output is that of the label; for sigmoid outputs it is the share of
    outputs on the target's side of 1/2. The mean absolute error, mean |y - out|, is the number that the 13-line
    network prints.
    """
    values = {"loss": loss_and_slope(loss, activation, sums, targets)[0]}
    if loss == "cross_entropy":
        # The largest softmax, not the largest sum: rounding can make two outputs equal, and then the first one counts.
        values["accuracy"] = (softmax(sums).argmax(axis=-1) == targets).mean(axis=-1)
        return values
    outputs = ACTIVATIONS[activation](sums)
    if activation == "sigmoid":
        values["accuracy"] = ((outputs > 0.5) == (targets > 0.5)).mean(axis=(-2, -1))
    values["mean_absolute_error"] = np.abs(targets - outputs).mean(axis=(-2, -1))
    return values
