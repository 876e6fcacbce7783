"""The rate that the range tests of several seeds suggest together, in sentences and numbers.

Rates are compared by their ratios, so the suggested rate of n seeds is the geometric mean of their rates. With m the
mean of log10(rate) and s its standard deviation, the 95 % interval of the suggested rate is that of Student (1908):

    10^(m - t s / sqrt(n))  to  10^(m + t s / sqrt(n)),

where t is the 97.5 % quantile of Student's t distribution with n - 1 degrees of freedom.

Seeds without a clear minimum are no part of the mean. They are counted, with what their smoothed loss does instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.diagnosis.range_test import RangeTest, range_test, shortage
from pipeline.points.point import Point
from pipeline.studies.grids import cell_metric, cells
from pipeline.studies.knobs import layout
from pipeline.studies.statistics.intervals import Estimate
from pipeline.system.wording import listed, some

# The powers of ten that an interval may have: that of two seeds that differ a lot would be too wide for floats.
POWERS = (-300.0, 300.0)
# A rate is suggested if more than this share of the seeds has a clear minimum: otherwise a clear one may be chance.
NEEDED = 0.5
# Maximum number of seeds to name in a sentence.
MOST_NAMED = 8


@dataclass(frozen=True)
class SuggestedRate:
    """The geometric mean of the suggested rates of some seeds.

    Attributes:
        rate: the mean.
        low: lower end of its 95 % interval; NaN with one seed.
        high: upper end.
        seeds: number of seeds with a clear minimum, which the mean is of.
    """

    rate: float
    low: float
    high: float
    seeds: int

    def __str__(self) -> str:
        """The rate with its interval, for instance `0.31 (0.25 to 0.38, 8 seeds)`."""
        if self.seeds == 1:
            return f"{two_digits(self.rate)} (one seed: the spread is unknown)"
        return f"{two_digits(self.rate)} ({two_digits(self.low)} to {two_digits(self.high)}, {self.seeds} seeds)"


@dataclass(frozen=True)
class SeedTests:
    """Range tests that differ in nothing but the seed.

    Attributes:
        name: the values of the other knobs that vary, for instance `hidden size 16`; empty if none does.
        points: (seeds,) the points.
        tests: (seeds,) their range tests; None for those with too few losses.
    """

    name: str
    points: tuple[Point, ...]
    tests: tuple[RangeTest | None, ...]

    @property
    def clear(self) -> list[RangeTest]:
        """The tests with a clear minimum."""
        return [test for test in self.tests if test is not None and test.suggested_rate is not None]

    @property
    def suggested(self) -> SuggestedRate | None:
        """The rate that they suggest together; None if too few have a clear minimum (`NEEDED`)."""
        if len(self.clear) <= NEEDED * len(self.points):
            return None
        return geometric_mean([test.suggested_rate for test in self.clear if test.suggested_rate is not None])

    @property
    def unclear(self) -> dict[str, list[int]]:
        """The seeds without a clear minimum, by the reason."""
        reasons: dict[str, list[int]] = {}
        for point, test in zip(self.points, self.tests, strict=True):
            if test is not None and test.suggested_rate is not None:
                continue
            if test is not None and test.unclear is not None:
                reason = str(test.unclear)
            else:
                needed, received = shortage(point.history)
                reason = f"the test needs {needed}, and has {received}, so train longer (training.epochs)"
            reasons.setdefault(reason, []).append(point.config.seed)
        return reasons


def geometric_mean(rates: Sequence[float]) -> SuggestedRate:
    """Return the geometric mean of rates, at least one, with its 95 % interval.

    Example:
        >>> str(geometric_mean([0.1, 0.2, 0.4]))
        '0.2 (0.036 to 1.1, 3 seeds)'
    """
    logs = Estimate(tuple(math.log10(rate) for rate in rates), len(rates), POWERS)
    if logs.interval is None:
        return SuggestedRate(rates[0], math.nan, math.nan, 1)
    low, high = logs.interval
    return SuggestedRate(10**logs.mean, 10**low, 10**high, len(rates))


def seed_tests(points: Sequence[Point]) -> list[SeedTests]:
    """Group range tests, at least one, that differ in nothing but the seed."""
    shown = layout(points)
    groups = []
    for cell in cells(points, shown, cell_metric(points)):
        name = ", ".join(knob.said(knob.of(cell.points[0])) for knob in shown.knobs)
        groups.append(SeedTests(name, tuple(cell.points), tuple(range_test(point.history) for point in cell.points)))
    return groups


def range_sentences(points: Sequence[Point]) -> Iterator[str]:
    """Yield the suggested rate with its spread over seeds, and the seeds that have no clear minimum.

    Example:
        the range test suggests a rate of 0.31 (0.25 to 0.38, 8 seeds), one third of the rate where the smoothed loss is
        lowest.
    """
    for group in seed_tests(points):
        for sentence in _of_seeds(group):
            yield f"{group.name}: {sentence}" if group.name else sentence


def range_headline(points: Sequence[Point]) -> str:
    """Return a one-line summary, for instance `suggested rate 0.31 (0.25 to 0.38, 8 seeds)`."""
    parts = []
    for group in seed_tests(points):
        text = f"suggested rate {group.suggested}"
        if group.suggested is None:
            text = minimum_counts(group)
        parts.append(f"{group.name}: {text}" if group.name else text)
    return "; ".join(parts)


def range_numbers(points: Sequence[Point]) -> dict[str, float]:
    """Return how many points have a clear minimum and, if they differ in nothing but the seed, the suggested rate."""
    groups = seed_tests(points)
    numbers: dict[str, float] = {"clear_minima": sum(len(group.clear) for group in groups)}
    found = groups[0].suggested
    if len(groups) > 1 or found is None:
        return numbers
    numbers["suggested_rate"] = found.rate
    if found.seeds > 1:
        numbers |= {"suggested_rate_low": found.low, "suggested_rate_high": found.high}
    return numbers


def two_digits(rate: float) -> str:
    """Format a rate: a range test is accurate to two digits at most."""
    return f"{float(f'{rate:.2g}'):g}"


def minimum_counts(group: SeedTests) -> str:
    """Count the seeds with a clear minimum, and say what the others do; `unclear` must not be empty.

    Example:
        7 of 8 seeds have a clear minimum: with seed 3, the smoothed loss is lowest at the start, 0.1, so ...
    """
    total = len(group.points)
    clear = len(group.clear)
    count = f"{clear} of {total} seeds {'has' if clear == 1 else 'have'} a clear minimum"
    if clear == 0:
        count = f"none of {total} seeds has a clear minimum"
    if total == 1:
        count = "there is no clear minimum"
    if 0 < clear <= NEEDED * total:
        count += ", too few to suggest a rate"
    texts = []
    for reason, seeds in group.unclear.items():
        text = reason
        if len(seeds) < total:
            noun = "seed" if len(seeds) == 1 else "seeds"
            text = f"with {noun} {_named(seeds)}, {reason}"
        texts.append(text)
    return f"{count}: {'; '.join(texts)}"


def _of_seeds(group: SeedTests) -> Iterator[str]:
    """Yield the sentences on range tests that differ in nothing but the seed."""
    found = group.suggested
    if found is not None:
        yield f"the range test suggests a rate of {found}, one third of the rate where the smoothed loss is lowest."
        details = "; ".join(_details(group.clear))
        if details:
            yield f"{details}."
    if group.unclear:
        yield f"{minimum_counts(group)}."


def _details(clear: Sequence[RangeTest]) -> Iterator[str]:
    """Yield how much single seeds differ, and where the loss falls fastest and diverges, on average."""
    rates = [test.suggested_rate for test in clear if test.suggested_rate is not None]
    if len(rates) > 1:
        yield f"single seeds suggest {two_digits(min(rates))} to {two_digits(max(rates))}"
    ends = []
    fastest = [float(test.rates[test.steepest]) for test in clear if test.steepest is not None]
    if fastest:
        ends.append(f"falls fastest at {two_digits(geometric_mean(fastest).rate)}")
    diverging = [float(test.rates[test.last]) for test in clear if test.last < len(test.rates)]
    if diverging:
        ends.append(f"diverges at {two_digits(geometric_mean(diverging).rate)}")
    if ends:
        yield f"the loss {listed(ends)}"


def _named(seeds: Sequence[int]) -> str:
    """List seeds; of many only the first ones and their number."""
    names = [str(seed) for seed in seeds]
    if len(names) > MOST_NAMED:
        return some(names, MOST_NAMED)
    return listed(names)
