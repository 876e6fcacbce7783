"""How a curve goes: how rough it is, when it was low enough, how long it would need; how often weights turn round."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.shared.history import History

Floats = NDArray[np.floating]

ENOUGH = 10
"""So many updates can tell swinging from a start that goes to and fro."""


def roughness(values: Floats) -> float:
    """The share of a curve's way that goes up: 0 for one that only falls, 1 for one that only rises."""
    largest = float(np.abs(values).max(initial=0))
    steps = np.diff(values / largest) if largest else np.zeros(0)
    total = float(np.abs(steps).sum())
    return float(steps[steps > 0].sum()) / total if total else 0.0


def first_below(losses: Floats, goal: float) -> int:
    """Index of the first loss (records,) that is at most `goal`; the number of losses where there is none."""
    there = np.flatnonzero(losses <= goal)
    return int(there[0]) if len(there) else len(losses)


def reversals(history: History) -> float | None:
    """The largest share of updates, over all weights, that go the other way than the one before.

    From the counts of direction changes, else from weights that were recorded at every epoch; None without either, and
    for fewer than `ENOUGH` updates.
    """
    if history.epochs < ENOUGH:
        return None
    if "direction_changes" in history.tables:
        return max(row["count"] for row in history.tables["direction_changes"]) / (history.epochs - 1)
    shares = []
    for name in history.names():
        steps, values = history.series(name) if name.startswith("weights/") else (np.empty(0), np.empty(0))
        single = name.removeprefix("weights/").split("/")[-1].startswith(("weight", "bias"))
        if single and len(steps) > ENOUGH and np.array_equal(steps, np.arange(len(steps))):
            moves = np.diff(values)
            shares.append(float(np.mean(moves[1:] * moves[:-1] < 0)))
    return max(shares, default=None)


def epochs_needed(steps: NDArray[np.int64], losses: Floats, goal: float) -> float | None:
    """How many epochs in all the loss would need to reach `goal` if it went on as in the second half of its records.

    Two laws are fitted to log(loss) by least squares, exponential decay (by epoch) and a power law (by log(epoch)); the
    one that fits better is taken. inf where the loss does not fall, None where there are too few records to tell.
    """
    there = (steps > 0) & (losses > 0)
    steps, logs = steps[there].astype(np.float64), np.log(losses[there])
    steps, logs = steps[len(steps) // 2 :], logs[len(logs) // 2 :]
    if len(steps) < 2:
        return None
    fits = []
    for axis in (steps, np.log(steps)):
        slope, height = np.polyfit(axis, logs, 1)
        fits.append((float(np.square(slope * axis + height - logs).sum()), float(slope)))
    (residual, decay), (other, power) = fits
    excess = logs[-1] - math.log(goal)
    if residual <= other:
        return float(steps[-1] - excess / decay) if decay < 0 else math.inf
    exponent = -excess / power if power < 0 else math.inf
    return float(steps[-1] * math.exp(exponent)) if exponent < 700 else math.inf
