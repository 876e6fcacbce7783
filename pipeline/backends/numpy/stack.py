"""A stack of points of the same shape: their weights, one update of them, and their metrics on given rows.

`Passes` computes the losses and the gradient, in one of three ways. In all of them a penalty may be added to the loss,
and the gradient may be clipped before the weights are updated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.contract import State
from pipeline.backends.numpy.array_modules import array_module, to_host, uploaded
from pipeline.backends.numpy.batches import Batch, Batches
from pipeline.backends.numpy.descent import Descent, clip
from pipeline.backends.numpy.evaluation import Measures, of_rows
from pipeline.backends.numpy.full_batch import unchecked_updates
from pipeline.backends.numpy.losses import penalty, penalty_slope
from pipeline.backends.numpy.many_networks import suits
from pipeline.backends.numpy.network import Array
from pipeline.backends.numpy.packed import Packed, shapes_of
from pipeline.backends.numpy.passes import Passes
from pipeline.backends.numpy.state import initial_progress
from pipeline.backends.numpy.threads import Threads
from pipeline.backends.shared.initial_weights import Weights, is_trained
from pipeline.backends.shared.schedules import updates_per_epoch
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays

# Full-batch epochs in one call of `advance`: enough to make the check of the losses negligible, few enough to repeat
# cheaply if a loss is not finite.
STRIDE = 256


class Stack:
    """Points that differ only in values that can vary along the grid axis: optimizer settings, seed, initial weights.

    Args:
        points: their configs.
        arrays: the data.
        initial: the weights that each point starts from; they are copied.
        threads: what computes networks that are computed one at a time; None: this thread alone. They change no bit of
            the results.

    Attributes:
        progress: the state of training.
        gradient: the gradient of the last update.
        change: the change of the weights by the last update.
        penalties: the penalty part of the last update's losses, (points,); None without a penalty.
        descent: computes the change from the gradient.
        stride: the largest number of epochs to train in one call of `advance`; 1: `advance` cannot be used, and epochs
            are trained batch by batch.
    """

    def __init__(
        self, points: Sequence[Config], arrays: Arrays, initial: Sequence[Weights], threads: Threads | None = None
    ) -> None:
        self.config = points[0]
        self._threads = threads or Threads()
        self._module = array_module(self.config)
        self.arrays = uploaded(arrays, self._module)
        training = self.config.training
        together = suits(self.config, self.arrays)
        if together and len(points) == 1:
            # A single point is trained alongside a copy of itself, because `GridLast` needs two.
            points = [*points, *points]
            initial = [*initial, *initial]
        self._points = len(points)
        parameters = self._packed(initial, together, trained=True)
        differences = self.config.gradient == "finite_difference"
        # Differences of losses are computed in float64, whatever the dtype of the weights.
        self.gradient = parameters.like(np.float64 if differences else self.config.dtype)
        # Clipping works on a copy, so that the recorded norm of the gradient is that before clipping.
        self._clipped: Packed | None = None
        followed = self.gradient
        if training.clipped:
            self._clipped = self.gradient.like(self.gradient.flat.dtype)
            followed = self._clipped
        updates = training.epochs * updates_per_epoch(training, len(self.arrays.train_inputs))
        optimizers = [point.optimizer for point in points]
        schedule = self.config.schedule
        self.descent = Descent(optimizers, self.config.dense, schedule, updates, parameters, followed)
        self.change = self.descent.change
        self._moved = [(parameters.flat[part], self.change.flat[part]) for part in self.descent.parts]
        statistics = self._packed(initial, together, trained=False)
        counted = self.config.recording.direction_changes
        self.progress = initial_progress(parameters, statistics, self.descent, counted)
        self.penalties: Array | None = None
        self.stride = 1
        self._passes = Passes(points, self.arrays, self.progress, self.gradient, self._threads)
        # `advance` supports neither penalties nor clipping, nor a schedule that needs the loss of every epoch.
        if together and not (training.penalised or training.clipped or self.descent.plateau is not None):
            self.stride = STRIDE
        # Only the kernel for single networks can skip features, and only in memory.
        single = self._passes.single
        trimmed = single is not None and self._module is np
        extended = single is not None and single.extended
        seeds = [point.seed for point in points]
        self._batches = Batches(training.batch_size, self.arrays, seeds, trimmed, extended, self._module)

    def _packed(self, initial: Sequence[Weights], grid_last: bool, trained: bool) -> Packed:
        """Pack the arrays that are trained by gradient, or the others: moving statistics, if there are any."""
        shapes = {name: shape for name, shape in shapes_of(initial[0]).items() if is_trained(name) is trained}
        return Packed(shapes, len(initial), self.config.dtype, grid_last, self._module).fill(initial)

    def restore(self, states: Sequence[State]) -> None:
        """Resume from the states of the points."""
        # The copy of a single point has no state of its own: the index wraps around.
        self.progress.restore([states[index % len(states)] for index in range(self._points)])

    def batches(self, epoch: int) -> Iterator[Sequence[Batch]]:
        """Yield the batches of an epoch: one for all points, or one for each point if their seeds differ."""
        return self._batches.of_epoch(epoch)

    def differentiate(self, batches: Sequence[Batch], measured: bool) -> tuple[Array, Measures]:
        """Compute the losses, and write the gradient to `gradient`.

        Args:
            batches: one for all points, or one for each point.
            measured: whether to measure loss, accuracy and error too, at the weights before the update.

        Returns:
            Loss (points,), and the measures, each (points,).
        """
        losses, measures = self._passes.differentiate(batches, measured)
        self.penalties = self._penalties()
        if self.penalties is None:
            return losses, measures
        if "loss" in measures:
            measures["loss"] = measures["loss"] + self.penalties
        if self.config.gradient == "finite_difference":
            # With forward differences, losses and gradient already include the penalty.
            return losses, measures
        weights = self.progress.parameters.arrays
        for name, gradient in self.gradient.arrays.items():
            if name.endswith("weights"):
                gradient += penalty_slope(self.config.training, weights[name])
        return losses + self.penalties, measures

    def losses(self, batches: Sequence[Batch]) -> Array:
        """Compute the losses that `differentiate` returns; `gradient` is then neither the old nor the new one."""
        together = self._passes.together
        if together is None:
            losses, _ = self.differentiate(batches, measured=False)
            return losses
        for call in together.forward:
            call()
        losses = to_host(together.losses())
        penalties = self._penalties()
        if penalties is not None:
            losses = losses + penalties
        return losses

    def _penalties(self) -> Array | None:
        """Compute the penalties at the present weights, (points,); None without a penalty."""
        training = self.config.training
        if not training.penalised:
            return None
        return to_host(penalty(training, self.progress.parameters.by_point()))

    def move(self) -> None:
        """Turn the gradient into a change, and add it to the weights."""
        progress = self.progress
        descent = self.descent
        moved = self._moved
        t = progress.updates + 1
        if self._clipped is not None:
            clip(self.config.training, self.gradient, self._clipped)

        def one(number: int) -> None:
            descent.update(number, t)
            weights, change = moved[number]
            np.add(weights, change.astype(weights.dtype, copy=False), out=weights)

        descent.scale_rates(t)
        self._passes.sharing.each(one, len(descent.parts))
        if progress.upwards is not None:
            progress.see_signs((self.change.flat > 0)[None])
        progress.updates = t

    def advance(self, updates: int) -> None:
        """Make updates on all training rows; only for points whose `stride` is above 1.

        The losses are checked afterwards. Only if one of them was inf or NaN, all updates are repeated one by one, to
        note the first update with such a loss.

        Raises:
            ValueError: the points are not computed together.
        """
        together = self._passes.together
        if together is None:
            raise ValueError("these points are not computed together")
        progress = self.progress
        moved = [progress.parameters.flat, *(slot.flat for slot in progress.slots.values())]
        before = [array.copy() for array in moved]
        signs: NDArray[np.bool_] | None = None
        if progress.upwards is not None:
            signs = self._module.empty((updates, *self.change.flat.shape), np.bool_)
        losses, finite = unchecked_updates(together, self.descent, progress, updates, signs)
        # A point that had already diverged does not matter.
        if (finite | (progress.diverged_step >= 0)).all():
            progress.see_losses(losses)
            if signs is not None:
                progress.see_signs(signs)
            progress.updates += updates
            return
        for array, kept in zip(moved, before, strict=True):
            array[...] = kept
        for _ in range(updates):
            losses, _ = self.differentiate([], measured=False)
            progress.see_losses(losses)
            self.move()

    def evaluate(self, last: bool = False) -> Measures:
        """Measure the points, (points,) each: on `Arrays.evaluated`, and with a full batch on training rows too.

        The losses include the penalty, which is also returned as a measure of its own.

        Args:
            last: whether the points end here.
        """
        penalties = self._penalties()
        measures: Measures = {}
        if penalties is not None:
            measures["weights/penalty"] = penalties
        if self.config.training.batch_size is None:
            whole = self._of_rows([self._batches.all_rows], penalties)
            self.progress.see_losses(whole["loss"])
            measures |= {f"train/{name}": value for name, value in whole.items()}
        for split, inputs, targets in self.arrays.evaluated(last):
            found = self._of_rows(self._batches.in_blocks(inputs, targets), penalties)
            measures |= {f"{split}/{name}": value for name, value in found.items()}
        return measures

    def _of_rows(self, batches: Sequence[Callable[[], Batch]], penalties: Array | None) -> Measures:
        measures = of_rows(self.config, self.arrays.task, self._threads, batches, self._passes.sums)
        if penalties is not None:
            measures["loss"] = measures["loss"] + penalties
        return measures
