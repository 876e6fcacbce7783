"""Compute the numbers behind the figures of networks, as arrays: weights, error surface, best-fitting slope."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.losses import loss_and_slope
from pipeline.backends.numpy.network import forward
from pipeline.backends.shared.initial_weights import Weights
from pipeline.config.data import TableData
from pipeline.config.schema import Config
from pipeline.drawing.plot_data import Floats, drawable
from pipeline.points.point import Point


def weight_lines(snapshots: Mapping[int, Weights]) -> dict[str, tuple[NDArray[np.int64], Floats]]:
    """Return every weight over the snapshots: for each array its steps (snapshots,) and values (snapshots, weights).

    Snapshots with inf or NaN in any array are skipped.
    """
    steps = [step for step, arrays in sorted(snapshots.items()) if all(np.isfinite(a).all() for a in arrays.values())]
    if not steps:
        return {}
    return {
        name: (
            np.array(steps, dtype=np.int64),
            np.stack([snapshots[step][name].ravel().astype(np.float64) for step in steps]),
        )
        for name in snapshots[steps[0]]
    }


def kernels(weights: Weights) -> list[str]:
    """Return the names of a network's arrays of weights, without biases and statistics.

    In a model of one's own, whose names are those of its layers, they are the arrays of two or more dimensions.
    """
    if any(name.startswith("layer_0/") for name in weights):
        return [name for name in weights if name.endswith("weights")]
    return [name for name, array in weights.items() if array.ndim > 1]


def has_error_surface(point: Point) -> bool:
    """Whether the network has only two weights and its rows are known, so that its error surface can be drawn."""
    first = point.history.snapshots.get(0, {})
    table = isinstance(point.config.data, TableData)
    return table and list(first) == ["layer_0/weights"] and first["layer_0/weights"].shape == (2, 1)


def loss_at(config: Config, weights: Floats) -> Floats:
    """Compute the training loss of a two-weight network at many pairs of weights.

    Args:
        config: the network's config; its data must be a table.
        weights: pairs of weights, (pairs, 2).

    Returns:
        The loss of each pair, (pairs,).

    Raises:
        TypeError: the data is not a table.
    """
    if not isinstance(config.data, TableData):
        raise TypeError("an error surface requires data in a table")
    # (pairs, 2, 1): the network code computes a stack of networks; the pairs are the stack's first axis.
    parameters = {"layer_0/weights": weights[..., None]}
    sums = forward(config.dense, parameters, np.array(config.data.inputs))[-1]
    losses, _ = loss_and_slope(config.loss, config.dense.output_activation, sums, np.array(config.data.targets))
    return losses.astype(np.float64)


def loss_surface(config: Config, span: float = 10.0, count: int = 61) -> tuple[Floats, Floats]:
    """Compute the loss over both weights from -span to span.

    Returns:
        The axis (count,), and the loss (count, count): rows are the second weight, columns the first.
    """
    axis = np.linspace(-span, span, count)
    first, second = np.meshgrid(axis, axis)
    # Losses that overflow, because the data is huge, are drawn as the largest number.
    with np.errstate(over="ignore", invalid="ignore"):
        losses = loss_at(config, np.stack([first.ravel(), second.ravel()], axis=1))
    return axis, drawable(np.nan_to_num(losses, nan=np.inf)).reshape(count, count)


def target_slope(config: Config) -> float | None:
    """Return the slope of the line that best fits a table of one input and one output; None for other data."""
    data = config.data
    if not isinstance(data, TableData) or len(data.inputs[0]) != 1 or len(data.targets[0]) != 1:
        return None
    x = np.array(data.inputs)[:, 0]
    y = np.array(data.targets)[:, 0]
    # If all inputs are equal, no line y = slope * x + intercept fits best.
    if np.ptp(x) == 0:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.polyfit(x, y, 1)[0])
