"""Compute the number of random starts needed to find all minima of a curve, and the chance of finding them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Maximum number of minima for which the probability is computed; the number of terms doubles with each.
MOST_MINIMA = 12


def countable(shares: Floats) -> bool:
    """Whether there are minima, few enough of them, and each is reachable."""
    return 1 <= len(shares) <= MOST_MINIMA and float(shares.min()) > 0


def chance_of_all(shares: Floats, starts: int) -> float:
    """Compute the probability that `starts` random starts find all minima.

    By inclusion and exclusion it is the sum over all subsets S of the minima of

        (-1)^|S| * (1 - the sum of the shares of S)^starts

    Args:
        shares: (minima,) the probability that a start finds each minimum.
        starts: number of independent starts.
    """
    total = 0.0
    for size in range(len(shares) + 1):
        for chosen in combinations(shares.tolist(), size):
            # Rounding can make the sum of all shares slightly larger than 1.
            total += (-1) ** size * max(1 - sum(chosen), 0.0) ** starts
    # The terms alternate in sign, and rounding can leave a total just outside 0 to 1.
    return min(max(total, 0.0), 1.0)


def starts_needed(shares: Floats, chance: float) -> int:
    """Return the smallest number of random starts that find all minima with at least this probability.

    Example:
        starts_needed(np.array([0.5, 0.5]), 0.5) is 2
    """
    high = 1
    while chance_of_all(shares, high) < chance:
        high *= 2
    # Bisection: `low` starts are too few, `high` starts are enough.
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if chance_of_all(shares, middle) >= chance:
            high = middle
        else:
            low = middle
    return high
