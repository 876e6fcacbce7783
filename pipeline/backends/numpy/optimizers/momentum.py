"""Optimizers with one rate for all weights: gradient descent, and what remembers the direction of earlier updates."""

from __future__ import annotations

import numpy as np

from pipeline.backends.numpy.network import Array
from pipeline.backends.numpy.optimizers.optimizer import Optimizer


class Sgd(Optimizer):
    """Gradient descent (Cauchy 1847; on minibatches Robbins and Monro 1951): u = -learning_rate * g."""

    def update(self, gradient: Array, weights: Array, t: int) -> None:
        """Write -learning_rate * g."""
        np.multiply(gradient, self.minus_rate, self.change)


class Momentum(Optimizer):
    """Momentum (Polyak 1964): v = momentum * v - learning_rate * g, u = v."""

    slots = ("velocity",)

    def update(self, gradient: Array, weights: Array, t: int) -> None:
        """Update the velocity, and write it."""
        np.copyto(self.change, self._new_velocity(gradient))

    def _new_velocity(self, gradient: Array) -> Array:
        """Update the velocity, and return it; write -learning_rate * g."""
        velocity = self.state["velocity"]
        np.multiply(gradient, self.minus_rate, out=self.change)
        velocity *= self.knobs["momentum"]
        velocity += self.change
        return velocity


class Nesterov(Momentum):
    """Nesterov (Sutskever et al. 2013, as Keras computes it): v as momentum, u = momentum * v - learning_rate * g."""

    def update(self, gradient: Array, weights: Array, t: int) -> None:
        """Update the velocity, and write momentum * v - learning_rate * g."""
        # With the new v. The weights that Keras stores are those at which the next gradient is computed.
        np.multiply(self._new_velocity(gradient), self.knobs["momentum"], out=self.scratch)
        np.add(self.scratch, self.change, out=self.change)


class Lion(Optimizer):
    """Lion (Chen et al. 2023, algorithm 2).

    u = -learning_rate * sign(beta_1 * m + (1 - beta_1) * g); m = beta_2 * m + (1 - beta_2) * g.
    """

    slots = ("m",)

    def update(self, gradient: Array, weights: Array, t: int) -> None:
        """Write the step, and then update m."""
        m = self.state["m"]
        beta_1 = self.knobs["beta_1"]
        beta_2 = self.knobs["beta_2"]
        # The change uses the old m; m itself is averaged with another beta afterwards.
        np.multiply(m, beta_1, out=self.change)
        np.multiply(gradient, 1 - beta_1, out=self.scratch)
        self.change += self.scratch
        np.sign(self.change, out=self.change)
        self.change *= self.minus_rate
        m *= beta_2
        np.multiply(gradient, 1 - beta_2, out=self.scratch)
        m += self.scratch
