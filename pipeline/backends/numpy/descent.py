"""Weight updates of a stack of points: optimizer and schedule turn each gradient into a change of the weights."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.backends.numpy.many_networks import SPREAD
from pipeline.backends.numpy.network import Array
from pipeline.backends.numpy.optimizers.by_name import OPTIMIZERS
from pipeline.backends.numpy.packed import Packed
from pipeline.backends.shared.parametrization import rate_scales
from pipeline.backends.shared.schedules import Factors, factors
from pipeline.config.model import Model, Training
from pipeline.config.optimizer import Constant, Optimizer, ReduceOnPlateau, Schedule

# Keys of the `optimizer` section that are not hyperparameters of the formulas in optimizers/.
NOT_IN_FORMULA = {"name", "learning_rate", "output_learning_rate", "initial_accumulator_value"}
# The largest number of weights that one call of a formula updates. More are updated in parts, which threads share. The
# formulas work on each weight by itself, so the results do not depend on this number.
CHUNK = 2**17
# A point or all of them, and some or all weights: an index into `Packed.flat` with the grid axis first.
Part = tuple[int | slice, slice]


class Scratch(threading.local):
    """The buffer of an optimizer's formula; each thread gets its own at its first use."""

    def __init__(self, like: Array) -> None:
        self.array = np.empty_like(like)


@dataclass
class Plateau:
    """The state of a schedule that reduces the rate when the loss stops falling, (points,) each.

    Attributes:
        best: the smallest loss that counted as an improvement.
        waited: epochs since then, or since the rate was last reduced.
        factor: the factor of the learning rate.
    """

    best: NDArray[np.float64]
    waited: NDArray[np.int64]
    factor: NDArray[np.float64]

    def see(self, schedule: ReduceOnPlateau, losses: Array) -> None:
        """Take the mean training losses of an epoch into account, as Keras' ReduceLROnPlateau does."""
        better = losses < self.best - schedule.min_delta
        self.best = np.where(better, losses, self.best)
        self.waited = np.where(better, 0, self.waited + 1)
        over = self.waited >= schedule.patience
        self.factor = np.where(over, self.factor * schedule.factor, self.factor)
        self.waited = np.where(over, 0, self.waited)


class Descent:
    """Turns the gradient of a stack into the change of its weights; buffers are allocated once.

    Args:
        points: the optimizers of the points, all of the same name.
        model: the model of all points; its parametrization determines the factor of the learning rate of each array.
        schedule: the schedule of all points.
        updates: the total number of updates.
        parameters: the weights of the stack; read at every step.
        gradient: the gradient of the stack, in the same shapes; read at every step.

    Attributes:
        parts: what `update` changes at a time, as indices into `Packed.flat`: all weights of all points, if each weight
            is contiguous in memory, or else some weights of one point. They can be updated side by side.
        step: writes the change of update `t`, counted from 1, to `change`: all parts, one after the other.
        change: the values to add to the weights, in the shapes and dtype of the gradient.
        slots: the optimizer's state by name, in shapes and dtype of the gradient.
        plateau: None if the schedule does not depend on the losses.
    """

    def __init__(
        self,
        points: Sequence[Optimizer],
        model: Model,
        schedule: Schedule,
        updates: int,
        parameters: Packed,
        gradient: Packed,
    ) -> None:
        self.change = gradient.like(gradient.flat.dtype)
        self.slots = initial_slots(points, gradient)
        self.plateau: Plateau | None = None
        self._schedule = schedule
        self._constant = isinstance(schedule, Constant)
        self._factors = np.empty(0)
        if isinstance(schedule, ReduceOnPlateau):
            count = len(points)
            self.plateau = Plateau(np.full(count, np.inf), np.zeros(count, np.int64), np.ones(count))
        elif not self._constant:
            self._factors = factors(schedule, updates)
        self._learning_rates = np.array([point.learning_rate for point in points])
        self._upload = partial(parameters.module.asarray, dtype=parameters.flat.dtype)
        scales = rate_scales(model, points[0].name, list(parameters.shapes))
        rates = learning_rates(points, parameters, scales)
        own_knobs = formula_knobs(points, parameters.flat.dtype)
        knobs = {name: _spread(values, parameters) for name, values in own_knobs.items()}
        self._together = parameters.grid_last
        self.parts: list[Part] = [(slice(None), slice(None))]
        if not self._together:
            weights = parameters.flat.shape[1]
            # Every call on a GPU costs more than small parts would save.
            size = CHUNK if parameters.module is np else weights
            starts = range(0, weights, size)
            self.parts = [(index, slice(start, start + size)) for index in range(len(points)) for start in starts]
        self._scratch = Scratch(self.change.flat[self.parts[0]])
        self._optimizers = [
            OPTIMIZERS[points[0].name](
                {name: _part_of(array, part) for name, array in knobs.items()},
                _part_of(rates, part),
                {name: slot.flat[part] for name, slot in self.slots.items()},
                self.change.flat[part],
                self._scratch.array,
            )
            for part in self.parts
        ]
        self._updates = [
            partial(optimizer.update, gradient.flat[part], parameters.flat[part])
            for optimizer, part in zip(self._optimizers, self.parts, strict=True)
        ]
        self.step: Callable[[int], None] = self._step
        if self._constant and self._together:
            # Called directly: for small networks the overhead of one more method matters.
            self.step = self._updates[0]

    def update(self, number: int, t: int) -> None:
        """Write the change of update `t` for one of `parts`, after `scale_rates`."""
        optimizer = self._optimizers[number]
        optimizer.scratch = self._scratch.array[: len(optimizer.change)]
        self._updates[number](t)

    def scale_rates(self, t: int) -> None:
        """Set the rates of update `t`, as the schedule says."""
        if self._constant:
            return
        factor = self._upload(self._factor(t))
        for optimizer, (point, _) in zip(self._optimizers, self.parts, strict=True):
            own_factor = factor
            if len(factor) > 1 and not self._together:
                own_factor = factor[point, None]
            optimizer.scale_rate(own_factor)

    def _step(self, t: int) -> None:
        self.scale_rates(t)
        for number in range(len(self.parts)):
            self.update(number, t)

    def _factor(self, t: int) -> Factors:
        """Return the factor of the rate at update `t`: (1,) for all points, or (points,)."""
        if self.plateau is not None:
            return self.plateau.factor
        return self._factors[t - 1 : t]

    def rates(self, t: int) -> Array:
        """Return the learning rates of update `t`, counted from 1, (points,)."""
        if self._constant:
            return self._learning_rates
        return self._learning_rates * self._factor(t)

    def learning_rates(self, t: int) -> dict[str, Array]:
        """Return the rates of update `t` as a metric; none if the schedule is constant."""
        if self._constant:
            return {}
        return {"learning_rate": self.rates(t)}

    def end_epoch(self, losses: Array) -> None:
        """Give the mean training losses of an epoch, (points,), to a schedule that depends on them."""
        if self.plateau is not None and isinstance(self._schedule, ReduceOnPlateau):
            self.plateau.see(self._schedule, losses)


def clip(training: Training, gradient: Packed, clipped: Packed) -> None:
    """Clip a gradient: each component to at most `clip_value`, then the norm of each point to at most `clip_norm`.

    Args:
        training: has the limits; None: no limit.
        gradient: only read.
        clipped: in the same shapes; receives the clipped gradient.
    """
    value = training.clip_value
    length = training.clip_norm
    np.copyto(clipped.flat, gradient.flat)
    if value is not None:
        np.clip(clipped.flat, -value, value, out=clipped.flat)
    if length is not None:
        # clip_norm / max(|g|, clip_norm) = min(1, clip_norm / |g|), which has no division by 0.
        share = clipped.module.asarray((length / np.maximum(clipped.norm(), length)).astype(clipped.flat.dtype))
        if not clipped.grid_last:
            share = share[:, None]
        clipped.flat *= share


def formula_knobs(points: Sequence[Optimizer], dtype: DTypeLike) -> dict[str, Array]:
    """Return the hyperparameters of the optimizers' formula by name, each (points,), without the learning rate."""
    names = type(points[0]).model_fields.keys() - NOT_IN_FORMULA
    return {name: np.array([getattr(point, name) for point in points], dtype) for name in names}


def initial_value(point: Optimizer) -> float:
    """Return the value of every number of an optimizer's state before the first update."""
    knob = OPTIMIZERS[point.name].initial_knob
    if knob is None:
        return 0.0
    return float(getattr(point, knob))


def initial_slots(points: Sequence[Optimizer], gradient: Packed) -> dict[str, Packed]:
    """Return the state of a stack's optimizers before the first update, in the gradient's shapes and dtype."""
    dtype = gradient.flat.dtype
    slots = {name: gradient.like(dtype) for name in OPTIMIZERS[points[0].name].slots}
    initial = _spread(np.array([initial_value(point) for point in points], dtype), gradient)
    for slot in slots.values():
        slot.flat[...] = initial
    return slots


def learning_rates(points: Sequence[Optimizer], parameters: Packed, scales: Mapping[str, float]) -> Array:
    """Return the rates of a stack, as an array that broadcasts against `parameters.flat`.

    If the last layer has a rate of its own, or an array has a scale, there is one number for each weight.

    Args:
        points: their optimizers.
        parameters: the stack.
        scales: factors of the rate by name of the array; 1 for an array that is missing.
    """
    dtype = parameters.flat.dtype
    common = np.array([point.learning_rate for point in points])
    outputs = [getattr(point, "output_learning_rate", None) for point in points]
    if not scales and all(rate is None for rate in outputs):
        return _spread(common.astype(dtype), parameters)
    last = np.array([rate if own is None else own for rate, own in zip(common, outputs, strict=True)])
    rates = parameters.on_host(dtype)
    # Arrays are in the order of the layers, so that the last name is one of the last layer.
    last_layer = list(parameters.shapes)[-1].split("/")[0]
    for name, array in rates.arrays.items():
        own = common
        if name.startswith(last_layer):
            own = last
        array[...] = scales.get(name, 1.0) * own[:, None, None]
    uploaded: Array = parameters.module.asarray(rates.flat)
    return uploaded


def _part_of(values: Array, part: Part) -> Array:
    """Return a part of values that broadcast against `Packed.flat`, so that it broadcasts against the same part."""
    point, chunk = part
    if isinstance(point, slice):
        return values
    own: Array = values[point]
    if len(own) > 1:
        own = own[chunk]
    return own


def _spread(values: Array, stack: Packed) -> Array:
    """Return values (points,) as an array of the stack's module that broadcasts against `stack.flat`."""
    if not stack.grid_last:
        values = values[:, None]
    elif len(values) < SPREAD:
        # Repeated once here: for few points, broadcasting along an axis at every update is slower.
        values = np.tile(values, (len(stack.flat), 1))
    uploaded: Array = stack.module.asarray(values)
    return uploaded
