"""A learning-rate range test: the rate that a single run with a steadily rising rate suggests.

Smith 2017, "Cyclical learning rates for training neural networks" (arXiv:1506.01186), section 3.3, with a rate that
rises geometrically. The losses of the minibatches are smoothed with a bias-corrected exponential moving average:

    s_t = beta * s_(t-1) + (1 - beta) * l_t,    mean_t = s_t / (1 - beta^t)

The test ends when this mean exceeds `GROWN` times its minimum so far. The rate at which the mean is lowest is about the
largest rate that still trains. The suggested rate is a third of it, which the paper uses as the lower bound of the
cyclical schedule. The rate at which the mean falls fastest per decade is also reported; some tools suggest that smaller
rate instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.shared.history import History

Floats = NDArray[np.float64]

# Smoothing factor: the mean covers about the last 1 / (1 - beta) = 20 updates.
BETA = 0.95
# The mean counts as diverged once it exceeds this multiple of its minimum so far.
GROWN = 4.0
# The suggested rate as a share of the rate at which the mean is lowest.
SHARE = 1 / 3
# Slopes are fitted over a window of this many decades of rates; a narrower window would fit the noise.
SPAN = 0.25
# The minimum number of finite losses, whatever the range of rates.
FEWEST = 3


@dataclass(frozen=True)
class RangeTest:
    """The result of a range test.

    Attributes:
        rates: (updates,) rising rates.
        losses: (updates,) losses of the minibatches, each at the weights before its update.
        means: (updates,) smoothed losses.
        last: number of updates before the mean diverged; these are the test.
        steepest: index at which the mean falls fastest, up to its minimum; None if it never falls.
        lowest: index of the smallest mean within the test.
        judged: whether there are enough updates to fit a slope at any rate. If not, `steepest` is None.
    """

    rates: Floats
    losses: Floats
    means: Floats
    last: int
    steepest: int | None
    lowest: int
    judged: bool

    @property
    def suggested_rate(self) -> float | None:
        """The suggested rate; None if the mean never falls, or if there are too few updates to judge that."""
        if self.steepest is None:
            return None
        return SHARE * float(self.rates[self.lowest])


def range_test(history: History) -> RangeTest | None:
    """Evaluate a range test; None if fewer than `FEWEST` losses were finite."""
    rows = history.tables.get("updates", [])
    if len(rows) < FEWEST:
        return None
    rates = np.array([row["learning_rate"] for row in rows])
    losses = np.array([row["loss"] for row in rows])
    means = averaged(losses)
    last = len(means)
    # Divided, because the product may overflow.
    grown = np.flatnonzero(means / GROWN > np.minimum.accumulate(means))
    if len(grown):
        last = int(grown[0])
    lowest = int(np.argmin(means[:last]))
    slopes = slopes_per_decade(rates[:last], means[:last])
    # After its minimum the mean diverges; a fall within that rise says nothing about training.
    falling = slopes[: lowest + 1]
    steepest = None
    if np.isfinite(falling).any():
        index = int(np.nanargmin(falling))
        if math.isfinite(falling[index]) and falling[index] < 0:
            steepest = index
    return RangeTest(rates, losses, means, last, steepest, lowest, judged=bool(np.isfinite(slopes).any()))


def averaged(losses: Floats) -> Floats:
    """Return the bias-corrected exponential moving average of the losses, (updates,)."""
    means = np.empty_like(losses)
    total = 0.0
    for index, loss in enumerate(losses):
        # s_t = beta * s_(t-1) + (1 - beta) * l_t
        total = BETA * total + (1 - BETA) * loss
        # The weights of the terms of s_t add up to 1 - beta^t, so dividing by it corrects the bias.
        means[index] = total / (1 - BETA ** (index + 1))
    return means


def slopes_per_decade(rates: Floats, means: Floats) -> Floats:
    """Return d mean / d log10(rate) by least squares over `SPAN` decades around each rate; NaN close to the ends."""
    logs = np.log10(rates)
    slopes = np.full(len(logs), np.nan)
    inside = (logs - logs[0] >= SPAN / 2) & (logs[-1] - logs >= SPAN / 2)
    for index in np.flatnonzero(inside):
        near = np.abs(logs - logs[index]) <= SPAN / 2
        # If the rate rises in large steps, the window may contain a single point.
        if near.sum() > 1:
            slopes[index] = np.polyfit(logs[near], means[near], 1)[0]
    return slopes


def shortage(history: History) -> tuple[str, str]:
    """Return what a range test that cannot be judged would need, and what it has, for a message."""
    found = range_test(history)
    if found is None:
        count = len(history.tables.get("updates", []))
        return f"at least {FEWEST} updates with a finite loss", f"{count}"
    low = float(found.rates[0])
    high = float(found.rates[found.last - 1])
    span = f"from rate {low:.3g} to {high:.3g}"
    decades = math.log10(high) - math.log10(low)
    if decades < SPAN:
        return f"losses that do not diverge over at least {SPAN:g} decades of rates", f"{decades:.2g}, {span}"
    # Two updates in each window, and one in the middle. Rounding must not ask for too few.
    needed = 2 * math.ceil(decades / SPAN + 1e-6) + 1
    return f"at least {needed} updates with a finite loss {span}", f"{found.last}"


def suggestion(history: History) -> str:
    """Describe the result of a range test in a sentence."""
    found = range_test(history)
    if found is None or not found.judged:
        needed, received = shortage(history)
        return f"too short to judge: it needs {needed}, and has {received}"
    span = f"in the range {found.rates[0]:.3g} to {found.rates[-1]:.3g}"
    if found.suggested_rate is None or found.steepest is None:
        return f"the smoothed loss never falls {span}"
    lowest = f"{found.rates[found.lowest]:.3g}, where the smoothed loss is lowest ({found.means[found.lowest]:.3g})"
    falls = f"the loss falls fastest at {found.rates[found.steepest]:.2g}"
    sentence = f"suggested rate {found.suggested_rate:.2g}, one third of {lowest} {span}; {falls}"
    if found.last < len(found.rates):
        sentence += f" and diverges at {found.rates[found.last]:.3g}"
    return sentence
