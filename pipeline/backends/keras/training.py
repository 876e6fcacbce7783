"""Train points one after the other."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pipeline.backends.contract import Checkpoints, Report
from pipeline.backends.keras import own_model
from pipeline.backends.keras.network import LoopedNetwork, Network, build, outputs_of
from pipeline.backends.keras.optimizers import Watched
from pipeline.backends.keras.own_import import explained
from pipeline.backends.keras.state import restore, state_of
from pipeline.backends.shared.history import History, direction_change_rows, note_update
from pipeline.backends.shared.initial_weights import Weights
from pipeline.backends.shared.measures import baseline_measures, of_all_rows
from pipeline.backends.shared.recorder import Recorder, Standing
from pipeline.backends.shared.schedules import updates_per_epoch
from pipeline.config.own_model import KerasModel
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, epoch_order
from pipeline.system.engines import keras_engine
from pipeline.system.errors import LabError

log = logging.getLogger(__name__)

# Test rows go through the network in blocks of this size, so that their hidden units fit into memory.
EVALUATION_ROWS = 2048
# The entries of Keras' logs that are recorded.
MEASURED = ("loss", "accuracy", "mean_absolute_error")
Measures = dict[str, float]


@dataclass(frozen=True)
class Run:
    """One point in training.

    Attributes:
        config: config of the point.
        arrays: the data.
        network: the compiled network.
        optimizer: its optimizer.
        inputs, targets: the training rows as tensors of the engine.
        updates_per_epoch: number of batches in an epoch.
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
    """Train points, each in a clean Keras session.

    Args:
        points: their configs; with checkpoints a single one.
        arrays: the data.
        histories: one for each point, filled in here; when resuming, it already contains the records up to the
            checkpoint.
        report: called at every recorded epoch with the epoch and the training loss.
        checkpoints: the checkpoint to resume from, and where to keep new ones: with minibatches after any epoch, with a
            full batch after recorded epochs. On a CPU the result is bit-identical, no matter how often training was
            stopped and resumed.

    Raises:
        ValueError: there are checkpoints and several points.
        LabError: this process runs on another engine; or the code of a model of one's own is wrong.
    """
    if keras.config.backend() != keras_engine():
        raise LabError(
            f"Keras runs on {keras.config.backend()} in this process, and cannot change that.",
            expected=keras_engine(),
            received="a process that an earlier command has used",
            fix="restart the workers",
        )
    if checkpoints and len(points) != 1:
        raise ValueError(f"with checkpoints Keras trains one point at a time, not {len(points)}")
    for config, history in zip(points, histories, strict=True):
        # Otherwise graphs and names of the previous point would stay in memory, and its random state in use.
        keras.utils.clear_session()
        keras.utils.set_random_seed(config.seed)
        with _floatx(config.dtype), _explained(config):
            run = _start(config, arrays)
            if isinstance(config.model, KerasModel):
                history.architecture = _described(config.model, run)
            baseline = baseline_measures(config.loss, arrays)
            recorder = Recorder([config], [history], report, checkpoints, baseline)
            _train_point(run, recorder)
            recorder.note_seconds()


@contextlib.contextmanager
def _floatx(dtype: str) -> Iterator[None]:
    """Set Keras' default dtype: with float32, the rate of a float64 run would be rounded."""
    floatx = keras.config.floatx()
    policy = keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def _explained(config: Config) -> contextlib.AbstractContextManager[None]:
    """Turn what the layers of a model of one's own raise in training into a message with their file and line."""
    if not isinstance(config.model, KerasModel):
        return contextlib.nullcontext()
    return explained(config.model, "layers that can be trained", "correct the layer")


def _described(model: KerasModel, run: Run) -> str:
    """Return the model of one's own in a run as JSON; empty, with a warning, if it has no such form."""
    [made] = [layer for layer in run.network.layers if isinstance(layer, keras.Model)]
    text = own_model.description(made, own_model.input_shape(run.arrays), run.arrays.outputs, run.config.dtype)
    if not text:
        log.warning(
            f"{model.target_} makes a model that Keras cannot make again from its config, so MLflow gets its "
            "metrics and no model; layers of one's own need get_config, https://keras.io/guides/serialization_and_saving"
        )
    return text


def _start(config: Config, arrays: Arrays) -> Run:
    network, optimizer = build(config, arrays)
    inputs = ops.convert_to_tensor(arrays.scaled(arrays.train_inputs))
    targets = ops.convert_to_tensor(arrays.train_targets)
    updates = updates_per_epoch(config.training, len(arrays.train_inputs))
    return Run(config, arrays, network, optimizer, inputs, targets, updates)


def _train_point(run: Run, recorder: Recorder) -> None:
    [history] = recorder.histories
    if recorder.begun:
        try:
            restore(run.network, recorder.states[0])
        except ValueError as error:
            raise LabError(
                "The checkpoint does not fit the network.",
                received=str(error).splitlines()[0],
                fix="another version of Keras may have written it: use force=true to train again from the start",
            ) from error
    else:
        _record(0, run, recorder, _train_epochs(0, 0, run, history) | _evaluate(run))
    # With minibatches, training pauses after every epoch to reorder the rows. With a full batch it pauses only at
    # recorded epochs: no two of them are further apart than a stride of all epochs.
    stride = 1
    if run.config.training.batch_size is None:
        stride = run.config.training.epochs
    for before, epoch in recorder.stops(stride):
        measures = _train_epochs(before, epoch, run, history)
        if recorder.due(epoch):
            _record(epoch, run, recorder, measures | _evaluate(run))
            recorder.report(epoch, measures["train/loss"])
        recorder.keep(epoch, lambda: [state_of(run.network)])


def _train_epochs(before: int, epoch: int, run: Run, history: History) -> Measures:
    """Train from the end of one epoch to the end of another, and measure the training rows.

    A full batch is measured at the new weights, also at epoch 0, where there is nothing to train. Minibatches, an epoch
    at a time, are measured during the epoch, each at the weights before its update; at epoch 0 there are none.
    """
    # The norms that `_last_update` records are those of the epoch's last update.
    run.optimizer.due.assign(epoch * run.updates_per_epoch)
    size = run.config.training.batch_size
    if size is None:
        return _repeat_full_batch(epoch - before, run.network, run.inputs, run.targets)
    if not epoch:
        return {}
    return _pass_over_minibatches(epoch, run, size, history)


def _repeat_full_batch(updates: int, network: Network, inputs: Any, targets: Any) -> Measures:
    """Make updates on all training rows, then measure these rows."""
    measures: Measures = {}
    if isinstance(network, LoopedNetwork):
        network.updates_per_call.assign(updates)
        _add(measures, "train", network.train_on_batch(inputs, targets, return_dict=True), share=1)
        return measures
    for _ in range(updates):
        network.train_on_batch(inputs, targets)
        network.optimizer.end_epoch(network.last_finite_loss)
    _add(measures, "train", network.test_on_batch(inputs, targets, return_dict=True), share=1)
    # `compute_loss` notes the losses before each update only, so the one after the last update is noted here.
    network.see_loss(measures["train/loss"], network.optimizer.iterations)
    return measures


def _pass_over_minibatches(epoch: int, run: Run, size: int, history: History) -> Measures:
    """Make one pass over the rows in the order that both backends use.

    Returns:
        Means over the rows, each measured at the weights before its batch's update.
    """
    rows = len(run.arrays.train_inputs)
    order = epoch_order(run.config.seed, epoch, rows)
    totals: Measures = {}
    for start in range(0, rows, size):
        chosen = order[start : start + size]
        # The engine selects the rows, which avoids another copy out of NumPy's memory.
        inputs = ops.take(run.inputs, chosen, axis=0)
        targets = ops.take(run.targets, chosen, axis=0)
        penalty = None
        # Like the loss of the batch, the penalty is computed from the weights before the update.
        if run.config.recording.update_losses:
            penalty = _penalty(run)
        logs = run.network.train_on_batch(inputs, targets, return_dict=True)
        # The last batch may be smaller, so each counts with its share of the rows.
        _add(totals, "train", logs, len(chosen) / rows)
        if run.config.recording.update_losses:
            updates = (epoch - 1) * run.updates_per_epoch + start // size
            rate = run.optimizer.learning_rate_of(updates + 1) or run.config.optimizer.learning_rate
            note_update(history, updates, rate, float(logs["loss"]), penalty)
    run.optimizer.end_epoch(totals["train/loss"])
    return totals


def _penalty(run: Run) -> float | None:
    """Return the penalty that the losses include at the present weights; None if training has no penalty."""
    # Those of a model of one's own are in its layers.
    losses = run.network.losses
    if not losses:
        return None
    return float(sum(losses))


def _evaluate(run: Run) -> Measures:
    """Measure the test rows, if the data has any, and the penalty at the present weights.

    With a full batch, also the metrics that need all outputs of the training rows.
    """
    measures: Measures = {}
    penalty = _penalty(run)
    if penalty is not None:
        measures["weights/penalty"] = penalty
    if run.config.training.batch_size is None:
        measures |= _of_all_rows(run, "train", run.arrays.train_inputs, run.arrays.train_targets)
    inputs = run.arrays.test_inputs
    targets = run.arrays.test_targets
    if inputs is None or targets is None:
        return measures
    for start in range(0, len(inputs), EVALUATION_ROWS):
        block = slice(start, start + EVALUATION_ROWS)
        rows = run.arrays.scaled(inputs[block])
        logs = run.network.test_on_batch(rows, targets[block], return_dict=True)
        _add(measures, "test", logs, len(rows) / len(inputs))
    return measures | _of_all_rows(run, "test", inputs, targets)


def _of_all_rows(run: Run, rows: str, inputs: NDArray[Any], targets: NDArray[Any]) -> Measures:
    """Compute the metrics that need all outputs of the `train` or `test` rows; only described data has them."""
    task = run.arrays.task
    if task is None:
        return {}
    blocks = []
    for start in range(0, len(inputs), EVALUATION_ROWS):
        block = run.arrays.scaled(inputs[start : start + EVALUATION_ROWS])
        outputs = outputs_of(run.config, run.network.predict_on_batch(block))
        if task == "classification":
            outputs = outputs.argmax(axis=-1)
        blocks.append(outputs)
    found = of_all_rows(task, np.concatenate(blocks), targets)
    return {f"{rows}/{name}": value for name, value in found.items()}


def _last_update(epoch: int, run: Run, weights: Weights) -> Measures:
    """Return the norms of the gradient, of the weights and of the update relative to them, and the update's rate."""
    gradient, update = run.optimizer.norms.numpy().tolist()
    trained = [weights[name] for name in run.network.trained_names]
    norm = math.sqrt(sum(float(np.square(array, dtype=np.float64).sum()) for array in trained))
    # A History skips values that are not finite: the ratio has no meaning if all weights are 0.
    ratio = math.nan
    if norm:
        ratio = update / norm
    measures = {"gradient_norm": gradient, "weights/norm": norm, "weights/update_ratio": ratio}
    rate = run.optimizer.learning_rate_of(epoch * run.updates_per_epoch)
    if rate is not None:
        measures["learning_rate"] = rate
    return measures


def _add(totals: Measures, rows: str, logs: dict[str, Any], share: float) -> None:
    """Add Keras' metrics of a batch to totals, under the names that both backends use, for instance `train/loss`.

    Args:
        totals: changed in place.
        rows: `train` or `test`.
        logs: metrics by Keras' own names.
        share: the batch's share of these rows.
    """
    for name in MEASURED:
        if name in logs:
            totals[f"{rows}/{name}"] = totals.get(f"{rows}/{name}", 0) + float(logs[name]) * share


def _record(epoch: int, run: Run, recorder: Recorder, measures: Measures) -> None:
    """Record the measures and the last update, and at the end of training the direction changes."""
    network = run.network
    weights = network.weights_by_name()
    diverged_step = int(network.diverged_step)
    if epoch and diverged_step < 0:
        measures = measures | _last_update(epoch, run, weights)
    standing = Standing(measures, weights, diverged_step, float(network.last_finite_loss))
    if recorder.record(epoch, 0, standing) and run.config.recording.direction_changes:
        counts = dict(zip(network.trained_names, run.optimizer.direction_changes(), strict=True))
        recorder.histories[0].tables["direction_changes"] = direction_change_rows(counts)
