"""A stack of points of one shape: their weights, how one update moves them, how they do on rows.

Three ways lead to the gradient. Small networks that see a whole table are computed at once, the grid axis last; other
networks one at a time, minibatch by minibatch; and where the config asks for forward differences, weight by weight. On
all of them a penalty comes on top of the loss, and the gradient may be clipped before it moves the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.contract import State
from pipeline.backends.numpy import many_networks as grid_last
from pipeline.backends.numpy.array_modules import array_module, to_host, uploaded
from pipeline.backends.numpy.descent import Descent
from pipeline.backends.numpy.gradients import forward_differences
from pipeline.backends.numpy.losses import Targets, measure, penalty, penalty_slope
from pipeline.backends.numpy.network import Array, forward
from pipeline.backends.numpy.one_network import WIDE, Batch, OneNetwork, batch
from pipeline.backends.numpy.packed import Packed
from pipeline.backends.numpy.state import Progress
from pipeline.backends.shared.initial_weights import Weights, is_trained
from pipeline.backends.shared.schedules import updates_per_epoch
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, epoch_order

EVALUATION_ROWS = 2048
STRIDE = 256
"""Epochs of full batches in one call of `advance`: enough that to look at the losses costs nothing beside them, few
enough that to do them again, where one is not finite, costs little."""
Measures = dict[str, Array]


class Stack:
    """Points that differ only in values that fit on the grid axis: optimizer knobs, seed, initial values.

    Args:
        points: their configs.
        arrays: the data.
        initial: the weights that each begins from; they are copied.

    Attributes:
        progress: where training stands.
        gradient, change: of the last update.
        penalties: what the losses of the last update had of a penalty, (points,); None where there is none.
        descent: what makes the change of the gradient.
        stride: how many epochs are best trained in one call of `advance`; 1: they are trained batch by batch.
    """

    def __init__(self, points: Sequence[Config], arrays: Arrays, initial: Sequence[Weights]) -> None:
        self.config, self._module = points[0], array_module(points[0])
        self.arrays = arrays = uploaded(arrays, self._module)
        together = grid_last.suits(self.config, arrays)
        if together and len(points) == 1:  # see GridLast: it trains beside a copy of itself
            points, initial = [*points, *points], [*initial, *initial]
        shapes = {name: (array.shape if array.ndim == 2 else (1, array.size)) for name, array in initial[0].items()}
        trained, moving = ({n: s for n, s in shapes.items() if is_trained(n) is kind} for kind in (True, False))
        common = len(points), self.config.dtype, together, self._module
        parameters = Packed(trained, *common).fill(initial)
        differences = self.config.gradient == "finite_difference"
        dtype = np.dtype(np.float64 if differences else self.config.dtype)
        self.gradient = parameters.like(dtype)
        updates = self.config.training.epochs * updates_per_epoch(self.config.training, len(arrays.train_inputs))
        self._clipped = self.gradient.like(dtype) if self.config.training.clipped else None
        followed = self.gradient if self._clipped is None else self._clipped
        chosen, schedule = [point.optimizer for point in points], self.config.schedule
        self.descent = Descent(chosen, self.config.model, schedule, updates, parameters, followed)
        self.change = self.descent.change
        counted = self.config.recording.direction_changes
        self.progress = Progress(
            parameters,
            self.descent.slots,
            updates=0,
            diverged_step=np.full(len(points), -1),
            last_finite_loss=np.full(len(points), np.nan),
            upwards=parameters.like(np.bool_) if counted else None,
            direction_changes=parameters.like(np.int64) if counted else None,
            statistics=Packed(moving, *common).fill(initial) if moving else None,
            plateau=self.descent.plateau,
        )
        self._points, seeds = len(points), [point.seed for point in points]
        self._seeds = seeds if len(set(seeds)) > 1 else seeds[:1]
        self._whole: Batch | None = None
        self.penalties: Array | None = None
        self._together: grid_last.GridLast | None = None
        adjusted = self.config.training.penalised or self.config.training.clipped
        self.stride = STRIDE if together and not adjusted and self.descent.plateau is None else 1
        self._single: OneNetwork | None = None
        if together:
            inputs = arrays.scaled(arrays.train_inputs)
            self._together = grid_last.GridLast(self.config, inputs, arrays.train_targets, parameters, self.gradient)
        elif not differences:
            rows = len(arrays.train_inputs)
            most = min(self.config.training.batch_size or rows, rows)
            self._single = OneNetwork(self.config, seeds, most, self.progress, self.gradient)

    def restore(self, states: Sequence[State]) -> None:
        """Go on from the states of the points."""
        self.progress.restore([states[place % len(states)] for place in range(self._points)])

    def batches(self, epoch: int) -> Iterator[Sequence[Batch]]:
        """The batches of an epoch: one for all points, or one for each where their seeds differ."""
        size, rows = self.config.training.batch_size, len(self.arrays.train_inputs)
        if size is None:
            yield [self._all_rows()]
            return
        orders = [self._module.asarray(epoch_order(seed, epoch, rows)) for seed in self._seeds]
        chosen = [[order[start : start + size] for order in orders] for start in range(0, rows, size)]
        if self.arrays.features < WIDE or self._module is not np:
            yield from map(self._take, chosen)
            return
        with ThreadPoolExecutor(1) as ahead:  # the next batch is gathered while this one is computed
            following = ahead.submit(self._take, chosen[0])
            for places in [*chosen[1:], None]:
                ready = following.result()
                if places is not None:
                    following = ahead.submit(self._take, places)
                yield ready

    def _take(self, chosen: Sequence[NDArray[np.integer]]) -> list[Batch]:
        return [self._batch(self.arrays.train_inputs[rows], self.arrays.train_targets[rows]) for rows in chosen]

    def _batch(self, inputs: NDArray[Any], targets: Targets) -> Batch:
        if self._single is None or self._module is not np:
            return Batch(self.arrays.scaled(inputs), None, np.empty(0, np.intp), targets)
        return batch(self.arrays, inputs, targets, self._single.extended)

    def _all_rows(self) -> Batch:
        """The training rows as one batch, which a full batch needs again and again."""
        if self._whole is None:
            self._whole = self._batch(self.arrays.train_inputs, self.arrays.train_targets)
        return self._whole

    def differentiate(self, batches: Sequence[Batch], measured: bool) -> tuple[Array, Measures]:
        """Put the gradient in its place.

        Args:
            batches: one for all points, or one for each.
            measured: whether the loss and its companions are asked for, at the weights before the update.

        Returns:
            Loss (points,), and what was measured, each (points,).
        """
        losses, found = self._differentiate(batches, measured)
        training, added = self.config.training, self._penalties()
        self.penalties = added
        if added is None:
            return losses, found
        parameters = self.progress.parameters
        if "loss" in found:
            found["loss"] = found["loss"] + added
        if self.config.gradient == "finite_difference":  # which has seen it
            return losses, found
        for name, gradient in self.gradient.arrays.items():
            if name.endswith("weights"):
                gradient += penalty_slope(training, parameters.arrays[name])
        return losses + added, found

    def _penalties(self) -> Array | None:
        """What is added to the losses at the present weights, (points,); None where there is no penalty."""
        training = self.config.training
        return to_host(penalty(training, self.progress.parameters.by_point())) if training.penalised else None

    def _differentiate(self, batches: Sequence[Batch], measured: bool) -> tuple[Array, Measures]:
        """The loss without the penalty, and its gradient."""
        if self._together is not None:
            for call in self._together.program:
                call()
            return to_host(self._together.losses()), {}
        if self._single is None:
            config, rows = self.config, batches[0]
            parameters = self.progress.parameters.arrays
            step, training = config.finite_difference_step, config.training
            losses, gradients, sums = forward_differences(
                config.loss, config.model, parameters, rows.inputs, rows.targets, step, training
            )
            for name, gradient in gradients.items():
                self.gradient.arrays[name][...] = gradient
            return losses, self._measure(sums, rows.targets) if measured else {}
        losses, found = np.empty(self._points), []
        for place in range(self._points):
            rows = batches[place % len(batches)]
            losses[place], sums = self._single(place, rows)
            if measured:
                found.append(self._measure(sums[None], rows.targets))
        return losses, _joined(found)

    def move(self) -> None:
        """Turn the gradient into a change, and add it to the weights."""
        progress = self.progress
        parameters, change = progress.parameters.flat, self.change.flat
        if self._clipped is not None:
            self._clip(self._clipped)
        self.descent.step(progress.updates + 1)
        if progress.upwards is not None:
            progress.see_signs((change > 0)[None])
        progress.updates += 1
        np.add(parameters, change.astype(parameters.dtype, copy=False), out=parameters)

    def _clip(self, clipped: Packed) -> None:
        """The gradient with every component between -clip_value and clip_value, then no longer than clip_norm."""
        value, length = self.config.training.clip_value, self.config.training.clip_norm
        np.copyto(clipped.flat, self.gradient.flat)
        if value is not None:
            np.clip(clipped.flat, -value, value, out=clipped.flat)
        if length is not None:
            share = self._module.asarray((length / np.maximum(clipped.norm(), length)).astype(clipped.flat.dtype))
            clipped.flat *= share if clipped.grid_last else share[:, None]

    def advance(self, updates: int) -> None:
        """Make updates on the whole training rows, where `stride` is above 1.

        The losses are looked at afterwards. Only if one of them was inf or NaN, all of it is done again update by
        update, to note where that began.
        """
        if self._together is None:
            raise ValueError("these points are not computed together")
        program, progress, change = self._together.program, self.progress, self.change.flat
        bounded = self.config.model.output_activation == "sigmoid"  # then only NaN weights lead to NaN, and they stay
        parameters, slots = progress.parameters.flat, [slot.flat for slot in progress.slots.values()]
        before = [array.copy() for array in (parameters, *slots)]
        signs = None if progress.upwards is None else self._module.empty((updates, *change.shape), np.bool_)
        errors, squares = self._together.errors, np.empty_like(self._together.errors)
        seen, zero = np.zeros_like(errors), self._module.zeros((), change.dtype)
        step = self.descent.step
        for t, upwards in enumerate(repeat(None, updates) if signs is None else signs, progress.updates + 1):
            for call in program:
                call()
            if not bounded:
                np.multiply(errors, errors, squares)
                np.add(seen, squares, seen)
            step(t)
            if upwards is not None:
                np.greater(change, zero, upwards)
            np.add(parameters, change, parameters)
        losses = to_host(self._together.losses())
        finite = np.isfinite(losses) & np.isfinite(to_host(seen.sum(axis=(0, 1))))
        if (finite | (progress.diverged_step >= 0)).all():
            progress.see_losses(losses)
            if signs is not None:
                progress.see_signs(signs)
            progress.updates += updates
            return
        for array, kept in zip((parameters, *slots), before, strict=True):
            array[...] = kept
        for _ in range(updates):
            losses, _ = self.differentiate([], measured=False)
            progress.see_losses(losses)
            self.move()

    def evaluate(self) -> Measures:
        """Loss and its companions, (points,) each: on the test rows and, with a full batch, on the training rows.

        Losses have the penalty, which is beside them.
        """
        arrays, added = self.arrays, self._penalties()
        measures: Measures = {} if added is None else {"weights/penalty": added}
        if self.config.training.batch_size is None:
            whole = self._evaluate([self._all_rows()], added)
            self.progress.see_losses(whole["loss"])
            measures |= {f"train/{name}": value for name, value in whole.items()}
        if arrays.test_inputs is not None and arrays.test_targets is not None:
            inputs, targets = arrays.test_inputs, arrays.test_targets
            blocks = [slice(start, start + EVALUATION_ROWS) for start in range(0, len(inputs), EVALUATION_ROWS)]
            test = self._evaluate((self._batch(inputs[block], targets[block]) for block in blocks), added)
            measures |= {f"test/{name}": value for name, value in test.items()}
        return measures

    def _evaluate(self, batches: Iterable[Batch], added: Array | None) -> Measures:
        totals: Measures = {}
        rows, parameters = 0, self.progress.parameters.by_point() if self._single is None else {}
        for some in batches:
            if self._single is None:
                measures = self._measure(forward(self.config.model, parameters, some.inputs)[-1], some.targets)
            else:
                sums = (self._single.sums(place, some)[None] for place in range(self._points))
                measures = _joined([self._measure(one, some.targets) for one in sums])
            for name, value in measures.items():
                totals[name] = totals.get(name, 0) + value * len(some.inputs)
            rows += len(some.inputs)
        means: Measures = {name: total / rows for name, total in totals.items()}
        return means if added is None else means | {"loss": means["loss"] + added}

    def _measure(self, sums: Array, targets: Targets) -> Measures:
        found = measure(self.config.loss, self.config.model.output_activation, sums, targets)
        return {name: to_host(values) for name, values in found.items()}


def _joined(points: Sequence[Measures]) -> Measures:
    """Measures of single points, (1,) each, as those of a stack."""
    return {name: np.concatenate([one[name] for one in points]) for name in points[0]} if points else {}
