"""Training a stack of points in one pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from pipeline.backends.numpy import optimizers
from pipeline.backends.numpy.gradients import loss_and_gradient
from pipeline.backends.numpy.losses import Targets, measure
from pipeline.backends.numpy.network import Array, Parameters, forward, stack, unstack
from pipeline.backends.numpy.state import Progress, merge
from pipeline.checkpoints import Checkpoints
from pipeline.config import Config
from pipeline.data import Arrays, epoch_order
from pipeline.history import History, direction_change_rows, record_epochs, snapshot_epochs, weight_metrics
from pipeline.initial_weights import Weights, draw

EVALUATION_ROWS = 2048
Report = Callable[[int, float], None]
Measures = dict[str, Array]


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
    optimizer = optimizers.build([point.optimizer for point in points], config.dtype)
    if initial is None:
        initial = [draw(p.model, arrays.features, arrays.outputs, p.seed, p.dtype) for p in points]
    progress = _start(initial, optimizer)
    begun = checkpoints.epoch if checkpoints else 0
    if checkpoints and begun:
        progress = merge(progress, checkpoints.states)
    epochs = config.training.epochs
    recorded = record_epochs(epochs, config.recording.metrics_every)
    snapshots = snapshot_epochs(recorded, config.recording.snapshots)
    due = frozenset(recorded)
    clock = _Clock(histories)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if not begun:
            _record(0, points, histories, progress, _evaluate_all(config, arrays, progress), snapshot=True)
        for epoch in range(begun + 1, epochs + 1):
            running = _train_epoch(epoch, points, arrays, histories, optimizer, progress, measured=epoch in due)
            if epoch in due:
                measures = running | _evaluate_all(config, arrays, progress)
                lost = bool((progress.diverged_step >= 0).all())
                _record(epoch, points, histories, progress, measures, snapshot=lost or epoch in snapshots)
                report(epoch, float(np.min(measures["train/loss"])))
                if lost:
                    break
            if checkpoints and epoch < epochs and checkpoints.due():
                clock.note(histories)
                checkpoints.keep(epoch, [progress.state_of(place) for place in range(len(points))])
    clock.note(histories)


class _Clock:
    """Training time, on top of what a checkpoint brought; points of one pass share it evenly."""

    def __init__(self, histories: Sequence[History]) -> None:
        self.before, self.started = [history.seconds for history in histories], time.perf_counter()

    def note(self, histories: Sequence[History]) -> None:
        seconds = (time.perf_counter() - self.started) / len(histories)
        for history, before in zip(histories, self.before, strict=True):
            history.seconds = before + seconds
            history.points_in_pass = len(histories)


def _start(initial: Sequence[Weights], optimizer: optimizers.Optimizer) -> Progress:
    parameters = stack(initial)
    return Progress(
        parameters,
        optimizer.init(parameters),
        updates=0,
        diverged_step=np.full(len(initial), -1),
        last_finite_loss=np.full(len(initial), np.nan),
        upwards={},
        direction_changes={name: np.zeros(array.shape, dtype=np.int64) for name, array in parameters.items()},
    )


def _train_epoch(
    epoch: int,
    points: Sequence[Config],
    arrays: Arrays,
    histories: Sequence[History],
    optimizer: optimizers.Optimizer,
    progress: Progress,
    measured: bool,
) -> Measures:
    """One pass over the rows; returns what was measured on the way, (grid,) each, when `measured` asks for it."""
    config, parameters = points[0], progress.parameters
    minibatches = config.training.batch_size is not None
    totals: Measures = {}
    for inputs, targets in _batches(epoch, points, arrays):
        losses, gradients, sums = loss_and_gradient(config, parameters, inputs, targets)
        progress.see_losses(losses)
        if measured and minibatches:
            share = sums.shape[-2] / len(arrays.train_inputs)
            for name, value in measure(config.loss, config.model.output_activation, sums, targets).items():
                totals[f"train/{name}"] = totals.get(f"train/{name}", 0) + value * share
        changes, progress.optimizer_state = optimizer.update(gradients, progress.optimizer_state)
        if config.recording.direction_changes:
            progress.see_directions(changes)
        if epoch <= config.recording.table_epochs:
            _note_first_epochs(epoch, config, histories, parameters, losses, gradients, changes)
        for name, change in changes.items():
            parameters[name] += change.astype(config.dtype, copy=False)
        progress.updates += 1
    if not measured:
        return {}
    weights = _norm(parameters)
    return totals | {
        "gradient_norm": _norm(gradients),
        "weights/norm": weights,
        "weights/update_ratio": _norm(changes) / weights,
    }


def _batches(epoch: int, points: Sequence[Config], arrays: Arrays) -> Iterator[tuple[Array, Targets]]:
    """Minibatches of an epoch; shared by the stack, or (grid, rows, ...) where the points' seeds differ."""
    size, rows = points[0].training.batch_size, len(arrays.train_inputs)
    if size is None:
        yield arrays.train_inputs, arrays.train_targets
        return
    seeds = [point.seed for point in points]
    if len(set(seeds)) == 1:
        order = epoch_order(seeds[0], epoch, rows)
    else:
        order = np.stack([epoch_order(seed, epoch, rows) for seed in seeds])
    for start in range(0, rows, size):
        chosen = order[..., start : start + size]
        yield arrays.train_inputs[chosen], arrays.train_targets[chosen]


def _norm(arrays: Mapping[str, Array]) -> Array:
    """Euclidean norm over all arrays of a point: (grid,)."""
    squares = [np.square(array, dtype=np.float64).sum(axis=(1, 2)) for array in arrays.values()]
    result: Array = np.sqrt(np.sum(squares, axis=0))
    return result


def _evaluate_all(config: Config, arrays: Arrays, progress: Progress) -> Measures:
    """The test rows, and with a full batch the training rows too, at the present weights."""
    measures: Measures = {}
    if config.training.batch_size is None:
        whole = _evaluate(config, progress, arrays.train_inputs, arrays.train_targets, len(arrays.train_inputs))
        progress.see_losses(whole["loss"])
        measures |= {f"train/{name}": value for name, value in whole.items()}
    if arrays.test_inputs is not None and arrays.test_targets is not None:
        test = _evaluate(config, progress, arrays.test_inputs, arrays.test_targets, EVALUATION_ROWS)
        measures |= {f"test/{name}": value for name, value in test.items()}
    return measures


def _evaluate(config: Config, progress: Progress, inputs: Array, targets: Targets, block_rows: int) -> Measures:
    """Loss and its companions over the rows of a data set, in blocks that bound the memory."""
    totals: Measures = {}
    for start in range(0, len(inputs), block_rows):
        block = slice(start, start + block_rows)
        sums = forward(config.model, progress.parameters, inputs[block])[-1]
        share = len(inputs[block]) / len(inputs)
        for name, value in measure(config.loss, config.model.output_activation, sums, targets[block]).items():
            totals[name] = totals.get(name, 0) + value * share
    return totals


def _record(
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
        weights = unstack(progress.parameters, place)
        diverged = progress.diverged_step[place] >= 0
        if snapshot or diverged:
            history.snapshot(epoch, weights)
        if not diverged:
            values = {name: float(value[place]) for name, value in measures.items()}
            history.record(epoch, values | (weight_metrics(weights) if point.recording.weight_metrics else {}))
        if epoch and (diverged or epoch == point.training.epochs):
            _end(epoch, place, point, history, progress)


def _note_first_epochs(
    epoch: int,
    config: Config,
    histories: Sequence[History],
    parameters: Parameters,
    losses: Array,
    gradients: Parameters,
    changes: Parameters,
) -> None:
    """The text's table for the first weight: value, loss, loss after the small step, gradient, new value."""
    if config.gradient != "finite_difference":
        return
    name = "layer_0/weights"
    for place, history in enumerate(histories):
        if history.epochs:
            continue
        weight, gradient = parameters[name][place, 0, 0], float(gradients[name][place, 0, 0])
        row = {
            "epoch": epoch,
            "weight": float(weight),
            "loss": float(losses[place]),
            "loss_after_step": float(losses[place]) + gradient * config.finite_difference_step,
            "gradient": gradient,
            "updated_weight": float(weight + changes[name][place, 0, 0].astype(config.dtype)),
        }
        history.tables.setdefault("first_epochs", []).append(row)


def _end(epoch: int, place: int, point: Config, history: History, progress: Progress) -> None:
    diverged_step, last = int(progress.diverged_step[place]), float(progress.last_finite_loss[place])
    history.diverged_step = diverged_step if diverged_step >= 0 else None
    history.last_finite_loss = last if np.isfinite(last) else None
    history.epochs = epoch
    if point.recording.direction_changes:
        counts = {name: array[place] for name, array in progress.direction_changes.items()}
        history.tables["direction_changes"] = direction_change_rows(counts)
