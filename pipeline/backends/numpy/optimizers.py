"""Optimizers: from the gradient to the change of the weights, in buffers that the caller keeps.

Changes are added to the weights. The formulas are Keras'. Arrays may have any shape; knobs are arrays in their dtype
that broadcast against them, so that each point of a stack has its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from pipeline.backends.numpy.many_networks import SPREAD
from pipeline.backends.numpy.network import Array
from pipeline.backends.numpy.packed import Packed
from pipeline.config.optimizer import AdaGrad, Optimizer

Knobs = Mapping[str, Array]
Moments = Mapping[str, Array]


class Update(Protocol):
    """What an optimizer does at one update.

    Args:
        gradient: left as it is.
        weights: before the update; left as they are.
        moments: the optimizer's memory by name, changed in place; before the first update what `moments` gives.
        knobs: learning rate and the rest by name.
        out: gets the change, in the shape of the gradient.
        scratch: of that shape too; what it holds afterwards is of no use.
        t: the number of this update, counted from 1.
    """

    def __call__(
        self, gradient: Array, weights: Array, moments: Moments, knobs: Knobs, out: Array, scratch: Array, t: int
    ) -> None: ...


def sgd(gradient: Array, weights: Array, moments: Moments, knobs: Knobs, out: Array, scratch: Array, t: int) -> None:
    """Gradient descent (Cauchy 1847; on minibatches Robbins and Monro 1951): u = -learning_rate * g."""
    np.multiply(gradient, knobs["-learning_rate"], out)


def momentum(
    gradient: Array, weights: Array, moments: Moments, knobs: Knobs, out: Array, scratch: Array, t: int
) -> None:
    """Momentum (Polyak 1964): v = momentum * v - learning_rate * g, u = v."""
    velocity = moments["velocity"]
    np.multiply(gradient, knobs["-learning_rate"], out=out)
    velocity *= knobs["momentum"]
    velocity += out
    np.copyto(out, velocity)


def nesterov(
    gradient: Array, weights: Array, moments: Moments, knobs: Knobs, out: Array, scratch: Array, t: int
) -> None:
    """Nesterov (Sutskever et al. 2013, as Keras computes it): v as momentum, u = momentum * v - learning_rate * g."""
    velocity = moments["velocity"]
    np.multiply(gradient, knobs["-learning_rate"], out=out)
    velocity *= knobs["momentum"]
    velocity += out
    np.multiply(velocity, knobs["momentum"], out=scratch)
    np.add(scratch, out, out=out)


def adagrad(
    gradient: Array, weights: Array, moments: Moments, knobs: Knobs, out: Array, scratch: Array, t: int
) -> None:
    """AdaGrad (Duchi, Hazan and Singer 2011): a += g^2, u = -learning_rate * g / sqrt(a + epsilon)."""
    squares = moments["squares"]
    np.multiply(gradient, gradient, out=scratch)
    squares += scratch
    np.multiply(gradient, knobs["-learning_rate"], out=out)
    out /= _root(squares, knobs, scratch)


def adadelta(
    gradient: Array, weights: Array, moments: Moments, knobs: Knobs, out: Array, scratch: Array, t: int
) -> None:
    """AdaDelta (Zeiler 2012, algorithm 1), with a rate as Keras has it.

    a = rho * a + (1 - rho) * g^2; s = -sqrt(d + epsilon) / sqrt(a + epsilon) * g; d = rho * d + (1 - rho) * s^2;
    u = learning_rate * s.
    """
    squares, steps = moments["squares"], moments["steps"]
    _average_square(gradient, squares, knobs, scratch)
    np.multiply(_root(steps, knobs, out), gradient, out=out)
    out /= _root(squares, knobs, scratch)
    _average_square(out, steps, knobs, scratch)
    out *= knobs["-learning_rate"]


def rmsprop(
    gradient: Array, weights: Array, moments: Moments, knobs: Knobs, out: Array, scratch: Array, t: int
) -> None:
    """RMSprop (Tieleman and Hinton 2012, lecture 6.5), with momentum as Keras has it.

    a = rho * a + (1 - rho) * g^2; v = momentum * v - learning_rate * g / sqrt(a + epsilon); u = v.
    """
    squares, velocity = moments["squares"], moments["velocity"]
    _average_square(gradient, squares, knobs, scratch)
    np.multiply(gradient, knobs["-learning_rate"], out=out)
    out /= _root(squares, knobs, scratch)
    velocity *= knobs["momentum"]
    velocity += out
    np.copyto(out, velocity)


def adam(gradient: Array, weights: Array, moments: Moments, knobs: Knobs, out: Array, scratch: Array, t: int) -> None:
    """Adam (Kingma and Ba 2015, section 2, last paragraph), as Keras computes it.

    m += (g - m) * (1 - beta_1); v += (g^2 - v) * (1 - beta_2);
    u = -learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon).
    """
    _average(gradient, moments, knobs, out)
    _adam_step(moments["m"], moments["v"], knobs, out, scratch, t)


def adamw(gradient: Array, weights: Array, moments: Moments, knobs: Knobs, out: Array, scratch: Array, t: int) -> None:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): u = Adam's - learning_rate * weight_decay * w.

    Biases decay too, as in Keras where nothing is left out.
    """
    adam(gradient, weights, moments, knobs, out, scratch, t)
    np.multiply(weights, knobs["-learning_rate"] * knobs["weight_decay"], out=scratch)
    out += scratch


def amsgrad(
    gradient: Array, weights: Array, moments: Moments, knobs: Knobs, out: Array, scratch: Array, t: int
) -> None:
    """AMSGrad (Reddi, Kale and Kumar 2018), as Keras computes it: Adam with the largest v so far in the place of v."""
    largest = moments["largest_v"]
    _average(gradient, moments, knobs, out)
    np.maximum(largest, moments["v"], out=largest)
    _adam_step(moments["m"], largest, knobs, out, scratch, t)


def nadam(gradient: Array, weights: Array, moments: Moments, knobs: Knobs, out: Array, scratch: Array, t: int) -> None:
    """Nadam (Dozat 2016, algorithm 2), as Keras computes it: Adam with Nesterov's momentum, which rises over time.

    m and v as Adam; b_t = beta_1 * (1 - 0.96^t / 2); p_t = b_1 * ... * b_t;
    u = -learning_rate * (b_(t+1) * m / (1 - p_(t+1)) + (1 - b_t) * g / (1 - p_t)) / (sqrt(s) + epsilon)
    with s = v / (1 - beta_2^t).
    """
    m, v = moments["m"], moments["v"]
    beta_1, minus_rate = knobs["beta_1"], knobs["-learning_rate"]
    _average(gradient, moments, knobs, out)
    now, following = (beta_1 * (1 - 0.96**step / 2) for step in (t, t + 1))
    product = beta_1**t * float(NADAM_PRODUCTS[min(t, len(NADAM_PRODUCTS)) - 1])
    np.multiply(m, minus_rate * following / (1 - product * following), out=out)
    np.multiply(gradient, minus_rate * (1 - now) / (1 - product), out=scratch)
    out += scratch
    np.divide(v, 1 - knobs["beta_2"] ** t, out=scratch)
    np.sqrt(scratch, out=scratch)
    scratch += knobs["epsilon"]
    out /= scratch


def lion(gradient: Array, weights: Array, moments: Moments, knobs: Knobs, out: Array, scratch: Array, t: int) -> None:
    """Lion (Chen et al. 2023, algorithm 2): u = -learning_rate * sign(beta_1 * m + (1 - beta_1) * g);
    m = beta_2 * m + (1 - beta_2) * g.
    """
    m, beta_1, beta_2 = moments["m"], knobs["beta_1"], knobs["beta_2"]
    np.multiply(m, beta_1, out=out)
    np.multiply(gradient, 1 - beta_1, out=scratch)
    out += scratch
    np.sign(out, out=out)
    out *= knobs["-learning_rate"]
    m *= beta_2
    np.multiply(gradient, 1 - beta_2, out=scratch)
    m += scratch


def _average(gradient: Array, moments: Moments, knobs: Knobs, scratch: Array) -> None:
    """Adam's means: m += (g - m) * (1 - beta_1), v += (g^2 - v) * (1 - beta_2)."""
    m, v = moments["m"], moments["v"]
    np.subtract(gradient, m, out=scratch)
    scratch *= 1 - knobs["beta_1"]
    m += scratch
    np.multiply(gradient, gradient, out=scratch)
    scratch -= v
    scratch *= 1 - knobs["beta_2"]
    v += scratch


def _adam_step(m: Array, v: Array, knobs: Knobs, out: Array, scratch: Array, t: int) -> None:
    """Adam's change from its means."""
    np.sqrt(v, out=scratch)
    scratch += knobs["epsilon"]
    np.multiply(m, knobs["-learning_rate"] * np.sqrt(1 - knobs["beta_2"] ** t) / (1 - knobs["beta_1"] ** t), out=out)
    out /= scratch


def _average_square(values: Array, squares: Array, knobs: Knobs, scratch: Array) -> None:
    """a = rho * a + (1 - rho) * values^2."""
    np.multiply(values, values, out=scratch)
    scratch *= 1 - knobs["rho"]
    squares *= knobs["rho"]
    squares += scratch


def _root(squares: Array, knobs: Knobs, out: Array) -> Array:
    """sqrt(a + epsilon)."""
    np.add(squares, knobs["epsilon"], out=out)
    result: Array = np.sqrt(out, out=out)
    return result


UPDATES: dict[str, Update] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "adagrad": adagrad,
    "adadelta": adadelta,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
    "amsgrad": amsgrad,
    "nadam": nadam,
    "lion": lion,
}
"""Optimizer by name."""

MOMENTS: dict[str, tuple[str, ...]] = {
    "sgd": (),
    "momentum": ("velocity",),
    "nesterov": ("velocity",),
    "adagrad": ("squares",),
    "adadelta": ("squares", "steps"),
    "rmsprop": ("squares", "velocity"),
    "adam": ("m", "v"),
    "adamw": ("m", "v"),
    "amsgrad": ("m", "v", "largest_v"),
    "nadam": ("m", "v"),
    "lion": ("m",),
}
"""What each optimizer remembers for every weight."""

NADAM_PRODUCTS = np.cumprod(1 - 0.96 ** np.arange(1, 1001) / 2)
"""Of 1 - 0.96^i / 2 for i = 1 to t; the later factors are 1 in float64."""


def moments(points: Sequence[Optimizer], gradient: Packed) -> dict[str, Packed]:
    """What a stack's points remember before their first update, in the gradient's shapes and dtype.

    Zeros, but for AdaGrad's sum of squares, which has a knob.
    """
    found = {name: gradient.like(gradient.flat.dtype) for name in MOMENTS[points[0].name]}
    for place, point in enumerate(points):
        if isinstance(point, AdaGrad):
            for array in found["squares"].arrays.values():
                array[place] = point.initial_accumulator_value
    return found


def knobs(
    points: Sequence[Optimizer], parameters: Packed, scales: Mapping[str, float] | None = None
) -> dict[str, Array]:
    """Each knob of a stack's points as an array that broadcasts against `parameters.flat`.

    The learning rate is there with its sign turned. Where the last layer has a rate of its own, or `scales` says by how
    much the rate of some array differs, there is one number for each weight.
    """
    dtype = parameters.flat.dtype

    def spread(values: Sequence[float]) -> Array:
        array = np.array(values, dtype)
        if not parameters.grid_last:
            return array[:, None]
        return np.tile(array, (len(parameters.flat), 1)) if len(values) < SPREAD else array

    names = [
        name
        for name in type(points[0]).model_fields
        if name not in ("name", "output_learning_rate", "initial_accumulator_value")
    ]
    found = {name: spread([getattr(point, name) for point in points]) for name in names}
    found["-learning_rate"] = -found.pop("learning_rate")
    own = [getattr(point, "output_learning_rate", None) for point in points]
    if any(rate is not None for rate in own) or scales:
        rates = parameters.on_host(dtype)
        last = list(parameters.shapes)[-1].split("/")[0]
        for name, array in rates.arrays.items():
            scale = (scales or {}).get(name, 1.0)
            for place, (point, rate) in enumerate(zip(points, own, strict=True)):
                array[place] = -scale * (rate if rate is not None and name.startswith(last) else point.learning_rate)
        found["-learning_rate"] = rates.flat
    return {name: parameters.module.asarray(array) for name, array in found.items()}
