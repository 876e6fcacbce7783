"""Backpropagation of a stack in its simplest form: a reference for the kernels, which use buffers and shortcuts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.backends.numpy.losses import Targets, loss_and_slope
from pipeline.backends.numpy.network import SLOPES, Array, Parameters, forward
from pipeline.config.model import Model

NO_FEATURES: dict[str, Any] = {
    "further_hidden_sizes": (),
    "batch_normalization": False,
    "dropout": 0.0,
    "drop_connect": 0.0,
    "parametrization": "standard",
    "base_hidden_size": 64,
}
"""Fields of a `Model` with one hidden layer and no further features."""


def backpropagation(
    loss: str, model: Model, parameters: Mapping[str, Array], inputs: Array, targets: Targets
) -> tuple[Array, Parameters, Array]:
    """Compute loss and gradient by the chain rule (Rumelhart, Hinton and Williams 1986).

    With a_l the input of layer l, and d_l the derivative of the loss with respect to its sums: dW_l = a_l^T d_l,
    db_l = sum over rows of d_l, d_(l-1) = (d_l W_l^T) * slope(a_l). All layers use the weights before the update.

    Returns:
        Loss (grid,), the gradient in the shapes of `parameters`, and the last layer's sums (grid, rows, outputs).
    """
    values = forward(model, parameters, inputs)
    losses, delta = loss_and_slope(loss, model.output_activation, values[-1], targets)
    gradients: Parameters = {}
    for layer in reversed(range(len(values) - 1)):
        gradients[f"layer_{layer}/weights"] = np.swapaxes(values[layer], -1, -2) @ delta
        if model.bias:
            gradients[f"layer_{layer}/bias"] = delta.sum(axis=-2, keepdims=True)
        if layer:
            delta = delta @ np.swapaxes(parameters[f"layer_{layer}/weights"], -1, -2)
            delta *= SLOPES[model.hidden_activation](values[layer])
    return losses, gradients, values[-1]
