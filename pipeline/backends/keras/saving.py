"""A trained network as a Keras model that needs nothing of this package."""

from __future__ import annotations

import keras

from pipeline.backends.keras.layers import build_layers, variables
from pipeline.backends.shared.initial_weights import Weights
from pipeline.config.schema import Config


def plain_model(config: Config, weights: Weights) -> keras.Sequential:
    """The layers with given arrays as they are for inference, and the last activation that training leaves to the loss.

    Args:
        config: the point's.
        weights: of one network, by name, in the order of `initial_weights.array_names`.

    Returns:
        A model from inputs (rows, features) to outputs (rows, outputs).
    """
    knobs = config.model
    kernels = [array for name, array in weights.items() if name.endswith("weights")]
    last = "linear" if knobs.output_activation == "identity" else knobs.output_activation
    sizes = [kernels[0].shape[0], *(kernel.shape[1] for kernel in kernels)]
    layers = build_layers(config, sizes, last, training=False)
    model = keras.Sequential([keras.Input((sizes[0],), dtype=config.dtype), *layers])
    for variable, array in zip(variables(model), weights.values(), strict=True):
        variable.assign(array)
    return model


def engine() -> str:
    """The package that Keras runs on here: tensorflow, jax or torch."""
    return str(keras.backend.backend())
