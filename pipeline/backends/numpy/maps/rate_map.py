"""Training of a map: one network for every pair of values of two settings, in blocks of points.

A block holds as many points as fit in the cache, and one block trains on each core. Only these blocks use memory,
regardless of the size of the map. The results of a point do not depend on its block. On a GPU one block trains at a
time, with enough points to keep the GPU busy.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.array_modules import array_module, on_gpu, uploaded
from pipeline.backends.numpy.curves.basins import basin_blocks, basin_metrics, empty_basins, roll_block
from pipeline.backends.numpy.descent import Descent
from pipeline.backends.numpy.many_networks import GridLast
from pipeline.backends.numpy.maps.measures import MapArrays, Tally, empty_map, map_metrics
from pipeline.backends.numpy.packed import Packed, shapes_of
from pipeline.backends.shared.initial_weights import Weights, draw
from pipeline.backends.shared.recorder import Recorder, of_one_point
from pipeline.config.map_axes import GridAxes
from pipeline.config.model import layer_sizes
from pipeline.config.optimizer import Optimizer
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays
from pipeline.system.processes import cores

# The approximate size of one block's buffers: small enough for the cache, large enough that calls cost little.
BLOCK_BYTES = 2**22
# The same on a GPU, where a call takes the same time for any block that does not fill the GPU. Ten thousand networks of
# four hidden units are one block; larger maps can have a checkpoint between their blocks.
GPU_BLOCK_BYTES = 2**24
# The largest number of records of a map's state.
RECORDS = 200
Positions = NDArray[np.intp]


def map_axes(config: Config) -> GridAxes:
    """Return the axes of a map's config.

    Raises:
        ValueError: the config is not a map's.
    """
    if config.grid is None:
        raise ValueError("expected a config with a grid")
    return config.grid


def blocks(config: Config, arrays: Arrays) -> list[Positions]:
    """Divide a map into blocks of networks of one shape, or of balls of a curve, as positions counted row by row."""
    axes = map_axes(config)
    if config.data.kind == "curve":
        return basin_blocks(axes)
    values = knob_values(axes, np.arange(axes.points))
    sizes = values.get("model.hidden_size", np.full(axes.points, config.model.hidden_size or 0))
    room = GPU_BLOCK_BYTES if on_gpu(config) else BLOCK_BYTES
    found: list[Positions] = []
    for size in np.unique(sizes):
        members = np.flatnonzero(sizes == size)
        widths = layer_sizes(_with_size(config, int(size)).dense, arrays.features, arrays.outputs)
        # One point has weights, gradient, change and scratch, and about three buffers for the rows of each layer.
        weights = sum((inputs + 1) * outputs for inputs, outputs in pairwise(widths))
        numbers = 4 * weights + 3 * len(arrays.train_inputs) * (max(widths[1:]) + widths[-1])
        # At least two points: for one NumPy would sum in a different order; see `GridLast`.
        most = max(2, room // (numbers * np.dtype(config.dtype).itemsize))
        found += np.array_split(members, max(1, len(members) // most))
    return found


def knob_values(axes: GridAxes, positions: Positions) -> dict[str, NDArray[np.float64]]:
    """Return the values of the map's two settings at some positions, by config key, (positions,) each."""
    rows, columns = np.divmod(positions, axes.x.count)
    return {axes.x.knob: axes.x.values()[columns], axes.y.knob: axes.y.values()[rows]}


@of_one_point
def train_map(config: Config, arrays: Arrays, recorder: Recorder) -> None:
    """Train the map of one config. The history receives its arrays, and metrics by the number of completed blocks.

    Raises:
        ValueError: the config is not a map's.
    """
    (history,) = recorder.histories
    todo = blocks(config, arrays)
    empty = empty_map
    metrics = map_metrics
    if config.data.kind == "curve":
        empty = empty_basins
        metrics = basin_metrics
    done = recorder.begun
    if not done:
        history.map_arrays = empty(map_axes(config))
    # Rounded up, so that there are at most RECORDS records.
    every = -(-len(todo) // RECORDS)
    stop = threading.Event()
    pool = ThreadPoolExecutor(1 if on_gpu(config) else cores(), thread_name_prefix="block")
    try:
        # Collected in order, so that the number of completed blocks identifies them.
        futures = [pool.submit(train_block, config, arrays, positions, stop) for positions in todo[done:]]
        for number, (positions, future) in enumerate(zip(todo[done:], futures, strict=True), done + 1):
            _fill(history.map_arrays, positions, future)
            if number % every == 0 or number == len(todo):
                values = metrics(history.map_arrays)
                history.record(number, values)
                recorder.report(number, values.get("map/best_loss", math.nan))
            if number < len(todo):
                # The state is in the history's arrays, which a checkpoint contains anyway.
                recorder.keep(number, lambda: [{}])
    finally:
        # Also when training is stopped: blocks that train end at their next update, and the others do not start.
        stop.set()
        pool.shutdown(cancel_futures=True)
    history.epochs = config.training.epochs


def _fill(map_arrays: MapArrays, positions: Positions, future: Future[MapArrays]) -> None:
    """Wait for a block, and copy its numbers to the map."""
    for name, values in future.result().items():
        map_arrays[name].flat[positions] = values


def train_block(config: Config, arrays: Arrays, positions: Positions, stop: threading.Event) -> MapArrays:
    """Train the networks of one block from their first to their last update.

    Args:
        config: the map's config.
        arrays: the data.
        positions: the positions of the block's points in the map, counted row by row; all points have the same hidden
            size.
        stop: set when the block is no longer needed; the result is then incomplete, and must be discarded.

    Returns:
        The numbers of each point, (positions,) each.
    """
    values = knob_values(map_axes(config), positions)
    if config.data.kind == "curve":
        return roll_block(config, values, stop)
    if "model.hidden_size" in values:
        config = _with_size(config, int(values["model.hidden_size"][0]))
    parameters = _initial(config, arrays, values.get("seed"), len(positions))
    gradient = parameters.like(parameters.flat.dtype)
    arrays = uploaded(arrays, parameters.module)
    epochs = config.training.epochs
    tally = Tally(len(positions), epochs + 1, parameters.module)
    optimizers = _optimizers(config, values, len(positions))
    descent = Descent(optimizers, config.dense, config.schedule, epochs, parameters, gradient)
    network = GridLast(config, arrays.scaled(arrays.train_inputs), arrays.train_targets, parameters, gradient)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for update in range(1, epochs + 1):
            for call in network.program:
                call()
            tally.see(network.losses())
            descent.step(update)
            np.add(parameters.flat, descent.change.flat, out=parameters.flat)
            if stop.is_set():
                break
        # The loss after the last update.
        for call in network.program:
            call()
        tally.see(network.losses())
        return tally.arrays()


def _initial(config: Config, arrays: Arrays, seeds: NDArray[np.float64] | None, grid: int) -> Packed:
    """Return the initial weights of a block, drawn with each point's seed."""

    # In most maps many points share a seed.
    @cache
    def drawn(seed: int) -> Weights:
        return draw(config.dense, arrays.features, arrays.outputs, seed, config.dtype)

    chosen = [config.seed] * grid
    if seeds is not None:
        chosen = [int(seed) for seed in seeds]
    packed = Packed(shapes_of(drawn(chosen[0])), grid, config.dtype, True, array_module(config))
    return packed.fill([drawn(seed) for seed in chosen])


def _optimizers(config: Config, values: Mapping[str, NDArray[np.float64]], grid: int) -> list[Optimizer]:
    """Return the optimizer of each point, with its own values of the settings that are axes."""
    own = {knob.removeprefix("optimizer."): at for knob, at in values.items() if knob.startswith("optimizer.")}
    optimizers = []
    for index in range(grid):
        knobs = {name: float(at[index]) for name, at in own.items()}
        optimizers.append(config.optimizer.model_copy(update=knobs))
    return optimizers


def _with_size(config: Config, size: int) -> Config:
    """Return the config with another hidden size; 0: without a hidden layer."""
    model = config.model.model_copy(update={"hidden_size": size or None})
    return config.model_copy(update={"model": model})
