"""Gradients of a stack: backpropagation, and forward differences for networks of a few weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.backends.numpy.losses import Targets, loss_and_slope
from pipeline.backends.numpy.network import SLOPES, Array, Parameters, forward
from pipeline.config import Config, Model


def backpropagation(
    loss: str, model: Model, parameters: Mapping[str, Array], inputs: Array, targets: Targets
) -> tuple[Array, Parameters, Array]:
    """Loss and gradient by the chain rule (Rumelhart, Hinton and Williams 1986).

    With a_l what layer l gets and d_l the loss's derivative by its sums: dW_l = a_l^T d_l, db_l = sum over rows of d_l,
    d_(l-1) = (d_l W_l^T) * slope(a_l). All layers use the weights before the update.

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


def forward_differences(
    loss: str, model: Model, parameters: Mapping[str, Array], inputs: Array, targets: Targets, step: float
) -> tuple[Array, Parameters, Array]:
    """Loss and gradient as (loss(w + h) - loss(w)) / h, weight by weight at the old weights.

    The sum w + h is rounded to the weights' own dtype; the losses are computed in float64. That is what a script does
    that keeps its weights in float32 arrays and its data in Python lists, and it is why a large weight stops moving:
    in float32 a weight past about 2,000 does not change when 0.0001 is added, and the difference is exactly 0.

    Returns:
        As `backpropagation`; the gradient is float64.
    """

    def evaluate(stack: Mapping[str, Array]) -> tuple[Array, Array]:
        precise = {name: array.astype(np.float64) for name, array in stack.items()}
        sums = forward(model, precise, inputs.astype(np.float64))[-1]
        return loss_and_slope(loss, model.output_activation, sums, targets)[0], sums

    losses, sums = evaluate(parameters)
    gradients: Parameters = {}
    for name, array in parameters.items():
        gradient = np.empty(array.shape)
        for place in np.ndindex(array.shape[1:]):
            moved = array.copy()
            moved[(slice(None), *place)] += array.dtype.type(step)
            gradient[(slice(None), *place)] = (evaluate({**parameters, name: moved})[0] - losses) / step
        gradients[name] = gradient
    return losses, gradients, sums


def loss_and_gradient(
    config: Config, parameters: Mapping[str, Array], inputs: Array, targets: Targets
) -> tuple[Array, Parameters, Array]:
    """Loss, gradient and the last layer's sums by the method that the config names."""
    if config.gradient == "finite_difference":
        return forward_differences(
            config.loss, config.model, parameters, inputs, targets, config.finite_difference_step
        )
    return backpropagation(config.loss, config.model, parameters, inputs, targets)
