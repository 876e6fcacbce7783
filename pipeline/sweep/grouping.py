"""Group points into stacks, which train together, and into units, which are given to workers.

A stack is a group of points of one shape that train together, along the first axis of every array. A unit is what one
worker trains at a time: a stack, or a part of one if there would be too few units to keep all workers busy.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from pipeline.backends.numpy.maps.rate_map import blocks
from pipeline.backends.shared.history import record_epochs
from pipeline.config.model import Model, layer_sizes
from pipeline.config.optimizer import SEARCHES
from pipeline.config.schema import Config
from pipeline.data.arrays import EVALUATION_ROWS, Arrays
from pipeline.system import limits
from pipeline.system.errors import LabError

# Approximate limit for the memory of the arrays of one stack. A larger stack is split.
STACK_BYTES = 2**30
# A stack takes at most one part in this many of the memory of a small machine or container.
STACK_SHARE = 4
# Memory for each point of a map while the map is written and drawn.
MAP_BYTES = 400
# Memory for one recorded value as a Python object.
METRIC_BYTES = 200


def stacks(points: Sequence[tuple[Config, Arrays]], most: int | None = None) -> list[list[int]]:
    """Group points that can train as one stack, in blocks that fit in memory.

    Points on Keras, maps, balls on a curve, and points of an optimizer that searches train alone.

    Args:
        points: configs with their data, of which only the shapes are used.
        most: maximum number of points in a stack; None: as many as fit in memory.

    Returns:
        Indices into `points`, grouped.
    """
    by_shape: dict[str, list[int]] = {}
    for index, (config, _) in enumerate(points):
        key = f"alone {index}"
        if not _trains_alone(config):
            key = stack_key(config)
        by_shape.setdefault(key, []).append(index)
    groups = []
    room = min(STACK_BYTES, limits.memory() // STACK_SHARE)
    for members in by_shape.values():
        # All members have the same shape, so each takes as much memory as the first.
        size = room // memory(*points[members[0]])
        size = max(1, min(size, most or size))
        groups += [members[start : start + size] for start in range(0, len(members), size)]
    return groups


def _trains_alone(config: Config) -> bool:
    """Whether a point cannot be in a stack with others."""
    map_or_balls = config.grid is not None or config.balls is not None
    return map_or_balls or config.backend.name == "keras" or config.optimizer.name in SEARCHES


def units(points: Sequence[tuple[Config, Arrays]], workers: int) -> list[list[int]]:
    """Split stacks into units until there are two for each worker, if there are enough points.

    Args:
        points: configs with their data.
        workers: number of units that train at the same time.

    Returns:
        Indices into `points`, grouped; largest unit first.

    Example:
        Eight rates of one shape are one stack. For two workers they become four units of two points each.
    """
    groups = stacks(points)

    def work(group: Sequence[int]) -> int:
        return sum(memory(*points[index]) * points[index][0].training.epochs for index in group)

    # With two units for each, a worker that finishes early takes over some of the remaining work. More units would mean
    # smaller stacks, which train more slowly.
    while len(groups) < 2 * workers and any(len(group) > 1 for group in groups):
        largest = max((group for group in groups if len(group) > 1), key=work)
        groups.remove(largest)
        half = (len(largest) + 1) // 2
        groups += [largest[:half], largest[half:]]
    # If the largest unit started last, the other workers would wait for it.
    return sorted(groups, key=work, reverse=True)


def stack_key(config: Config) -> str:
    """Return a text that is equal for points that can train as one stack.

    Such points differ only in settings of the optimizer, the seed or the initial values.
    """
    settings: dict[str, Any] = config.model_dump(
        mode="json", exclude={"seed": True, "model": {"initial_weight", "initial_bias"}}
    )
    # Settings of an optimizer are arrays over the grid axis. Only the method itself has to be the same.
    settings["optimizer"] = config.optimizer.name
    return json.dumps(settings, sort_keys=True)


def steps(config: Config, arrays: Arrays) -> tuple[int, str]:
    """Return the number of progress steps of a stack, and their name: epochs, or the blocks of a map."""
    if config.grid is not None:
        return len(blocks(config, arrays)), "block"
    return config.training.epochs, "epoch"


def memory(config: Config, arrays: Arrays) -> int:
    """Estimate the bytes that a point needs while it trains.

    This counts the parameters and all arrays of their size, the activations of one batch or of one block of evaluated
    rows, the recorded metrics if each weight is recorded, and the vectors of SciPy's optimizers. For a map it counts
    only the memory to store and draw all its points.
    """
    if config.grid is not None:
        return config.grid.points * MAP_BYTES
    # What the layers of a model of one's own take is known only once they are made; its inputs and outputs are.
    sizes = [arrays.features, arrays.outputs]
    plain = True
    if isinstance(config.model, Model):
        sizes = layer_sizes(config.model, arrays.features, arrays.outputs)
        plain = config.model.plain
    weights = sum(inputs * outputs for inputs, outputs in pairwise(sizes))
    if config.balls:
        weights = config.balls.count
    rows = min(config.training.batch_size or len(arrays.train_inputs), len(arrays.train_inputs))
    recording = config.recording
    records = len(record_epochs(config.training.epochs, recording.metrics_every))
    snapshots = min(recording.snapshots, records)
    # Arrays as large as the weights: parameters, gradient, two moments, update, and one temporary array.
    weight_copies = 6
    # Arrays of one value per row and unit: the activations, forward and backward.
    unit_copies = 4
    if not plain:
        # Masks of dropped weights and units, and the arrays that other kinds of layers keep for the backward pass.
        weight_copies = 8
        unit_copies = 8
    # Validation and test rows go through the network forwards only, in blocks.
    evaluated = max((len(inputs) for _, inputs, _ in arrays.evaluated(last=True)), default=0)
    rows_of_units = max(unit_copies * rows, min(evaluated, EVALUATION_ROWS))
    numbers = (weight_copies + snapshots) * weights + rows_of_units * sum(sizes[1:])
    # SciPy computes in float64, 8 bytes, whatever the dtype of the point. BFGS holds about five square matrices at
    # once: the inverse Hessian, and those that update it. L-BFGS keeps two vectors for each step that it remembers.
    vectors = {"bfgs": 5 * weights, "lbfgs": 2 * getattr(config.optimizer, "memory", 0) + 12}
    needed = 8 * weights * vectors.get(config.optimizer.name, 0) + np.dtype(config.dtype).itemsize * numbers
    if recording.curvature:
        measured = rows
        if config.training.batch_size is not None:
            measured = min(len(arrays.train_inputs), config.curvature.rows)
        # In float64: about 14 arrays of a value per row and unit, the rows themselves, and the vectors of Lanczos.
        vectors_of_lanczos = max(20, 2 * config.curvature.count + 1)
        needed += 8 * (measured * (14 * sum(sizes[1:]) + sizes[0]) + vectors_of_lanczos * weights)
    if recording.weight_metrics:
        needed += records * weights * METRIC_BYTES
    return needed


def check_memory(config: Config, arrays: Arrays) -> None:
    """Refuse a point that does not fit in memory.

    Raises:
        LabError: the point needs more memory than this machine, or the container, has.
    """
    needed = memory(config, arrays)
    allowed = limits.memory()
    if needed <= allowed:
        return
    subject = "network"
    settings = "model.hidden_size, training.batch_size or recording.snapshots"
    if config.grid is not None:
        subject = "map"
        settings = "grid.x or grid.y"
    raise LabError(
        f"The {subject} does not fit in memory.",
        expected=f"at most {allowed / 2**30:.3g} GiB, the memory of this machine or container",
        received=f"about {needed / 2**30:.3g} GiB",
        fix=f"choose a smaller {settings}",
    )
