"""Compute the numbers behind the plots, as arrays that tests compare by value. Does not import matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Epochs and values of a metric.
Series = tuple[Floats, Floats]

# The largest number on a linear axis, and the range of a logarithmic axis. matplotlib places margins and ticks beyond
# the numbers, and these must not overflow. On a logarithmic axis these may be as many decades away as the axis spans.
LARGEST = 1e270
LOG_SMALLEST = 1e-120
LOG_LARGEST = 1e120
# A loss below this is rounding; showing it would squeeze the meaningful values into the upper part.
ROUNDING = 1e-16
# The rates at the two ends of the palette, for a rate that is drawn alone.
PALETTE_RATES = (1e-4, 1e3)


class Curve(NamedTuple):
    """A line of a plot: steps and values, both (records,), and whether the run diverged to inf or NaN."""

    steps: NDArray[np.int64]
    values: Floats
    diverged: bool


@dataclass(frozen=True)
class Axis:
    """A knob and its values, as they are written and placed in a figure.

    Attributes:
        title: what is written along the axis.
        ticks: the text of each value.
        labels: the label of each value in a legend.
        numbers: the place of each value: the value itself, or its rank if not all of them are numbers.
        logarithmic: whether the axis is logarithmic; then all numbers are positive.
        rates: whether the values are learning rates, which have colours of their own.
        joined: whether a line may join neighbouring values, because they are numbers.
    """

    title: str
    ticks: list[str]
    labels: list[str]
    numbers: list[float]
    logarithmic: bool
    rates: bool
    joined: bool


@dataclass(frozen=True)
class ResultGrid:
    """A final metric over two knobs, usually the rate (columns) and the hidden size (rows).

    Attributes:
        across: (columns,) the knob of the columns.
        up: (rows,) the knob of the rows.
        values: (rows, columns) result of each cell, the mean over seeds; NaN if it has none.
        low: (rows, columns) lower end of the interval of the mean; NaN with one seed, whose noise is unknown.
        high: (rows, columns) its upper end.
        texts: what is written in a cell by (row, column), where it is more than the value.
        best: (rows, columns) whether the cell is among the best: none was shown to be better.
        diverged: (rows, columns) whether a point of the cell diverged.
        stalled: (rows, columns) whether the diagnosis of a point of the cell is "stalled".
    """

    across: Axis
    up: Axis
    values: Floats
    low: Floats
    high: Floats
    texts: Mapping[tuple[int, int], str]
    best: NDArray[np.bool_]
    diverged: NDArray[np.bool_]
    stalled: NDArray[np.bool_]


def drawable(values: NDArray[np.floating]) -> Floats:
    """Limit numbers to what fits on a linear axis. NaN, which is not drawn, stays NaN."""
    limited: Floats = np.clip(values.astype(np.float64), -LARGEST, LARGEST)
    return limited


def drawable_on_log(values: NDArray[np.floating]) -> Floats:
    """Limit positive numbers to what fits on a logarithmic axis."""
    limited: Floats = np.clip(values.astype(np.float64), LOG_SMALLEST, LOG_LARGEST)
    return limited


def on_log_axis(value: float) -> float:
    """Limit a positive number, for instance a learning rate, to what fits on a logarithmic axis."""
    return min(max(value, LOG_SMALLEST), LOG_LARGEST)


def palette_position(rate: float) -> float:
    """Return the position of a rate on the palette, 0 to 1, by its logarithm, clipped at the ends."""
    low, high = (math.log10(end) for end in PALETTE_RATES)
    # A rate of 0, or one below it, has no logarithm.
    return min(max((math.log10(max(rate, PALETTE_RATES[0])) - low) / (high - low), 0.0), 1.0)


def score_limits(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """Return limits of a linear axis that show how far apart curves end; None if they have no finite values.

    The first record of each curve and the first quarter of them, in which a network leaves chance, do not count for the
    lower limit: the curves enter the axes from below.
    """
    finite = [curve.values[np.isfinite(curve.values)] for curve in curves]
    finite = [drawable(values) for values in finite if len(values)]
    if not finite:
        return None
    low = min(float(values[min(max(len(values) // 4, 1), len(values) - 1) :].min()) for values in finite)
    high = max(float(values.max()) for values in finite)
    margin = 0.06 * (high - low) or 0.01 * max(abs(high), 1.0)
    return low - margin, high + margin


def log_floor(values: Floats) -> float:
    """Return the lower edge of a logarithmic axis for final values, at which those below it are drawn.

    It is a tenth of the smallest positive one, but of values below 1e-16, which are rounding, only if all are.
    """
    positive = values[values > 0]
    if not len(positive):
        return 0.1
    smallest = float(positive.min())
    if smallest < ROUNDING <= float(positive.max()):
        return ROUNDING
    return on_log_axis(smallest / 10)


def log_limits(curves: Sequence[Curve], max_growth: float = 1e4) -> tuple[float, float]:
    """Return limits of a logarithmic axis that leave the curves readable even if one of them explodes.

    Args:
        curves: the curves to draw; values of zero and below are ignored.
        max_growth: maximum of the upper limit, as a multiple of the largest first value. A curve that climbs higher
            leaves the axes.
    """
    positive = [c.values[c.values > 0] for c in curves]
    positive = [values for values in positive if len(values)]
    if not positive:
        return 0.1, 1.0
    low = max(min(float(values.min()) for values in positive), ROUNDING)
    high = max(float(values.max()) for values in positive)
    high = min(high, max_growth * max(float(values[0]) for values in positive))
    return on_log_axis(low) / 1.5, on_log_axis(max(high, low)) * 1.5


def quantile_bands(values: Floats, max_weights: int = 50_000) -> Floats:
    """Compute the smallest, 5 %, 25 %, median, 75 %, 95 % and largest of the weights at each snapshot.

    With more than `max_weights` weights the five inner quantiles are computed from every n-th weight: sorting all of
    them is slow, and the plot looks the same.

    Args:
        values: (snapshots, weights).
        max_weights: maximum number of weights from which the inner quantiles are computed.

    Returns:
        (7, snapshots).
    """
    # -(-a // b) is a / b rounded up.
    thinned = values[:, :: -(-values.shape[1] // max_weights)]
    inner = np.quantile(thinned, [0.05, 0.25, 0.5, 0.75, 0.95], axis=1)
    bands: Floats = np.vstack([values.min(axis=1), inner, values.max(axis=1)])
    return bands


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Spread labels with little movement: at least `gap` between neighbours, order kept, all within 0 to 1.

    The result is the mean of pushing all labels up and pushing all of them down. If there are too many labels, the gap
    shrinks to what fits.
    """
    if len(positions) > 1:
        gap = min(gap, 1 / (len(positions) - 1))
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    room = gap * (len(positions) - 1)
    up: list[float] = []
    down: list[float] = []
    # A label must leave `gap` for each label below it and for each label above it. Within these bounds it stays where
    # it is, unless it would come closer than `gap` to the label that was placed before it.
    previous = -math.inf
    for rank, index in enumerate(order):
        lowest = gap * rank
        highest = 1 - room + gap * rank
        previous = max(lowest, previous + gap, min(positions[index], highest))
        up.append(previous)
    previous = math.inf
    for rank, index in reversed(list(enumerate(order))):
        lowest = gap * rank
        highest = 1 - room + gap * rank
        previous = min(highest, previous - gap, max(positions[index], lowest))
        down.append(previous)
    placed = [0.0] * len(positions)
    for index, upper, lower in zip(order, up, reversed(down), strict=True):
        placed[index] = (upper + lower) / 2
    return placed
