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
from pipeline.backends.keras.state import restore, state_of
from pipeline.backends.shared.history import (
    History,
    direction_change_rows,
    note_update,
    record_epochs,
    snapshot_epochs,
    weight_metrics,
)
from pipeline.backends.shared.initial_weights import Weights, is_trained
from pipeline.backends.shared.schedules import updates_per_epoch
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, epoch_order
from pipeline.points.checkpoint import Checkpoints
from pipeline.system.errors import LabError

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


def train(
    points: Sequence[Config],
    arrays: Arrays,
    histories: Sequence[History],
    report: Report,
    checkpoints: Checkpoints | None = None,
) -> None:
    """Train points, each from a clean Keras session.

    Args:
        points: their configs; with checkpoints a single one.
        arrays: the data.
        histories: one for each point, filled here; that of a checkpoint holds what was recorded before it.
        report: called at every recorded epoch with the epoch and the training loss.
        checkpoints: where to begin, and what keeps the states: with minibatches at the end of any epoch, with a full
            batch of a recorded one. On a CPU the result is the same, bit for bit, however often training was stopped
            and begun again.

    Raises:
        ValueError: there are checkpoints and several points.
    """
    if checkpoints and len(points) != 1:
        raise ValueError(f"with checkpoints Keras trains one point at a time, not {len(points)}")
    for config, history in zip(points, histories, strict=True):
        keras.utils.clear_session()
        keras.utils.set_random_seed(config.seed)
        with _floatx(config.dtype):
            _train_point(_start(config, arrays), history, report, checkpoints)


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
    inputs = ops.convert_to_tensor(arrays.scaled(arrays.train_inputs))
    targets = ops.convert_to_tensor(arrays.train_targets)
    updates = updates_per_epoch(config.training, len(arrays.train_inputs))
    return Run(config, arrays, network, optimizer, inputs, targets, updates)


def _train_point(run: Run, history: History, report: Report, checkpoints: Checkpoints | None) -> None:
    epochs = run.config.training.epochs
    recorded = record_epochs(epochs, run.config.recording.metrics_every)
    snapshots = snapshot_epochs(recorded, run.config.recording.snapshots)
    due = frozenset(recorded)
    begun = checkpoints.epoch if checkpoints else 0
    if checkpoints and begun:
        try:
            restore(run.network, checkpoints.states[0])
        except (ValueError, OSError) as error:
            raise LabError(
                "The checkpoint does not fit the network.",
                received=str(error).splitlines()[0],
                fix="another version of Keras may have written it: force=true begins anew",
            ) from error
    stops = recorded if run.config.training.batch_size is None else range(epochs + 1)
    ahead = [stop for stop in stops if stop > begun]
    seconds, started = history.seconds, time.perf_counter()
    for before, epoch in pairwise([begun, *ahead] if begun else [0, 0, *ahead]):
        measures = _train_epochs(before, epoch, run, history)
        if epoch in due:
            _record(epoch, run, history, measures | _evaluate(run), snapshot=epoch in snapshots)
            if epoch:
                report(epoch, measures["train/loss"])
        history.seconds = seconds + time.perf_counter() - started
        if history.epochs:
            break
        if checkpoints and epoch and checkpoints.due():
            checkpoints.keep(epoch, [state_of(run.network, epoch)])


def _train_epochs(before: int, epoch: int, run: Run, history: History) -> Measures:
    """Train from the end of one epoch to the end of another, and measure the training rows; at epoch 0 only measure.

    A full batch is measured at the new weights. Minibatches, an epoch at a time, are measured on the way, at the
    weights of each.
    """
    run.optimizer.due.assign(epoch * run.updates_per_epoch)
    size = run.config.training.batch_size
    if size is None:
        return _repeat_full_batch(epoch - before, run.network, run.inputs, run.targets)
    return _pass_over_minibatches(epoch, run, size, history) if epoch else {}


def _repeat_full_batch(updates: int, network: Network, inputs: Any, targets: Any) -> Measures:
    """Make updates on the whole training rows, then measure them."""
    measures: Measures = {}
    if isinstance(network, LoopedNetwork):
        network.updates_per_call.assign(updates)
        _add(measures, "train", network.train_on_batch(inputs, targets, return_dict=True), share=1)
        return measures
    for _ in range(updates):
        network.train_on_batch(inputs, targets)
        network.optimizer.end_epoch(network.last_finite_loss)
    _add(measures, "train", network.test_on_batch(inputs, targets, return_dict=True), share=1)
    network.see_loss(measures["train/loss"], network.optimizer.iterations)
    return measures


def _pass_over_minibatches(epoch: int, run: Run, size: int, history: History) -> Measures:
    """One pass over the rows in the order that both backends use; means over the rows, each at its batch's weights."""
    rows = len(run.arrays.train_inputs)
    order = epoch_order(run.config.seed, epoch, rows)
    totals: Measures = {}
    for start in range(0, rows, size):
        chosen = order[start : start + size]
        # Taken by Keras' backend, the rows are not copied a second time out of NumPy's memory.
        inputs, targets = ops.take(run.inputs, chosen, axis=0), ops.take(run.targets, chosen, axis=0)
        penalty = _penalty(run) if run.config.recording.update_losses else None
        logs = run.network.train_on_batch(inputs, targets, return_dict=True)
        _add(totals, "train", logs, len(chosen) / rows)
        if run.config.recording.update_losses:
            updates = (epoch - 1) * run.updates_per_epoch + start // size
            rate = run.optimizer.learning_rate_of(updates + 1) or run.config.optimizer.learning_rate
            note_update(history, updates, rate, float(logs["loss"]), penalty)
    run.optimizer.end_epoch(totals["train/loss"])
    return totals


def _penalty(run: Run) -> float | None:
    """What is added to the losses at the present weights; None where there is no penalty."""
    return float(sum(run.network.losses)) if run.config.training.penalised else None


def _evaluate(run: Run) -> Measures:
    """Measure the test rows, where there are some, and the penalty at the present weights."""
    penalty = _penalty(run)
    measures: Measures = {} if penalty is None else {"weights/penalty": penalty}
    inputs, targets = run.arrays.test_inputs, run.arrays.test_targets
    if inputs is None or targets is None:
        return measures
    for start in range(0, len(inputs), EVALUATION_ROWS):
        block = slice(start, start + EVALUATION_ROWS)
        rows = run.arrays.scaled(inputs[block])
        logs = run.network.test_on_batch(rows, targets[block], return_dict=True)
        _add(measures, "test", logs, len(rows) / len(inputs))
    return measures


def _last_update(epoch: int, run: Run, weights: Weights) -> Measures:
    """Norms of the weights, of the last gradient, of the last update as a share of the weights; its learning rate."""
    gradient, update = run.optimizer.norms.numpy().tolist()
    trained = [array for name, array in weights.items() if is_trained(name)]
    norm = math.sqrt(sum(float(np.square(array, dtype=np.float64).sum()) for array in trained))
    ratio = update / norm if norm else math.nan
    measures = {"gradient_norm": gradient, "weights/norm": norm, "weights/update_ratio": ratio}
    rate = run.optimizer.learning_rate_of(epoch * run.updates_per_epoch)
    return measures if rate is None else measures | {"learning_rate": rate}


def _add(totals: Measures, rows: str, logs: dict[str, Any], share: float) -> None:
    """Add what Keras measured on a batch, `share` of the `rows`, under the names of both backends."""
    for name in MEASURED:
        if name in logs:
            totals[f"{rows}/{name}"] = totals.get(f"{rows}/{name}", 0) + float(logs[name]) * share


def _record(epoch: int, run: Run, history: History, measures: Measures, snapshot: bool) -> None:
    """Note what was measured; the end of training, at the last epoch or where the loss has diverged, is noted too."""
    weights = run.network.weights_by_name()
    diverged = int(run.network.diverged_step) >= 0
    ends = epoch == run.config.training.epochs or (diverged and epoch > 0)
    if snapshot or diverged:
        history.snapshot(epoch, weights)
    if not diverged:
        last_update = _last_update(epoch, run, weights) if epoch else {}
        single = weight_metrics(weights) if run.config.recording.weight_metrics else {}
        history.record(epoch, measures | last_update | single)
    if ends:
        _end(epoch, run, history)


def _end(epoch: int, run: Run, history: History) -> None:
    diverged_step, last = int(run.network.diverged_step), float(run.network.last_finite_loss)
    history.diverged_step = diverged_step if diverged_step >= 0 else None
    history.last_finite_loss = last if math.isfinite(last) else None
    history.epochs = epoch
    history.points_in_pass = 1
    if run.config.recording.direction_changes:
        names = filter(is_trained, run.network.names)
        counts = dict(zip(names, run.optimizer.direction_changes(), strict=True))
        history.tables["direction_changes"] = direction_change_rows(counts)
