"""One network that SciPy trains: its loss as a function of one vector of all its weights, and its record."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.packed import Packed
from pipeline.backends.numpy.stack import Stack
from pipeline.backends.numpy.training import last_update, record
from pipeline.backends.shared.initial_weights import draw
from pipeline.backends.shared.recorder import Recorder
from pipeline.config.optimizer import Sgd
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays

Vector = NDArray[np.float64]


class Search:
    """A network on its way, and what is recorded of it.

    SciPy's own state cannot be put back. A search that was stopped is made again from its start, which gives the same
    numbers, and records go on where the checkpoint ends; so a checkpoint needs no state.

    Args:
        config: of the point.
        arrays: the data.
        recorder: shown how it goes.

    Attributes:
        start: the weights that it begins from.
        reached: those of the last epoch.
        evaluations: how many losses were computed.
        epoch: how many epochs there were.
    """

    def __init__(self, config: Config, arrays: Arrays, recorder: Recorder) -> None:
        self._recorder = recorder
        # The stack gives losses and gradients, and moves nothing itself.
        optimizer = Sgd(name="sgd", learning_rate=1.0, output_learning_rate=None)
        weights = draw(config.model, arrays.features, arrays.outputs, config.seed, config.dtype)
        self._stack = Stack([config.model_copy(update={"optimizer": optimizer})], arrays, [weights])
        (self._rows,) = self._stack.batches(1)
        self.start = self._vector(self._stack.progress.parameters)
        self.reached, self._seen = self.start, np.full_like(self.start, np.nan)
        self.evaluations, self.epoch = 0, 0

    @property
    def lost(self) -> bool:
        """Whether the loss was inf or NaN at the start: from anywhere else no search goes there."""
        return bool((self._stack.progress.diverged_step >= 0).all())

    def begin(self) -> None:
        """Record the start."""
        if not self._recorder.begun:
            record(0, self._recorder, self._stack.progress, self._stack.evaluate())

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
        stack, progress, recorder = self._stack, self._stack.progress, self._recorder
        if not np.array_equal(weights, self._seen):
            self._differentiate(weights)
        before = progress.parameters.like(progress.parameters.flat.dtype)
        self._put(before, self.reached)
        np.subtract(progress.parameters.flat, before.flat, out=stack.change.flat)
        self.reached = weights.copy()
        progress.see_signs((stack.change.flat > 0)[None])
        progress.updates += 1
        if self.epoch > recorder.begun and recorder.due(self.epoch):
            self._record()
        recorder.keep(max(self.epoch, recorder.begun), lambda: [{}])

    def finish(self) -> None:
        """End the history where the search ended; one that could not make a step ends at epoch 1, where it began."""
        if not self._recorder.ended:
            self.epoch = max(self.epoch, 1)
            self._differentiate(self.reached)
            self._record(last=True)

    def _record(self, last: bool = False) -> None:
        stack = self._stack
        measures = last_update(stack) | stack.evaluate()
        measures["loss_evaluations"] = np.full(1, float(self.evaluations))
        record(self.epoch, self._recorder, stack.progress, measures, last)
        self._recorder.report(self.epoch, float(measures["train/loss"][0]))

    def _differentiate(self, weights: Vector) -> float:
        self._put(self._stack.progress.parameters, weights)
        losses, _ = self._stack.differentiate(self._rows, measured=False)
        self._seen = weights.copy()
        return float(losses[0])

    def _put(self, packed: Packed, weights: Vector) -> None:
        packed.flat[...] = weights[:, None] if packed.grid_last else weights

    def _vector(self, packed: Packed) -> Vector:
        return (packed.flat[:, 0] if packed.grid_last else packed.flat[0]).astype(np.float64)
