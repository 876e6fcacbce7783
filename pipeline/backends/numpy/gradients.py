"""The gradient of a stack by forward differences, for networks of a few weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.backends.numpy.losses import Targets, loss_and_slope, penalty
from pipeline.backends.numpy.network import Array, Parameters, forward
from pipeline.config.schema import Config


def forward_differences(
    config: Config, parameters: Mapping[str, Array], inputs: Array, targets: Targets
) -> tuple[Array, Parameters, Array]:
    """Compute loss and gradient as (loss(w + h) - loss(w)) / h, one weight after the other, all at the old weights.

    The sum w + h is rounded to the dtype of the weights, and the losses are computed in float64. A script that keeps
    its weights in float32 arrays and its data in Python lists does the same. This is why a large weight stops changing:
    in float32 a weight above about 2,000 does not change when 0.0001 is added, and the difference is exactly 0.

    Args:
        config: model, loss, penalty and `finite_difference_step`, the h above.
        parameters: the stack.
        inputs: (rows, features).
        targets: in the form that `loss_and_slope` accepts.

    Returns:
        Loss (grid,), the gradient in the shapes of `parameters`, float64, and the last layer's sums (grid, rows,
        outputs). If the config has a penalty, loss and gradient include it.
    """
    model = config.dense
    step = config.finite_difference_step

    def evaluate(stack: Mapping[str, Array]) -> tuple[Array, Array]:
        precise = {name: array.astype(np.float64) for name, array in stack.items()}
        sums = forward(model, precise, inputs.astype(np.float64))[-1]
        losses = loss_and_slope(config.loss, model.output_activation, sums, targets)[0]
        if config.training.penalised:
            losses = losses + penalty(config.training, precise)
        return losses, sums

    losses, sums = evaluate(parameters)
    gradients: Parameters = {}
    for name, array in parameters.items():
        gradient = np.empty(array.shape)
        for index in np.ndindex(array.shape[1:]):
            # One step changes this weight in all networks of the stack; they do not depend on each other.
            moved = array.copy()
            moved[(slice(None), *index)] += array.dtype.type(step)
            gradient[(slice(None), *index)] = (evaluate({**parameters, name: moved})[0] - losses) / step
        gradients[name] = gradient
    return losses, gradients, sums
