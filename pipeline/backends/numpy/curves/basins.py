"""A map of a curve: a ball for every pair of learning rate and start, and the minimum that the ball ends in."""

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

# The largest number of balls that roll together: small enough for their arrays to fit in the cache.
BLOCK_BALLS = 8192
# Values of `minimum` for a ball that rests in no minimum, and for one that has diverged.
UNSETTLED = -1
LOST = -2
# The arrays of such a map: `x` (columns,) and `y` (rows,), the values of the axes; `knobs` (2,), their names; and for
# each ball (rows, columns)
#
# - `minimum`: the index of the minimum that it rests in, from the left; -1 if it rests in none, -2 if it diverged;
# - `end`: its position; NaN if it has not been trained yet;
# - `updates`: the number of updates after which it settled or diverged, else the number of all updates.
Basins = dict[str, NDArray[Any]]


def empty_basins(axes: GridAxes) -> Basins:
    """Return the arrays of a map before its first ball has rolled."""
    shape = (axes.y.count, axes.x.count)
    arrays: Basins = {"x": axes.x.values(), "y": axes.y.values(), "knobs": np.array([a.knob for a in axes.axes])}
    numbers = {"end": np.full(shape, np.nan), "updates": np.full(shape, -1, dtype=np.int64)}
    return arrays | {"minimum": np.full(shape, UNSETTLED, dtype=np.int64)} | numbers


def basin_blocks(axes: GridAxes) -> list[NDArray[np.intp]]:
    """Divide the balls of a map into blocks, as positions counted row by row."""
    # Rounded up, so that no block has more than BLOCK_BALLS.
    return np.array_split(np.arange(axes.points), -(-axes.points // BLOCK_BALLS))


def roll_block(config: Config, values: Mapping[str, NDArray[np.float64]], stop: threading.Event) -> Basins:
    """Let the balls of one block roll from their first to their last update.

    Args:
        config: the map's config.
        values: the learning rate and the start of each ball, by config key, (balls,).
        stop: set when the block is no longer needed.

    Returns:
        The numbers of each ball, (balls,) each.
    """
    curve = curve_of(curve_data(config))
    starts = values["balls.start"].astype(config.dtype)
    rates = values["optimizer.learning_rate"]
    updates = config.training.epochs
    rolling = Rolling(curve, starts, config.optimizer, rates, config.schedule, updates)
    with np.errstate(all="ignore"):
        for _ in range(updates):
            rolling.step()
            if stop.is_set():
                break
    minimum = np.where(rolling.lost >= 0, LOST, rolling.minimum())
    return {"minimum": minimum, "end": rolling.x.astype(np.float64), "updates": rolling.ended()}


def check_basins(arrays: Mapping[str, NDArray[Any]], axes: GridAxes) -> None:
    """Check that arrays are those of a map of a curve with these axes.

    Raises:
        ValueError: a name, a shape or a type differs.
    """
    expected = {name: (array.shape, array.dtype.kind) for name, array in empty_basins(axes).items()}
    received = {name: (array.shape, array.dtype.kind) for name, array in arrays.items()}
    if received != expected:
        raise ValueError(
            f"expected the arrays of a map of {axes.y.count} rows and {axes.x.count} columns, received {received}"
        )


def basin_metrics(arrays: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Return the metrics of a map of a curve: balls, shares settled and diverged, and the number of minima found."""
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
