"""Training a map: for every pair of two knobs' values a network of its own, in blocks of points.

A block is as many points as the cache holds well; as many blocks train at once as there are cores. Training takes the
memory of these blocks, whatever the size of the map. What a point comes to does not depend on its block. On a GPU one
block trains at a time, of as many points as keep it busy.
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
from pipeline.backends.numpy.packed import Packed
from pipeline.backends.shared.initial_weights import Weights, draw
from pipeline.backends.shared.recorder import Recorder, of_one_point
from pipeline.config.map_axes import GridAxes
from pipeline.config.model import layer_sizes
from pipeline.config.optimizer import Optimizer
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays
from pipeline.system.processes import cores

BLOCK_BYTES = 2**22
"""What the buffers of one block take, about: small enough for the cache, large enough that calls cost little."""
GPU_BLOCK_BYTES = 2**24
"""The same on a GPU, where a call costs as much for any block that does not fill it: ten thousand networks of four
hidden units are one block, and larger maps have a checkpoint on the way."""
RECORDS = 200
"""How often the state of the map is recorded, at most."""
Places = NDArray[np.intp]


def map_axes(config: Config) -> GridAxes:
    """The axes of a map's config.

    Raises:
        ValueError: it is none.
    """
    if config.grid is None:
        raise ValueError("expected a config with a grid")
    return config.grid


def blocks(config: Config, arrays: Arrays) -> list[Places]:
    """The points of a map in blocks of networks of one shape, or the balls of a curve, as positions row by row."""
    axes = map_axes(config)
    if config.data.kind == "curve":
        return basin_blocks(axes)
    values = knob_values(axes, np.arange(axes.points))
    sizes = values.get("model.hidden_size", np.full(axes.points, config.model.hidden_size or 0))
    found, room = list[Places](), GPU_BLOCK_BYTES if on_gpu(config) else BLOCK_BYTES
    for size in np.unique(sizes):
        members = np.flatnonzero(sizes == size)
        widths = layer_sizes(_with_size(config, int(size)).model, arrays.features, arrays.outputs)
        weights = sum((inputs + 1) * outputs for inputs, outputs in pairwise(widths))
        numbers = 4 * weights + 3 * len(arrays.train_inputs) * (max(widths[1:]) + widths[-1])
        most = max(2, room // (numbers * np.dtype(config.dtype).itemsize))
        found += np.array_split(members, max(1, len(members) // most))
    return found


def knob_values(axes: GridAxes, places: Places) -> dict[str, NDArray[np.float64]]:
    """The value of each of the two knobs at positions of a map, (places,)."""
    rows, columns = np.divmod(places, axes.x.count)
    return {axes.x.knob: axes.x.values()[columns], axes.y.knob: axes.y.values()[rows]}


@of_one_point
def train_map(config: Config, arrays: Arrays, recorder: Recorder) -> None:
    """Train the map of one config: the history gets its arrays, and metrics by the number of blocks that are done.

    Raises:
        ValueError: the config is not of a map.
    """
    (history,) = recorder.histories
    todo = blocks(config, arrays)
    curve = config.data.kind == "curve"
    empty, metrics = (empty_basins, basin_metrics) if curve else (empty_map, map_metrics)
    done = recorder.begun
    if not done:
        history.map_arrays = empty(map_axes(config))
    every = -(-len(todo) // RECORDS)
    stop = threading.Event()
    pool = ThreadPoolExecutor(1 if on_gpu(config) else cores(), thread_name_prefix="block")
    try:
        # In their order, so that the number of blocks that are done says which.
        futures = [pool.submit(train_block, config, arrays, places, stop) for places in todo[done:]]
        for number, (places, future) in enumerate(zip(todo[done:], futures, strict=True), done + 1):
            _fill(history.map_arrays, places, future)
            if number % every == 0 or number == len(todo):
                values = metrics(history.map_arrays)
                history.record(number, values)
                recorder.report(number, values.get("map/best_loss", math.nan))
            if number < len(todo):
                recorder.keep(number, lambda: [{}])
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
    history.epochs = config.training.epochs


def _fill(map_arrays: MapArrays, places: Places, future: Future[MapArrays]) -> None:
    for name, values in future.result().items():
        map_arrays[name].flat[places] = values


def train_block(config: Config, arrays: Arrays, places: Places, stop: threading.Event) -> MapArrays:
    """Train the networks of one block from their first to their last update.

    Args:
        config: of the map.
        arrays: the data.
        places: the block's points, all of one hidden size, as positions in the map, row by row.
        stop: set when nobody waits for the block any more; what it gives then is of no use.

    Returns:
        What is kept of each point, (places,) each.
    """
    values = knob_values(map_axes(config), places)
    if config.data.kind == "curve":
        return roll_block(config, values, stop)
    if "model.hidden_size" in values:
        config = _with_size(config, int(values["model.hidden_size"][0]))
    parameters = _initial(config, arrays, values.get("seed"), len(places))
    gradient = parameters.like(parameters.flat.dtype)
    arrays, epochs = uploaded(arrays, parameters.module), config.training.epochs
    tally = Tally(len(places), epochs + 1, parameters.module)
    chosen = _optimizers(config, values, len(places))
    descent = Descent(chosen, config.model, config.schedule, epochs, parameters, gradient)
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
        for call in network.program:
            call()
        tally.see(network.losses())
        return tally.arrays()


def _initial(config: Config, arrays: Arrays, seeds: NDArray[np.float64] | None, grid: int) -> Packed:
    """The weights that a block begins from, those of each point by its seed."""

    @cache
    def drawn(seed: int) -> Weights:
        return draw(config.model, arrays.features, arrays.outputs, seed, config.dtype)

    chosen = [config.seed] * grid if seeds is None else [int(seed) for seed in seeds]
    shapes = {name: np.atleast_2d(array).shape for name, array in drawn(chosen[0]).items()}
    two = {name: (rows, columns) for name, (rows, columns) in shapes.items()}
    packed = Packed(two, grid, config.dtype, True, array_module(config))
    return packed.fill([drawn(seed) for seed in chosen])


def _optimizers(config: Config, values: Mapping[str, NDArray[np.float64]], grid: int) -> list[Optimizer]:
    """The optimizer of each point, with the knobs that are its own."""
    own = {knob.removeprefix("optimizer."): at for knob, at in values.items() if knob.startswith("optimizer.")}
    return [
        config.optimizer.model_copy(update={name: float(at[place]) for name, at in own.items()})
        for place in range(grid)
    ]  # fmt: skip


def _with_size(config: Config, size: int) -> Config:
    """The config with another hidden size; 0: without a hidden layer."""
    model = config.model.model_copy(update={"hidden_size": size or None})
    return config.model_copy(update={"model": model})
