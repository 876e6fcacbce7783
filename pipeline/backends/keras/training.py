"""Train points one after the other."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pipeline.backends.contract import Checkpoints, Report
from pipeline.backends.keras import own_description, own_model
from pipeline.backends.keras.building import build
from pipeline.backends.keras.network import LoopedNetwork, MinibatchNetwork, Network
from pipeline.backends.keras.own_import import explained
from pipeline.backends.keras.precision import floatx
from pipeline.backends.keras.run import Measures, Run, add, evaluate, penalty_of, record
from pipeline.backends.keras.state import restore, state_of
from pipeline.backends.shared.history import History, note_update
from pipeline.backends.shared.measures import baseline_measures
from pipeline.backends.shared.recorder import Recorder
from pipeline.backends.shared.schedules import updates_per_epoch
from pipeline.config.own_model import KerasModel
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, epoch_order
from pipeline.system.engines import keras_engine
from pipeline.system.errors import LabError

# It imports TensorFlow, which another engine does without.
if TYPE_CHECKING:
    from pipeline.backends.curvature.keras_curvature import KerasCurvature

log = logging.getLogger(__name__)


def train(
    points: Sequence[Config],
    arrays: Arrays,
    histories: Sequence[History],
    report: Report,
    checkpoints: Checkpoints | None = None,
) -> None:
    """Train points one after the other; none depends on those before it.

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
        with floatx(config.dtype), _explained(config):
            curvature = _curvature(config, arrays)
            # Otherwise the random state of the previous point would be in use, or that of the curvature.
            keras.utils.set_random_seed(config.seed)
            run = _start(config, arrays)
            if isinstance(config.model, KerasModel):
                history.architecture = _described(config.model, run)
            baseline = baseline_measures(config.loss, arrays)
            recorder = Recorder([config], [history], report, checkpoints, baseline)
            _train_point(run, recorder, curvature)
            recorder.note_seconds()


def _explained(config: Config) -> contextlib.AbstractContextManager[None]:
    """Turn what the layers of a model of one's own raise in training into a message with their file and line."""
    if not isinstance(config.model, KerasModel):
        return contextlib.nullcontext()
    return explained(config.model, "layers that can be trained", "correct the layer")


def _described(model: KerasModel, run: Run) -> str:
    """Return the model of one's own in a run as JSON; empty, with a warning, if it has no such form."""
    [made] = [layer for layer in run.network.layers if isinstance(layer, keras.Model)]
    text = own_description.description(
        model, made, own_model.input_shape(run.arrays), run.arrays.outputs, run.config.dtype
    )
    if not text:
        log.warning(
            f"{model.target_} makes a model that Keras cannot make again from its config, so MLflow gets its "
            "metrics and no model; layers of one's own need get_config, https://keras.io/guides/serialization_and_saving"
        )
    return text


def _curvature(config: Config, arrays: Arrays) -> KerasCurvature | None:
    """Return what measures the curvature of a point; None if it is not asked for.

    Raises:
        LabError: Keras runs on an engine on which it cannot be measured.
    """
    if not config.recording.curvature:
        return None
    if keras_engine() != "tensorflow":
        raise LabError(
            "recording.curvature=true needs TensorFlow on the Keras backend.",
            expected="KERAS_BACKEND=tensorflow, or backend=numpy",
            received=keras_engine(),
            fix="choose one of these, or leave out recording.curvature",
        )
    from pipeline.backends.curvature.keras_curvature import KerasCurvature

    return KerasCurvature(config, arrays)


def _start(config: Config, arrays: Arrays) -> Run:
    network, optimizer = build(config, arrays)
    inputs = ops.convert_to_tensor(arrays.scaled(arrays.train_inputs))
    targets = ops.convert_to_tensor(arrays.train_targets)
    updates = updates_per_epoch(config.training, len(arrays.train_inputs))
    return Run(config, arrays, network, optimizer, inputs, targets, updates)


def _train_point(run: Run, recorder: Recorder, curvature: KerasCurvature | None) -> None:
    [history] = recorder.histories

    def measured(epoch: int) -> Measures:
        measures = evaluate(run, recorder.last(epoch))
        if curvature is not None:
            measures |= curvature.measure(run.network)
        return measures

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
        record(0, run, recorder, _train_epochs(0, 0, run, history) | measured(0))
    # With minibatches, training pauses after every epoch to reorder the rows. With a full batch it pauses only at
    # recorded epochs: no two of them are further apart than a stride of all epochs.
    stride = 1
    if run.config.training.batch_size is None:
        stride = run.config.training.epochs
    for before, epoch in recorder.stops(stride):
        measures = _train_epochs(before, epoch, run, history)
        if recorder.due(epoch):
            record(epoch, run, recorder, measures | measured(epoch))
            recorder.report(epoch, measures["train/loss"])
        recorder.keep(epoch, lambda: [state_of(run.network)])


def _train_epochs(before: int, epoch: int, run: Run, history: History) -> Measures:
    """Train from the end of one epoch to the end of another, and measure the training rows.

    A full batch is measured at the new weights, also at epoch 0, where there is nothing to train. Minibatches, an epoch
    at a time, are measured during the epoch, each at the weights before its update; at epoch 0 there are none.
    """
    # The recorded norms are those of the epoch's last update.
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
        add(measures, "train", network.train_on_batch(inputs, targets, return_dict=True), share=1)
        return measures
    for _ in range(updates):
        network.train_on_batch(inputs, targets)
        network.optimizer.end_epoch(network.last_finite_loss)
    add(measures, "train", network.test_on_batch(inputs, targets, return_dict=True), share=1)
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
    batches = [order[start : start + size] for start in range(0, rows, size)]
    if isinstance(run.network, MinibatchNetwork):
        measured = run.network.update_on(order, run.inputs, run.targets)
    else:
        before = (epoch - 1) * run.updates_per_epoch
        measured = [_update(before + index, chosen, run, history) for index, chosen in enumerate(batches)]
    totals: Measures = {}
    # The last batch may be smaller, so each counts with its share of the rows.
    for chosen, logs in zip(batches, measured, strict=True):
        add(totals, "train", logs, len(chosen) / rows)
    run.optimizer.end_epoch(totals["train/loss"])
    return totals


def _update(updates: int, chosen: NDArray[np.integer], run: Run, history: History) -> dict[str, Any]:
    """Make an update on some rows after `updates` updates, and return Keras' metrics at the weights before it."""
    # The engine selects the rows, which avoids another copy out of NumPy's memory.
    inputs = ops.take(run.inputs, chosen, axis=0)
    targets = ops.take(run.targets, chosen, axis=0)
    if not run.config.recording.update_losses:
        logs: dict[str, Any] = run.network.train_on_batch(inputs, targets, return_dict=True)
        return logs
    # Like the loss of the batch, the penalty is computed from the weights before the update.
    penalty = penalty_of(run)
    logs = run.network.train_on_batch(inputs, targets, return_dict=True)
    rate = run.optimizer.learning_rate_of(updates + 1) or run.config.optimizer.learning_rate
    note_update(history, updates, rate, float(logs["loss"]), penalty)
    return logs
