"""The mean of a metric over seeds, with its 95 % confidence interval.

With n values x of mean m and sample standard deviation s, the interval of Student (1908) is

    m - t s / sqrt(n)  to  m + t s / sqrt(n),

where t is the 97.5 % quantile of Student's t distribution with n - 1 degrees of freedom. It holds the true mean in 95 %
of all samples if the values are normally distributed, and about so if they are not.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# The confidence of all intervals.
CONFIDENCE = 0.95
# Bounds that metrics have by their definition, by the last part of their name. An interval does not leave them.
BOUNDS = {
    "loss": (0.0, math.inf),
    "mean_absolute_error": (0.0, math.inf),
    "root_mean_squared_error": (0.0, math.inf),
    "accuracy": (0.0, 1.0),
    "balanced_accuracy": (0.0, 1.0),
    "auc": (0.0, 1.0),
    "r2": (-math.inf, 1.0),
}
NO_BOUNDS = (-math.inf, math.inf)
# Numbers from here to there are written without a power of ten.
PLAIN = (1e-3, 1e5)
# Maximum number of digits of a mean. An interval that is narrower than the last of them is written by itself.
MOST_DIGITS = 4


@dataclass(frozen=True)
class Estimate:
    """A metric of points that differ in nothing but their seed.

    Attributes:
        values: the final values of the seeds that trained.
        asked: number of seeds, those that diverged included.
        bounds: the smallest and the largest value that the metric can have.
    """

    values: tuple[float, ...]
    asked: int
    bounds: tuple[float, float] = NO_BOUNDS

    @property
    def trained(self) -> int:
        """Number of seeds that did not diverge."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """The mean; NaN if no seed trained."""
        if not self.values:
            return math.nan
        return float(np.mean(self._scaled)) * self._scale

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation, with n - 1; None with fewer than two values, whose noise is unknown."""
        if self.trained < 2:
            return None
        return float(np.std(self._scaled, ddof=1)) * self._scale

    @property
    def _scale(self) -> float:
        """The power of two below the largest value: dividing by it rounds nothing, and no square overflows."""
        _, exponent = math.frexp(max(map(abs, self.values), default=1.0))
        return math.ldexp(1.0, exponent - 1)

    @property
    def _scaled(self) -> list[float]:
        return [value / self._scale for value in self.values]

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval before it is cut at the bounds; None with fewer than two values."""
        if self.deviation is None:
            return None
        return quantile(self.trained - 1) * self.deviation / math.sqrt(self.trained)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The ends of the interval, within the bounds; None with fewer than two values."""
        if self.half_width is None:
            return None
        lowest, highest = self.bounds
        return max(lowest, self.mean - self.half_width), min(highest, self.mean + self.half_width)

    @property
    def number(self) -> str:
        """The mean and half the width of its interval, `0.976 ± 0.003`; of one value, only the value."""
        if self.half_width is None:
            return f"{self.mean:.3g}"
        return plus_minus(self.mean, self.half_width)

    @property
    def seeds(self) -> str:
        """How many seeds trained: `5`, or `4 of 5`."""
        if self.trained < self.asked:
            return f"{self.trained} of {self.asked}"
        return f"{self.asked}"

    @property
    def text(self) -> str:
        """The mean, half the width of its interval and the number of seeds: `0.976 ± 0.003 (5)`, `(4 of 5)`.

        Of one value, only the value; of none, `diverged`.
        """
        if not self.values:
            return "diverged"
        if self.asked == 1:
            return self.number
        return f"{self.number} ({self.seeds})"


def estimate(values: Sequence[float], metric: str) -> Estimate:
    """Return the estimate of a metric from its final values; those that are not finite are seeds that diverged.

    Example:
        >>> estimate([0.975, 0.977, 0.976], "test/accuracy").text
        '0.9760 ± 0.0025 (3)'
    """
    finite = tuple(value for value in values if math.isfinite(value))
    return Estimate(finite, len(values), BOUNDS.get(metric.rpartition("/")[2], NO_BOUNDS))


def quantile(freedom: int) -> float:
    """Return the quantile of Student's t distribution that half an interval has, for these degrees of freedom."""
    # Imported here: it takes a tenth of a second, and most commands train one seed.
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def plus_minus(value: float, half_width: float) -> str:
    """Return `value ± half_width` with the digits that the width leaves: one, or two if the first is 1 or 2.

    The value has four digits at most, `0.9765 ± 3e-06`; a whole number has all of them.
    """
    # Below the normal floats there is no power of ten to divide by.
    if not sys.float_info.min <= half_width < math.inf:
        return f"{_rounded(value)} ± {half_width:.1g}"
    last = -math.inf
    if value:
        last = math.floor(math.log10(abs(value))) - MOST_DIGITS + 1
    digits = math.floor(math.log10(half_width))
    if digits < last:
        return f"{_rounded(value)} ± {half_width:.1g}"
    largest = max(abs(value), half_width)
    if not PLAIN[0] <= largest < PLAIN[1]:
        power = math.floor(math.log10(largest))
        return f"({plus_minus(value / 10**power, half_width / 10**power)})e{power}"
    # Rounded, because 0.3 / 0.1 is a little less than 3.
    if round(half_width / 10**digits, 6) < 3 and digits > last:
        digits -= 1
    decimals = max(0, -digits)
    return f"{value:.{decimals}f} ± {half_width:.{decimals}f}"


def _rounded(value: float) -> str:
    """Return a value with four digits; a whole number has all of them, rather than an exponent."""
    if 10**MOST_DIGITS <= abs(value) < PLAIN[1]:
        return f"{value:.0f}"
    return f"{value:.{MOST_DIGITS}g}"
