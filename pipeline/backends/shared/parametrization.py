"""How initial weights and rates depend on the width of the hidden layers.

With m = width / base_width, the maximal-update parametrization (Yang and Hu 2021, "Feature learning in
infinite-width neural networks", arXiv:2011.14522; in the form of Yang et al. 2022, arXiv:2203.03466, table 3) makes

    weights              | initial variance | rate of SGD | rate of Adam and its like
    first, hidden biases | as they are      | * m         | as it is
    hidden               | as they are      | as it is    | / m
    last                 | / m              | / m         | / m
    last bias            | as they are      | as it is    | as it is

so that the first updates change what every layer computes by as much at any width, and the best rate stays where it
is. Variances "as they are" are those of an initializer that goes by fan_in alone: He's or LeCun's. At the base width,
and in the standard parametrization at any, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config.model import Model

DESCENT = ("sgd", "momentum", "nesterov", "aw_sgd")
"""Optimizers whose step is as large as the gradient; the step of the others is as large as the rate."""


def width_ratio(model: Model) -> float:
    """m: 1 in the standard parametrization, and at the base width."""
    if model.parametrization == "standard" or model.hidden_size is None:
        return 1.0
    return model.hidden_size / model.base_hidden_size


def initial_scale(model: Model, layer: int, layers: int) -> float:
    """What a layer's drawn weights are multiplied by: 1 / sqrt(m) for the last of several layers."""
    return width_ratio(model) ** -0.5 if layer == layers - 1 > 0 else 1.0


def rate_scales(model: Model, optimizer: str, names: Sequence[str]) -> dict[str, float]:
    """What the learning rate is multiplied by for each array whose rate is another; empty where all are as they are.

    Args:
        model: its parametrization and widths.
        optimizer: its name.
        names: of all arrays that are trained, `layer_0/weights` and so on, layer by layer.
    """
    ratio, descent, scales = width_ratio(model), optimizer in DESCENT, {}
    last = names[-1].split("/")[0]
    for name in names if ratio != 1 else ():
        layer, kind = name.split("/")
        if kind == "weights" and layer == last:
            scales[name] = 1 / ratio
        elif kind == "weights" and layer != "layer_0":
            scales |= {} if descent else {name: 1 / ratio}
        elif descent and layer != last:
            scales[name] = ratio
    return scales
