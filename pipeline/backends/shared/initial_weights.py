"""One drawing of weights, given to both backends."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.shared.parametrization import initial_scale
from pipeline.config.model import Model, layer_sizes

Weights = dict[str, NDArray[np.floating]]
"""Arrays of one network by name: `layer_0/weights` (inputs, outputs), `layer_0/bias` (outputs,), `layer_1/...`.

A hidden layer with batch normalization has `layer_0/scale` and `layer_0/shift` (outputs,) in place of a bias, whose
part the shift takes. After the arrays of all layers follow `layer_0/moving_mean` and `layer_0/moving_variance`
(outputs,), which training keeps up to date and no gradient moves.
"""

MOVING = ("moving_mean", "moving_variance")
SCALES = {"glorot": 1.0, "he": 2.0, "lecun": 1.0}
"""The variance of the weights is the scale over the inputs; for Glorot over the mean of inputs and outputs."""
TRUNCATED_DEVIATION = 0.87962566103423978
"""Standard deviation of a standard normal distribution without what lies beyond -2 and 2."""


def array_names(model: Model) -> list[str]:
    """Names of a network's arrays, in the order of its layers."""
    *hidden, last = range(len(layer_sizes(model, 1, 1)) - 1)
    plain = ("weights", "bias")[: 1 + model.bias]
    kinds, moving = (plain, ()) if not model.batch_normalization else (("weights", "scale", "shift"), MOVING)
    return [
        *(f"layer_{layer}/{kind}" for layer in hidden for kind in kinds),
        *(f"layer_{last}/{kind}" for kind in plain),
        *(f"layer_{layer}/{kind}" for layer in hidden for kind in moving),
    ]


def is_trained(name: str) -> bool:
    """Whether an array is moved by gradients; the others are moving statistics."""
    return not name.endswith(MOVING)


def draw(model: Model, features: int, outputs: int, seed: int, dtype: str) -> Weights:
    """Draw the weights that training starts from.

    `uniform` draws between -1 and 1 from NumPy's legacy generator, layer by layer, as the 13-line network does
    (`numpy.random.seed(1); 2 * numpy.random.random((3, 4)) - 1`). `glorot_uniform` draws between -l and l,
    l = sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010). `constant` is `initial_weight` everywhere.

    The other five give weights a variance v: `glorot` 2 / (inputs + outputs), `he` 2 / inputs (He et al. 2015), `lecun`
    1 / inputs (LeCun et al. 1998). `uniform` draws between -sqrt(3 v) and sqrt(3 v); `normal` as Keras' VarianceScaling
    draws its truncated normal: what lies beyond two deviations is drawn again, and the rest widened to variance v.
    In the maximal-update parametrization the last layer's are smaller; see parametrization.py.

    Returns:
        Weights in `dtype`; each bias is `initial_bias` everywhere. A batch normalization begins with scale 1, shift 0,
        mean 0 and variance 1.
    """
    legacy = np.random.RandomState(seed)  # the published numbers come from this stream
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
        place, kind = name.removeprefix("layer_").split("/")
        if kind in starts:
            weights[name] = np.full(sizes[int(place) + 1], starts[kind], dtype=dtype)
    return {name: weights[name] for name in array_names(model)}


def _scaled(initializer: str, generator: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[np.float64]:
    """Weights whose variance goes with the size of their layer."""
    name, shape = initializer.split("_")
    fan = (fan_in + fan_out) / 2 if name == "glorot" else fan_in
    if shape == "uniform":
        limit = np.sqrt(3 * SCALES[name] / fan)
        return generator.uniform(-limit, limit, (fan_in, fan_out))
    drawn = generator.standard_normal((fan_in, fan_out))
    while (outside := np.abs(drawn) > 2).any():
        drawn[outside] = generator.standard_normal(np.count_nonzero(outside))
    drawn *= np.sqrt(SCALES[name] / fan) / TRUNCATED_DEVIATION
    return drawn
