"""The record of a run: metrics by step, weight snapshots, tables, outcome. It contains no framework types."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.shared.initial_weights import Weights
from pipeline.config.metrics import best_of, judges
from pipeline.config.schema import Interval

# Number of records after epoch 0 if the interval is `auto`: MLflow draws 320 values of a curve. The number of epochs at
# the start that are recorded in any case, because a loss falls fastest there.
MOST_RECORDS = 300
EARLY = 50


class Metric(NamedTuple):
    """One recorded value. `step` counts epochs, `timestamp` milliseconds since 1970."""

    step: int
    timestamp: int
    name: str
    value: float


@dataclass
class History:
    """The record of one point, filled by a backend while it trains.

    Attributes:
        metrics: in the order in which they were recorded; finite values only.
        snapshots: weights by epoch.
        tables: rows by table name, for instance `direction_changes`.
        diverged_step: number of updates made when the loss was inf or NaN for the first time; None if it never was.
        last_finite_loss: the training loss just before that, or the last one.
        seconds: training time. Points that train as one stack share its time evenly.
        epochs: number of epochs trained; 0 until the training has ended.
        points_in_stack: number of points that trained in the same stack.
        architecture: for a Keras model of one's own, the layers as JSON; empty for every other point.
        map_arrays: for a map, its axes and the numbers of each of its points; empty for every other point.
    """

    metrics: list[Metric] = field(default_factory=list)
    snapshots: dict[int, Weights] = field(default_factory=dict)
    tables: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    diverged_step: int | None = None
    last_finite_loss: float | None = None
    seconds: float = 0.0
    epochs: int = 0
    points_in_stack: int = 1
    architecture: str = ""
    map_arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Append the finite ones of `values`, at an epoch."""
        # MLflow's clock: milliseconds since 1970.
        now = time.time_ns() // 1_000_000
        # inf and NaN are skipped: JSON cannot represent them, and a figure cannot show them.
        self.metrics += [
            Metric(step, now, name, float(value)) for name, value in values.items() if math.isfinite(value)
        ]

    def snapshot(self, step: int, weights: Mapping[str, NDArray[np.floating]]) -> None:
        """Keep a copy of the weights at an epoch, because training continues to change the arrays in place."""
        self.snapshots[step] = {name: np.array(array) for name, array in weights.items()}

    def series(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return steps and values of one metric, each (records,)."""
        rows = [(metric.step, metric.value) for metric in self.metrics if metric.name == name]
        return np.array([step for step, _ in rows], dtype=np.int64), np.array([value for _, value in rows])

    def names(self) -> list[str]:
        """Return the names of all metrics, in the order of their first record."""
        return list(dict.fromkeys(metric.name for metric in self.metrics))

    def final(self) -> dict[str, float]:
        """Return the last value of every metric."""
        # Later records overwrite earlier ones of the same name.
        return {metric.name: metric.value for metric in self.metrics}

    def best(self) -> dict[str, float]:
        """Return the best value of every metric that judges a network: the smallest loss, the largest accuracy."""
        best: dict[str, float] = {}
        for _, _, name, value in self.metrics:
            if judges(name):
                best[name] = best_of(name, (value, best.get(name, value)))
        return best


def record_epochs(epochs: int, every: Interval) -> list[int]:
    """Return the epochs at which metrics are recorded, ascending.

    Args:
        epochs: number of epochs of the training.
        every: the interval. A number: the multiples of it, 0, the last epoch, and some early ones below it. `auto`: all
            of them up to MOST_RECORDS epochs; of longer training, MOST_RECORDS: 0 and at least the first EARLY epochs,
            each, and then every k-th up to the last one.

    Example:
        >>> record_epochs(25, every=10)
        [0, 1, 2, 3, 4, 5, 7, 10, 20, 25]
        >>> record_epochs(2000, "auto")[85:90]
        [85, 86, 87, 92, 101]
    """
    if every == "auto":
        return _record_epochs(epochs)
    steps = {0, epochs, *range(0, epochs + 1, every)}
    if every > 1:
        # A loss falls fastest at the start, so record four log-spaced steps there for each digit of `every`.
        steps |= {round(step) for step in np.geomspace(1, every, 4 * len(str(every)))}
    return sorted(step for step in steps if step <= epochs)


def _record_epochs(epochs: int) -> list[int]:
    """Return the epochs at which metrics are recorded if the interval is `auto`; see `record_epochs`."""
    if epochs <= MOST_RECORDS:
        return list(range(epochs + 1))
    # After the first EARLY epochs, every k-th of the others; the division rounds up.
    spacing = -(-(epochs - EARLY) // (MOST_RECORDS - EARLY))
    # An odd number, because too large a rate makes a loss rise and fall in turn: at every second epoch it looks smooth.
    spacing += 1 - spacing % 2
    # d early epochs and (epochs - d) / k later ones are MOST_RECORDS in all.
    early = (MOST_RECORDS * spacing - epochs) // (spacing - 1)
    later = range(epochs, early, -spacing)
    return [*range(early + 1), *reversed(later)]


def snapshot_epochs(recorded: Sequence[int], count: int) -> set[int]:
    """Choose about `count` of the recorded epochs, log-spaced; the first and the last are always among them."""
    if count >= len(recorded):
        return set(recorded)
    # From last to first: with `count` 2, `geomspace` gives a single value, which must be the last epoch.
    wanted = [0.0, *np.geomspace(recorded[-1], max(recorded[1], 1), count - 1)]
    return {min(recorded, key=lambda step: abs(step - target)) for target in wanted}


def weight_metrics(weights: Mapping[str, NDArray[np.floating]]) -> dict[str, float]:
    """Return every single weight as a metric: `weights/weight`, `weights/weight_0_1`, `weights/layer_1/bias_2` ...

    Names omit the layer if there is only one, and the index if an array has only one element.
    """
    one_layer = all(name.startswith("layer_0/") for name in weights)
    values = {}
    for name, array in weights.items():
        layer, kind = name.split("/")
        single = kind.replace("weights", "weight")
        prefix = f"weights/{layer}/{single}"
        if one_layer:
            prefix = f"weights/{single}"
        for index, value in np.ndenumerate(array):
            metric = prefix
            if array.size > 1:
                metric = "_".join([prefix, *map(str, index)])
            values[metric] = float(value)
    return values


def note_update(
    history: History, updates: int, learning_rate: float, loss: float, penalty: float | None = None
) -> None:
    """Append an update to the table `updates`, unless its loss is inf or NaN.

    Args:
        history: the point's record.
        updates: number of updates made before this one.
        learning_rate: rate of this update.
        loss: loss of its rows before the update.
        penalty: the penalty's part of the loss; None if training has no penalty.
    """
    if not math.isfinite(loss):
        return
    row = {"update": float(updates), "learning_rate": learning_rate, "loss": loss}
    # The column is missing rather than empty: a table has numbers only.
    if penalty is not None:
        row["penalty"] = penalty
    history.tables.setdefault("updates", []).append(row)


def direction_change_rows(counts: Mapping[str, NDArray[np.integer]]) -> list[dict[str, float]]:
    """Return counts by weight as rows of layer, row, column and count: the layout of the published table.

    Args:
        counts: changes of direction of each weight, by the name of its array. Only weights are used, not biases. In a
            model of one's own they are the arrays of two or more dimensions, in the order of its layers; a column is an
            index of the last dimension.
    """
    if any(name.startswith("layer_0/") for name in counts):
        matrices = [array for name, array in counts.items() if name.endswith("/weights")]
    else:
        matrices = [array.reshape(-1, array.shape[-1]) for array in counts.values() if array.ndim > 1]
    return [
        {"layer": layer, "row": row, "column": column, "count": int(count)}
        for layer, array in enumerate(matrices)
        for (row, column), count in np.ndenumerate(array)
    ]
