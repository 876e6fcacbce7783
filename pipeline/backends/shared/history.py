"""What a run leaves behind: metrics by step, weight snapshots, tables, outcome. No framework types."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.shared.initial_weights import Weights


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
        metrics: in the order they were recorded; finite values only.
        snapshots: weights by epoch.
        tables: rows by table name, for instance `direction_changes`.
        diverged_step: how many updates had been made when the loss first was inf or NaN; None: it never was.
        last_finite_loss: the training loss just before that, or the last one.
        seconds: training time. Points that train as one stack share its time evenly.
        epochs: how many were trained.
        points_in_stack: how many points trained in the same stack.
        map_arrays: of a map, its axes and what is kept of each of its points; empty for every other point.
    """

    metrics: list[Metric] = field(default_factory=list)
    snapshots: dict[int, Weights] = field(default_factory=dict)
    tables: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    diverged_step: int | None = None
    last_finite_loss: float | None = None
    seconds: float = 0.0
    epochs: int = 0
    points_in_stack: int = 1
    map_arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Append the finite ones of `values` at an epoch."""
        now = time.time_ns() // 1_000_000
        self.metrics += [Metric(step, now, name, float(v)) for name, v in values.items() if math.isfinite(v)]

    def snapshot(self, step: int, weights: Mapping[str, NDArray[np.floating]]) -> None:
        """Keep a copy of the weights at an epoch."""
        self.snapshots[step] = {name: np.array(array) for name, array in weights.items()}

    def series(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Steps and values of one metric, each (records,)."""
        rows = [(metric.step, metric.value) for metric in self.metrics if metric.name == name]
        return np.array([step for step, _ in rows], dtype=np.int64), np.array([value for _, value in rows])

    def names(self) -> list[str]:
        """Names of all metrics, in the order of their first record."""
        return list(dict.fromkeys(metric.name for metric in self.metrics))

    def final(self) -> dict[str, float]:
        """The last value of every metric."""
        return {metric.name: metric.value for metric in self.metrics}

    def best(self) -> dict[str, float]:
        """The best value of every loss (smallest), error (smallest) and accuracy (largest)."""
        best: dict[str, float] = {}
        for _, _, name, value in self.metrics:
            if name.endswith(("/loss", "/mean_absolute_error")):
                best[name] = min(value, best.get(name, math.inf))
            elif name.endswith("/accuracy"):
                best[name] = max(value, best.get(name, -math.inf))
        return best


def record_epochs(epochs: int, every: int) -> list[int]:
    """At which epochs metrics are recorded: 0, some early ones (log-spaced below `every`), multiples, the last."""
    early = {round(step) for step in np.geomspace(1, every, 4 * len(str(every)))} if every > 1 else set()
    steps = {0, epochs} | early | set(range(0, epochs + 1, every))
    return sorted(step for step in steps if step <= epochs)


def snapshot_epochs(recorded: Sequence[int], count: int) -> set[int]:
    """Choose `count` of the recorded epochs, log-spaced, first and last always."""
    if count >= len(recorded):
        return set(recorded)
    wanted = [0.0, *np.geomspace(recorded[-1], max(recorded[1], 1), count - 1)]
    return {min(recorded, key=lambda step: abs(step - target)) for target in wanted}


def weight_metrics(weights: Mapping[str, NDArray[np.floating]]) -> dict[str, float]:
    """Every single weight as a metric: `weights/weight`, `weights/weight_0_1`, `weights/layer_1/bias_2` ...

    The layer's name is left out where there is one layer, the place where an array has one element.
    """
    one_layer = all(name.startswith("layer_0/") for name in weights)
    values = {}
    for name, array in weights.items():
        layer, kind = name.split("/")
        short = "weight" if kind == "weights" else kind
        prefix = "weights/" if one_layer else f"weights/{layer}/"
        for place, value in np.ndenumerate(array):
            suffix = "" if array.size == 1 else "_" + "_".join(map(str, place))
            values[f"{prefix}{short}{suffix}"] = float(value)
    return values


def note_update(
    history: History, updates: int, learning_rate: float, loss: float, penalty: float | None = None
) -> None:
    """Append to the table `updates`: how many were made before, the rate of this one, its loss where it is finite.

    `penalty` is what the loss has of it, where there is one.
    """
    if math.isfinite(loss):
        row = {"update": float(updates), "learning_rate": learning_rate, "loss": loss}
        history.tables.setdefault("updates", []).append(row | ({} if penalty is None else {"penalty": penalty}))


def direction_change_rows(counts: Mapping[str, NDArray[np.integer]]) -> list[dict[str, float]]:
    """Counts per weight as rows of layer, row, column, count: the layout of the published table."""
    return [
        {"layer": int(name.split("/")[0].removeprefix("layer_")), "row": place[0], "column": place[1], "count": int(n)}
        for name, array in counts.items()
        if name.endswith("/weights")
        for place, n in np.ndenumerate(array)
    ]
