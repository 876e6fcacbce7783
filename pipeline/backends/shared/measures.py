"""Metrics that are no mean over rows, and the loss of the best constant answer, the same for both backends.

All are computed in float64. A metric that is not defined, such as one for two classes on rows of one class, is NaN,
which a history does not record.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.config.data import Task
from pipeline.config.metrics import OF_ALL_ROWS, OF_TASK
from pipeline.data.arrays import Arrays

Floats = NDArray[np.floating]
# Halvings of the interval in which the best constant of the Huber loss lies: more than a float64 has digits.
HALVINGS = 64


def of_all_rows(task: Task, answers: NDArray[np.generic], targets: NDArray[np.generic]) -> dict[str, float]:
    """Compute the metrics of a task that are no means over rows.

    - `balanced_accuracy`: the mean over the classes of the share of their rows with the right answer.
    - `auc`: the area under the ROC curve, which is the share of pairs of a row of class 1 and a row of class 0 in which
      the first one has the larger output; equal outputs count half (Mann and Whitney 1947).
    - `root_mean_squared_error`: the square root of the mean of (out - y)^2.
    - `r2`: 1 - sum (out - y)^2 / sum (y - mean(y))^2.

    With several outputs each is the mean over the outputs, as in scikit-learn.

    Args:
        task: what is predicted.
        answers: for classes, the label of the largest output (rows,); otherwise the outputs (rows, outputs).
        targets: class labels (rows,), or numbers (rows, outputs).
    """
    if task == "classification":
        return {"balanced_accuracy": balanced_accuracy(answers, targets)}
    outputs = answers.astype(np.float64)
    wanted = targets.astype(np.float64)
    if not np.isfinite(outputs).all():
        return {name: math.nan for name in OF_TASK[task] if name in OF_ALL_ROWS}
    if task == "binary":
        columns = list(zip(outputs.T, wanted.T, strict=True))
        balanced = [balanced_accuracy(column > 0.5, target > 0.5) for column, target in columns]
        areas = [area_under_curve(column, target > 0.5) for column, target in columns]
        return {"balanced_accuracy": float(np.mean(balanced)), "auc": float(np.mean(areas))}
    # Outputs of a diverging network may be so large that their squares are not finite.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        squares = np.square(outputs - wanted).mean(axis=0)
        variances = wanted.var(axis=0)
        r2 = 1 - squares / np.where(variances > 0, variances, np.nan)
        return {"root_mean_squared_error": float(np.sqrt(squares).mean()), "r2": float(r2.mean())}


def balanced_accuracy(answers: NDArray[np.generic], targets: NDArray[np.generic]) -> float:
    """Compute the mean over the classes among the targets of the share of right answers, both (rows,)."""
    classes, members = np.unique(targets, return_inverse=True)
    right = np.bincount(members.reshape(-1), answers == targets, len(classes))
    return float((right / np.bincount(members.reshape(-1))).mean())


def area_under_curve(outputs: Floats, positive: NDArray[np.bool_]) -> float:
    """Compute the area under the ROC curve of one output, (rows,); NaN if all rows are of one class."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return math.nan
    _, places, counts = np.unique(outputs, return_inverse=True, return_counts=True)
    # Ranks from 1; equal outputs share the mean of their ranks.
    ranks = np.cumsum(counts) - (counts - 1) / 2
    total = float(ranks[places.reshape(-1)][positive].sum())
    return (total - positives * (positives + 1) / 2) / (positives * negatives)


def baseline_measures(loss: str, arrays: Arrays) -> dict[str, float]:
    """Return the metric `train/baseline_loss` of described data, from its training rows.

    Nothing for other data: the config has all that its baseline depends on.
    """
    if arrays.description is None:
        return {}
    return {"train/baseline_loss": best_constant_loss(loss, arrays.train_targets)}


def best_constant_loss(loss: str, targets: NDArray[np.generic]) -> float:
    """Compute the loss of the best answer that ignores the inputs.

    - Cross-entropies: the entropy of the classes' frequencies, for two classes the mean over the outputs.
    - Mean squared error: the variance. Half the summed squared error: half the summed squared distances from the mean.
    - Mean absolute error: the mean distance from the median.
    - Huber: that of the constant at which the slopes, d limited to -1 and 1, add up to 0.

    Args:
        loss: its name in the config.
        targets: class labels (rows,), or numbers (rows, outputs).
    """
    if loss == "cross_entropy":
        return _entropy(np.unique(targets, return_counts=True)[1] / len(targets))
    numbers = targets.astype(np.float64)
    if loss == "binary_cross_entropy":
        shares = numbers.mean(axis=0)
        return float(np.mean([_entropy(np.array([share, 1 - share])) for share in shares]))
    if loss == "mean_absolute_error":
        return float(np.abs(numbers - np.median(numbers, axis=0)).mean())
    if loss == "huber":
        sizes = np.abs(numbers - _huber_centre(numbers))
        return float(np.where(sizes <= 1, sizes * sizes / 2, sizes - 0.5).mean())
    squares = (numbers - numbers.mean(axis=0)) ** 2
    if loss == "mean_squared_error":
        return float(squares.mean())
    return float(squares.sum() / 2)


def _entropy(shares: Floats) -> float:
    """Compute -sum p log(p); a share of 0 adds nothing."""
    present = shares[shares > 0]
    # Without the sum, a single class would have the entropy -0.
    return float(0 - (present * np.log(present)).sum())


def _huber_centre(numbers: Floats) -> Floats:
    """Find the constant with the smallest Huber loss for each output, (outputs,), by halving an interval."""
    low = numbers.min(axis=0)
    high = numbers.max(axis=0)
    for _ in range(HALVINGS):
        middle = low + (high - low) / 2
        above = np.clip(numbers - middle, -1, 1).sum(axis=0) > 0
        low = np.where(above, middle, low)
        high = np.where(above, high, middle)
    centre: Floats = low
    return centre
