"""A trained network as a Keras model that needs nothing of this package."""

from __future__ import annotations

from typing import Any

import keras

from pipeline.config import Config
from pipeline.initial_weights import Weights


def plain_model(config: Config, weights: Weights) -> keras.Sequential:
    """Dense layers with given weights, and the last activation that training leaves to the loss.

    Args:
        config: the point's.
        weights: of one network, by name.

    Returns:
        A model from inputs (rows, features) to outputs (rows, outputs).
    """
    knobs = config.model
    kernels = [array for name, array in weights.items() if name.endswith("weights")]
    last = "linear" if knobs.output_activation == "identity" else knobs.output_activation
    activations = [knobs.hidden_activation] * (len(kernels) - 1) + [last]
    layers: list[Any] = [
        keras.layers.Dense(
            kernel.shape[1], activation, use_bias=knobs.bias, kernel_initializer="zeros", dtype=config.dtype
        )
        for kernel, activation in zip(kernels, activations, strict=True)
    ]
    model = keras.Sequential([keras.Input((kernels[0].shape[0],), dtype=config.dtype), *layers])
    model.set_weights(list(weights.values()))
    return model


def engine() -> str:
    """The package that Keras runs on here: tensorflow, jax or torch."""
    return str(keras.backend.backend())
