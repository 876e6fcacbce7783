"""Which points train as one stack."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import psutil

from pipeline.backends.numpy.maps.rate_map import blocks
from pipeline.backends.shared.history import record_epochs
from pipeline.config.model import layer_sizes
from pipeline.config.optimizer import ALONE
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays
from pipeline.system.errors import LabError

PASS_BYTES = 2**30
"""Memory that the arrays of one stack may take, roughly; a larger stack is split."""
MAP_BYTES = 400
"""What a point of a map takes when the map is written and drawn."""
METRIC_BYTES = 200
"""What one recorded value takes, as a Python object."""


def stacks(points: Sequence[tuple[Config, Arrays]]) -> list[list[int]]:
    """Group points that fit on one grid axis, in blocks that fit in memory.

    Keras' points, maps, balls on a curve and points of a method with a `train` of its own go one at a time.

    Returns:
        Positions in `points`, grouped.
    """
    of_one_shape: dict[str, list[int]] = {}
    for place, (config, _) in enumerate(points):
        apart = config.grid is not None or config.balls is not None or config.optimizer.name in ALONE
        alone = config.backend.name == "keras" or apart
        key = str(place) if alone else stack_key(config)
        of_one_shape.setdefault(key, []).append(place)
    groups = []
    for members in of_one_shape.values():
        size = max(1, PASS_BYTES // memory(*points[members[0]]))
        groups += [members[start : start + size] for start in range(0, len(members), size)]
    return groups


def units(points: Sequence[tuple[Config, Arrays]], workers: int) -> list[list[int]]:
    """What is given to workers: stacks, the largest of them split until there are two for each worker, if that can be.

    Args:
        points: configs with their data.
        workers: how many train at the same time.

    Returns:
        Positions in `points`, grouped; what is most to do comes first, so that it does not come last.
    """
    groups = stacks(points)

    def work(group: Sequence[int]) -> int:
        return sum(memory(*points[place]) * points[place][0].training.epochs for place in group)

    while len(groups) < 2 * workers and any(len(group) > 1 for group in groups):
        largest = max((group for group in groups if len(group) > 1), key=work)
        groups.remove(largest)
        half = (len(largest) + 1) // 2
        groups += [largest[:half], largest[half:]]
    return sorted(groups, key=work, reverse=True)


def stack_key(config: Config) -> str:
    """Equal for points that can train as one stack: they differ in optimizer knobs, seed or initial values only."""
    shape: dict[str, Any] = config.model_dump(
        mode="json", exclude={"seed": True, "model": {"initial_weight", "initial_bias"}}
    )
    shape["optimizer"] = config.optimizer.name
    return json.dumps(shape, sort_keys=True)


def steps(config: Config, arrays: Arrays) -> tuple[int, str]:
    """How many steps the progress of a stack has, and what they are called: epochs, or the blocks of a map."""
    if config.grid is not None:
        return len(blocks(config, arrays)), "block"
    return config.training.epochs, "epoch"


def memory(config: Config, arrays: Arrays) -> int:
    """Bytes that a point takes, roughly.

    That is: parameters, gradient, two moments, update, the snapshots, the activations of a batch, forward and back, and
    where every weight is a metric, those records, and what SciPy keeps where it trains; with other layers than one
    plain one, masks and what the way back through each of them needs. Of a map it is what is kept and drawn of all.
    """
    if config.grid is not None:
        return config.grid.points * MAP_BYTES
    sizes = layer_sizes(config.model, arrays.features, arrays.outputs)
    weights = config.balls.count if config.balls else sum(inputs * outputs for inputs, outputs in pairwise(sizes))
    rows = min(config.training.batch_size or len(arrays.train_inputs), len(arrays.train_inputs))
    epochs, recording = config.training.epochs, config.recording
    records = len(record_epochs(epochs, recording.metrics_every))
    snapshots = min(recording.snapshots, records)
    vectors = {"bfgs": 5 * weights, "lbfgs": 2 * getattr(config.optimizer, "memory", 0) + 12}
    searched = 8 * weights * vectors.get(config.optimizer.name, 0)  # BFGS has square arrays
    metrics = records * weights * METRIC_BYTES if recording.weight_metrics else 0
    copies, values = (6, 4) if config.model.plain else (8, 8)
    numbers = (copies + snapshots) * weights + values * rows * sum(sizes[1:])
    return searched + metrics + np.dtype(config.dtype).itemsize * numbers


def check_memory(config: Config, arrays: Arrays) -> None:
    """Refuse a point that this machine cannot hold.

    Raises:
        LabError: it takes more than there is altogether.
    """
    needed, there = memory(config, arrays), psutil.virtual_memory().total
    if needed > there:
        whole_map = config.grid is not None
        fix = "grid.x or grid.y" if whole_map else "model.hidden_size, training.batch_size or recording.snapshots"
        raise LabError(
            f"The {'map' if whole_map else 'network'} does not fit in memory.",
            expected=f"at most {there / 2**30:.3g} GiB, what this machine has",
            received=f"about {needed / 2**30:.3g} GiB",
            fix=f"choose a smaller {fix}",
        )
