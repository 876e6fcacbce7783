"""The mean of a curve over seeds, with a band of the 95 % intervals of the means at each epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.studies.statistics.intervals import BOUNDS, NO_BOUNDS, quantile

Floats = NDArray[np.float64]
# Epochs (records,) and values (records,) of one seed.
Series = tuple[NDArray[np.int64], Floats]


class Band(NamedTuple):
    """The mean over seeds at the epochs that all of them recorded, with the ends of its interval: all (epochs,).

    With one seed low and high are NaN.
    """

    epochs: NDArray[np.int64]
    mean: Floats
    low: Floats
    high: Floats


def mean_band(seeds: Sequence[Series], metric: str) -> Band:
    """Return the mean of at least one curve, with Student's interval at each epoch (`intervals`), within its bounds."""
    epochs = seeds[0][0]
    for steps, _ in seeds[1:]:
        epochs = np.intersect1d(epochs, steps)
    values = np.stack([series[np.isin(steps, epochs)] for steps, series in seeds])
    count = len(seeds)
    # Divided by the largest, so that neither sums nor squares overflow.
    scale = np.abs(values).max(axis=0, initial=0.0)
    scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
    shares = values / scale
    means = shares.mean(axis=0)
    half = np.full(len(epochs), math.nan)
    if count > 1:
        half = quantile(count - 1) * shares.std(axis=0, ddof=1) / math.sqrt(count)
    lowest, highest = BOUNDS.get(metric.rpartition("/")[2], NO_BOUNDS)
    with np.errstate(over="ignore"):
        low = np.maximum((means - half) * scale, lowest)
        high = np.minimum((means + half) * scale, highest)
    return Band(epochs, means * scale, low, high)
