"""Which learning rates to train next, to find the best one with few trainings: bisection in the logarithm of the rate.

A loss over the rate falls, has one minimum and rises. So the best rate lies between the two neighbours of the best one
tried. The geometric means of it and each neighbour are tried next, which halves both gaps in log10(rate):

    rate = sqrt(best * neighbour).

This is repeated until both gaps are at most the tolerance, as on a grid of that spacing: of a gap of g decades after
log2(g / tolerance) rounds of two rates, rounded up, and not after g / tolerance rates. If the best rate is at an edge,
the next one is one step beyond it (bracketing; Press et al. 2007, "Numerical Recipes", sections 10.1 and 10.2).

With several seeds the loss of a rate is their mean. If neither neighbour can be told from the best (`best_set`), noise
would choose between further rates, and the search ends once both gaps are at most `NOISE_GAP`: over wider ones a loss
is no parabola, which the optimum is told by (studies/statistics/parabola.py). The decisions depend on nothing but the
losses and the listed rates, so that a command that is repeated takes the same ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

# Digits of a new rate. Rounding to them moves a rate by 0.002 decades at most.
DIGITS = 3
# Decades from a rate to the next one beyond it, where there is no other rate yet, and the longest such step.
FIRST_STEP = 0.5
LONGEST_STEP = 1.0
# A search begins with this many of the listed rates at least.
LEAST_START = 3
# Decades to the best rate's neighbours within which noise may end a search.
NOISE_GAP = 0.25
# Beyond, a power of ten may be no float.
SMALLEST = 1e-300
LARGEST = 1e300

Reason = Literal["open", "tolerance", "noise", "limit", "diverged", "failed"]
# The losses of each rate by seed; inf: diverged, NaN: failed.
Known = Mapping[float, Sequence[float]]


class Step(NamedTuple):
    """The rates to train next; if there are none, why the search has ended.

    `tolerance`: the gaps beside the best rate are narrow enough; `noise`: it cannot be told from its neighbours;
    `limit`: it is the last rate that is allowed; `diverged`: all rates diverged; `failed`: none trained.
    """

    rates: list[float]
    reason: Reason


@dataclass(frozen=True)
class Refinement:
    """The search for the best rate of one combination of all other knobs.

    Args:
        listed: the rates that were asked for, above 0, ascending. They are preferred to others that lie between the
            same two.
        tolerance: gaps beside the best rate in decades at which the search ends, from 0.01.
        beyond: decades by which it may leave the listed rates, on each side, from 0.

    Example:
        >>> search = Refinement((0.001, 0.01, 0.1), tolerance=0.1, beyond=2.0)
        >>> search.next_step({0.001: [3.0], 0.01: [1.0], 0.1: [2.0]})
        Step(rates=[0.00316, 0.0316], reason='open')
    """

    listed: tuple[float, ...]
    tolerance: float
    beyond: float

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest rate that may be tried."""
        smallest = max(self.listed[0], SMALLEST) / 10**self.beyond
        largest = min(self.listed[-1], LARGEST) * 10**self.beyond
        low = rounded(max(smallest, SMALLEST))
        high = rounded(min(largest, LARGEST))
        return min(self.listed[0], low), max(self.listed[-1], high)

    def start(self, every: int) -> list[float]:
        """Return the listed rates to begin with: every n-th; of a few the ends and the middle, or all."""
        kept = list(self.listed[::every])
        if len(kept) >= LEAST_START:
            return kept
        if len(self.listed) <= LEAST_START:
            return list(self.listed)
        return [self.listed[0], self.listed[len(self.listed) // 2], self.listed[-1]]

    def next_step(self, known: Known) -> Step:
        """Return the rates to train next, each new and within the limits; none: the search has ended.

        Args:
            known: the losses of all rates that were tried, one at least.
        """
        losses = {rate: mean(by_seed) for rate, by_seed in known.items()}
        losses = {rate: loss for rate, loss in sorted(losses.items()) if not math.isnan(loss)}
        tried = sorted(known)
        if not losses:
            return Step([], "failed")
        if not any(map(math.isfinite, losses.values())):
            return self._step(self._beyond(tried, -1), "diverged")
        best = _best(losses)
        lower = [rate for rate in losses if rate < best][-1:]
        higher = [rate for rate in losses if rate > best][:1]
        at_edges: list[float] = []
        if not lower:
            at_edges += self._beyond(tried, -1)
        if not higher:
            at_edges += self._beyond(tried, 1)
        if at_edges:
            return Step(at_edges, "open")
        neighbours = [*lower, *higher]
        gap = self.tolerance
        reason: Reason = "tolerance"
        if len(neighbours) < 2:
            reason = "limit"
        elif gap < NOISE_GAP and _alike(known, best, neighbours):
            gap = NOISE_GAP
            reason = "noise"
        between = [_between(tried, sorted((best, one)), gap, self.listed) for one in neighbours]
        return self._step([rate for rates in between for rate in rates], reason)

    def grid_size(self, known: Known) -> int:
        """Return the number of rates of a grid over all rates listed or tried, with gaps of at most the tolerance."""
        rates = (*self.listed, *known)
        return math.ceil(round(_decades(min(rates), max(rates)) / self.tolerance, 6)) + 1

    def _step(self, rates: list[float], ended: Reason) -> Step:
        if rates:
            return Step(rates, "open")
        return Step([], ended)

    def _beyond(self, tried: Sequence[float], direction: Literal[-1, 1]) -> list[float]:
        """Return the rate one step beyond the smallest or the largest one tried; none at the limit.

        It is the next listed one, or as far away as the last two are from each other.
        """
        outwards = sorted(tried, key=lambda rate: -direction * rate)
        last = outwards[0]
        listed = [rate for rate in self.listed if direction * rate > direction * last]
        if listed:
            return [min(listed, key=lambda rate: direction * rate)]
        step = FIRST_STEP
        if len(outwards) > 1:
            step = min(max(_decades(*sorted(outwards[:2])), self.tolerance), LONGEST_STEP)
        low, high = self.limits
        # Clipped before: a power of ten may be no float.
        place = min(max(math.log10(last) + direction * step, math.log10(low)), math.log10(high))
        rate = min(max(rounded(10**place), low), high)
        if direction * rate <= direction * last:
            return []
        return [rate]


def rounded(rate: float) -> float:
    """Return a rate with `DIGITS` digits."""
    return float(f"{rate:.{DIGITS - 1}e}")


def mean(by_seed: Sequence[float]) -> float:
    """Return the mean loss of the seeds that did not fail; inf if one of them diverged, NaN if all failed."""
    judged = [loss for loss in by_seed if not math.isnan(loss)]
    if not judged:
        return math.nan
    return sum(judged) / len(judged)


def _best(losses: Mapping[float, float]) -> float:
    """Return the rate with the smallest loss, of ascending rates; of several, the one in their middle."""
    least = min(losses.values())
    tied = [rate for rate, loss in losses.items() if loss == least]
    return tied[(len(tied) - 1) // 2]


def _decades(low: float, high: float) -> float:
    return math.log10(high) - math.log10(low)


def _alike(known: Known, best: float, neighbours: Sequence[float]) -> bool:
    """Whether none of the neighbours can be told from the best rate, by the noise of all rates."""
    # Imported here: with one seed the noise is unknown, and NumPy is not needed.
    from pipeline.studies.statistics.best import best_set

    rates = list(known)
    points = [{position: loss for position, loss in enumerate(known[rate]) if not math.isnan(loss)} for rate in rates]
    found = best_set(points, larger_is_better=False)
    return found.tested and all(rates.index(rate) in found.members for rate in (best, *neighbours))


def _between(tried: Sequence[float], ends: Sequence[float], gap: float, listed: Sequence[float]) -> list[float]:
    """Return a rate in the middle of the widest gap between two rates; none if it is narrow.

    There are several gaps if rates between the two have failed.

    Args:
        tried: all rates that were tried, ascending.
        ends: the two, ascending.
        gap: decades of a narrow gap.
        listed: rates that are preferred to others in the same gap.
    """
    steps = [rate for rate in tried if ends[0] <= rate <= ends[1]]
    left, right = max(itertools.pairwise(steps), key=lambda pair: _decades(*pair))
    # Compared with some room: 0.1 decades may be 0.1 and a little.
    if _decades(left, right) <= gap * (1 + 1e-9):
        return []
    middle = math.sqrt(left) * math.sqrt(right)
    inside = [rate for rate in listed if left < rate < right]
    rate = min(inside, key=lambda one: abs(math.log10(one / middle)), default=rounded(middle))
    if not left < rate < right:
        return []
    return [rate]
