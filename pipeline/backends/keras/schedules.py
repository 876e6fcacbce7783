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
        rate: the config's.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def __call__(self, step: Any) -> Any:
        """The rate of the update after `step` updates."""
        return self.scale(self._rate, step)

    def scale(self, rate: Any, step: Any) -> Any:
        """A rate, the config's or that of the last layer, times the factor; in `keras.config.floatx()`."""
        return ops.multiply(ops.cast(self.factor(step), keras.config.floatx()), rate)

    def factor(self, step: Any) -> Any:
        """What rates are multiplied by after `step` updates, float64."""
        raise NotImplementedError

    def rate_of(self, update: int) -> float:
        """The rate of the last update made, which is number `update` from 1."""
        raise NotImplementedError


class FromTable(Scheduled):
    """Factors from the table that both backends read."""

    def __init__(self, rate: float, table: Any) -> None:
        super().__init__(rate)
        self._table, self._factors = ops.convert_to_tensor(table, "float64"), table

    def factor(self, step: Any) -> Any:
        return ops.take(self._table, step)

    def rate_of(self, update: int) -> float:
        return float(self._rate * self._factors[update - 1])


class OnPlateau(Scheduled):
    """A factor that falls where the loss does not, as Keras' ReduceLROnPlateau has it, but in the compiled step.

    `prepare` must be called once before training.
    """

    def __init__(self, rate: float, schedule: ReduceOnPlateau) -> None:
        super().__init__(rate)
        self._schedule = schedule

    def prepare(self, add_variable: Callable[..., Any]) -> None:
        """Make room for the best loss, the epochs since, the factor, and the factor of the last update."""

        def note(name: str, value: float, dtype: str) -> Any:
            return add_variable((), keras.initializers.Constant(value), dtype, name=name)

        self._best, self._waited = note("best", np.inf, "float64"), note("waited", 0, "int32")
        self._factor, self._used = note("factor", 1, "float64"), note("used_factor", 1, "float64")

    def factor(self, step: Any) -> Any:
        return self._factor.value

    def rate_of(self, update: int) -> float:
        return float(self._rate * self._used.numpy())

    def see(self, loss: Any) -> None:
        """Look at the mean training loss of an epoch."""
        loss = ops.convert_to_tensor(loss, "float64")
        better = ops.less(loss, ops.subtract(self._best, self._schedule.min_delta))
        waited = ops.where(better, 0, self._waited + 1)
        over = ops.greater_equal(waited, self._schedule.patience)
        self._best.assign(ops.where(better, loss, self._best))
        self._waited.assign(ops.where(over, 0, waited))
        self._used.assign(self._factor)
        self._factor.assign(ops.where(over, ops.multiply(self._factor, self._schedule.factor), self._factor))


def scheduled(rate: float, schedule: Schedule, updates: int) -> float | Scheduled:
    """What Keras takes for a learning rate: the number where it is constant."""
    if isinstance(schedule, Constant):
        return rate
    if isinstance(schedule, ReduceOnPlateau):
        return OnPlateau(rate, schedule)
    return FromTable(rate, factors(schedule, updates))
