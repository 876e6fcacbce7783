"""One network that SciPy trains: its loss as a function of one vector of all its weights, and its record."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.packed import Packed
from pipeline.backends.numpy.stack import Stack
from pipeline.backends.numpy.training import Clock, end, last_update, record
from pipeline.backends.shared.history import History, record_epochs, snapshot_epochs
from pipeline.backends.shared.initial_weights import draw
from pipeline.config.optimizer import Sgd
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays
from pipeline.points.checkpoint import Checkpoints

Vector = NDArray[np.float64]


class Search:
    """A network on its way, and what is recorded of it.

    SciPy's own state cannot be put back. A search that was stopped is made again from its start, which gives the same
    numbers, and records go on where the checkpoint ends; so a checkpoint needs no state.

    Args:
        points, arrays, histories, report, checkpoints: what a `Train` is given, of one point.

    Attributes:
        start: the weights that it begins from.
        reached: those of the last epoch.
        evaluations: how many losses were computed.
        epoch: how many epochs there were.

    Raises:
        ValueError: there are several points.
    """

    def __init__(
        self,
        points: Sequence[Config],
        arrays: Arrays,
        histories: Sequence[History],
        report: Callable[[int, float], None],
        checkpoints: Checkpoints | None,
    ) -> None:
        (point,), (self._history,) = points, histories
        self._points, self._histories, self._report, self._checkpoints = points, histories, report, checkpoints
        # The stack gives losses and gradients, and moves nothing itself.
        optimizer = Sgd(name="sgd", learning_rate=1.0, output_learning_rate=None)
        weights = draw(point.model, arrays.features, arrays.outputs, point.seed, point.dtype)
        self._stack = Stack([point.model_copy(update={"optimizer": optimizer})], arrays, [weights])
        (self._rows,) = self._stack.batches(1)
        self.start = self._vector(self._stack.progress.parameters)
        self.reached, self._seen = self.start, np.full_like(self.start, np.nan)
        self.evaluations, self.epoch = 0, 0
        self._begun = checkpoints.epoch if checkpoints else 0
        recorded = record_epochs(point.training.epochs, point.recording.metrics_every)
        self._due, self._snapshots = frozenset(recorded), snapshot_epochs(recorded, point.recording.snapshots)
        self._last_record = max((metric.step for metric in self._history.metrics), default=-1)
        self._clock = Clock(histories)

    @property
    def lost(self) -> bool:
        """Whether the loss was inf or NaN at the start: from anywhere else no search goes there."""
        return bool((self._stack.progress.diverged_step >= 0).all())

    def begin(self) -> None:
        """Record the start."""
        if not self._begun:
            measures = self._stack.evaluate()
            record(0, self._points, self._histories, self._stack.progress, measures, snapshot=True)

    def loss(self, weights: Vector) -> float:
        """The training loss at some weights; the gradient there is at hand."""
        self.evaluations += 1
        return self._differentiate(weights)

    def gradient(self) -> Vector:
        """The gradient where the loss was asked for last."""
        return self._vector(self._stack.gradient)

    def reach(self, weights: Vector) -> None:
        """Note that an epoch ends at these weights.

        Raises:
            KeyboardInterrupt: the command was asked to stop.
        """
        self.epoch += 1
        stack, progress, point = self._stack, self._stack.progress, self._points[0]
        if not np.array_equal(weights, self._seen):
            self._differentiate(weights)
        before = progress.parameters.like(progress.parameters.flat.dtype)
        self._put(before, self.reached)
        np.subtract(progress.parameters.flat, before.flat, out=stack.change.flat)
        self.reached = weights.copy()
        progress.see_signs((stack.change.flat > 0)[None])
        progress.updates += 1
        if self.epoch > self._begun and self.epoch in self._due:
            self._record(self.epoch in self._snapshots)
        checkpoints = self._checkpoints
        if checkpoints and self.epoch < point.training.epochs and checkpoints.due():
            self._clock.note(self._histories)
            checkpoints.keep(max(self.epoch, self._begun), [{}])

    def finish(self) -> None:
        """End the history where the search ended; one that could not make a step ends at epoch 1, where it began."""
        progress = self._stack.progress
        if not self._history.epochs:
            self.epoch = max(self.epoch, 1)
            self._differentiate(self.reached)
            self._record(snapshot=True)
            if not self._history.epochs:
                end(self.epoch, 0, self._points[0], self._history, progress)
        self._clock.note(self._histories)

    def _record(self, snapshot: bool) -> None:
        stack, history = self._stack, self._history
        measures = last_update(stack) | stack.evaluate()
        measures["loss_evaluations"] = np.full(1, float(self.evaluations))
        if self.epoch > self._last_record:
            record(self.epoch, self._points, self._histories, stack.progress, measures, snapshot)
            self._report(self.epoch, float(measures["train/loss"][0]))
            self._last_record = self.epoch
        elif snapshot and self.epoch not in history.snapshots:
            history.snapshot(self.epoch, stack.progress.parameters.network(0))

    def _differentiate(self, weights: Vector) -> float:
        self._put(self._stack.progress.parameters, weights)
        losses, _ = self._stack.differentiate(self._rows, measured=False)
        self._seen = weights.copy()
        return float(losses[0])

    def _put(self, packed: Packed, weights: Vector) -> None:
        packed.flat[...] = weights[:, None] if packed.grid_last else weights

    def _vector(self, packed: Packed) -> Vector:
        return (packed.flat[:, 0] if packed.grid_last else packed.flat[0]).astype(np.float64)
