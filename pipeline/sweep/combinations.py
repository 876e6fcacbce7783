"""The searches of a command for the best rate: one for each combination of the other knobs, and what they found.

A round has the next rates of all combinations, so that they train as one stack. A budget is shared: each combination
gets the first of its rates before any gets its second.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.sweep.refinement import Reason, Refinement, mean
from pipeline.system.errors import LabError
from pipeline.system.wording import counted

RATE = "optimizer.learning_rate"
# What a line says of why the search has ended.
ENDED: dict[Reason, str] = {
    "open": "the budget of most_points is spent",
    "tolerance": "the next rates are at most {tolerance:g} decades away",
    "noise": "noise decides: the next rates cannot be told from it, with more repeats they may",
    "limit": "it is {place}, beyond which no rate is tried",
    "diverged": "every rate diverged, down to {smallest:g}",
    "failed": "no rate could be trained",
}


@dataclass
class Combination:
    """One combination of all knobs but the rate.

    Attributes:
        overrides: those of its first point, the rate's included.
        texts: the rates that are listed, ascending, as typed.
        search: chooses its rates.
        known: the losses by seed of the rates that were tried.
        repeats: number of trainings of a rate.
        name: the values by which it differs from the others; empty if it is the only one.
    """

    overrides: list[str]
    texts: dict[float, str]
    search: Refinement
    known: dict[float, Sequence[float]] = field(default_factory=dict)
    repeats: int = 1
    name: str = ""

    def point(self, rate: float) -> list[str]:
        """Return the overrides of its point at a rate."""
        text = self.texts.get(rate, repr(rate))
        return [f"{_key(one)}={text}" if _is_rate(one) else one for one in self.overrides]

    def next_rates(self, every: int) -> list[float]:
        """Return the rates to train next; at first every n-th of those listed."""
        if not self.known:
            return self.search.start(every)
        return self.search.next_step(self.known).rates

    def line(self) -> str:
        """Return what was found, and what it took."""
        trained = {rate: mean(losses) for rate, losses in self.known.items() if math.isfinite(mean(losses))}
        runs = sum(map(len, self.known.values()))
        size = self.search.grid_size(self.known) * self.repeats
        words = {
            "tolerance": self.search.tolerance,
            "smallest": min(self.known, default=math.nan),
            "place": self._place(trained),
        }
        reason = ENDED[self.search.next_step(self.known).reason].format(**words)
        found = f"{reason}; "
        if trained:
            found = f"best rate {min(trained, key=trained.__getitem__):.3g}{self._interval()}; {reason}; "
        line = f"{found}{counted(runs, 'run')}, a grid as fine takes {size:,}"
        return ": ".join(filter(None, (self.name, line)))

    def _interval(self) -> str:
        # Imported here: a sweep that is composed, or printed, needs no NumPy.
        from pipeline.studies.statistics.parabola import optimum

        found = optimum(self.known)
        if found is None:
            return ""
        trained = [rate for rate, losses in self.known.items() if math.isfinite(mean(losses))]
        if math.isclose(found.low, min(trained)) and math.isclose(found.high, max(trained)):
            return ", without an interval, as the losses beside it are no parabola"
        return f", by a parabola {found.rate:.3g} (95 % interval {found.low:.3g} to {found.high:.3g})"

    def _place(self, trained: dict[float, float]) -> str:
        """Return which rate a best one at the limit is."""
        low, high = self.search.limits
        best = min(trained, key=trained.__getitem__, default=low)
        if best - low < high - best:
            return "the smallest rate"
        return "the largest rate"


def combinations(points: Sequence[Sequence[str]], tolerance: float, beyond: float) -> list[Combination]:
    """Group the points of a grid by all knobs but the rate.

    Args:
        points: the overrides of each point.
        tolerance: see `Refinement`.
        beyond: see `Refinement`.

    Raises:
        LabError: a point has no rate, or one that is not a number above 0.
    """
    groups: dict[tuple[str, ...], list[Sequence[str]]] = {}
    for point in points:
        if not any(map(_is_rate, point)):
            raise LabError(
                "hydra/sweeper=refine refines the learning rate, and the sweep has no axis of learning rates.",
                expected=f"values of {RATE} on the command line, or in hydra.sweeper.params of the experiment",
                received=" ".join(point) or "no axis",
                fix=f"add {RATE}=0.001,0.01,0.1, or leave out hydra/sweeper=refine",
            )
        groups.setdefault(tuple(one for one in point if not _is_rate(one)), []).append(point)
    common = set.intersection(*map(set, groups))
    found = []
    for others, members in groups.items():
        texts = dict(sorted(_rate(point) for point in members))
        search = Refinement(tuple(texts), tolerance, beyond)
        name = " ".join(one.lstrip("+") for one in others if one not in common)
        found.append(Combination(list(members[0]), texts, search, name=name))
    return found


def next_round(members: Sequence[Combination], every: int, most: int | None) -> list[tuple[Combination, float]]:
    """Return the rates of all combinations to train next, as one stack; none: all searches have ended.

    Args:
        members: the combinations.
        every: the first round has every n-th of the listed rates.
        most: maximum number of trainings of all rounds together; None: no limit.

    Raises:
        LabError: the first round takes more.
    """
    wanted = [[(one, rate) for rate in one.next_rates(every)] for one in members]
    first = not any(one.known for one in members)
    left = math.inf
    if most is not None:
        left = most - sum(len(losses) for one in members for losses in one.known.values())
    chosen = []
    # The first rates of all, then the second ones.
    for row in itertools.zip_longest(*wanted):
        for pair in row:
            if pair is None:
                continue
            if pair[0].repeats <= left:
                left -= pair[0].repeats
                chosen.append(pair)
            elif first:
                needed = sum(one.repeats for pairs in wanted for one, _ in pairs)
                raise LabError(
                    "The budget of hydra.sweeper.most_points does not hold the rates to begin with.",
                    expected=f"at least {needed:,}, one for each rate, seed and combination",
                    received=f"{most:,}",
                    fix=f"hydra.sweeper.most_points={needed}, or fewer rates, seeds or combinations",
                )
    return chosen


def _key(override: str) -> str:
    return override.partition("=")[0]


def _is_rate(override: str) -> bool:
    return _key(override).lstrip("+") == RATE


def _rate(point: Sequence[str]) -> tuple[float, str]:
    """Return the rate of a point, and its text.

    Raises:
        LabError: it is not a number above 0.
    """
    text = next(one for one in point if _is_rate(one)).partition("=")[2]
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise LabError(
            "hydra/sweeper=refine cannot begin with one of the learning rates.",
            expected="numbers above 0, as their logarithm is refined",
            received=f"{RATE}={text}",
            fix="correct it or leave it out",
        )
    return rate, text
