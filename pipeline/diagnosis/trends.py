"""Curve statistics: trend, roughness, time to a target, extrapolated time to a target, and reversals of weights."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.shared.history import History
from pipeline.diagnosis.thresholds import ENOUGH

Floats = NDArray[np.floating]


class Trend(NamedTuple):
    """A line through some records of a curve, by least squares.

    Attributes:
        fall: by how much the line falls from the first of the records to the last; negative if it rises.
        error: the standard error of `fall`; 0 if there are only two records.
        swing: standard deviation of the records around the line; 0 if there are only two records.
        steady: whether all records fall, or all rise: however bent the curve is, noise does not do that.
    """

    fall: float
    error: float
    swing: float
    steady: bool


def trend(steps: NDArray[np.int64], values: Floats) -> Trend:
    """Fit a line through the records of a curve, `steps` and `values`, each (records,).

    With S = sum (t - mean t)^2 and residuals r, the standard error of the slope is sqrt(sum r^2 / (records - 2) / S).

    Example:
        >>> trend(np.array([0, 1, 2]), np.array([4.0, 3.0, 2.0]))
        Trend(fall=2.0, error=0.0, swing=0.0, steady=True)
    """
    largest = float(np.abs(values).max(initial=0))
    if len(values) < 2 or not largest:
        return Trend(0.0, 0.0, 0.0, steady=False)
    times = steps - steps.mean()
    # Scaled to a maximum of 1, so that no square of a large value overflows.
    scaled = values / largest
    spread = float((times * times).sum())
    slope = float((times * scaled).sum()) / spread
    span = float(steps[-1] - steps[0])
    error = 0.0
    swing = 0.0
    if len(values) > 2:
        residuals = scaled - scaled.mean() - slope * times
        variance = float((residuals * residuals).sum()) / (len(values) - 2)
        error = math.sqrt(variance / spread) * span * largest
        swing = math.sqrt(variance) * largest
    moves = np.diff(scaled)
    steady = bool((moves < 0).all() or (moves > 0).all())
    return Trend(-slope * span * largest, error, swing, steady)


def second_half(steps: NDArray[np.int64]) -> int:
    """Return the index of the first of the records (records,) in the second half of the time between first and last.

    Early epochs may be recorded more often, so that half of the records is less than half of the training.

    Example:
        >>> second_half(np.array([0, 1, 2, 3, 10, 20]))
        4
    """
    return int(np.searchsorted(2 * steps, steps[0] + steps[-1]))


def roughness(values: Floats) -> float:
    """Return the upward share of a curve's total variation: 0 if it only falls, 1 if it only rises.

    Example:
        >>> roughness(np.array([5.0, 1.0, 2.0, 0.0]))  # down 4, up 1, down 2
        0.14285714285714285
    """
    # Scaled to a maximum of 1, so that no sum of large values overflows.
    largest = float(np.abs(values).max(initial=0))
    if not largest:
        return 0.0
    steps = np.diff(values / largest)
    total = float(np.abs(steps).sum())
    if not total:
        return 0.0
    return float(steps[steps > 0].sum()) / total


def first_below(losses: Floats, goal: float) -> int:
    """Return the index of the first loss (records,) that is at most `goal`; the number of losses if none is."""
    low = np.flatnonzero(losses <= goal)
    if not len(low):
        return len(losses)
    return int(low[0])


def reversals(history: History) -> float | None:
    """Return the share of updates that reverse the direction of the previous one, for the weight with the most of them.

    None if direction changes were not counted, or with fewer than `ENOUGH` updates.
    """
    counts = history.tables.get("direction_changes")
    if history.epochs < ENOUGH or not counts:
        return None
    return max(row["count"] for row in counts) / (history.epochs - 1)


def epochs_needed(steps: NDArray[np.int64], losses: Floats, goal: float) -> float | None:
    """Return the total number of epochs needed to reach `goal`, extrapolated from the second half of the records.

    Two laws are fitted by least squares: exponential decay, log(loss) = height + slope * epoch, and a power law,
    log(loss) = height + slope * log(epoch). The law that fits better is used.

    Returns:
        Epochs counted from 0; inf if the loss does not fall; None if there are fewer than two records to fit.
    """
    positive = (steps > 0) & (losses > 0)
    steps = steps[positive].astype(np.float64)
    logs = np.log(losses[positive])
    if len(steps) < 2:
        return None
    late = second_half(steps)
    steps = steps[late:]
    logs = logs[late:]
    if len(steps) < 2:
        return None
    fits = []
    for axis in (steps, np.log(steps)):
        slope, height = np.polyfit(axis, logs, 1)
        fits.append((float(np.square(slope * axis + height - logs).sum()), float(slope)))
    (residual, decay), (other, power) = fits
    excess = logs[-1] - math.log(goal)
    exponential = residual <= other
    if exponential and decay < 0:
        # excess + decay * (more epochs) = 0
        return float(steps[-1] - excess / decay)
    if not exponential and power < 0:
        # excess + power * log(epochs / epochs so far) = 0. math.exp overflows beyond 709.
        exponent = -excess / power
        if exponent < 700:
            return float(steps[-1] * math.exp(exponent))
    return math.inf
