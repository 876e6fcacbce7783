"""What every optimizer is: hyperparameters, a state, and an update that writes the change of the weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from pipeline.backends.numpy.network import Array


class Optimizer(ABC):
    """One optimizer, with the state and the buffers of the weights that it updates.

    Arrays may have any shape. Hyperparameters and rate broadcast against the gradient, so that each point of a stack
    has its own.

    Args:
        knobs: the hyperparameters by name, without the learning rate.
        rate: the learning rate.
        state: an array for each of `slots`; every update changes it in place.
        change: receives the change of every update, in the shape of the gradient.
        scratch: in the shape of the gradient; overwritten by every update.

    Attributes:
        slots: names of the arrays that are kept from one update to the next.
        initial_knob: the hyperparameter that is the state's value before the first update; None: the state is 0.
        minus_rate: the negative learning rate of the next update. Formulas multiply by it, so that the change points
            downhill without a subtraction.
    """

    slots: ClassVar[tuple[str, ...]] = ()
    initial_knob: ClassVar[str | None] = None

    def __init__(
        self, knobs: Mapping[str, Array], rate: Array, state: Mapping[str, Array], change: Array, scratch: Array
    ) -> None:
        self.knobs = knobs
        self.state = state
        self.change = change
        self.scratch = scratch
        self.minus_rate = -rate
        self._unscaled = self.minus_rate.copy()

    def scale_rate(self, factor: Array) -> None:
        """Set the rate of the next update to the factor of a schedule times the learning rate."""
        np.multiply(self._unscaled, factor, out=self.minus_rate)

    @abstractmethod
    def update(self, gradient: Array, weights: Array, t: int) -> None:
        """Write the change of one update to `change`.

        Args:
            gradient: only read.
            weights: before the update; only read.
            t: the number of this update, counted from 1.
        """
