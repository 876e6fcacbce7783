"""A trained network as a Keras model that can be loaded without this package."""

from __future__ import annotations

import keras

from pipeline.backends.keras.layers import build_layers, variables
from pipeline.backends.shared.initial_weights import Weights
from pipeline.config.schema import Config


def plain_model(config: Config, weights: Weights) -> keras.Sequential:
    """Build a network for inference from its arrays, including a softmax, which is part of the loss in training.

    Args:
        config: config of the point.
        weights: arrays of one network by name, in the order of `initial_weights.array_names`.

    Returns:
        A model from inputs (rows, features) to outputs (rows, outputs).
    """
    last: str = config.model.output_activation
    if last == "identity":
        last = "linear"
    # The widths come from the arrays: the config does not contain the numbers of inputs and outputs of the data.
    kernels = [array for name, array in weights.items() if name.endswith("weights")]
    sizes = [kernels[0].shape[0], *(kernel.shape[1] for kernel in kernels)]
    layers = build_layers(config, sizes, last, training=False)
    model = keras.Sequential([keras.Input((sizes[0],), dtype=config.dtype), *layers])
    for variable, array in zip(variables(model), weights.values(), strict=True):
        variable.assign(array)
    return model


def engine() -> str:
    """Return the name of the package that Keras runs on: tensorflow, jax or torch."""
    return str(keras.backend.backend())
