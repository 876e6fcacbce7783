"""Training points one after the other."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import keras
import numpy as np
from keras import ops

from pipeline.backends.keras.network import LoopedNetwork, Network, build
from pipeline.backends.keras.optimizers import Watched
from pipeline.config import Config
from pipeline.data import Arrays, epoch_order
from pipeline.history import History, direction_change_rows, record_epochs, snapshot_epochs, weight_metrics
from pipeline.initial_weights import Weights

EVALUATION_ROWS = 2048
MEASURED = ("loss", "accuracy", "mean_absolute_error")
Report = Callable[[int, float], None]
Measures = dict[str, float]


@dataclass(frozen=True)
class Run:
    """One point in training.

    Attributes:
        inputs, targets: the training rows as tensors of Keras' backend.
        updates_per_epoch: how many batches an epoch has.
    """

    config: Config
    arrays: Arrays
    network: Network
    optimizer: Watched
    inputs: Any
    targets: Any
    updates_per_epoch: int


def train(points: Sequence[Config], arrays: Arrays, histories: Sequence[History], report: Report) -> None:
    """Train points, each from a clean Keras session.

    Args:
        points: their configs.
        arrays: the data.
        histories: one for each point, filled here.
        report: called at every recorded epoch with the epoch and the training loss.
    """
    for config, history in zip(points, histories, strict=True):
        keras.utils.clear_session()
        keras.utils.set_random_seed(config.seed)
        with _floatx(config.dtype):
            _train_point(_start(config, arrays), history, report)


@contextlib.contextmanager
def _floatx(dtype: str) -> Iterator[None]:
    """Let Keras compute in `dtype` where nothing else is said: a float32 rate in a float64 run would be rounded."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def _start(config: Config, arrays: Arrays) -> Run:
    network, optimizer = build(config, arrays)
    inputs, targets = ops.convert_to_tensor(arrays.train_inputs), ops.convert_to_tensor(arrays.train_targets)
    rows = len(arrays.train_inputs)
    updates = math.ceil(rows / (config.training.batch_size or rows))
    return Run(config, arrays, network, optimizer, inputs, targets, updates)


def _train_point(run: Run, history: History, report: Report) -> None:
    epochs = run.config.training.epochs
    recorded = record_epochs(epochs, run.config.recording.metrics_every)
    snapshots = snapshot_epochs(recorded, run.config.recording.snapshots)
    started = time.perf_counter()
    for before, epoch in pairwise([0, *recorded]):
        measures = _train_and_measure(before, epoch, run)
        weights = run.network.weights_by_name()
        diverged = int(run.network.diverged_step) >= 0
        if diverged or epoch in snapshots or epoch == epochs:
            history.snapshot(epoch, weights)
        if not diverged:
            last_update = _norms(run, weights) if epoch else {}
            single = weight_metrics(weights) if run.config.recording.weight_metrics else {}
            history.record(epoch, measures | last_update | single)
        if epoch:
            report(epoch, measures["train/loss"])
        if diverged and epoch:
            break
    _finish(epoch, run, history, time.perf_counter() - started)


def _train_and_measure(before: int, epoch: int, run: Run) -> Measures:
    """Train from the end of one recorded epoch to the end of the next, and measure: at step 0 without training.

    A full batch is measured at the new weights. Minibatches are measured on the way, at the weights of each.
    """
    run.optimizer.due.assign(epoch * run.updates_per_epoch)
    if run.config.training.batch_size is None:
        return _repeat_full_batch(epoch - before, run.network, run.inputs, run.targets) | _evaluate(run)
    measures: Measures = {}
    for passed in range(before + 1, epoch + 1):
        measures = _pass_over_minibatches(passed, run, run.config.training.batch_size)
    return measures | _evaluate(run)


def _repeat_full_batch(updates: int, network: Network, inputs: Any, targets: Any) -> Measures:
    """Make updates on the whole training rows, then measure them."""
    measures: Measures = {}
    if isinstance(network, LoopedNetwork):
        network.updates_per_call.assign(updates)
        _add(measures, "train", network.train_on_batch(inputs, targets, return_dict=True), share=1)
        return measures
    for _ in range(updates):
        network.train_on_batch(inputs, targets)
    _add(measures, "train", network.test_on_batch(inputs, targets, return_dict=True), share=1)
    network.see_loss(measures["train/loss"], network.optimizer.iterations)
    return measures


def _pass_over_minibatches(epoch: int, run: Run, size: int) -> Measures:
    """One pass over the rows in the order that both backends use; means over the rows, each at its batch's weights."""
    rows = len(run.arrays.train_inputs)
    order = epoch_order(run.config.seed, epoch, rows)
    totals: Measures = {}
    for start in range(0, rows, size):
        chosen = order[start : start + size]
        # Taken by Keras' backend, the rows are not copied a second time out of NumPy's memory.
        inputs, targets = ops.take(run.inputs, chosen, axis=0), ops.take(run.targets, chosen, axis=0)
        logs = run.network.train_on_batch(inputs, targets, return_dict=True)
        _add(totals, "train", logs, len(chosen) / rows)
    return totals


def _evaluate(run: Run) -> Measures:
    """Measure the test rows, where there are some, at the present weights."""
    measures: Measures = {}
    inputs, targets = run.arrays.test_inputs, run.arrays.test_targets
    if inputs is None or targets is None:
        return measures
    for start in range(0, len(inputs), EVALUATION_ROWS):
        block = slice(start, start + EVALUATION_ROWS)
        logs = run.network.test_on_batch(inputs[block], targets[block], return_dict=True)
        _add(measures, "test", logs, len(inputs[block]) / len(inputs))
    return measures


def _norms(run: Run, weights: Weights) -> Measures:
    """Euclidean norms over all weights: of the last gradient, of the weights, of the last update as a share of them."""
    gradient, update = run.optimizer.norms.numpy().tolist()
    norm = math.sqrt(sum(float(np.square(array, dtype=np.float64).sum()) for array in weights.values()))
    ratio = update / norm if norm else math.nan
    return {"gradient_norm": gradient, "weights/norm": norm, "weights/update_ratio": ratio}


def _add(totals: Measures, rows: str, logs: dict[str, Any], share: float) -> None:
    """Add what Keras measured on a batch, `share` of the `rows`, under the names of both backends."""
    for name in MEASURED:
        if name in logs:
            totals[f"{rows}/{name}"] = totals.get(f"{rows}/{name}", 0) + float(logs[name]) * share


def _finish(epoch: int, run: Run, history: History, seconds: float) -> None:
    diverged_step = int(run.network.diverged_step)
    history.diverged_step = diverged_step if diverged_step >= 0 else None
    last = float(run.network.last_finite_loss)
    history.last_finite_loss = last if math.isfinite(last) else None
    history.seconds = seconds
    history.epochs = epoch
    history.points_in_pass = 1
    if run.config.recording.direction_changes:
        names = run.network.weights_by_name()
        counts = dict(zip(names, run.optimizer.direction_changes(), strict=True))
        history.tables["direction_changes"] = direction_change_rows(counts)
