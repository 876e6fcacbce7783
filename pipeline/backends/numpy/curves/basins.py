"""A map of a curve: a ball for every pair of a learning rate and a starting place, and the minimum that it ends in."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.curves.descent import curve_data
from pipeline.backends.numpy.curves.rolling import Rolling
from pipeline.backends.numpy.curves.shape import curve_of
from pipeline.config.map_axes import GridAxes
from pipeline.config.schema import Config

BLOCK_BALLS = 8192
"""How many balls roll at once: few enough for the cache."""
UNSETTLED, LOST = -1, -2
Basins = dict[str, NDArray[Any]]
"""`x` (columns,) and `y` (rows,), the values of the axes; `knobs` (2,), their names; and for each ball (rows, columns)

- `minimum`: which minimum it rests in, from the left; -1 where it rests in none, -2 where it diverged;
- `end`: where it is; NaN where it has not been trained yet;
- `updates`: after how many it settled or diverged, else how many there were.
"""


def empty_basins(axes: GridAxes) -> Basins:
    """A map's arrays before its first ball has rolled."""
    shape = axes.y.count, axes.x.count
    arrays: Basins = {"x": axes.x.values(), "y": axes.y.values(), "knobs": np.array([a.knob for a in axes.axes])}
    numbers = {"end": np.full(shape, np.nan), "updates": np.full(shape, -1, dtype=np.int64)}
    return arrays | {"minimum": np.full(shape, UNSETTLED, dtype=np.int64)} | numbers


def basin_blocks(axes: GridAxes) -> list[NDArray[np.intp]]:
    """The balls of a map in blocks, as positions row by row."""
    return np.array_split(np.arange(axes.points), -(-axes.points // BLOCK_BALLS))


def roll_block(config: Config, values: Mapping[str, NDArray[np.float64]], stop: threading.Event) -> Basins:
    """Let the balls of one block roll from their first to their last update.

    Args:
        config: of the map.
        values: the learning rate and the start of each ball, by knob, (balls,).
        stop: set when nobody waits for the block any more.

    Returns:
        What is kept of each ball, (balls,) each.
    """
    curve = curve_of(curve_data(config))
    starts = values["balls.start"].astype(config.dtype)
    rates, updates = values["optimizer.learning_rate"], config.training.epochs
    rolling = Rolling(curve, starts, config.optimizer, rates, config.schedule, updates)
    with np.errstate(all="ignore"):
        for _ in range(updates):
            rolling.step()
            if stop.is_set():
                break
    minimum = np.where(rolling.lost >= 0, LOST, rolling.minimum())
    return {"minimum": minimum, "end": rolling.x.astype(np.float64), "updates": rolling.ended()}


def check_basins(arrays: Mapping[str, NDArray[Any]], axes: GridAxes) -> None:
    """Make sure that arrays are those of a map of a curve with these axes.

    Raises:
        ValueError: a name, a shape or a type is another.
    """
    expected = {name: (array.shape, array.dtype.kind) for name, array in empty_basins(axes).items()}
    received = {name: (array.shape, array.dtype.kind) for name, array in arrays.items()}
    if received != expected:
        raise ValueError(f"a map of {axes.y.count} rows and {axes.x.count} columns with other arrays: {received}")


def basin_metrics(arrays: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """A map of a curve in numbers: balls, the shares that settled and diverged, and how many minima were found."""
    trained = np.isfinite(arrays["end"])
    count = int(trained.sum())
    values = {"map/points": float(count)}
    if not count:
        return values
    minimum = arrays["minimum"][trained]
    values["map/converged_share"] = float(np.mean(minimum >= 0))
    values["map/diverged_share"] = float(np.mean(minimum == LOST))
    values["map/minima_found"] = float(len(np.unique(minimum[minimum >= 0])))
    return values
