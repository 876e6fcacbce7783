"""Predict the rate at which training breaks from the curvature at the initial weights, without training."""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.curvature.breaking import FORMULAS, breaking_rate, factors_after
from pipeline.backends.curvature.eigenvalues import largest_eigenvalues
from pipeline.backends.curvature.initial_loss import DenseLoss, InitialLoss
from pipeline.backends.numpy.network import Array
from pipeline.config.own_model import KerasModel
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays
from pipeline.system.engines import keras_engine

# The updates after which the state of an adaptive method is used. Its mean of squared gradients then covers the
# minibatches, and no longer only the first one, whose many small gradients would count as directions that never move.
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
    """Say why there is no prediction for a point, whatever its weights are; empty if there may be one."""
    optimizer = config.optimizer
    if config.kind not in ("network", "range_test"):
        return "no network of its own"
    if isinstance(config.model, KerasModel) and keras_engine() != "tensorflow":
        return f"a model of one's own on {keras_engine()}: only TensorFlow multiplies with its Hessian"
    if optimizer.name == "lion":
        return "steps of Lion have one size, whatever the gradient is"
    if optimizer.name not in FORMULAS:
        return f"{optimizer.name} is no descent with one rate"
    if getattr(optimizer, "output_learning_rate", None) is not None:
        return "the last layer has a rate of its own"
    if config.training.clipped:
        return "a clipped gradient does not grow with the weights"
    return ""


def sample(config: Config, arrays: Arrays, most: int) -> tuple[Array, NDArray[np.floating] | NDArray[np.integer]]:
    """Return the rows of which the curvature is computed, with their targets: inputs (rows, features) in float64.

    They are the training rows, and for training on minibatches at most `most` of them, which the seed chooses.
    """
    inputs = arrays.train_inputs
    targets = arrays.train_targets
    if config.training.batch_size is not None and len(inputs) > most:
        chosen = np.sort(np.random.default_rng((config.seed, most)).permutation(len(inputs))[:most])
        inputs = inputs[chosen]
        targets = targets[chosen]
    return arrays.scaled(inputs).astype(np.float64), targets


def predict(config: Config, arrays: Arrays, most: int) -> Prediction:
    """Predict the breaking rate of a point, at any rate: its own does not matter.

    The largest eigenvalue of the Hessian at the initial weights goes into the formula of the method; see breaking.py.
    Adaptive methods get their state from 100 updates that move no weight.

    Args:
        config: the point.
        arrays: its data, with the training rows that it uses.
        most: the number of rows of which the curvature is computed, for training on minibatches.

    Raises:
        LabError: the code of a model of one's own is wrong.
    """
    nothing = float("nan")
    unclear = why_not(config)
    if unclear:
        return Prediction(nothing, nothing, unclear, 0)
    loss = loss_of(config, arrays)
    inputs, targets = sample(config, arrays, most)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        hessian = loss.hessian(inputs, targets)
        factors = loss.rate_factors() * factors_after(config.optimizer, islice(loss.batch_gradients(), WARM_UP))
        found = largest_eigenvalues(hessian, factors=factors[None])
    curvature = float(found.values[0, 0])
    rate = breaking_rate(config.optimizer, curvature)
    if not np.isfinite([hessian.losses[0], curvature]).all():
        unclear = "the loss or its gradient at the initial weights is inf or NaN"
        rate = nothing
    elif np.isnan(rate):
        unclear = "at the initial weights the loss curves upwards in no direction"
    return Prediction(curvature, rate, unclear, int(found.products.sum()))


def loss_of(config: Config, arrays: Arrays) -> InitialLoss:
    """Return the training loss of a point at its initial weights, which are the same on both backends."""
    if isinstance(config.model, KerasModel):
        # Imported here: a dense network needs no Keras.
        from pipeline.backends.curvature.keras_loss import KerasLoss

        return KerasLoss(config, arrays)
    return DenseLoss(config, arrays)
