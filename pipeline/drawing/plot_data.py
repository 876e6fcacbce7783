"""What the plots show, as plain arrays: the half of plotting that is tested by value. No matplotlib here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.losses import loss_and_slope
from pipeline.backends.numpy.network import forward
from pipeline.backends.shared.history import History
from pipeline.config.data import TableData
from pipeline.config.schema import Config
from pipeline.points.point import Point

Floats = NDArray[np.float64]

PALETTE_RATES = (1e-4, 1e3)
"""The rates at the two ends of the palette; fixed, so that a rate has the same colour in every plot."""

CELL_METRICS = ("test/accuracy", "train/mean_absolute_error", "train/loss")
"""What a sweep is judged by: the first of these that was recorded."""


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
        stalled: (rows, columns) whether a point of the cell stalled: see diagnosis.py.
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


def rates(points: Sequence[Point]) -> list[float]:
    """The learning rates of a sweep, ascending."""
    return sorted({point.learning_rate for point in points})


def hidden_sizes(points: Sequence[Point]) -> list[int | None]:
    """The hidden sizes of a sweep, ascending; None (no hidden layer) first."""
    return sorted({point.hidden_size for point in points}, key=lambda size: size or 0)


def with_size(points: Sequence[Point], size: int | None) -> list[Point]:
    """The points of one hidden size, by rising rate."""
    chosen = [point for point in points if point.hidden_size == size]
    return sorted(chosen, key=lambda point: point.learning_rate)


def curve(history: History, metric: str) -> Curve:
    """One metric over the epochs; empty where it was not recorded."""
    steps, values = history.series(metric)
    return Curve(steps, values.astype(np.float64), history.diverged_step is not None)


def recorded(points: Sequence[Point], metric: str) -> bool:
    """Whether any point of a sweep has a metric."""
    return any(metric in point.outcome.final for point in points)


def cell_metric(points: Sequence[Point]) -> str:
    """What a sweep is judged by: test accuracy, else the mean absolute error, else the loss."""
    return next((name for name in CELL_METRICS if recorded(points, name)), CELL_METRICS[-1])


def grid(points: Sequence[Point], metric: str) -> Grid:
    """The final value of a metric over rates and hidden sizes. A diverged point has no final value."""
    columns, rows = rates(points), hidden_sizes(points)
    cells: dict[tuple[int, int], list[float]] = {}
    diverged, stalled = (np.zeros((len(rows), len(columns)), dtype=np.bool_) for _ in range(2))
    for point in points:
        place = (rows.index(point.hidden_size), columns.index(point.learning_rate))
        value = point.outcome.final.get(metric, math.nan)
        cells.setdefault(place, []).append(math.nan if point.diverged else value)
        diverged[place] |= point.diverged
        stalled[place] |= point.diagnosis.verdict == "stalled"
    values = np.full(diverged.shape, np.nan)
    for place, members in cells.items():
        finished = [value for value in members if math.isfinite(value)]
        values[place] = np.median(finished) if finished else np.nan
    return Grid(columns, rows, values, diverged, stalled, max(map(len, cells.values()), default=0))


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


def weight_lines(history: History) -> dict[str, tuple[NDArray[np.int64], Floats]]:
    """Every weight over the snapshots: for each array its steps (snapshots,) and values (snapshots, weights).

    Snapshots with inf or NaN in any array are left out.
    """
    steps = [
        step for step, arrays in sorted(history.snapshots.items()) if all(np.isfinite(a).all() for a in arrays.values())
    ]
    names = list(history.snapshots[steps[0]]) if steps else []
    return {
        name: (
            np.array(steps, dtype=np.int64),
            np.stack([history.snapshots[step][name].ravel().astype(np.float64) for step in steps]),
        )
        for name in names
    }


def quantile_bands(values: Floats, most: int = 50_000) -> Floats:
    """Smallest, 5 %, 25 %, median, 75 %, 95 % and largest of (snapshots, weights): (7, snapshots).

    Of more than `most` weights the inner five are taken from every n-th weight, which is as good to look at.
    """
    some = values[:, :: -(-values.shape[1] // most)]
    inner = np.quantile(some, [0.05, 0.25, 0.5, 0.75, 0.95], axis=1)
    bands: Floats = np.vstack([values.min(axis=1), inner, values.max(axis=1)])
    return bands


def has_two_weights(history: History) -> bool:
    """Whether the network is two weights and nothing else, so that its whole error surface can be drawn."""
    first = history.snapshots.get(0, {})
    return list(first) == ["layer_0/weights"] and first["layer_0/weights"].shape == (2, 1)


def loss_at(config: Config, weights: Floats) -> Floats:
    """The training loss of a two-weight network at pairs of weights (pairs, 2): (pairs,). The pairs are the grid."""
    if not isinstance(config.data, TableData):
        raise TypeError("an error surface is for data written in a table")
    parameters = {"layer_0/weights": weights[..., None]}
    sums = forward(config.model, parameters, np.array(config.data.inputs))[-1]
    losses, _ = loss_and_slope(config.loss, config.model.output_activation, sums, np.array(config.data.targets))
    return losses.astype(np.float64)


def loss_surface(config: Config, span: float = 10.0, count: int = 61) -> tuple[Floats, Floats]:
    """The loss over both weights from -span to span.

    Returns:
        The axis (count,), and the loss (count, count): rows are the second weight, columns the first.
    """
    axis = np.linspace(-span, span, count)
    first, second = np.meshgrid(axis, axis)
    return axis, loss_at(config, np.stack([first.ravel(), second.ravel()], axis=1)).reshape(count, count)


def target_slope(config: Config) -> float | None:
    """The slope of the line that fits a table of one input and one output best; None for other data."""
    data = config.data
    if not isinstance(data, TableData) or len(data.inputs[0]) != 1 or len(data.targets[0]) != 1:
        return None
    x, y = np.array(data.inputs)[:, 0], np.array(data.targets)[:, 0]
    if np.ptp(x) == 0:
        return None
    return float(np.polyfit(x, y, 1)[0])


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
