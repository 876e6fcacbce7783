"""A sweep as a grid over rates and hidden sizes: which there are, what it is judged by, and its values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.drawing.plot_data import Grid
from pipeline.points.point import Point

Backends = Mapping[str, Sequence[Point]]
"""The points of each backend."""
METRIC_NAMES = {
    "train/loss": "training loss",
    "test/loss": "test loss",
    "train/accuracy": "training accuracy",
    "test/accuracy": "test accuracy",
    "train/mean_absolute_error": "mean absolute error",
}
CELL_METRICS = ("test/accuracy", "train/mean_absolute_error", "train/loss")
"""What a sweep is judged by: the first of these that was recorded."""


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


def recorded(points: Sequence[Point], metric: str) -> bool:
    """Whether any point of a sweep has a metric."""
    return any(metric in point.outcome.final for point in points)


def cell_metric(points: Sequence[Point]) -> str:
    """What a sweep is judged by: test accuracy, else the mean absolute error, else the loss."""
    return next((name for name in CELL_METRICS if recorded(points, name)), CELL_METRICS[-1])


def grid(points: Sequence[Point], metric: str) -> Grid:
    """The final value of a metric over rates and hidden sizes. A diverged point has no final value."""
    columns = rates(points)
    rows = hidden_sizes(points)
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
