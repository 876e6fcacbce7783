"""Optimizers: from the gradient to the change of the weights, in buffers that the caller keeps.

Changes are added to the weights. The formulas are Keras'. Arrays may have any shape; knobs are arrays in their dtype
that broadcast against them, so that each point of a stack has its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from pipeline.backends.numpy.grid_last import SPREAD
from pipeline.backends.numpy.network import Array
from pipeline.backends.numpy.packed import Packed
from pipeline.optimizer_sections import Optimizer

Knobs = Mapping[str, Array]


class Update(Protocol):
    """What an optimizer does at one update.

    Args:
        gradient: left as it is.
        moments: the optimizer's memory by name, changed in place; zeros before the first update.
        knobs: learning rate and the rest by name.
        out: gets the change, in the shape of the gradient.
        scratch: of that shape too; what it holds afterwards is of no use.
        t: the number of this update, counted from 1.
    """

    def __call__(
        self, gradient: Array, moments: Mapping[str, Array], knobs: Knobs, out: Array, scratch: Array, t: int
    ) -> None: ...


def sgd(gradient: Array, moments: Mapping[str, Array], knobs: Knobs, out: Array, scratch: Array, t: int) -> None:
    """Gradient descent: u = -learning_rate * g."""
    np.multiply(gradient, knobs["-learning_rate"], out)


def momentum(gradient: Array, moments: Mapping[str, Array], knobs: Knobs, out: Array, scratch: Array, t: int) -> None:
    """Momentum (Polyak 1964): v = momentum * v - learning_rate * g, u = v."""
    velocity = moments["velocity"]
    np.multiply(gradient, knobs["-learning_rate"], out=out)
    velocity *= knobs["momentum"]
    velocity += out
    np.copyto(out, velocity)


def nesterov(gradient: Array, moments: Mapping[str, Array], knobs: Knobs, out: Array, scratch: Array, t: int) -> None:
    """Nesterov (Sutskever et al. 2013, as Keras computes it): v as momentum, u = momentum * v - learning_rate * g."""
    velocity = moments["velocity"]
    np.multiply(gradient, knobs["-learning_rate"], out=out)
    velocity *= knobs["momentum"]
    velocity += out
    np.multiply(velocity, knobs["momentum"], out=scratch)
    np.add(scratch, out, out=out)


def adam(gradient: Array, moments: Mapping[str, Array], knobs: Knobs, out: Array, scratch: Array, t: int) -> None:
    """Adam (Kingma and Ba 2015, section 2, last paragraph), as Keras computes it.

    m += (g - m) * (1 - beta_1); v += (g^2 - v) * (1 - beta_2);
    u = -learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon).
    """
    m, v = moments["m"], moments["v"]
    beta_1, beta_2 = knobs["beta_1"], knobs["beta_2"]
    np.subtract(gradient, m, out=out)
    out *= 1 - beta_1
    m += out
    np.multiply(gradient, gradient, out=out)
    out -= v
    out *= 1 - beta_2
    v += out
    np.sqrt(v, out=scratch)
    scratch += knobs["epsilon"]
    np.multiply(m, knobs["-learning_rate"] * np.sqrt(1 - beta_2**t) / (1 - beta_1**t), out=out)
    out /= scratch


UPDATES: dict[str, Update] = {"sgd": sgd, "momentum": momentum, "nesterov": nesterov, "adam": adam}
"""Optimizer by name."""

MOMENTS: dict[str, tuple[str, ...]] = {
    "sgd": (),
    "momentum": ("velocity",),
    "nesterov": ("velocity",),
    "adam": ("m", "v"),
}
"""What each optimizer remembers for every weight."""


def knobs(points: Sequence[Optimizer], parameters: Packed) -> dict[str, Array]:
    """Each knob of a stack's points as an array that broadcasts against `parameters.flat`.

    The learning rate is there with its sign turned. Where the last layer has a rate of its own, there is one number for
    each weight.
    """
    dtype = parameters.flat.dtype

    def spread(values: Sequence[float]) -> Array:
        array = np.array(values, dtype)
        if not parameters.grid_last:
            return array[:, None]
        return np.tile(array, (len(parameters.flat), 1)) if len(values) < SPREAD else array

    names = [name for name in type(points[0]).model_fields if name not in ("name", "output_learning_rate")]
    found = {name: spread([getattr(point, name) for point in points]) for name in names}
    found["-learning_rate"] = -found.pop("learning_rate")
    own = [getattr(point, "output_learning_rate", None) for point in points]
    if any(rate is not None for rate in own):
        rates = parameters.like(dtype)
        last = list(parameters.shapes)[-1].split("/")[0]
        for name, array in rates.arrays.items():
            for place, (point, rate) in enumerate(zip(points, own, strict=True)):
                array[place] = -(rate if rate is not None and name.startswith(last) else point.learning_rate)
        found["-learning_rate"] = rates.flat
    return found
