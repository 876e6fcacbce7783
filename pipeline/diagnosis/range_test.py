"""A learning-rate range test: which rate does one run suggest whose rate rises all the way?

Smith 2017, "Cyclical learning rates for training neural networks" (arXiv:1506.01186), section 3.3, with the rate raised
geometrically. The loss of every minibatch is averaged with those before it, exponentially and without bias:

    s_t = beta * s_(t-1) + (1 - beta) * l_t,    mean_t = s_t / (1 - beta^t)

The test ends where that mean has grown to `GROWN` times its smallest value so far. The rate at which it is lowest is
about the largest that still trains; the suggested rate is a third of it, which that section takes for the lower end of
a cycle of rates. The rate at which the mean falls fastest per decade is told too: some tools suggest that one, which is
smaller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.shared.history import History

Floats = NDArray[np.float64]

BETA = 0.95
"""Memory of the averaged loss: about the last 20 updates."""
GROWN = 4.0
"""A mean of so many times its smallest value has diverged."""
SHARE = 1 / 3
"""Of the rate at which the mean is lowest."""
SPAN = 0.25
"""Over so many decades of rates a slope is fitted, so that it is that of the curve and not of its noise."""


@dataclass(frozen=True)
class RangeTest:
    """What a range test saw.

    Attributes:
        rates: (updates,) rising.
        losses: (updates,) of the minibatches, each at the weights before its update.
        means: (updates,) averaged.
        last: how many updates belong to the test; after them the mean has diverged.
        steepest: place where the mean falls fastest, up to the smallest; None where it falls nowhere.
        lowest: place of the smallest mean.
    """

    rates: Floats
    losses: Floats
    means: Floats
    last: int
    steepest: int | None
    lowest: int

    @property
    def suggested_rate(self) -> float | None:
        """The suggested rate; None where the mean falls nowhere."""
        return None if self.steepest is None else SHARE * float(self.rates[self.lowest])


def range_test(history: History) -> RangeTest | None:
    """Read a range test; None where fewer than three losses were finite."""
    rows = history.tables.get("updates", [])
    if len(rows) < 3:
        return None
    rates = np.array([row["learning_rate"] for row in rows])
    losses = np.array([row["loss"] for row in rows])
    means = averaged(losses)
    grown = np.flatnonzero(means > GROWN * np.minimum.accumulate(means))
    last = int(grown[0]) if len(grown) else len(means)
    lowest = int(np.argmin(means[:last]))
    slopes = slopes_per_decade(rates[:last], means[:last])
    falling = slopes[: lowest + 1]
    place = int(np.nanargmin(falling)) if np.isfinite(falling).any() else 0
    steepest = place if math.isfinite(falling[place]) and falling[place] < 0 else None
    return RangeTest(rates, losses, means, last, steepest, lowest)


def averaged(losses: Floats) -> Floats:
    """The exponential mean of the losses (updates,) up to each update, without bias."""
    means, sum_ = np.empty_like(losses), 0.0
    for place, loss in enumerate(losses):
        sum_ = BETA * sum_ + (1 - BETA) * loss
        means[place] = sum_ / (1 - BETA ** (place + 1))
    return means


def slopes_per_decade(rates: Floats, means: Floats) -> Floats:
    """D mean / d log10(rate) by least squares over `SPAN` decades around each rate; NaN nearer to an end than that."""
    logs = np.log10(rates)
    slopes = np.full(len(logs), np.nan)
    inside = (logs - logs[0] >= SPAN / 2) & (logs[-1] - logs >= SPAN / 2)
    for place in np.flatnonzero(inside):
        near = np.abs(logs - logs[place]) <= SPAN / 2
        if near.sum() > 1:
            slopes[place] = np.polyfit(logs[near], means[near], 1)[0]
    return slopes


def suggestion(history: History) -> str:
    """What a range test says, in a sentence."""
    found = range_test(history)
    if found is None:
        return "too few losses were finite"
    span = f"over rates {found.rates[0]:.3g} to {found.rates[-1]:.3g}"
    if found.suggested_rate is None or found.steepest is None:
        return f"the mean loss falls nowhere {span}"
    ends = f" and the mean has diverged at {found.rates[found.last]:.3g}" if found.last < len(found.rates) else ""
    lowest = f"the mean loss is lowest, {found.means[found.lowest]:.3g}, at {found.rates[found.lowest]:.3g}"
    falls = f"it falls fastest at {found.rates[found.steepest]:.2g}"
    return f"suggested rate {found.suggested_rate:.2g}, a third of where {lowest}, {span}; {falls}{ends}"
