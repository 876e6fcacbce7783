"""Predict the rate at which training breaks from the curvature at the initial weights, without training."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.curvature.breaking import ADAPTIVE, breaking_rate, gradient_factors, rate_factors, unclear
from pipeline.backends.curvature.curved import sample
from pipeline.backends.curvature.eigenvalues import largest_eigenvalues
from pipeline.backends.curvature.initial_loss import DenseLoss, InitialLoss
from pipeline.backends.numpy.descent import formula_knobs, initial_value
from pipeline.backends.numpy.optimizers.by_name import OPTIMIZERS
from pipeline.config.optimizer import Optimizer
from pipeline.config.own_model import KerasModel
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays
from pipeline.system.engines import keras_engine

# The updates, at least, after which the state of an adaptive method is used. Its mean of squared gradients then covers
# the rows on which the curvature is computed. A weight that had no gradient before would have an enormous factor, which
# no update ever has: the gradient enters the mean first.
WARM_UP = 100


class Prediction(NamedTuple):
    """What the curvature at the initial weights says about a point.

    Attributes:
        curvature: the largest eigenvalue of the Hessian, preconditioned for adaptive methods; NaN if it is unknown.
        breaking_rate: NaN if there is none.
        unclear: why there is none; empty if there is one.
        products: the number of products with the Hessian that it took.
    """

    curvature: float
    breaking_rate: float
    unclear: str
    products: int


def why_not(config: Config) -> str:
    """Say why a point cannot be predicted, whatever its weights are; empty if it can be."""
    if config.kind not in ("network", "range_test"):
        return "a map or a curve, and no single network"
    if isinstance(config.model, KerasModel) and keras_engine() != "tensorflow":
        return f"a model of one's own on {keras_engine()}: the prediction needs KERAS_BACKEND=tensorflow"
    return unclear(config)


def predict(config: Config, arrays: Arrays, most: int) -> Prediction:
    """Predict the breaking rate of a point, at any rate: its own does not matter.

    The largest eigenvalue of the Hessian at the initial weights goes into the formula of the method; see breaking.py.
    Adaptive methods get their state from at least 100 updates that move no weight.

    Args:
        config: the point.
        arrays: its data, with the training rows that it uses.
        most: the number of rows on which the curvature is computed, for training on minibatches.

    Raises:
        LabError: the code of a model of one's own is wrong.
    """
    nothing = float("nan")
    reason = why_not(config)
    if reason:
        return Prediction(nothing, nothing, reason, 0)
    loss = loss_of(config, arrays)
    inputs, targets = sample(config, arrays, most)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        hessian = loss.hessian(inputs, targets)
        updates = max(WARM_UP, math.ceil(len(inputs) / (config.training.batch_size or len(inputs))))
        factors = rate_factors(config, loss.sizes) * factors_after(
            config.optimizer, islice(loss.batch_gradients(), updates)
        )
        found = largest_eigenvalues(hessian, factors=factors[None])
    curvature = float(found.values[0, 0])
    rate = breaking_rate(config.optimizer, curvature)
    if not np.isfinite([hessian.losses[0], curvature]).all():
        reason = "the loss or its gradient at the initial weights is inf or NaN"
        rate = nothing
    elif np.isnan(rate):
        reason = "at the initial weights the loss has no direction of positive curvature"
    return Prediction(curvature, rate, reason, int(found.products.sum()))


def loss_of(config: Config, arrays: Arrays) -> InitialLoss:
    """Return the training loss of a point at its initial weights, which are the same on both backends."""
    if isinstance(config.model, KerasModel):
        # Imported here: a dense network needs no Keras.
        from pipeline.backends.curvature.keras_loss import KerasLoss

        return KerasLoss(config, arrays)
    return DenseLoss(config, arrays)


def factors_after(optimizer: Optimizer, gradients: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Compute d for a method that has seen some gradients: 1 for one that is not adaptive, which looks at none of them.

    Args:
        optimizer: one of `FORMULAS`.
        gradients: at least one, (weights,) each.

    Returns:
        (weights,), or () if the method is not adaptive.
    """
    if optimizer.name not in ADAPTIVE:
        return np.ones(())
    kind = OPTIMIZERS[optimizer.name]
    knobs = {name: values[0] for name, values in formula_knobs([optimizer], np.float64).items()}
    state: dict[str, NDArray[np.float64]] = {}
    updates = 0
    for updates, gradient in enumerate(gradients, start=1):
        if not state:
            state = {slot: np.full(gradient.shape, initial_value(optimizer)) for slot in kind.slots}
            method = kind(knobs, np.ones(()), state, np.empty(gradient.shape), np.empty(gradient.shape))
        # AdamW's decay needs weights, but its state does not.
        method.update(gradient, np.zeros(gradient.shape), updates)
    return gradient_factors(optimizer, state, updates)
