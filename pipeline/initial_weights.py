"""One drawing of weights, given to both backends."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.model_sections import Model

Weights = dict[str, NDArray[np.floating]]
"""Arrays of one network by name: `layer_0/weights` (inputs, outputs), `layer_0/bias` (outputs,), `layer_1/...`."""


def layer_sizes(model: Model, features: int, outputs: int) -> list[int]:
    """Widths from the inputs to the outputs, for instance [784, 1000, 10]."""
    hidden = [] if model.hidden_size is None else [model.hidden_size]
    return [features, *hidden, outputs]


def array_names(model: Model) -> list[str]:
    """Names of a network's arrays, in the order of its layers."""
    layers = 1 if model.hidden_size is None else 2
    return [f"layer_{layer}/{kind}" for layer in range(layers) for kind in ("weights", "bias")[: 1 + model.bias]]


def draw(model: Model, features: int, outputs: int, seed: int, dtype: str) -> Weights:
    """Draw the weights that training starts from.

    `uniform` draws between -1 and 1 from NumPy's legacy generator, layer by layer, as the 13-line network does
    (`numpy.random.seed(1); 2 * numpy.random.random((3, 4)) - 1`). `glorot_uniform` draws between -l and l,
    l = sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010). `constant` is `initial_weight` everywhere.

    Returns:
        Weights in `dtype`; each bias is `initial_bias` everywhere.
    """
    legacy = np.random.RandomState(seed)  # the published numbers come from this stream
    generator = np.random.default_rng(seed)
    sizes = layer_sizes(model, features, outputs)
    weights: Weights = {}
    for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        if model.initializer == "uniform":
            drawn = 2 * legacy.random_sample((fan_in, fan_out)) - 1
        elif model.initializer == "glorot_uniform":
            limit = np.sqrt(6 / (fan_in + fan_out))
            drawn = generator.uniform(-limit, limit, (fan_in, fan_out))
        else:
            drawn = np.full((fan_in, fan_out), model.initial_weight)
        weights[f"layer_{layer}/weights"] = drawn.astype(dtype)
        if model.bias:
            weights[f"layer_{layer}/bias"] = np.full(fan_out, model.initial_bias, dtype=dtype)
    return weights
