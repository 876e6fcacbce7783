"""Two contenders, measured in turn, and what a benchmark came to."""

from __future__ import annotations

import gc
import importlib
import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

PEERS = {
    "torch": "torch",
    "jax": "jax",
    "sklearn": "scikit-learn",
    "optuna": "optuna",
    "ray": "ray[tune]",
    "lightning": "lightning",
}
"""Optional packages: module by the name that pip knows."""


class NotMeasured(Exception):  # noqa: N818 - a result that is told, not an error
    """Something that a benchmark needs is not there; says what, and what to do."""


class Contenders(NamedTuple):
    """What is measured in turn. Each call measures once and returns a number: seconds, or what the unit says."""

    ours: Callable[[], float]
    theirs: Callable[[], float]


@dataclass(frozen=True)
class Benchmark:
    """One row of the table.

    Attributes:
        name: what `--only` calls it.
        what, against: what is measured, and what it is divided by.
        goal: the largest ratio that meets it.
        how: what exactly the two do.
        contenders: makes both ready, and takes away afterwards what they left; may raise NotMeasured.
        unit: of both numbers.
        most_rounds: where the rounds that were asked for would take too long.
    """

    name: str
    what: str
    against: str
    goal: float
    how: str
    contenders: Callable[[], AbstractContextManager[Contenders]]
    unit: str = "s"
    most_rounds: int = 100


@dataclass(frozen=True)
class Result:
    """What a benchmark came to: the numbers of each round, or why there are none."""

    benchmark: Benchmark
    ours: Sequence[float] = ()
    theirs: Sequence[float] = ()
    missing: str = ""

    @property
    def ratio(self) -> float:
        """median(ours) / median(theirs); nan where it was not measured."""
        return statistics.median(self.ours) / statistics.median(self.theirs) if self.ours else math.nan

    @property
    def met(self) -> bool:
        """Whether the ratio is at most the goal."""
        return self.ratio <= self.benchmark.goal


def measure(benchmark: Benchmark, rounds: int) -> Result:
    """Measure both contenders in turn; which comes first changes from round to round.

    Args:
        benchmark: which.
        rounds: how often each is measured, but for `benchmark.most_rounds`.
    """
    ours: list[float] = []
    theirs: list[float] = []
    try:
        with benchmark.contenders() as pair:
            for number in range(min(rounds, benchmark.most_rounds)):
                turns = [(pair.ours, ours), (pair.theirs, theirs)]
                for contender, values in turns if number % 2 == 0 else reversed(turns):
                    gc.collect()
                    values.append(contender())
    except NotMeasured as reason:
        return Result(benchmark, missing=str(reason))
    return Result(benchmark, ours, theirs)


def peer(module: str) -> Any:
    """Import an optional package, or a part of it.

    Raises:
        NotMeasured: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        name = PEERS[module.partition(".")[0]]
        raise NotMeasured(f"{name} is not installed (pip install -r benchmarks/peers.txt)") from None


def spread(values: Sequence[float]) -> str:
    """Median, smallest and largest: `1.57 (1.51 to 1.66)`."""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The b of value = a * size^b by least squares of log(value) against log(size).

    Args:
        sizes: at least two different sizes.
        values: a value for each size.

    Returns:
        nan where a value is not above 0.
    """
    if min(values) <= 0:
        return math.nan
    x, y = np.log(sizes), np.log(values)
    x -= x.mean()
    return float((x * y).sum() / (x * x).sum())
