"""Arrange the points of a sweep over rates and hidden sizes: the axes, the metric to compare, and the values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.drawing.plot_data import ResultGrid
from pipeline.points.point import Point

# Points by the name of their backend.
PointsByBackend = Mapping[str, Sequence[Point]]
METRIC_NAMES = {
    "train/loss": "training loss",
    "test/loss": "test loss",
    "train/accuracy": "training accuracy",
    "test/accuracy": "test accuracy",
    "train/mean_absolute_error": "mean absolute error",
}
# The metrics to compare points by; the first one that was recorded is used. Accuracy on rows that were not trained on
# comes first; the mean absolute error is the number that the source texts print.
CELL_METRICS = ("test/accuracy", "train/mean_absolute_error", "train/loss")


def rates(points: Sequence[Point]) -> list[float]:
    """Return the learning rates of a sweep, ascending."""
    return sorted({point.learning_rate for point in points})


def hidden_sizes(points: Sequence[Point]) -> list[int | None]:
    """Return the hidden sizes of a sweep, ascending; None (no hidden layer) comes first."""
    return sorted({point.hidden_size for point in points}, key=lambda size: size or 0)


def with_size(points: Sequence[Point], size: int | None) -> list[Point]:
    """Return the points of one hidden size, by ascending rate."""
    chosen = [point for point in points if point.hidden_size == size]
    return sorted(chosen, key=lambda point: point.learning_rate)


def recorded(points: Sequence[Point], metric: str) -> bool:
    """Whether at least one of the points has a final value of the metric."""
    return any(metric in point.outcome.final for point in points)


def cell_metric(points: Sequence[Point]) -> str:
    """Return the metric for comparing points: test accuracy, otherwise the mean absolute error, otherwise the loss."""
    return next((name for name in CELL_METRICS if recorded(points, name)), CELL_METRICS[-1])


def result_grid(points: Sequence[Point], metric: str) -> ResultGrid:
    """Arrange the final values of a metric over rates and hidden sizes.

    Diverged points have no final value. Points that share a cell are represented by their median.
    """
    columns = rates(points)
    rows = hidden_sizes(points)
    shape = (len(rows), len(columns))
    cells: dict[tuple[int, int], list[float]] = {}
    diverged = np.zeros(shape, dtype=np.bool_)
    stalled = np.zeros(shape, dtype=np.bool_)
    for point in points:
        cell = (rows.index(point.hidden_size), columns.index(point.learning_rate))
        value = point.outcome.final.get(metric, math.nan)
        # The last metrics before divergence do not describe the rate.
        if point.diverged:
            value = math.nan
        cells.setdefault(cell, []).append(value)
        diverged[cell] |= point.diverged
        stalled[cell] |= point.diagnosis.verdict == "stalled"
    values = np.full(shape, np.nan)
    for cell, members in cells.items():
        finished = [value for value in members if math.isfinite(value)]
        if finished:
            values[cell] = np.median(finished)
    return ResultGrid(
        rates=columns,
        sizes=rows,
        values=values,
        diverged=diverged,
        stalled=stalled,
        points_per_cell=max(map(len, cells.values()), default=0),
    )
