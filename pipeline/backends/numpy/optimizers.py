"""Optimizers as pairs of pure functions: `init(parameters) -> state`, `update(gradients, state) -> (updates, state)`.

Updates are added to the parameters. The formulas are Keras'. Every knob is an array (grid, 1, 1) in the parameters'
dtype, so that each point of a stack has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.backends.numpy.network import Array, Parameters
from pipeline.config import Adam, Momentum, Sgd

State = dict[str, Any]


class Optimizer(NamedTuple):
    """`init` makes the state for parameters; `update` maps gradients and state to updates and the next state."""

    init: Callable[[Mapping[str, Array]], State]
    update: Callable[[Mapping[str, Array], State], tuple[Parameters, State]]


def sgd(learning_rate: Array) -> Optimizer:
    """Gradient descent: u = -learning_rate * g."""

    def update(gradients: Mapping[str, Array], state: State) -> tuple[Parameters, State]:
        return {name: -learning_rate * gradient for name, gradient in gradients.items()}, state

    return Optimizer(lambda parameters: {}, update)


def momentum(learning_rate: Array, momentum: Array, nesterov: bool) -> Optimizer:
    """Momentum (Polyak 1964): v = momentum * v - learning_rate * g, u = v.

    Nesterov (Sutskever et al. 2013, as Keras computes it): u = momentum * v - learning_rate * g with the new v.
    """

    def init(parameters: Mapping[str, Array]) -> State:
        return {name: np.zeros_like(array) for name, array in parameters.items()}

    def update(gradients: Mapping[str, Array], state: State) -> tuple[Parameters, State]:
        steps = {name: -learning_rate * gradient for name, gradient in gradients.items()}
        velocity = {name: momentum * state[name] + step for name, step in steps.items()}
        if nesterov:
            return {name: momentum * velocity[name] + step for name, step in steps.items()}, velocity
        return velocity, velocity

    return Optimizer(init, update)


def adam(learning_rate: Array, beta_1: Array, beta_2: Array, epsilon: Array) -> Optimizer:
    """Adam (Kingma and Ba 2015, section 2, last paragraph), as Keras computes it.

    m += (g - m) * (1 - beta_1); v += (g^2 - v) * (1 - beta_2);
    u = -learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon), t counted from 1.
    """

    def init(parameters: Mapping[str, Array]) -> State:
        zeros = {name: np.zeros_like(array) for name, array in parameters.items()}
        return {"t": 0, "m": zeros, "v": {name: np.zeros_like(array) for name, array in parameters.items()}}

    def update(gradients: Mapping[str, Array], state: State) -> tuple[Parameters, State]:
        t = state["t"] + 1
        rate = learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        mean, square, updates = {}, {}, {}
        for name, gradient in gradients.items():
            step = gradient - state["m"][name]
            step *= 1 - beta_1
            mean[name] = np.add(state["m"][name], step, out=step)
            step = gradient * gradient
            step -= state["v"][name]
            step *= 1 - beta_2
            square[name] = np.add(state["v"][name], step, out=step)
            root = np.sqrt(square[name])
            root += epsilon
            step = mean[name] * -rate
            updates[name] = np.divide(step, root, out=step)
        return updates, {"t": t, "m": mean, "v": square}

    return Optimizer(init, update)


def build(points: Sequence[Sgd | Momentum | Adam], dtype: str) -> Optimizer:
    """The optimizer of a stack whose points have the same optimizer with knobs of their own."""

    def knob(name: str) -> Array:
        return np.array([getattr(point, name) for point in points], dtype=dtype)[:, None, None]

    first = points[0]
    if isinstance(first, Sgd):
        return sgd(knob("learning_rate"))
    if isinstance(first, Momentum):
        return momentum(knob("learning_rate"), knob("momentum"), nesterov=first.name == "nesterov")
    return adam(knob("learning_rate"), knob("beta_1"), knob("beta_2"), knob("epsilon"))
