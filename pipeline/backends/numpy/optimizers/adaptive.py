"""Adaptive optimizers: each weight has a rate of its own, by the size of its gradients so far."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.backends.numpy.network import Array
from pipeline.backends.numpy.optimizers.optimizer import Optimizer

# At index t - 1 the product of 1 - 0.96^i / 2 for i = 1 to t. After 1,000 factors the next ones are 1 in float64.
NADAM_PRODUCTS = np.cumprod(1 - 0.96 ** np.arange(1, 1001) / 2)


class AdaGrad(Optimizer):
    """AdaGrad (Duchi, Hazan and Singer 2011): a += g^2, u = -learning_rate * g / sqrt(a + epsilon)."""

    slots = ("squares",)
    initial_knob = "initial_accumulator_value"

    def update(self, gradient: Array, weights: Array, t: int) -> None:
        """Add g^2 to the sum of squares, and write the step scaled by its root."""
        squares = self.state["squares"]
        np.multiply(gradient, gradient, out=self.scratch)
        squares += self.scratch
        np.multiply(gradient, self.minus_rate, out=self.change)
        self.change /= _root(squares, self.knobs["epsilon"], self.scratch)


class AdaDelta(Optimizer):
    """AdaDelta (Zeiler 2012, algorithm 1), with a learning rate as in Keras.

    a = rho * a + (1 - rho) * g^2; s = -sqrt(d + epsilon) / sqrt(a + epsilon) * g; d = rho * d + (1 - rho) * s^2;
    u = learning_rate * s.
    """

    slots = ("squares", "steps")

    def update(self, gradient: Array, weights: Array, t: int) -> None:
        """Update both averages of squares, and write the step."""
        squares = self.state["squares"]
        steps = self.state["steps"]
        rho = self.knobs["rho"]
        epsilon = self.knobs["epsilon"]
        _average_square(gradient, squares, rho, self.scratch)
        # `change` is -s here. The square of s does not depend on the sign, and `minus_rate` corrects it at the end.
        np.multiply(_root(steps, epsilon, self.change), gradient, out=self.change)
        self.change /= _root(squares, epsilon, self.scratch)
        _average_square(self.change, steps, rho, self.scratch)
        self.change *= self.minus_rate


class RmsProp(Optimizer):
    """RMSprop (Tieleman and Hinton 2012, lecture 6.5), with momentum as in Keras.

    a = rho * a + (1 - rho) * g^2; v = momentum * v - learning_rate * g / sqrt(a + epsilon); u = v.
    """

    slots = ("squares", "velocity")

    def update(self, gradient: Array, weights: Array, t: int) -> None:
        """Update the average of squares and the velocity, and write the velocity."""
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
        """Update m and v, and write the step."""
        self._average(gradient)
        self._step(self.state["v"], t)

    def _average(self, gradient: Array) -> None:
        """Update m and v with the gradient."""
        m = self.state["m"]
        v = self.state["v"]
        difference = self.scratch
        # m += (g - m) * (1 - beta_1), as in Keras; beta_1 * m + (1 - beta_1) * g would round differently.
        np.subtract(gradient, m, out=difference)
        difference *= 1 - self.knobs["beta_1"]
        m += difference
        # v += (g^2 - v) * (1 - beta_2)
        np.multiply(gradient, gradient, out=difference)
        difference -= v
        difference *= 1 - self.knobs["beta_2"]
        v += difference

    def _step(self, v: Array, t: int) -> None:
        """Write the change, with the present m and the given v."""
        root = np.sqrt(v, out=self.scratch)
        root += self.knobs["epsilon"]
        # The rate with both bias corrections: m and v start at 0, and are too small in the first updates.
        corrected = self.minus_rate * np.sqrt(1 - self.knobs["beta_2"] ** t) / (1 - self.knobs["beta_1"] ** t)
        np.multiply(self.state["m"], corrected, out=self.change)
        self.change /= root


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): u = Adam's - learning_rate * weight_decay * w.

    Biases decay too, as in Keras by default.
    """

    def update(self, gradient: Array, weights: Array, t: int) -> None:
        """Write Adam's step and the weight decay."""
        super().update(gradient, weights, t)
        np.multiply(weights, self.minus_rate * self.knobs["weight_decay"], out=self.scratch)
        self.change += self.scratch


class AmsGrad(Adam):
    """AMSGrad (Reddi, Kale and Kumar 2018), as Keras computes it: Adam with the largest v so far instead of v."""

    slots = ("m", "v", "largest_v")

    def update(self, gradient: Array, weights: Array, t: int) -> None:
        """Update m, v and the largest v, and write the step."""
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
        """Update m and v, and write the step."""
        self._average(gradient)
        beta_1 = self.knobs["beta_1"]
        # b_t and b_(t+1) of the docstring, and p_t, in which beta_1^t is factored out of the product.
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


def _average_square(values: Array, squares: Array, rho: Array, scratch: Array) -> None:
    """Update a running average in place: a = rho * a + (1 - rho) * values^2."""
    np.multiply(values, values, out=scratch)
    scratch *= 1 - rho
    squares *= rho
    squares += scratch


def _root(squares: Array, epsilon: Array, out: Array) -> Array:
    """Compute sqrt(a + epsilon) in `out`. The epsilon is inside the root, as in Keras for these optimizers."""
    np.add(squares, epsilon, out=out)
    result: Array = np.sqrt(out, out=out)
    return result
