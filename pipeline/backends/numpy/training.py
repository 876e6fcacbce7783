"""Training of a stack of points.

A stack is a set of points that are trained together. The leading axis of its arrays, the grid axis, has one entry for
each point. `Stack` computes gradients and updates, `Progress` is its state, `Recorder` keeps the record of each point.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.backends.contract import Checkpoints, Report
from pipeline.backends.curvature.stack_curvature import StackCurvature
from pipeline.backends.numpy.array_modules import to_host
from pipeline.backends.numpy.evaluation import Measures
from pipeline.backends.numpy.network import Array
from pipeline.backends.numpy.stack import Stack
from pipeline.backends.numpy.state import Progress
from pipeline.backends.numpy.threads import side_by_side
from pipeline.backends.shared.history import History, direction_change_rows, note_update
from pipeline.backends.shared.initial_weights import Weights, draw
from pipeline.backends.shared.measures import baseline_measures
from pipeline.backends.shared.recorder import Recorder, Standing
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays


def train(
    points: Sequence[Config],
    arrays: Arrays,
    histories: Sequence[History],
    report: Report,
    checkpoints: Checkpoints | None = None,
    initial: Sequence[Weights] | None = None,
) -> None:
    """Train points that differ only in values that can vary along the grid axis: optimizer settings, seed, weights.

    Args:
        points: their configs.
        arrays: the data.
        histories: one for each point, filled in here; when resuming, they already contain the records up to the
            checkpoint.
        report: called at every recorded epoch with the epoch and the smallest training loss.
        checkpoints: the checkpoint to resume from, and where to keep new ones. The result is bit-identical, no matter
            how often training is stopped and resumed.
        initial: the weights that each point starts from; None: weights drawn with its seed.

    Example:
        Train one point and print its last metrics::

            history = History()
            train([config], load(config.data, config.dtype, project), [history], lambda epoch, loss: None)
            print(history.final())
    """
    if initial is None:
        initial = [draw(p.dense, arrays.features, arrays.outputs, p.seed, p.dtype) for p in points]
    baseline = baseline_measures(points[0].loss, arrays)
    recorder = Recorder(points, histories, report, checkpoints, baseline)
    curvature = None
    if points[0].recording.curvature:
        curvature = StackCurvature(points, arrays)
    # A rate that is too high overflows, which is one of the results: it is recorded as a divergence.
    with side_by_side(points[0]) as threads, np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        _train(Stack(points, arrays, initial, threads), recorder, curvature)
    recorder.note_seconds()


def _train(stack: Stack, recorder: Recorder, curvature: StackCurvature | None) -> None:
    """Train a stack from its start or its checkpoint to its end."""
    progress = stack.progress

    def measured(epoch: int) -> Measures:
        measures = stack.evaluate(recorder.last(epoch))
        if curvature is not None:
            measures |= curvature.measure(progress, recorder.under_way())
        return measures

    if recorder.begun:
        stack.restore(recorder.states)
    else:
        record(0, recorder, progress, measured(0))
    for before, epoch in recorder.stops(stack.stride):
        due = recorder.due(epoch)
        # Measured during the epoch; `evaluate` measures the weights at its end. With a stride above 1, `advance` makes
        # full-batch updates without checking each loss; otherwise epochs are trained one at a time.
        running: Measures = {}
        if stack.stride > 1:
            stack.advance(epoch - before)
            if due:
                running = last_update(stack)
        else:
            running = _train_epoch(epoch, stack, recorder.histories, measured=due)
        if due:
            measures = running | measured(epoch)
            record(epoch, recorder, progress, measures)
            recorder.report(epoch, float(np.min(measures["train/loss"])))
        recorder.keep(epoch, lambda: [progress.state_of(index) for index in range(len(recorder.points))])


def _train_epoch(epoch: int, stack: Stack, histories: Sequence[History], measured: bool) -> Measures:
    """Train all rows once.

    Returns:
        If `measured`: the measures of the minibatches and of the last update, each (points,); else none.
    """
    config = stack.config
    progress = stack.progress
    totals: Measures = {}
    mean_losses = np.zeros(len(progress.diverged_step))
    # With a full batch, `evaluate` measures the training rows after the update, so they are not measured before it.
    in_batches = measured and config.training.batch_size is not None
    for batches in stack.batches(epoch):
        losses, values = stack.differentiate(batches, in_batches)
        progress.see_losses(losses)
        if config.recording.update_losses:
            _note_update(stack, histories, losses)
        # The last batch may be smaller: means over the rows, not over the batches.
        share = len(batches[0].inputs) / len(stack.arrays.train_inputs)
        mean_losses += losses * share
        for name, value in values.items():
            totals[f"train/{name}"] = totals.get(f"train/{name}", 0) + value * share
        # One weight of each point, copied for the table below because `move` changes it.
        first_weights = progress.parameters.arrays["layer_0/weights"][:, 0, 0].copy()
        stack.move()
        if epoch <= config.recording.table_epochs:
            _note_first_epochs(epoch, stack, histories, first_weights, losses)
    measures: Measures = {}
    if measured:
        # Before the end of the epoch, which may reduce the learning rate: the metric is the rate of the last update.
        measures = totals | last_update(stack)
    # A schedule such as reduce_on_plateau depends on these losses.
    stack.descent.end_epoch(mean_losses)
    return measures


def last_update(stack: Stack) -> Measures:
    """Measure the last update, (points,) each.

    Returns:
        The norms of the weights and of the gradient, the norm of the change over that of the weights and, if the
        schedule is not constant, the learning rate.
    """
    weights = stack.progress.parameters.norm()
    ratio = stack.change.norm() / weights
    norms = {"gradient_norm": stack.gradient.norm(), "weights/norm": weights, "weights/update_ratio": ratio}
    return norms | stack.descent.learning_rates(stack.progress.updates)


def record(epoch: int, recorder: Recorder, progress: Progress, measures: Measures, last: bool = False) -> None:
    """Record each point's own values. A point that has diverged is finished; the rest of the stack continues.

    Args:
        epoch: the number of epochs trained.
        recorder: the recorder of the points.
        progress: their state.
        measures: (points,) each.
        last: whether the points end here although epochs are left.
    """
    for index in recorder.under_way():
        standing = Standing(
            {name: float(value[index]) for name, value in measures.items()},
            {name: to_host(array) for name, array in progress.network(index).items()},
            int(progress.diverged_step[index]),
            float(progress.last_finite_loss[index]),
        )
        # `record` returns whether the point has ended, and only then are its counts complete.
        if recorder.record(epoch, index, standing, last) and progress.direction_changes is not None:
            counts = progress.direction_changes.at(index)
            recorder.histories[index].tables["direction_changes"] = direction_change_rows(counts)


def _note_update(stack: Stack, histories: Sequence[History], losses: Array) -> None:
    """Note the losses of the next update, the rates and the penalties in the histories of the points under way."""
    updates = stack.progress.updates
    rates = stack.descent.rates(updates + 1)
    for index, history in enumerate(histories):
        # A history with epochs has ended.
        if history.epochs:
            continue
        penalty = None
        if stack.penalties is not None:
            penalty = float(stack.penalties[index])
        note_update(history, updates, float(rates[index]), float(losses[index]), penalty)


def _note_first_epochs(epoch: int, stack: Stack, histories: Sequence[History], weights: Array, losses: Array) -> None:
    """Add a row to the table `first_epochs`, which reproduces a table that the source text prints for its one weight.

    Args:
        epoch: counted from 1.
        stack: the stack after the update.
        histories: the histories of the points.
        weights: the first weight of each point before the update, (points,).
        losses: the losses at these weights, (points,).
    """
    config = stack.config
    # The column `loss_after_step` exists only for forward differences: it is the loss at weight + step.
    if config.gradient != "finite_difference":
        return
    name = "layer_0/weights"
    for index, history in enumerate(histories):
        if history.epochs:
            continue
        weight = weights[index]
        gradient = float(stack.gradient.arrays[name][index, 0, 0])
        # The change is float64; it is rounded to the dtype of the weights, as `Stack.move` adds it.
        change = stack.change.arrays[name][index, 0, 0].astype(config.dtype)
        row = {
            "epoch": epoch,
            "weight": float(weight),
            "loss": float(losses[index]),
            # gradient = (loss(w + h) - loss(w)) / h, solved for loss(w + h).
            "loss_after_step": float(losses[index]) + gradient * config.finite_difference_step,
            "gradient": gradient,
            "updated_weight": float(weight + change),
        }
        history.tables.setdefault("first_epochs", []).append(row)
