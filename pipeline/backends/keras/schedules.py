"""Learning-rate schedules inside Keras' compiled training step: a rate times a factor for each update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from pipeline.backends.shared.schedules import factors
from pipeline.config.optimizer import Constant, ReduceOnPlateau, Schedule


class Scheduled(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A rate that is multiplied by a factor.

    Args:
        rate: the config's learning rate.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def __call__(self, step: Any) -> Any:
        """Return the rate of the update that follows `step` updates."""
        return self.scale(self._rate, step)

    def scale(self, rate: Any, step: Any) -> Any:
        """Return a rate, the config's or the last layer's, times the factor; in `keras.config.floatx()`."""
        return ops.multiply(ops.cast(self.factor(step), keras.config.floatx()), rate)

    def factor(self, step: Any) -> Any:
        """Return the factor of learning rates after `step` updates, as float64."""
        raise NotImplementedError

    def rate_of(self, update: int) -> float:
        """Return the rate of the last update, number `update` counted from 1."""
        raise NotImplementedError


class FromTable(Scheduled):
    """Factors from the table that both backends read."""

    def __init__(self, rate: float, table: Any) -> None:
        super().__init__(rate)
        # The compiled step reads the tensor; `rate_of` is called outside it, where NumPy is faster.
        self._tensor = ops.convert_to_tensor(table, "float64")
        self._table = table

    def factor(self, step: Any) -> Any:
        """Return the table's factor for the update that follows `step` updates."""
        return ops.take(self._tensor, step)

    def rate_of(self, update: int) -> float:
        """Return the rate of an update, counted from 1."""
        return float(self._rate * self._table[update - 1])


class OnPlateau(Scheduled):
    """A factor that falls when the loss stops falling, like Keras' ReduceLROnPlateau, but in the compiled step.

    `prepare` must be called once before training.
    """

    def __init__(self, rate: float, schedule: ReduceOnPlateau) -> None:
        super().__init__(rate)
        self._schedule = schedule

    def prepare(self, add_variable: Callable[..., Any]) -> None:
        """Add variables for the best loss, the epochs since then, the factor, and the factor of the last update."""

        def add(name: str, value: float, dtype: str) -> Any:
            return add_variable((), keras.initializers.Constant(value), dtype, name=name)

        # Checkpoints hold the optimizer's variables in this order.
        self._best = add("best", np.inf, "float64")
        self._waited = add("waited", 0, "int32")
        self._factor = add("factor", 1, "float64")
        self._used = add("used_factor", 1, "float64")

    def factor(self, step: Any) -> Any:
        """Return the current factor, whatever the number of updates."""
        return self._factor.value

    def rate_of(self, update: int) -> float:
        """Return the rate of the last update; the rates of earlier ones are not kept."""
        return float(self._rate * self._used.numpy())

    def see(self, loss: Any) -> None:
        """Lower the factor if the mean training loss of an epoch has not improved for `patience` epochs."""
        loss = ops.convert_to_tensor(loss, "float64")
        better = ops.less(loss, ops.subtract(self._best.value, self._schedule.min_delta))
        waited = ops.where(better, 0, self._waited.value + 1)
        over = ops.greater_equal(waited, self._schedule.patience)
        self._best.assign(ops.where(better, loss, self._best.value))
        self._waited.assign(ops.where(over, 0, waited))
        # The last update used the factor before this reduction, which is the one that `rate_of` reports.
        self._used.assign(self._factor.value)
        factor = self._factor.value
        self._factor.assign(ops.where(over, ops.multiply(factor, self._schedule.factor), factor))


def scheduled(rate: float, schedule: Schedule, updates: int) -> float | Scheduled:
    """Return a learning rate that Keras accepts: a number if it is constant, otherwise a schedule."""
    if isinstance(schedule, Constant):
        return rate
    if isinstance(schedule, ReduceOnPlateau):
        return OnPlateau(rate, schedule)
    return FromTable(rate, factors(schedule, updates))
