"""The gradient of a stack by forward differences, for networks of a few weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.backends.numpy.losses import Targets, loss_and_slope, penalty
from pipeline.backends.numpy.network import Array, Parameters, forward
from pipeline.config.model import Model, Training


def forward_differences(
    loss: str,
    model: Model,
    parameters: Mapping[str, Array],
    inputs: Array,
    targets: Targets,
    step: float,
    training: Training | None = None,
) -> tuple[Array, Parameters, Array]:
    """Loss and gradient as (loss(w + h) - loss(w)) / h, weight by weight at the old weights.

    The sum w + h is rounded to the weights' own dtype; the losses are computed in float64. That is what a script does
    that keeps its weights in float32 arrays and its data in Python lists, and it is why a large weight stops moving:
    in float32 a weight past about 2,000 does not change when 0.0001 is added, and the difference is exactly 0.

    With `training` the loss has the penalty that it names.

    Returns:
        Loss (grid,), the gradient in the shapes of `parameters`, float64, and the last layer's sums (grid, rows,
        outputs).
    """

    def evaluate(stack: Mapping[str, Array]) -> tuple[Array, Array]:
        precise = {name: array.astype(np.float64) for name, array in stack.items()}
        sums = forward(model, precise, inputs.astype(np.float64))[-1]
        losses = loss_and_slope(loss, model.output_activation, sums, targets)[0]
        return losses + penalty(training, precise) if training is not None and training.penalised else losses, sums

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
