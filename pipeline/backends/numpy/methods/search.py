"""One network that SciPy trains: its loss as a function of one vector of all its weights, and its record."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.packed import Packed
from pipeline.backends.numpy.stack import Stack
from pipeline.backends.numpy.threads import Threads
from pipeline.backends.numpy.training import last_update, record
from pipeline.backends.shared.initial_weights import draw
from pipeline.backends.shared.recorder import Recorder
from pipeline.config.optimizer import Sgd
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays

Vector = NDArray[np.float64]


class Search:
    """A network in training by SciPy, and its record.

    SciPy's own state cannot be restored. A search that was stopped is rerun from its start, which gives the same
    numbers, and records continue after the checkpoint. A checkpoint therefore contains no state.

    Args:
        config: the point's config.
        arrays: the data.
        recorder: receives the state at the end of each epoch.
        threads: what computes the network; None: this thread alone.

    Attributes:
        start: the initial weights.
        reached: the weights at the end of the last epoch.
        evaluations: the number of losses computed.
        epoch: the number of epochs completed.
    """

    def __init__(self, config: Config, arrays: Arrays, recorder: Recorder, threads: Threads | None = None) -> None:
        self._recorder = recorder
        # The stack computes losses and gradients; its optimizer is never used.
        optimizer = Sgd(name="sgd", learning_rate=1.0, output_learning_rate=None)
        weights = draw(config.dense, arrays.features, arrays.outputs, config.seed, config.dtype)
        self._stack = Stack([config.model_copy(update={"optimizer": optimizer})], arrays, [weights], threads)
        (self._rows,) = self._stack.batches(1)
        self.start = self._vector(self._stack.progress.parameters)
        self.reached = self.start
        # The weights of the stack, if its gradient is the one there.
        self._differentiated: Vector | None = None
        self.evaluations = 0
        self.epoch = 0

    @property
    def lost(self) -> bool:
        """Whether the loss was inf or NaN at the start. Later no search accepts such weights."""
        return bool((self._stack.progress.diverged_step >= 0).all())

    def begin(self) -> None:
        """Record the start."""
        if not self._recorder.begun:
            record(0, self._recorder, self._stack.progress, self._stack.evaluate())

    def loss(self, weights: Vector) -> float:
        """Return the training loss at some weights."""
        self.evaluations += 1
        self._put(self._stack.progress.parameters, weights)
        self._differentiated = None
        return float(self._stack.losses(self._rows)[0])

    def loss_and_gradient(self, weights: Vector) -> tuple[float, Vector]:
        """Return the training loss and its gradient at some weights."""
        self.evaluations += 1
        return self._differentiate(weights), self.gradient()

    def gradient(self) -> Vector:
        """Return the gradient at the weights where it was last computed."""
        return self._vector(self._stack.gradient)

    def reach(self, weights: Vector) -> None:
        """End an epoch at these weights.

        Raises:
            KeyboardInterrupt: the command was asked to stop.
        """
        self.epoch += 1
        stack = self._stack
        progress = self._stack.progress
        recorder = self._recorder
        # A line search may have tried other weights after the ones that it accepts.
        if self._differentiated is None or not np.array_equal(weights, self._differentiated):
            self._differentiate(weights)
        # The change of an epoch, computed in the dtype of the weights, so that it is recorded like that of an update.
        before = progress.parameters.like(progress.parameters.flat.dtype)
        self._put(before, self.reached)
        np.subtract(progress.parameters.flat, before.flat, out=stack.change.flat)
        self.reached = weights.copy()
        progress.see_signs((stack.change.flat > 0)[None])
        progress.updates += 1
        # A repeated search records nothing until it has passed the end of the checkpoint.
        if self.epoch > recorder.begun and recorder.due(self.epoch):
            self._record()
        recorder.keep(max(self.epoch, recorder.begun), lambda: [{}])

    def finish(self) -> None:
        """End the history at the last epoch, or at epoch 1 with the initial weights if no step was possible."""
        if not self._recorder.ended:
            self.epoch = max(self.epoch, 1)
            self._differentiate(self.reached)
            self._record(last=True)

    def _record(self, last: bool = False) -> None:
        stack = self._stack
        measures = last_update(stack) | stack.evaluate(last or self._recorder.last(self.epoch))
        measures["loss_evaluations"] = np.full(1, float(self.evaluations))
        record(self.epoch, self._recorder, stack.progress, measures, last)
        self._recorder.report(self.epoch, float(measures["train/loss"][0]))

    def _differentiate(self, weights: Vector) -> float:
        self._put(self._stack.progress.parameters, weights)
        losses, _ = self._stack.differentiate(self._rows, measured=False)
        self._differentiated = weights.copy()
        return float(losses[0])

    def _put(self, packed: Packed, weights: Vector) -> None:
        """Copy the vector to a stack's weights."""
        if packed.grid_last:
            # The stack contains a copy of its single point; both get the same weights.
            weights = weights[:, None]
        packed.flat[...] = weights

    def _vector(self, packed: Packed) -> Vector:
        """Return the numbers of the (first) point as one vector."""
        points = packed.flat
        if packed.grid_last:
            points = points.T
        vector: Vector = points[0].astype(np.float64)
        return vector
