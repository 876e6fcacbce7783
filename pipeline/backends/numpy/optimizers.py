"""Optimizers: from the gradient to the change of the weights.

The formulas are Keras'. In the docstrings g is the gradient, w the weights, u the change, which is added to them, and t
the number of the update, counted from 1; long names are knobs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from pipeline.backends.numpy.network import Array

NADAM_PRODUCTS = np.cumprod(1 - 0.96 ** np.arange(1, 1001) / 2)
"""Of 1 - 0.96^i / 2 for i = 1 to t; the later factors are 1 in float64."""


class Optimizer(ABC):
    """One optimizer, with the state and the buffers of the weights that it moves.

    Arrays may have any shape. Knobs and rate broadcast against the gradient, so that each point of a stack has its own.

    Args:
        knobs: the hyperparameters by name, without the learning rate.
        rate: the learning rate.
        state: an array for each of `slots`, changed in place by every update.
        change: receives the change of every update, in the shape of the gradient.
        scratch: of that shape too; overwritten by every update.

    Attributes:
        slots: names of the arrays that are kept from one update to the next.
        initial_knob: the knob whose value the state holds before the first update; None: it holds 0.
        minus_rate: the learning rate of the next update, its sign turned. Formulas multiply by it, so that the change
            goes downhill and needs no subtraction.
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
        """Set the rate of the next update to a schedule's factor times the learning rate."""
        np.multiply(self._unscaled, factor, out=self.minus_rate)

    @abstractmethod
    def update(self, gradient: Array, weights: Array, t: int) -> None:
        """Put the change of one update into `change`.

        Args:
            gradient: only read.
            weights: before the update; only read.
            t: the number of this update, counted from 1.
        """


class Sgd(Optimizer):
    """Gradient descent (Cauchy 1847; on minibatches Robbins and Monro 1951): u = -learning_rate * g."""

    def update(self, gradient: Array, weights: Array, t: int) -> None:
        np.multiply(gradient, self.minus_rate, self.change)


class Momentum(Optimizer):
    """Momentum (Polyak 1964): v = momentum * v - learning_rate * g, u = v."""

    slots = ("velocity",)

    def update(self, gradient: Array, weights: Array, t: int) -> None:
        velocity = self.state["velocity"]
        np.multiply(gradient, self.minus_rate, out=self.change)
        velocity *= self.knobs["momentum"]
        velocity += self.change
        np.copyto(self.change, velocity)


class Nesterov(Optimizer):
    """Nesterov (Sutskever et al. 2013, as Keras computes it): v as momentum, u = momentum * v - learning_rate * g."""

    slots = ("velocity",)

    def update(self, gradient: Array, weights: Array, t: int) -> None:
        velocity = self.state["velocity"]
        np.multiply(gradient, self.minus_rate, out=self.change)
        velocity *= self.knobs["momentum"]
        velocity += self.change
        np.multiply(velocity, self.knobs["momentum"], out=self.scratch)
        np.add(self.scratch, self.change, out=self.change)


class AdaGrad(Optimizer):
    """AdaGrad (Duchi, Hazan and Singer 2011): a += g^2, u = -learning_rate * g / sqrt(a + epsilon)."""

    slots = ("squares",)
    initial_knob = "initial_accumulator_value"

    def update(self, gradient: Array, weights: Array, t: int) -> None:
        squares = self.state["squares"]
        np.multiply(gradient, gradient, out=self.scratch)
        squares += self.scratch
        np.multiply(gradient, self.minus_rate, out=self.change)
        self.change /= _root(squares, self.knobs["epsilon"], self.scratch)


class AdaDelta(Optimizer):
    """AdaDelta (Zeiler 2012, algorithm 1), with a rate as Keras has it.

    a = rho * a + (1 - rho) * g^2; s = -sqrt(d + epsilon) / sqrt(a + epsilon) * g; d = rho * d + (1 - rho) * s^2;
    u = learning_rate * s.
    """

    slots = ("squares", "steps")

    def update(self, gradient: Array, weights: Array, t: int) -> None:
        squares = self.state["squares"]
        steps = self.state["steps"]
        rho = self.knobs["rho"]
        epsilon = self.knobs["epsilon"]
        _average_square(gradient, squares, rho, self.scratch)
        np.multiply(_root(steps, epsilon, self.change), gradient, out=self.change)
        self.change /= _root(squares, epsilon, self.scratch)
        _average_square(self.change, steps, rho, self.scratch)
        self.change *= self.minus_rate


class RmsProp(Optimizer):
    """RMSprop (Tieleman and Hinton 2012, lecture 6.5), with momentum as Keras has it.

    a = rho * a + (1 - rho) * g^2; v = momentum * v - learning_rate * g / sqrt(a + epsilon); u = v.
    """

    slots = ("squares", "velocity")

    def update(self, gradient: Array, weights: Array, t: int) -> None:
        squares = self.state["squares"]
        velocity = self.state["velocity"]
        _average_square(gradient, squares, self.knobs["rho"], self.scratch)
        np.multiply(gradient, self.minus_rate, out=self.change)
        self.change /= _root(squares, self.knobs["epsilon"], self.scratch)
        velocity *= self.knobs["momentum"]
        velocity += self.change
        np.copyto(self.change, velocity)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, section 2, last paragraph), as Keras computes it.

    m += (g - m) * (1 - beta_1); v += (g^2 - v) * (1 - beta_2);
    u = -learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon).
    """

    slots: ClassVar[tuple[str, ...]] = ("m", "v")

    def update(self, gradient: Array, weights: Array, t: int) -> None:
        self._average(gradient)
        self._step(self.state["v"], t)

    def _average(self, gradient: Array) -> None:
        """Let m and v see the gradient."""
        m = self.state["m"]
        v = self.state["v"]
        difference = self.scratch
        np.subtract(gradient, m, out=difference)
        difference *= 1 - self.knobs["beta_1"]
        m += difference
        np.multiply(gradient, gradient, out=difference)
        difference -= v
        difference *= 1 - self.knobs["beta_2"]
        v += difference

    def _step(self, v: Array, t: int) -> None:
        """The change, with the present m and the given v."""
        root = np.sqrt(v, out=self.scratch)
        root += self.knobs["epsilon"]
        corrected = self.minus_rate * np.sqrt(1 - self.knobs["beta_2"] ** t) / (1 - self.knobs["beta_1"] ** t)
        np.multiply(self.state["m"], corrected, out=self.change)
        self.change /= root


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): u = Adam's - learning_rate * weight_decay * w.

    Biases decay too, as in Keras where nothing is left out.
    """

    def update(self, gradient: Array, weights: Array, t: int) -> None:
        super().update(gradient, weights, t)
        np.multiply(weights, self.minus_rate * self.knobs["weight_decay"], out=self.scratch)
        self.change += self.scratch


class AmsGrad(Adam):
    """AMSGrad (Reddi, Kale and Kumar 2018), as Keras computes it: Adam with the largest v so far in the place of v."""

    slots = ("m", "v", "largest_v")

    def update(self, gradient: Array, weights: Array, t: int) -> None:
        largest = self.state["largest_v"]
        self._average(gradient)
        np.maximum(largest, self.state["v"], out=largest)
        self._step(largest, t)


class Nadam(Adam):
    """Nadam (Dozat 2016, algorithm 2), as Keras computes it: Adam with Nesterov's momentum, which rises over time.

    m and v as Adam; b_t = beta_1 * (1 - 0.96^t / 2); p_t = b_1 * ... * b_t;
    u = -learning_rate * (b_(t+1) * m / (1 - p_(t+1)) + (1 - b_t) * g / (1 - p_t)) / (sqrt(s) + epsilon)
    with s = v / (1 - beta_2^t).
    """

    def update(self, gradient: Array, weights: Array, t: int) -> None:
        self._average(gradient)
        beta_1 = self.knobs["beta_1"]
        now = beta_1 * (1 - 0.96**t / 2)
        following = beta_1 * (1 - 0.96 ** (t + 1) / 2)
        product = beta_1**t * float(NADAM_PRODUCTS[min(t, len(NADAM_PRODUCTS)) - 1])
        np.multiply(self.state["m"], self.minus_rate * following / (1 - product * following), out=self.change)
        np.multiply(gradient, self.minus_rate * (1 - now) / (1 - product), out=self.scratch)
        self.change += self.scratch
        root = np.divide(self.state["v"], 1 - self.knobs["beta_2"] ** t, out=self.scratch)
        np.sqrt(root, out=root)
        root += self.knobs["epsilon"]
        self.change /= root


class Lion(Optimizer):
    """Lion (Chen et al. 2023, algorithm 2): u = -learning_rate * sign(beta_1 * m + (1 - beta_1) * g);
    m = beta_2 * m + (1 - beta_2) * g.
    """

    slots = ("m",)

    def update(self, gradient: Array, weights: Array, t: int) -> None:
        m = self.state["m"]
        beta_1 = self.knobs["beta_1"]
        beta_2 = self.knobs["beta_2"]
        np.multiply(m, beta_1, out=self.change)
        np.multiply(gradient, 1 - beta_1, out=self.scratch)
        self.change += self.scratch
        np.sign(self.change, out=self.change)
        self.change *= self.minus_rate
        m *= beta_2
        np.multiply(gradient, 1 - beta_2, out=self.scratch)
        m += self.scratch


def _average_square(values: Array, squares: Array, rho: Array, scratch: Array) -> None:
    """A = rho * a + (1 - rho) * values^2."""
    np.multiply(values, values, out=scratch)
    scratch *= 1 - rho
    squares *= rho
    squares += scratch


def _root(squares: Array, epsilon: Array, out: Array) -> Array:
    """sqrt(a + epsilon)."""
    np.add(squares, epsilon, out=out)
    result: Array = np.sqrt(out, out=out)
    return result


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": Sgd,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": AdaGrad,
    "adadelta": AdaDelta,
    "rmsprop": RmsProp,
    "adam": Adam,
    "adamw": AdamW,
    "amsgrad": AmsGrad,
    "nadam": Nadam,
    "lion": Lion,
}
"""The class of each `optimizer.name`."""
