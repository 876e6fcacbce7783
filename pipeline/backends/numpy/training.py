"""Training a stack of points in one pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from pipeline.backends.numpy.array_modules import to_host
from pipeline.backends.numpy.network import Array
from pipeline.backends.numpy.stack import Measures, Stack
from pipeline.backends.numpy.state import Progress
from pipeline.backends.shared.history import (
    History,
    direction_change_rows,
    note_update,
    record_epochs,
    snapshot_epochs,
    weight_metrics,
)
from pipeline.backends.shared.initial_weights import Weights, draw
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays
from pipeline.points.checkpoint import Checkpoints

Report = Callable[[int, float], None]


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
    config = points[0]
    if initial is None:
        initial = [draw(p.model, arrays.features, arrays.outputs, p.seed, p.dtype) for p in points]
    stack = Stack(points, arrays, initial)
    progress = stack.progress
    begun = checkpoints.epoch if checkpoints else 0
    if checkpoints and begun:
        stack.restore(checkpoints.states)
    epochs = config.training.epochs
    recorded = record_epochs(epochs, config.recording.metrics_every)
    snapshots = snapshot_epochs(recorded, config.recording.snapshots)
    due = frozenset(recorded)
    clock = Clock(histories)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if not begun:
            record(0, points, histories, progress, stack.evaluate(), snapshot=True)
        for before, epoch in pairwise(_stops(begun, recorded, stack.stride)):
            if stack.stride > 1:
                stack.advance(epoch - before)
                running = last_update(stack) if epoch in due else {}
            else:
                running = _train_epoch(epoch, stack, histories, measured=epoch in due)
            if epoch in due:
                measures = running | stack.evaluate()
                lost = bool((progress.diverged_step >= 0).all())
                record(epoch, points, histories, progress, measures, snapshot=lost or epoch in snapshots)
                report(epoch, float(np.min(measures["train/loss"])))
                if lost:
                    break
            if checkpoints and epoch < epochs and checkpoints.due():
                clock.note(histories)
                checkpoints.keep(epoch, [progress.state_of(place) for place in range(len(points))])
    clock.note(histories)


def _stops(begun: int, recorded: Sequence[int], stride: int) -> Iterator[int]:
    """The epochs after which training looks up: those that are recorded, and between them one in `stride`."""
    yield begun
    for epoch in recorded:
        yield from range(begun + stride, epoch, stride)
        if epoch > begun:
            yield epoch
            begun = epoch


class Clock:
    """Training time, on top of what a checkpoint brought; points of one pass share it evenly."""

    def __init__(self, histories: Sequence[History]) -> None:
        self.before, self.started = [history.seconds for history in histories], time.perf_counter()

    def note(self, histories: Sequence[History]) -> None:
        seconds = (time.perf_counter() - self.started) / len(histories)
        for history, before in zip(histories, self.before, strict=True):
            history.seconds = before + seconds
            history.points_in_pass = len(histories)


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


def record(
    epoch: int,
    points: Sequence[Config],
    histories: Sequence[History],
    progress: Progress,
    measures: Measures,
    snapshot: bool,
) -> None:
    """Hand each point its own values; a point that has diverged ends here, whatever the others of the stack do."""
    for place, (point, history) in enumerate(zip(points, histories, strict=True)):
        if history.epochs:
            continue
        weights = {name: to_host(array) for name, array in progress.network(place).items()}
        diverged = progress.diverged_step[place] >= 0
        if snapshot or diverged:
            history.snapshot(epoch, weights)
        if not diverged:
            values = {name: float(value[place]) for name, value in measures.items()}
            history.record(epoch, values | (weight_metrics(weights) if point.recording.weight_metrics else {}))
        if epoch and (diverged or epoch == point.training.epochs):
            end(epoch, place, point, history, progress)


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


def end(epoch: int, place: int, point: Config, history: History, progress: Progress) -> None:
    diverged_step, last = int(progress.diverged_step[place]), float(progress.last_finite_loss[place])
    history.diverged_step = diverged_step if diverged_step >= 0 else None
    history.last_finite_loss = last if np.isfinite(last) else None
    history.epochs = epoch
    if progress.direction_changes is not None:
        counts = progress.direction_changes.at(place)
        history.tables["direction_changes"] = direction_change_rows(counts)
