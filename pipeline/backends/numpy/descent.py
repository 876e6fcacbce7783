"""How a stack of points moves: what optimizer and schedule make of the gradient at each update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy import optimizers
from pipeline.backends.numpy.network import Array
from pipeline.backends.numpy.packed import Packed
from pipeline.backends.shared.parametrization import rate_scales
from pipeline.backends.shared.schedules import Factors, factors
from pipeline.config.model import Model
from pipeline.config.optimizer import Constant, Optimizer, ReduceOnPlateau, Schedule


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
        change: of the same shapes; written at every step.

    Attributes:
        step: turns the gradient into the change of update `t`, counted from 1.
        moments: what the optimizer remembers, by name.
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
        change: Packed,
    ) -> None:
        together = parameters.grid_last
        self.moments = optimizers.moments(points, gradient)
        self.plateau: Plateau | None = None
        self._schedule = schedule
        knobs = optimizers.knobs(points, parameters, rate_scales(model, points[0].name, list(parameters.shapes)))
        self._now = knobs["-learning_rate"]
        self._whole, self._learning_rates = self._now.copy(), np.array([point.learning_rate for point in points])
        self._table, self._upload = np.empty(0), parameters.module.asarray
        if isinstance(schedule, ReduceOnPlateau):
            count = len(points)
            self.plateau = Plateau(np.full(count, np.inf), np.zeros(count, np.int64), np.ones(count))
        elif not isinstance(schedule, Constant):
            self._table = factors(schedule, updates)
        self._constant, self._factor_shape = isinstance(schedule, Constant), (-1,) if together else (-1, 1)
        scratch = np.empty_like(change.flat if together else change.flat[0])
        slices = [slice(None)] if together else range(len(points))
        self._moves = [
            partial(
                optimizers.UPDATES[points[0].name],
                gradient.flat[at],
                parameters.flat[at],
                {name: moment.flat[at] for name, moment in self.moments.items()},
                {name: array[at] for name, array in knobs.items()},
                change.flat[at],
                scratch,
            )
            for at in slices
        ]
        self.step: Callable[[int], None] = self._scheduled_step
        if self._constant:  # a small network feels every call
            self.step = self._moves[0] if together else self._step

    def _step(self, t: int) -> None:
        for move in self._moves:
            move(t)

    def _scheduled_step(self, t: int) -> None:
        factor = self._factor(t).astype(self._now.dtype).reshape(self._factor_shape)
        np.multiply(self._whole, self._upload(factor), out=self._now)
        self._step(t)

    def _factor(self, t: int) -> Factors:
        """What the rate is multiplied by at update `t`: one number, or (points,)."""
        return self._table[t - 1 : t] if self.plateau is None else self.plateau.factor

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
