"""How a stack of points moves: what optimizer and schedule make of the gradient at each update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.backends.numpy.many_networks import SPREAD
from pipeline.backends.numpy.network import Array
from pipeline.backends.numpy.optimizers import OPTIMIZERS
from pipeline.backends.numpy.packed import Packed
from pipeline.backends.shared.parametrization import rate_scales
from pipeline.backends.shared.schedules import Factors, factors
from pipeline.config.model import Model
from pipeline.config.optimizer import Constant, Optimizer, ReduceOnPlateau, Schedule

NOT_IN_FORMULA = {"name", "learning_rate", "output_learning_rate", "initial_accumulator_value"}
"""Keys of the `optimizer` section that `Optimizer.update` does not read as knobs."""


@dataclass
class Plateau:
    """Where points stand with a rate that falls when the loss does not, (points,) each.

    Attributes:
        best: the smallest loss that counted as an improvement.
        waited: epochs since then, or since the rate last fell.
        factor: what the rate is multiplied by.
    """

    best: NDArray[np.float64]
    waited: NDArray[np.int64]
    factor: NDArray[np.float64]

    def see(self, schedule: ReduceOnPlateau, losses: Array) -> None:
        """Look at the mean training losses of an epoch, as Keras' ReduceLROnPlateau does."""
        better = losses < self.best - schedule.min_delta
        self.best = np.where(better, losses, self.best)
        self.waited = np.where(better, 0, self.waited + 1)
        over = self.waited >= schedule.patience
        self.factor = np.where(over, self.factor * schedule.factor, self.factor)
        self.waited = np.where(over, 0, self.waited)


class Descent:
    """From the gradient of a stack to the change of its weights; buffers are allocated once.

    Args:
        points: their optimizers, all of one name.
        model: of all of them; its parametrization decides what the rate of each array is multiplied by.
        schedule: of all of them.
        updates: how many will be made.
        parameters: the stack; read at every step.
        gradient: of the same shapes; read at every step.

    Attributes:
        step: puts the change of update `t`, counted from 1, into `change`.
        change: what is added to the weights, in shapes and dtype of the gradient.
        slots: the optimizer's state by name, in shapes and dtype of the gradient.
        plateau: None where the rates do not go by the losses.
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
        # One optimizer moves all points where they are side by side in memory; else each has its own.
        parts: Sequence[int | slice] = [slice(None)] if self._together else range(len(points))
        scratch = np.empty_like(self.change.flat[parts[0]])
        self._optimizers = [
            OPTIMIZERS[points[0].name](
                {name: array[part] for name, array in knobs.items()},
                rates[part],
                {name: slot.flat[part] for name, slot in self.slots.items()},
                self.change.flat[part],
                scratch,
            )
            for part in parts
        ]
        self._updates = [
            partial(optimizer.update, gradient.flat[part], parameters.flat[part])
            for optimizer, part in zip(self._optimizers, parts, strict=True)
        ]
        self.step: Callable[[int], None] = self._scheduled_step
        if self._constant:  # in a small network every call counts
            self.step = self._updates[0] if self._together else self._step

    def _step(self, t: int) -> None:
        for update in self._updates:
            update(t)

    def _scheduled_step(self, t: int) -> None:
        factor = self._upload(self._factor(t))
        if self._together or len(factor) == 1:
            for optimizer in self._optimizers:
                optimizer.scale_rate(factor)
        else:
            for optimizer, own_factor in zip(self._optimizers, factor[:, None], strict=True):
                optimizer.scale_rate(own_factor)
        self._step(t)

    def _factor(self, t: int) -> Factors:
        """What the rate is multiplied by at update `t`: (1,) for all points, or (points,)."""
        return self._factors[t - 1 : t] if self.plateau is None else self.plateau.factor

    def rates(self, t: int) -> Array:
        """The learning rates of update `t`, counted from 1, (points,)."""
        return self._learning_rates if self._constant else self._learning_rates * self._factor(t)

    def learning_rates(self, t: int) -> dict[str, Array]:
        """The rates of update `t` as a metric; nothing where they stay the same."""
        return {} if self._constant else {"learning_rate": self.rates(t)}

    def end_epoch(self, losses: Array) -> None:
        """Show the schedule the mean training losses of an epoch, (points,)."""
        if self.plateau is not None and isinstance(self._schedule, ReduceOnPlateau):
            self.plateau.see(self._schedule, losses)


def formula_knobs(points: Sequence[Optimizer], dtype: DTypeLike) -> dict[str, Array]:
    """The knobs of the optimizers' formula by name, each (points,), without the learning rate."""
    names = type(points[0]).model_fields.keys() - NOT_IN_FORMULA
    return {name: np.array([getattr(point, name) for point in points], dtype) for name in names}


def initial_value(point: Optimizer) -> float:
    """Each number of an optimizer's state before the first update."""
    knob = OPTIMIZERS[point.name].initial_knob
    return 0.0 if knob is None else float(getattr(point, knob))


def initial_slots(points: Sequence[Optimizer], gradient: Packed) -> dict[str, Packed]:
    """The state of a stack's optimizers before the first update, in the gradient's shapes and dtype."""
    dtype = gradient.flat.dtype
    slots = {name: gradient.like(dtype) for name in OPTIMIZERS[points[0].name].slots}
    initial = _spread(np.array([initial_value(point) for point in points], dtype), gradient)
    for slot in slots.values():
        slot.flat[...] = initial
    return slots


def learning_rates(points: Sequence[Optimizer], parameters: Packed, scales: Mapping[str, float]) -> Array:
    """The rates of a stack, as an array that broadcasts against `parameters.flat`.

    Where the last layer has a rate of its own, or an array a scale, there is one number for each weight.

    Args:
        points: their optimizers.
        parameters: the stack.
        scales: what the rate of some arrays is multiplied by, by name.
    """
    dtype = parameters.flat.dtype
    last_rates = [getattr(point, "output_learning_rate", None) for point in points]
    if not scales and all(rate is None for rate in last_rates):
        return _spread(np.array([point.learning_rate for point in points], dtype), parameters)
    rates = parameters.on_host(dtype)
    last_layer = list(parameters.shapes)[-1].split("/")[0]
    for name, array in rates.arrays.items():
        scale = scales.get(name, 1.0)
        for place, (point, last_rate) in enumerate(zip(points, last_rates, strict=True)):
            rate = point.learning_rate
            if last_rate is not None and name.startswith(last_layer):
                rate = last_rate
            array[place] = scale * rate
    uploaded: Array = parameters.module.asarray(rates.flat)
    return uploaded


def _spread(values: Array, stack: Packed) -> Array:
    """Values (points,) as an array of the stack's module that broadcasts against `stack.flat`."""
    if not stack.grid_last:
        values = values[:, None]
    elif len(values) < SPREAD:  # repeated once here, not along an axis at every update
        values = np.tile(values, (len(stack.flat), 1))
    uploaded: Array = stack.module.asarray(values)
    return uploaded
