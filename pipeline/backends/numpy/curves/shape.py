"""Curves over one number x: height and slope, and the positions of their minima and valleys."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.config.curve import CurveData
from pipeline.config.expressions import Array, Dual, parse

# The number of positions of the domain at which the sign of the slope is computed. Minima between two neighbouring
# positions are found as one.
SAMPLES = 10_001
# After this many bisections the ends of an interval are neighbouring floats.
HALVINGS = 80
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A curve and its shape between the ends of its domain.

    Attributes:
        at: computes heights and slopes at positions (balls,), in their dtype.
        lowest: the left end of the domain.
        highest: the right end of the domain.
        minima: (minima,) positions at which the slope changes from falling to rising, ascending.
        maxima: (maxima,) positions at which it changes from rising to falling, ascending; the borders of the valleys.
    """

    at: Callable[[Array], Dual]
    lowest: float
    highest: float
    minima: Floats
    maxima: Floats

    @property
    def width(self) -> float:
        """The width of the domain."""
        return self.highest - self.lowest

    @property
    def deepest(self) -> int:
        """The index of the lowest minimum; -1 if there is none."""
        if not len(self.minima):
            return -1
        return int(np.argmin(self.at(self.minima).value))

    def label(self, x: float) -> str:
        """Format a position, to about a thousandth of the width."""
        digits = max(0, 3 - math.floor(math.log10(self.width)))
        # Adding 0.0 turns -0.0 into 0.0, which is printed without a sign.
        return f"{round(x, digits) + 0.0:.{max(3, 1 + digits)}g}"

    def nearest(self, x: Array) -> NDArray[np.intp]:
        """Return the index of the minimum nearest to each position; there must be a minimum."""
        # The border between two minima is half way between them.
        return np.searchsorted((self.minima[1:] + self.minima[:-1]) / 2, x)

    def valley(self, x: Array) -> NDArray[np.intp]:
        """Return the index of the minimum in the valley of each position, between two maxima; -1 if it has none."""
        # Valley i ends at maximum i; the valleys at the ends of the domain may fall outwards and have no minimum.
        bottoms = np.full(len(self.maxima) + 1, -1, dtype=np.intp)
        bottoms[np.searchsorted(self.maxima, self.minima)] = np.arange(len(self.minima))
        return bottoms[np.searchsorted(self.maxima, x)]

    def shares(self) -> Floats:
        """Return the share of the domain that belongs to the valley of each minimum, (minima,)."""
        ends = np.concatenate([[self.lowest], self.maxima, [self.highest]])
        valleys = np.searchsorted(self.maxima, self.minima)
        result: Floats = np.diff(ends)[valleys] / self.width
        return result

    def curvatures(self) -> Floats:
        """Return the second derivative at each minimum, (minima,), as a central difference of slopes."""
        # Small compared with the width, large compared with the rounding of float64.
        step = self.width * 1e-6
        result: Floats = (self.at(self.minima + step).slope - self.at(self.minima - step).slope) / (2 * step)
        return result


@cache
def curve_of(data: CurveData) -> Curve:
    """Return the curve that a config describes."""
    function = parse(data.expression) if data.expression is not None else _through(data)

    def at(x: Array) -> Dual:
        with np.errstate(all="ignore"):
            return function(x)

    minima = _turns(at, data.lowest, data.highest, 1.0)
    maxima = _turns(at, data.lowest, data.highest, -1.0)
    return Curve(at, data.lowest, data.highest, minima, maxima)


def _through(data: CurveData) -> Callable[[Array], Dual]:
    """Return a natural cubic spline through points, which continues straight beyond the first and the last point."""
    # Imported here because SciPy takes long to import, and few studies need such a curve.
    from scipy.interpolate import CubicSpline

    x, heights = np.array(data.points or (), np.float64).T
    spline = CubicSpline(x, heights, bc_type="natural")
    derivative = spline.derivative()

    def function(positions: Array) -> Dual:
        inside = np.clip(positions, x[0], x[-1])
        slope = derivative(inside)
        # The second term is 0 between the first and the last point.
        heights = spline(inside) + slope * (positions - inside)
        return Dual(heights.astype(positions.dtype), slope.astype(positions.dtype))

    return function


def _turns(at: Callable[[Array], Dual], lowest: float, highest: float, sign: float) -> Floats:
    """Find the positions at which the slope times a sign changes from below 0 to above 0, by bisection."""

    def slopes(x: Floats) -> Floats:
        result: Floats = sign * at(x).slope
        return result

    positions = np.linspace(lowest, highest, SAMPLES)
    found = slopes(positions)
    # A slope of 0 has no sign: a sample exactly on a minimum is skipped, and its neighbours enclose the minimum.
    signed = np.flatnonzero(np.isfinite(found) & (found != 0))
    turns = np.flatnonzero((found[signed[:-1]] < 0) & (found[signed[1:]] > 0))
    low = positions[signed[turns]]
    high = positions[signed[turns + 1]]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        value = slopes(middle)
        # A middle with slope 0 becomes both ends, and the interval stays there.
        low = np.where(value <= 0, middle, low)
        high = np.where(value >= 0, middle, high)
    result: Floats = (low + high) / 2
    return result
