"""The best rate as a power of the knob: its exponent, how sure it is, and where a law that theory expects holds.

For each seed alone, with its best rates r at the values v of the knob, the exponent p is that of the least-squares line

    log(r) = p log(v) + constant,

and the mean of p over the seeds has the 95 % interval of Student's t distribution. So the interval tells how much the
seeds differ, but neither how fine the grid of rates is, nor how well a power describes the rates: so a law is also
looked for over parts of the values.

A law holds over neighbouring values, three at least, if its power lies within the interval of the exponent over all of
them, and outside that of no two neighbours among them. The longest such range is named, of several the first. Values
whose best rate is the smallest or the largest of the grid are left out, because a rate beyond may be better, and so are
values at which every rate diverged.

Goyal et al. 2017 (arXiv:1706.02677) train with gradient descent at rates proportional to the batch size: k updates on
small batches move the weights about as far as one update at k times the rate on their union. For Adam, Malladi et al.
2022 (arXiv:2205.10287) derive the square root: its steps have a size that hardly depends on that of the gradient, and
the noise of the gradient falls with the square root of the batch size. Both compare at an equal number of epochs, and
both break down where the batch is so large that the rate is limited by the curvature instead of the noise (McCandlish
et al. 2018, arXiv:1812.06162).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from pipeline.drawing.plot_data import Floats
from pipeline.studies.statistics.intervals import Estimate, estimate
from pipeline.studies.transfer.best_rates import Best
from pipeline.studies.transfer.rows import Law

# Two values always lie on a power, so they do not show that one holds.
LEAST_VALUES = 3
# Seeds that agree exactly have an interval as narrow as their rounding.
ROUNDING = 1e-9


def usable(along: Sequence[Best]) -> list[Best]:
    """Return the values of the knob whose best rate is known: some rate trains, and it is inside of the grid."""
    return [best for best in along if math.isfinite(best.rate) and not best.at_the_edge]


def exponent(along: Sequence[Best]) -> Estimate:
    """Return the exponent p of rate = constant * value^p, as the module says.

    Args:
        along: two values of the knob or more, whose best rates are finite.

    Returns:
        The exponents of the seeds that have a best rate at each value; without any, the exponent of the means over the
        seeds, of one value, whose interval is unknown.
    """
    logs = np.log([best.value for best in along])
    seeds = set.intersection(*(set(best.by_seed) for best in along))
    by_seed = [[best.by_seed[seed] for best in along] for seed in sorted(seeds)]
    found = [_slope(logs, rates) for rates in by_seed if np.isfinite(rates).all()]
    return estimate(found or [_slope(logs, [best.rate for best in along])], "")


def _slope(logs: Floats, rates: Sequence[float]) -> float:
    """Return the slope of log(rate) over the logarithms of the values."""
    slope, _ = np.polyfit(logs, np.log(rates), 1)
    return float(slope)


def within(law: Law, found: Estimate) -> bool:
    """Whether the power of a law lies within the interval of an exponent; of an unknown interval it does not."""
    interval = found.interval
    return interval is not None and interval[0] - ROUNDING <= law.power <= interval[1] + ROUNDING


def holds_over(law: Law, along: Sequence[Best]) -> list[Best]:
    """Return the longest range of neighbouring values over which a law holds, as the module says; empty: none."""
    agree = [within(law, exponent(pair)) for pair in pairwise(along)]
    for length in range(len(along), LEAST_VALUES - 1, -1):
        for first in range(len(along) - length + 1):
            part = along[first : first + length]
            if all(agree[first : first + length - 1]) and within(law, exponent(part)):
                return list(part)
    return []


def peak(along: Sequence[Best]) -> int | None:
    """Return the index of the value with the largest best rate; None if it is the first or the last of them."""
    highest = int(np.argmax([best.rate for best in along]))
    if highest in (0, len(along) - 1):
        return None
    return highest
