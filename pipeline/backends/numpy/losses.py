"""Losses of a stack, and their derivatives with respect to the last layer's sums.

The argument `sums` holds the last layer's values before its activation: (grid, rows, outputs).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.network import ACTIVATIONS, SLOPES, Array, sigmoid, softmax
from pipeline.config.data import Task
from pipeline.config.model import Training

Targets = NDArray[np.floating] | NDArray[np.integer]
# Where the Huber loss turns from a square into a line: Keras' default.
DELTA = 1.0


def loss_and_slope(loss: str, activation: str, sums: Array, targets: Targets) -> tuple[Array, Array]:
    """Compute a loss and its derivative with respect to `sums`.

    - `mean_squared_error`: mean over rows and outputs of (out - y)^2.
    - `half_summed_squared_error`: 1/2 * sum over rows and outputs of (out - y)^2. With a sigmoid its derivative is
      (out - y) * out * (1 - out), the delta of the 13-line network.
    - `mean_absolute_error`: mean over rows and outputs of |out - y|. Its derivative at 0 is 0, as in Keras.
    - `huber`: mean over rows and outputs of d^2 / 2 if |d| is at most 1, else |d| - 1/2, with d = out - y (Huber 1964).
    - `cross_entropy`: mean over rows of -log softmax(sums)[label].
    - `binary_cross_entropy`: mean over rows and outputs of -y log(out) - (1 - y) log(1 - out), with
      out = sigmoid(sums).

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
    count = sums.shape[-2] * sums.shape[-1]
    if loss == "binary_cross_entropy":
        return _binary_cross_entropy(sums, targets, count)
    outputs = ACTIVATIONS[activation](sums)
    differences = outputs - targets
    if loss == "mean_absolute_error":
        return np.abs(differences).mean(axis=(-2, -1)), np.sign(differences) / count * SLOPES[activation](outputs)
    if loss == "huber":
        losses, slopes = _huber(differences)
        return losses.mean(axis=(-2, -1)), slopes / count * SLOPES[activation](outputs)
    squares = (differences * differences).sum(axis=(-2, -1))
    if loss == "half_summed_squared_error":
        return squares / 2, differences * SLOPES[activation](outputs)
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


def _binary_cross_entropy(sums: Array, targets: Targets, count: int) -> tuple[Array, Array]:
    """Compute the binary cross-entropy and its derivative, (sigmoid - y) / count."""
    # -y log(s(z)) - (1 - y) log(1 - s(z)) = max(z, 0) - z y + log(1 + exp(-|z|)), which does not overflow.
    losses = np.maximum(sums, 0) - sums * targets + np.log1p(np.exp(-np.abs(sums)))
    return losses.mean(axis=(-2, -1)), (sigmoid(sums) - targets) / count


def _huber(differences: Array) -> tuple[Array, Array]:
    """Compute the Huber loss of each difference, and its derivative."""
    sizes = np.abs(differences)
    squares = differences * differences / 2
    losses = np.where(sizes <= DELTA, squares, DELTA * (sizes - DELTA / 2))
    return losses, np.clip(differences, -DELTA, DELTA)


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


def measure(loss: str, activation: str, sums: Array, targets: Targets, task: Task | None = None) -> dict[str, Array]:
    """Compute the loss, and the accuracy and mean absolute error if the task has them; each (grid,).

    All are means over rows. Accuracy is the share of rows whose largest output is that of the label; for two classes,
    and for sigmoid outputs without a task, it is the share of outputs on the target's side of 1/2. The mean absolute
    error, mean |y - out|, is the number that the 13-line network prints; a binary task has none.

    Args:
        loss: its name in the config.
        activation: the name in the config of the last layer's activation.
        sums: (grid, rows, outputs).
        targets: in the form that `loss_and_slope` accepts.
        task: what described data predicts; None for a table, and for images of IDX files.
    """
    values = {"loss": loss_and_slope(loss, activation, sums, targets)[0]}
    if loss == "cross_entropy":
        # The largest softmax, not the largest sum: rounding can make two outputs equal, and then the first one counts.
        values["accuracy"] = (softmax(sums).argmax(axis=-1) == targets).mean(axis=-1)
        return values
    outputs = ACTIVATIONS[activation](sums)
    if task == "binary" or (task is None and activation == "sigmoid"):
        values["accuracy"] = ((outputs > 0.5) == (targets > 0.5)).mean(axis=(-2, -1))
    if task != "binary":
        values["mean_absolute_error"] = np.abs(targets - outputs).mean(axis=(-2, -1))
    return values
