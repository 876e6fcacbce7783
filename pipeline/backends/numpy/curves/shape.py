"""Curves over one number x: height and slope, and where their minima and valleys are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.config.curve import CurveData
from pipeline.config.expressions import Array, Dual, parse

PLACES = 10_001
"""At so many places of the domain the slope's sign is looked at; minima closer together than that are one."""
HALVINGS = 80
"""After so many the ends of an interval are neighbouring numbers."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A curve and its shape between the ends of its domain.

    Attributes:
        at: heights and slopes at positions (balls,), in their dtype.
        lowest, highest: the ends of the domain.
        minima: (minima,) where the slope turns from falling to rising, ascending.
        maxima: (maxima,) where it turns from rising to falling, ascending; the borders of the valleys.
    """

    at: Callable[[Array], Dual]
    lowest: float
    highest: float
    minima: Floats
    maxima: Floats

    @property
    def width(self) -> float:
        """Of the domain."""
        return self.highest - self.lowest

    @property
    def deepest(self) -> int:
        """Which minimum is the lowest; -1 where there is none."""
        return int(np.argmin(self.at(self.minima).value)) if len(self.minima) else -1

    def place(self, x: float) -> str:
        """A position as text, to about a thousandth of the width."""
        digits = max(0, 3 - math.floor(math.log10(self.width)))
        return f"{round(x, digits) + 0.0:.{max(3, 1 + digits)}g}"

    def nearest(self, x: Array) -> NDArray[np.intp]:
        """Which minimum is nearest to each position; there must be one."""
        return np.searchsorted((self.minima[1:] + self.minima[:-1]) / 2, x)

    def valley(self, x: Array) -> NDArray[np.intp]:
        """Which minimum lies in the valley of each position, between two maxima; -1 where none does."""
        bottoms = np.full(len(self.maxima) + 1, -1, dtype=np.intp)
        bottoms[np.searchsorted(self.maxima, self.minima)] = np.arange(len(self.minima))
        return bottoms[np.searchsorted(self.maxima, x)]

    def shares(self) -> Floats:
        """The share of the domain that the valley of each minimum takes, (minima,)."""
        ends = np.concatenate([[self.lowest], self.maxima, [self.highest]])
        valleys = np.searchsorted(self.maxima, self.minima)
        result: Floats = np.diff(ends)[valleys] / self.width
        return result

    def curvatures(self) -> Floats:
        """The second derivative at each minimum, (minima,), as a difference of slopes."""
        step = self.width * 1e-6
        result: Floats = (self.at(self.minima + step).slope - self.at(self.minima - step).slope) / (2 * step)
        return result


@cache
def curve_of(data: CurveData) -> Curve:
    """The curve that a config describes."""
    function = parse(data.expression) if data.expression is not None else _through(data)

    def at(x: Array) -> Dual:
        with np.errstate(all="ignore"):
            return function(x)

    ends = data.lowest, data.highest
    return Curve(at, *ends, _turns(at, *ends, 1.0), _turns(at, *ends, -1.0))


def _through(data: CurveData) -> Callable[[Array], Dual]:
    """A natural cubic spline through points; beyond the first and the last it goes on straight."""
    from scipy.interpolate import CubicSpline

    x, heights = np.array(data.points or (), np.float64).T
    spline = CubicSpline(x, heights, bc_type="natural")
    derivative = spline.derivative()

    def function(places: Array) -> Dual:
        inside = np.clip(places, x[0], x[-1])
        slope = derivative(inside)
        heights = spline(inside) + slope * (places - inside)
        return Dual(heights.astype(places.dtype), slope.astype(places.dtype))

    return function


def _turns(at: Callable[[Array], Dual], lowest: float, highest: float, sign: float) -> Floats:
    """Where the slope, times a sign, goes from below 0 to above 0, by bisection."""

    def slopes(x: Floats) -> Floats:
        result: Floats = sign * at(x).slope
        return result

    places = np.linspace(lowest, highest, PLACES)
    found = slopes(places)
    there = np.flatnonzero(np.isfinite(found) & (found != 0))  # a place on the minimum itself says nothing
    turns = np.flatnonzero((found[there[:-1]] < 0) & (found[there[1:]] > 0))
    low, high = places[there[turns]], places[there[turns + 1]]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        value = slopes(middle)
        low, high = np.where(value <= 0, middle, low), np.where(value >= 0, middle, high)
    result: Floats = (low + high) / 2
    return result
