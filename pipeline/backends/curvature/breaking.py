"""The learning rate at which a method breaks on a quadratic, and what it makes of the Hessian.

Along an eigenvector of the Hessian with eigenvalue L, every method here is a linear recurrence. It is stable while the
roots of its characteristic polynomial are inside the unit circle, which holds up to one rate: the breaking rate. For
adaptive methods L is the largest eigenvalue of the preconditioned Hessian diag(d) H, where d is what the method
multiplies each gradient by. Sources: Cohen et al. 2021 (arXiv:2103.00065, appendix B) for gradient descent, Polyak's
and Nesterov's momentum; Cohen et al. 2022 (arXiv:2207.14484, section 2) for adaptive methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.shared.parametrization import rate_scales
from pipeline.config.optimizer import Optimizer
from pipeline.config.own_model import KerasModel
from pipeline.config.schema import Config

State = Mapping[str, NDArray[np.floating]]


class Formula(NamedTuple):
    """The breaking rate of a method.

    Attributes:
        text: how it is computed from L, for a person.
        factor: the breaking rate times L, as a function of the method's hyperparameters.
    """

    text: str
    factor: Callable[[Any], float]


GRADIENT_DESCENT = Formula("2 / L", lambda _: 2.0)
# With b the momentum, the velocity is v = b v - rate g; the weights change by v.
POLYAK = Formula("2 (1 + b) / L", lambda knobs: 2 * (1 + knobs.momentum))
# They change by b v - rate g.
NESTEROV = Formula("(2 + 2 b) / ((1 + 2 b) L)", lambda knobs: (2 + 2 * knobs.momentum) / (1 + 2 * knobs.momentum))
# The mean m = b m + (1 - b) g is a velocity times 1 - b.
ADAM = Formula("(2 + 2 b) / ((1 - b) L)", lambda knobs: (2 + 2 * knobs.beta_1) / (1 - knobs.beta_1))
# Both: Nesterov's velocity is a mean.
NADAM = Formula(
    "(2 + 2 b) / ((1 - b) (1 + 2 b) L)",
    lambda knobs: (2 + 2 * knobs.beta_1) / ((1 - knobs.beta_1) * (1 + 2 * knobs.beta_1)),
)
# By the name of the optimizer. AdamW's decay, which adds weight_decay to L, is left out: it is small beside L. Lion has
# none: its steps have one size whatever the gradient is, so that on a quadratic it neither settles nor diverges.
FORMULAS = {
    "sgd": GRADIENT_DESCENT,
    "momentum": POLYAK,
    "nesterov": NESTEROV,
    "adagrad": GRADIENT_DESCENT,
    "adadelta": GRADIENT_DESCENT,
    "rmsprop": POLYAK,
    "adam": ADAM,
    "adamw": ADAM,
    "amsgrad": ADAM,
    "nadam": NADAM,
}
# Those that multiply each gradient by a factor of its own.
ADAPTIVE = ("adagrad", "adadelta", "rmsprop", "adam", "adamw", "amsgrad", "nadam")


def unclear(config: Config) -> str:
    """Say why a network's breaking rate does not follow from its curvature; empty if it does."""
    optimizer = config.optimizer
    if optimizer.name == "lion":
        return "Lion's steps have the same size whatever the gradient is"
    if optimizer.name not in FORMULAS:
        return f"{optimizer.name} has no single learning rate"
    if getattr(optimizer, "output_learning_rate", None) is not None:
        return "the last layer has a rate of its own"
    if config.training.clipped:
        return "a clipped gradient does not grow with the weights"
    return ""


def rate_factors(config: Config, sizes: Mapping[str, int]) -> NDArray[np.float64]:
    """Return the factor of the learning rate of each weight, (weights,), as the parametrization sets it.

    Args:
        config: the point.
        sizes: the number of weights of each of its arrays, by name.
    """
    scales: dict[str, float] = {}
    if not isinstance(config.model, KerasModel):
        scales = rate_scales(config.model, config.optimizer.name, list(sizes))
    return np.concatenate([np.full(size, scales.get(name, 1.0)) for name, size in sizes.items()])


def breaking_rate(optimizer: Optimizer, curvature: float) -> float:
    """Compute the rate at which a method breaks; NaN if it breaks at none.

    Args:
        optimizer: one of `FORMULAS`.
        curvature: L, the largest eigenvalue of the Hessian, preconditioned for adaptive methods.
    """
    if not curvature > 0:
        return float("nan")
    return FORMULAS[optimizer.name].factor(optimizer) / curvature


def gradient_factors(optimizer: Optimizer, state: State, updates: int) -> NDArray[np.float64]:
    """Compute d, what an adaptive method multiplies each gradient by, in the shape of its state.

    Args:
        optimizer: one of `ADAPTIVE`.
        state: its arrays by name, after the updates.
        updates: their number, at least 1, on which Adam's correction of the bias depends.

    Raises:
        ValueError: the method is not adaptive.
    """
    # The config's sections are told apart by `name`, which mypy does not follow.
    knobs: Any = optimizer
    precise = {name: array.astype(np.float64) for name, array in state.items()}
    factors: NDArray[np.float64]
    match knobs.name:
        case "adagrad" | "rmsprop":
            factors = 1 / np.sqrt(precise["squares"] + knobs.epsilon)
        case "adadelta":
            factors = np.sqrt((precise["steps"] + knobs.epsilon) / (precise["squares"] + knobs.epsilon))
        case "nadam":
            factors = 1 / (np.sqrt(precise["v"] / (1 - knobs.beta_2**updates)) + knobs.epsilon)
        case "adam" | "adamw" | "amsgrad":
            squares = precise.get("largest_v", precise["v"])
            # The correction of the bias is outside of the sum with epsilon.
            factors = np.sqrt(1 - knobs.beta_2**updates) / (np.sqrt(squares) + knobs.epsilon)
        case _:
            raise ValueError(f"{knobs.name} has one rate for all weights")
    return factors
