"""What the plots show, as plain arrays: the half of plotting that is tested by value. No matplotlib here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Series = tuple[Floats, Floats]
"""Epochs and values of a metric."""

PALETTE_RATES = (1e-4, 1e3)
"""The rates at the two ends of the palette; fixed, so that a rate has the same colour in every plot."""


class Curve(NamedTuple):
    """A line of a plot: steps and values (records,), and whether training ended because the loss became inf or NaN."""

    steps: NDArray[np.int64]
    values: Floats
    diverged: bool


@dataclass(frozen=True)
class Grid:
    """A metric over rates and hidden sizes.

    Attributes:
        rates: (columns,) ascending.
        sizes: (rows,) ascending; None is a network without a hidden layer.
        values: (rows, columns) median over the finished points of a cell, NaN where there is none.
        diverged: (rows, columns) whether a point of the cell diverged.
        stalled: (rows, columns) whether a point of the cell stalled, as its diagnosis says.
        points_per_cell: the largest number of points that share a cell.
    """

    rates: list[float]
    sizes: list[int | None]
    values: Floats
    diverged: NDArray[np.bool_]
    stalled: NDArray[np.bool_]
    points_per_cell: int


def palette_position(rate: float) -> float:
    """Where a rate stands on the palette, 0 to 1, by its logarithm; rates beyond the ends get the ends."""
    low, high = (math.log10(end) for end in PALETTE_RATES)
    return min(max((math.log10(rate) - low) / (high - low), 0.0), 1.0)


def log_limits(curves: Sequence[Curve], most: float = 1e4) -> tuple[float, float]:
    """Limits of a logarithmic axis that an explosion does not flatten.

    Args:
        curves: what is drawn; zeros and below cannot be.
        most: how many times the largest first value is still shown; a curve that climbs higher leaves the panel.
    """
    positive = [c.values[c.values > 0] for c in curves]
    positive = [values for values in positive if len(values)]
    if not positive:
        return 0.1, 1.0
    low = max(min(float(values.min()) for values in positive), 1e-16)
    high = max(float(values.max()) for values in positive)
    high = min(high, most * max(float(values[0]) for values in positive))
    return low / 1.5, max(high, low) * 1.5


def quantile_bands(values: Floats, most: int = 50_000) -> Floats:
    """Smallest, 5 %, 25 %, median, 75 %, 95 % and largest of (snapshots, weights): (7, snapshots).

    Of more than `most` weights the inner five are taken from every n-th weight, which is as good to look at.
    """
    some = values[:, :: -(-values.shape[1] // most)]
    inner = np.quantile(some, [0.05, 0.25, 0.5, 0.75, 0.95], axis=1)
    bands: Floats = np.vstack([values.min(axis=1), inner, values.max(axis=1)])
    return bands


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Move labels apart as little as is simple: at least `gap` between neighbours, order kept, within 0 to 1.

    The mean of pushing everything up and pushing everything down. With too many labels the gap shrinks to what fits.
    """
    if len(positions) > 1:
        gap = min(gap, 1 / (len(positions) - 1))
    order = sorted(range(len(positions)), key=lambda place: positions[place])
    room = gap * (len(positions) - 1)
    up: list[float] = []
    down: list[float] = []
    for rank, place in enumerate(order):
        lowest = gap * rank
        least = max(lowest, up[-1] + gap) if up else lowest
        up.append(max(least, min(positions[place], 1 - room + gap * rank)))
    for rank, place in reversed(list(enumerate(order))):
        highest = 1 - room + gap * rank
        most = min(highest, down[-1] - gap) if down else highest
        down.append(min(most, max(positions[place], gap * rank)))
    placed = [0.0] * len(positions)
    for place, upper, lower in zip(order, up, reversed(down), strict=True):
        placed[place] = (upper + lower) / 2
    return placed
