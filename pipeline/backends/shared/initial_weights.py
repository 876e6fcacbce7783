"""Draw the initial weights, the same for both backends."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.shared.parametrization import initial_scale
from pipeline.config.model import Model, layer_sizes

# Arrays of one network by name: `layer_0/weights` (inputs, outputs), `layer_0/bias` (outputs,), `layer_1/...`.
#
# A hidden layer with batch normalization has `layer_0/scale` and `layer_0/shift` (outputs,) instead of a bias, because
# the shift has the same effect. After the arrays of all layers follow `layer_0/moving_mean` and
# `layer_0/moving_variance` (outputs,), which are updated during training, but not by gradients.
Weights = dict[str, NDArray[np.floating]]

MOVING = ("moving_mean", "moving_variance")
# The variance of the weights is this scale over the number of inputs; for Glorot, over the mean of the numbers of
# inputs and outputs.
SCALES = {"glorot": 1.0, "he": 2.0, "lecun": 1.0}
# Standard deviation of a standard normal distribution that is cut off at -2 and 2.
TRUNCATED_DEVIATION = 0.87962566103423978


def array_names(model: Model) -> list[str]:
    """Return the names of a network's arrays: layer by layer, then the moving statistics.

    Example:
        >>> array_names(model)  # without hidden layers
        ['layer_0/weights', 'layer_0/bias']
    """
    *hidden, last = range(len(layer_sizes(model, 1, 1)) - 1)
    plain: tuple[str, ...] = ("weights",)
    if model.bias:
        plain = ("weights", "bias")
    kinds = plain
    moving: tuple[str, ...] = ()
    if model.batch_normalization:
        kinds = ("weights", "scale", "shift")
        moving = MOVING
    return [
        *(f"layer_{layer}/{kind}" for layer in hidden for kind in kinds),
        *(f"layer_{last}/{kind}" for kind in plain),
        *(f"layer_{layer}/{kind}" for layer in hidden for kind in moving),
    ]


def is_trained(name: str) -> bool:
    """Return whether gradients change an array; the others are moving statistics."""
    return not name.endswith(MOVING)


def draw(model: Model, features: int, outputs: int, seed: int, dtype: str) -> Weights:
    """Draw the weights that training starts from.

    `uniform` draws between -1 and 1 from NumPy's legacy generator, layer by layer, as the 13-line network does
    (`numpy.random.seed(1); 2 * numpy.random.random((3, 4)) - 1`). `glorot_uniform` draws between -l and l,
    l = sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010). `constant` is `initial_weight` everywhere.

    The other five give weights a variance v: `glorot` 2 / (inputs + outputs), `he` 2 / inputs (He et al. 2015), `lecun`
    1 / inputs (LeCun et al. 1998). `*_uniform` draws between -sqrt(3 v) and sqrt(3 v). `*_normal` draws like the
    truncated normal of Keras' VarianceScaling: values beyond two standard deviations are redrawn, and all are then
    widened to variance v. In the maximal-update parametrization the last layer starts smaller; see parametrization.py.

    Args:
        model: the network's layers and initializer.
        features: number of inputs.
        outputs: number of outputs.
        seed: seed of the run.
        dtype: dtype of the weights. They are drawn in float64 and rounded, so both dtypes start from the same numbers.

    Returns:
        Arrays by name. Each bias is `initial_bias` everywhere; a batch normalization starts with scale 1, shift 0,
        mean 0 and variance 1.
    """
    # The published numbers come from this random stream.
    legacy = np.random.RandomState(seed)
    generator = np.random.default_rng(seed)
    sizes = layer_sizes(model, features, outputs)
    weights: Weights = {}
    for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        if model.initializer == "uniform":
            drawn = 2 * legacy.random_sample((fan_in, fan_out)) - 1
        elif model.initializer == "constant":
            drawn = np.full((fan_in, fan_out), model.initial_weight)
        else:
            drawn = _scaled(model.initializer, generator, fan_in, fan_out)
            drawn *= initial_scale(model, layer, len(sizes) - 1)
        weights[f"layer_{layer}/weights"] = drawn.astype(dtype)
    starts = {"bias": model.initial_bias, "scale": 1.0, "shift": 0.0, "moving_mean": 0.0, "moving_variance": 1.0}
    for name in array_names(model):
        layer_number, kind = name.removeprefix("layer_").split("/")
        if kind in starts:
            weights[name] = np.full(sizes[int(layer_number) + 1], starts[kind], dtype=dtype)
    # Both backends rely on this order.
    return {name: weights[name] for name in array_names(model)}


def _scaled(initializer: str, generator: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[np.float64]:
    """Draw weights whose variance depends on the size of their layer: (fan_in, fan_out)."""
    name, shape = initializer.split("_")
    fan: float = fan_in
    if name == "glorot":
        fan = (fan_in + fan_out) / 2
    if shape == "uniform":
        # A uniform distribution between -l and l has variance l^2 / 3.
        limit = np.sqrt(3 * SCALES[name] / fan)
        return generator.uniform(-limit, limit, (fan_in, fan_out))
    drawn = generator.standard_normal((fan_in, fan_out))
    while (outside := np.abs(drawn) > 2).any():
        drawn[outside] = generator.standard_normal(np.count_nonzero(outside))
    # Cutting off the tails has made the deviation smaller than 1, which the division corrects.
    drawn *= np.sqrt(SCALES[name] / fan) / TRUNCATED_DEVIATION
    return drawn
