"""A point in training, and what is measured of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.keras.building import outputs_of
from pipeline.backends.keras.network import Network
from pipeline.backends.keras.optimizers import Watched
from pipeline.backends.shared.history import direction_change_rows
from pipeline.backends.shared.initial_weights import Weights
from pipeline.backends.shared.measures import of_all_rows
from pipeline.backends.shared.recorder import Recorder, Standing
from pipeline.config.schema import Config
from pipeline.data.arrays import EVALUATION_ROWS, Arrays

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


def penalty_of(run: Run) -> float | None:
    """Return the penalty of the weights that the losses include; None if training has none.

    What a layer of one's own adds to the loss besides is data's, not the weights', and is not in it.
    """
    # Those of a model of one's own are in its layers.
    penalties = [
        variable.regularizer(variable)
        for variable in run.network.trainable_variables
        if variable.regularizer is not None
    ]
    if not penalties:
        return None
    return float(sum(penalties))


def evaluate(run: Run, last: bool = False) -> Measures:
    """Measure the rows of `Arrays.evaluated`, and the penalty, at the present weights.

    With a full batch, also the metrics that need all outputs of the training rows.

    Args:
        run: the point.
        last: whether it ends here.
    """
    measures: Measures = {}
    penalty = penalty_of(run)
    if penalty is not None:
        measures["weights/penalty"] = penalty
    if run.config.training.batch_size is None:
        measures |= _of_all_rows(run, "train", run.arrays.train_inputs, run.arrays.train_targets)
    for split, inputs, targets in run.arrays.evaluated(last):
        for start in range(0, len(inputs), EVALUATION_ROWS):
            block = slice(start, start + EVALUATION_ROWS)
            rows = run.arrays.scaled(inputs[block])
            logs = run.network.test_on_batch(rows, targets[block], return_dict=True)
            add(measures, split, logs, len(rows) / len(inputs))
        measures |= _of_all_rows(run, split, inputs, targets)
    return measures


def _of_all_rows(run: Run, rows: str, inputs: NDArray[Any], targets: NDArray[Any]) -> Measures:
    """Compute the metrics that need all outputs of some rows, `test` for instance; only described data has them."""
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


def add(totals: Measures, rows: str, logs: dict[str, Any], share: float) -> None:
    """Add Keras' metrics of a batch to totals, under the names that both backends use, for instance `train/loss`.

    Args:
        totals: changed in place.
        rows: `train`, `validation` or `test`.
        logs: metrics by Keras' own names.
        share: the batch's share of these rows.
    """
    for name in MEASURED:
        if name in logs:
            totals[f"{rows}/{name}"] = totals.get(f"{rows}/{name}", 0) + float(logs[name]) * share


def record(epoch: int, run: Run, recorder: Recorder, measures: Measures) -> None:
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
