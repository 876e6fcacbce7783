"""Training points one after the other."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from pipeline.backends.contract import Checkpoints, Report
from pipeline.backends.keras.network import LoopedNetwork, Network, build
from pipeline.backends.keras.optimizers import Watched
from pipeline.backends.keras.state import restore, state_of
from pipeline.backends.shared.history import History, direction_change_rows, note_update
from pipeline.backends.shared.initial_weights import Weights, is_trained
from pipeline.backends.shared.recorder import Recorder, Standing
from pipeline.backends.shared.schedules import updates_per_epoch
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, epoch_order
from pipeline.system.errors import LabError

EVALUATION_ROWS = 2048
MEASURED = ("loss", "accuracy", "mean_absolute_error")
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
            run = _start(config, arrays)
            recorder = Recorder([config], [history], report, checkpoints)
            _train_point(run, recorder)
            recorder.note_seconds()


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


def _train_point(run: Run, recorder: Recorder) -> None:
    (history,), training = recorder.histories, run.config.training
    if recorder.begun:
        try:
            restore(run.network, recorder.states[0])
        except ValueError as error:
            raise LabError(
                "The checkpoint does not fit the network.",
                received=str(error).splitlines()[0],
                fix="another version of Keras may have written it: force=true begins anew",
            ) from error
    else:
        _record(0, run, recorder, _train_epochs(0, 0, run, history) | _evaluate(run))
    # A full batch has nothing to be looked up for between two records.
    for before, epoch in recorder.stops(training.epochs if training.batch_size is None else 1):
        measures = _train_epochs(before, epoch, run, history)
        if recorder.due(epoch):
            _record(epoch, run, recorder, measures | _evaluate(run))
            recorder.report(epoch, measures["train/loss"])
        recorder.keep(epoch, lambda: [state_of(run.network)])


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


def _record(epoch: int, run: Run, recorder: Recorder, measures: Measures) -> None:
    """Record what was measured and the last update; at the end of training the direction changes too."""
    network, weights = run.network, run.network.weights_by_name()
    diverged_step = int(network.diverged_step)
    if epoch and diverged_step < 0:
        measures = measures | _last_update(epoch, run, weights)
    standing = Standing(measures, weights, diverged_step, float(network.last_finite_loss))
    if recorder.record(epoch, 0, standing) and run.config.recording.direction_changes:
        names = filter(is_trained, network.names)
        counts = dict(zip(names, run.optimizer.direction_changes(), strict=True))
        recorder.histories[0].tables["direction_changes"] = direction_change_rows(counts)
