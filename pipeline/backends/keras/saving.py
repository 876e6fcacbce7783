"""A trained network as a Keras model that can be loaded without this package."""

from __future__ import annotations

import json

import keras

from pipeline.backends.keras import own_description, own_model
from pipeline.backends.keras.layers import build_layers, variables
from pipeline.backends.shared.initial_weights import Weights
from pipeline.config.own_model import KerasModel
from pipeline.config.schema import Config


def plain_model(config: Config, weights: Weights, architecture: str = "") -> keras.Sequential:
    """Build a network for inference from its arrays, including a softmax, which is part of the loss in training.

    Args:
        config: config of the point.
        weights: arrays of one network by name, in the order of `initial_weights.array_names`.
        architecture: the layers of a model of one's own, from `own_description.description`.

    Returns:
        A model from inputs (rows, features) to outputs (rows, outputs).

    Raises:
        LabError: the code of a model of one's own, which has layers of its own, fails.
    """
    last = config.output_activation
    if last == "identity":
        last = "linear"
    if isinstance(config.model, KerasModel):
        return _plain_own_model(config.model, config.dtype, weights, architecture, last)
    # The widths come from the arrays: the config does not contain the numbers of inputs and outputs of the data.
    kernels = [array for name, array in weights.items() if name.endswith("weights")]
    sizes = [kernels[0].shape[0], *(kernel.shape[1] for kernel in kernels)]
    layers = build_layers(config, sizes, last, training=False)
    model = keras.Sequential([keras.Input((sizes[0],), dtype=config.dtype), *layers])
    for variable, array in zip(variables(model), weights.values(), strict=True):
        variable.assign(array)
    return model


def _plain_own_model(model: KerasModel, dtype: str, weights: Weights, architecture: str, last: str) -> keras.Sequential:
    """Build a model of one's own from its description and its arrays."""
    made = own_description.rebuilt(model, architecture, dtype)
    for variable, array in zip(own_model.variables(made), weights.values(), strict=True):
        variable.assign(array)
    return keras.Sequential(own_model.around(made, json.loads(architecture)["input_shape"], last, dtype))


def engine() -> str:
    """Return the name of the package that Keras runs on: tensorflow, jax or torch."""
    return str(keras.backend.backend())
