"""Training a stack of points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.backends.contract import Checkpoints, Report
from pipeline.backends.numpy.array_modules import to_host
from pipeline.backends.numpy.network import Array
from pipeline.backends.numpy.stack import Measures, Stack
from pipeline.backends.numpy.state import Progress
from pipeline.backends.shared.history import History, direction_change_rows, note_update
from pipeline.backends.shared.initial_weights import Weights, draw
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
    """Train points that differ only in values that fit on the grid axis: optimizer knobs, seed, initial values.

    Args:
        points: their configs.
        arrays: the data.
        histories: one for each point, filled here; those of a checkpoint hold what was recorded before it.
        report: called at every recorded epoch with the epoch and the smallest training loss.
        checkpoints: where to begin, and what keeps the states; the result is the same, bit for bit, however often
            training was stopped and begun again.
        initial: the weights that each begins from; None: those that its seed draws.
    """
    if initial is None:
        initial = [draw(p.model, arrays.features, arrays.outputs, p.seed, p.dtype) for p in points]
    stack = Stack(points, arrays, initial)
    progress = stack.progress
    recorder = Recorder(points, histories, report, checkpoints)
    if recorder.begun:
        stack.restore(recorder.states)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if not recorder.begun:
            record(0, recorder, progress, stack.evaluate())
        for before, epoch in recorder.stops(stack.stride):
            due = recorder.due(epoch)
            if stack.stride > 1:
                stack.advance(epoch - before)
                running = last_update(stack) if due else {}
            else:
                running = _train_epoch(epoch, stack, histories, measured=due)
            if due:
                measures = running | stack.evaluate()
                record(epoch, recorder, progress, measures)
                report(epoch, float(np.min(measures["train/loss"])))
            recorder.keep(epoch, lambda: [progress.state_of(place) for place in range(len(points))])
    recorder.note_seconds()


def _train_epoch(epoch: int, stack: Stack, histories: Sequence[History], measured: bool) -> Measures:
    """One pass over the rows; returns what was measured on the way, (points,) each, when `measured` asks for it."""
    config, progress, totals = stack.config, stack.progress, Measures()
    mean_losses = np.zeros(len(progress.diverged_step))
    on_the_way = measured and config.training.batch_size is not None
    for batches in stack.batches(epoch):
        losses, values = stack.differentiate(batches, on_the_way)
        progress.see_losses(losses)
        if config.recording.update_losses:
            rates, added = stack.descent.rates(progress.updates + 1), stack.penalties
            for place, history in enumerate(histories):
                if not history.epochs:
                    penalty = None if added is None else float(added[place])
                    note_update(history, progress.updates, float(rates[place]), float(losses[place]), penalty)
        share = len(batches[0].inputs) / len(stack.arrays.train_inputs)
        mean_losses += losses * share
        for name, value in values.items():
            totals[f"train/{name}"] = totals.get(f"train/{name}", 0) + value * share
        first_weights = progress.parameters.arrays["layer_0/weights"][:, 0, 0].copy()
        stack.move()
        if epoch <= config.recording.table_epochs:
            _note_first_epochs(epoch, stack, histories, first_weights, losses)
    measures = totals | last_update(stack) if measured else {}
    stack.descent.end_epoch(mean_losses)
    return measures


def last_update(stack: Stack) -> Measures:
    """Norms of the weights, of the last gradient, of the last change as a share of the weights; its learning rate."""
    weights = stack.progress.parameters.norm()
    ratio = stack.change.norm() / weights
    norms = {"gradient_norm": stack.gradient.norm(), "weights/norm": weights, "weights/update_ratio": ratio}
    return norms | stack.descent.learning_rates(stack.progress.updates)


def record(epoch: int, recorder: Recorder, progress: Progress, measures: Measures, last: bool = False) -> None:
    """Hand each point its own values; one that has diverged ends here, whatever the others of the stack do.

    Args:
        epoch: how many were trained.
        recorder: of the points.
        progress: where they stand.
        measures: (points,) each.
        last: whether they end here though epochs are left.
    """
    for place in recorder.under_way():
        standing = Standing(
            {name: float(value[place]) for name, value in measures.items()},
            {name: to_host(array) for name, array in progress.network(place).items()},
            int(progress.diverged_step[place]),
            float(progress.last_finite_loss[place]),
        )
        if recorder.record(epoch, place, standing, last) and progress.direction_changes is not None:
            counts = progress.direction_changes.at(place)
            recorder.histories[place].tables["direction_changes"] = direction_change_rows(counts)


def _note_first_epochs(epoch: int, stack: Stack, histories: Sequence[History], weights: Array, losses: Array) -> None:
    """The text's table for the first weight: value, loss, loss after the small step, gradient, new value."""
    config = stack.config
    if config.gradient != "finite_difference":
        return
    name = "layer_0/weights"
    for place, history in enumerate(histories):
        if history.epochs:
            continue
        weight, gradient = weights[place], float(stack.gradient.arrays[name][place, 0, 0])
        row = {
            "epoch": epoch,
            "weight": float(weight),
            "loss": float(losses[place]),
            "loss_after_step": float(losses[place]) + gradient * config.finite_difference_step,
            "gradient": gradient,
            "updated_weight": float(weight + stack.change.arrays[name][place, 0, 0].astype(config.dtype)),
        }
        history.tables.setdefault("first_epochs", []).append(row)
