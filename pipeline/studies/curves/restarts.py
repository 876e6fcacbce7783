"""How many random starts find all minima of a curve, and how probably."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOST_MINIMA = 12
"""Up to so many minima this is computed: its terms double with each."""


def countable(shares: Floats) -> bool:
    """Whether the minima are few enough, and each can be found."""
    return 1 <= len(shares) <= MOST_MINIMA and float(shares.min()) > 0


def chance_of_all(shares: Floats, starts: int) -> float:
    """The probability that so many random starts find all minima, where each start finds minimum i with shares[i].

    By inclusion and exclusion: the sum over all subsets S of the minima of (-1)^|S| (1 - the shares of S)^starts.
    """
    total = 0.0
    for size in range(len(shares) + 1):
        for chosen in combinations(shares.tolist(), size):
            total += (-1) ** size * max(1 - sum(chosen), 0.0) ** starts
    return min(max(total, 0.0), 1.0)


def starts_needed(shares: Floats, chance: float) -> int:
    """The smallest number of random starts that find all minima with a probability."""
    high = 1
    while chance_of_all(shares, high) < chance:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance_of_all(shares, middle) >= chance else (middle, high)
    return high
