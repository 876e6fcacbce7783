"""The dependence of initial weights and learning rates on the width of the hidden layers.

With m = width / base_width, the maximal-update parametrization (Yang and Hu 2021, "Feature learning in
infinite-width neural networks", arXiv:2011.14522; in the form of Yang et al. 2022, arXiv:2203.03466, table 3) makes

    weights              | initial variance | rate of SGD | rate of Adam and similar
    first, hidden biases | unchanged        | * m         | unchanged
    hidden               | unchanged        | unchanged   | / m
    last                 | / m              | / m         | / m
    last bias            | unchanged        | unchanged   | unchanged

The first updates then change the output of every layer by the same amount at any width, and the best rate stays the
same. An unchanged variance requires an initializer that depends only on fan_in: He's or LeCun's. Nothing changes at the
base width, nor at any width in the standard parametrization.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config.model import Model

# Optimizers whose step scales with the gradient. The step of the others scales only with the rate.
DESCENT = ("sgd", "momentum", "nesterov", "aw_sgd")


def width_ratio(model: Model) -> float:
    """Return m = width / base_width; 1 in the standard parametrization and without hidden layers."""
    if model.parametrization == "standard" or model.hidden_size is None:
        return 1.0
    return model.hidden_size / model.base_hidden_size


def initial_scale(model: Model, layer: int, layers: int) -> float:
    """Return the factor of a layer's initial weights: 1 / sqrt(m) for the last of several layers, otherwise 1."""
    last_of_several = layer == layers - 1 > 0
    if not last_of_several:
        return 1.0
    # This divides the variance by m.
    return float(width_ratio(model) ** -0.5)


def rate_scales(model: Model, optimizer: str, names: Sequence[str]) -> dict[str, float]:
    """Return the factor of the learning rate for each array whose rate changes; empty if none does.

    Args:
        model: parametrization and widths of the network.
        optimizer: name of the optimizer.
        names: names of all trained arrays, `layer_0/weights` and so on, layer by layer.
    """
    ratio = width_ratio(model)
    if ratio == 1:
        return {}
    descent = optimizer in DESCENT
    last = names[-1].split("/")[0]
    scales = {}
    for name in names:
        layer, kind = name.split("/")
        weights = kind == "weights"
        # The rows of the module's table in turn: last, hidden, then first and hidden biases.
        if weights and layer == last:
            scales[name] = 1 / ratio
        elif weights and layer != "layer_0":
            if not descent:
                scales[name] = 1 / ratio
        elif descent and layer != last:
            scales[name] = ratio
    return scales
