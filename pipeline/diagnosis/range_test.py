"""A learning-rate range test: the rate that a single run with a steadily rising rate suggests.

Smith 2017, "Cyclical learning rates for training neural networks" (arXiv:1506.01186), section 3.3, with a rate that
rises geometrically. The losses of the minibatches are smoothed with a bias-corrected exponential moving average:

    s_t = beta * s_(t-1) + (1 - beta) * l_t,    mean_t = s_t / (1 - beta^t)

The test ends when this mean exceeds `GROWN` times its minimum so far. The rate at which the mean is lowest is about the
largest rate that still trains. The suggested rate is a third of it, which the paper uses as the lower bound of the
cyclical schedule. The rate at which the mean falls fastest per decade is also reported; some tools suggest that smaller
rate instead.

A rate is suggested only where the minimum is clear. With noise sigma of the losses of minibatches around their trend,
the mean of n updates has the standard error

    sigma * sqrt((1 - beta) / (1 + beta) * (1 + beta^n) / (1 - beta^n))

The mean must fall from its start, and rise again after its minimum or diverge, by `CERTAIN` standard errors each, and
it must not stay within two of them of its minimum over more than `FLAT` decades.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

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
# A fall or a rise counts from this many standard errors on. Two, as for a single comparison, are exceeded by chance,
# because the minimum is the lowest of hundreds of means.
CERTAIN = 5.0
# A smaller fall or rise, as a share of the loss at the start, is rounding rather than training.
LEAST_CHANGE = 1e-3
# A loss that rises within this many decades of the first rate, without having fallen, is lowest at the first rate.
AT_START = 1.0
# A minimum that could be anywhere within this many decades is not clear: the rates ten times smaller and larger than
# the suggested one, which `pipeline.suggest` prints for checking it, are then no different from it.
FLAT = 2.0
# What helps: with more updates a network learns more at each rate, and larger minibatches have less noise.
LARGER_RATES = "test larger rates (schedule.final)"
MORE_UPDATES = "use more updates (training.epochs) or larger minibatches (training.batch_size)"


@dataclass(frozen=True)
class Unclear:
    """Why a range test has no clear minimum, in words that are the same for tests of other seeds.

    Attributes:
        reason: what the smoothed loss does instead; the end of a sentence that begins with `the smoothed loss`.
        remedy: what to change.
    """

    reason: str
    remedy: str

    def __str__(self) -> str:
        """Both, for instance `the smoothed loss hardly changes from 1e-05 to 1, so test larger rates`."""
        return f"the smoothed loss {self.reason}, so {self.remedy}"


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
        unclear: why the minimum is not clear; None if it is, or if there are too few updates to judge that.
    """

    rates: Floats
    losses: Floats
    means: Floats
    last: int
    steepest: int | None
    lowest: int
    judged: bool
    unclear: Unclear | None

    @property
    def suggested_rate(self) -> float | None:
        """The suggested rate; None without a clear minimum, or if there are too few updates to judge that."""
        if not self.judged or self.unclear is not None:
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
    smallest = np.minimum.accumulate(means)
    # Divided, because the product may overflow. A loss below 0 has no meaningful multiples.
    grown = np.flatnonzero((means / GROWN > smallest) & (smallest >= 0))
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
    found = RangeTest(rates, losses, means, last, steepest, lowest, bool(np.isfinite(slopes).any()), None)
    if not found.judged:
        return found
    diverged = len(grown) > 0 or history.diverged_step is not None
    return replace(found, unclear=unclear_minimum(found, diverged))


def unclear_minimum(test: RangeTest, diverged: bool) -> Unclear | None:
    """Return why the minimum of a range test is not clear; None if it is.

    Args:
        test: a range test that is long enough to be judged.
        diverged: whether the loss diverged after the last update of the test.
    """
    lowest = test.lowest
    logs = np.log10(test.rates)
    # The updates at the start, before the rate has changed much.
    start = int((logs - logs[0] <= SPAN).sum())
    sigma = noise(test.losses[: max(lowest + 1, start)])
    error = standard_error(sigma, lowest + 1)
    level = float(test.losses[:start].mean())
    least = max(CERTAIN * math.hypot(sigma / math.sqrt(start), error), LEAST_CHANGE * abs(level))
    falls = level - test.means[lowest] > least
    # Both the minimum and what follows it have an error.
    rise = float(test.means[lowest:].max()) - test.means[lowest]
    rises = diverged or rise > max(CERTAIN * math.hypot(error, error), LEAST_CHANGE * abs(level))
    first = f"{test.rates[0]:.3g}"
    largest = f"{test.rates[-1]:.3g}"
    if not falls and not rises:
        return Unclear(f"hardly changes from {first} to {largest}", LARGER_RATES)
    # A loss that does not fall is lowest by chance, so what counts is where it rises.
    higher = np.flatnonzero(test.means - level > least)
    soon = len(higher) > 0 and logs[higher[0]] - logs[0] <= AT_START
    if lowest < start and (falls or soon):
        return Unclear(f"is lowest at the start, {first}", "test smaller rates (optimizer.learning_rate)")
    if not falls:
        remedy = "test smaller rates (optimizer.learning_rate) or use more updates (training.epochs)"
        return Unclear("falls by no more than the noise of the minibatches, and then rises", remedy)
    if not rises:
        return Unclear(f"does not rise again up to the largest rate, {largest}", LARGER_RATES)
    near = np.flatnonzero(test.means[: test.last] <= test.means[lowest] + 2 * error)
    if logs[near[-1]] - logs[near[0]] > FLAT:
        return Unclear(f"is flat over more than {FLAT:g} decades around its minimum", MORE_UPDATES)
    return None


def noise(losses: Floats) -> float:
    """Return the standard deviation of losses around their trend, from the differences of neighbours.

    For independent noise, the mean square of the differences is twice the variance; a trend adds little to it. Noise
    may grow during training, so this is the larger value of the two halves.
    """
    steps = np.abs(np.diff(losses))
    half = len(steps) // 2
    # The square of a large loss would overflow.
    unit = max(float(steps.max(initial=0.0)), np.finfo(np.float64).tiny)
    squares = [float(np.mean((part / unit) ** 2)) for part in (steps[:half], steps[half:]) if len(part)]
    return unit * math.sqrt(max(squares, default=0.0) / 2)


def standard_error(sigma: float, updates: int) -> float:
    """Return the standard error of the mean after a number of updates whose losses have the noise `sigma`."""
    memory = BETA**updates
    return sigma * math.sqrt((1 - BETA) / (1 + BETA) * (1 + memory) / (1 - memory))


def averaged(losses: Floats) -> Floats:
    """Return the bias-corrected exponential moving average of the losses, (..., updates)."""
    means = np.empty_like(losses)
    total = np.zeros(losses.shape[:-1])
    for index in range(losses.shape[-1]):
        # s_t = beta * s_(t-1) + (1 - beta) * l_t
        total = BETA * total + (1 - BETA) * losses[..., index]
        # The weights of the terms of s_t add up to 1 - beta^t, so dividing by it corrects the bias.
        means[..., index] = total / (1 - BETA ** (index + 1))
    return means


def slopes_per_decade(rates: Floats, means: Floats) -> Floats:
    """Return d mean / d log10(rate) by least squares over `SPAN` decades around each rate; NaN close to the ends."""
    logs = np.log10(rates)
    slopes = np.full(len(logs), np.nan)
    inside = (logs - logs[0] >= SPAN / 2) & (logs[-1] - logs >= SPAN / 2)
    for index in np.flatnonzero(inside):
        near = np.abs(logs - logs[index]) <= SPAN / 2
        away = logs[near] - logs[near].mean()
        # If the rate rises in large steps, the window may contain a single point.
        if away.any():
            slopes[index] = (away @ means[near]) / (away @ away)
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
    if found.suggested_rate is None:
        return f"no clear minimum: {found.unclear}"
    lowest = f"{found.rates[found.lowest]:.3g}, where the smoothed loss is lowest ({found.means[found.lowest]:.3g})"
    sentence = f"suggested rate {found.suggested_rate:.2g}, one third of {lowest} {span}"
    ends = []
    if found.steepest is not None:
        ends.append(f"falls fastest at {found.rates[found.steepest]:.2g}")
    if found.last < len(found.rates):
        ends.append(f"diverges at {found.rates[found.last]:.3g}")
    if ends:
        sentence += f"; the loss {' and '.join(ends)}"
    return sentence
