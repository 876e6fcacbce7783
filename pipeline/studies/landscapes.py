"""The loss on a plane through the weights of a training: its start, its end, and a random direction.

With w the weights at the start, v those at the end and d a random direction, a point of the plane is

    w + a (v - w) + b d,

so that the start is (0, 0) and the end (1, 0). d is filter-normalised (Li et al. 2018, arXiv:1712.09913): the weights
into each unit have in d the norm that they have in v, because a network of larger weights is changed less by the same
step; biases and statistics do not move along d. The snapshots of the training are projected on the plane by least
squares, as d need not be perpendicular to v - w.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.curvature.curved import joined
from pipeline.backends.numpy.losses import loss_and_slope, penalty
from pipeline.backends.numpy.network import forward, stack
from pipeline.backends.shared.initial_weights import Weights
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, load
from pipeline.drawing.plot_data import Floats
from pipeline.points.point import Point

# Multiplications and additions of all losses of a point: seconds. More rows than that are left out.
MOST_OPERATIONS = 1e11
# Numbers of the widest layer that are in memory at once.
MOST_VALUES = 2e6


@dataclass(frozen=True)
class Plane:
    """A plane of weights.

    Attributes:
        start: the weights at (0, 0).
        along: the change to the end, at (1, 0).
        across: the random direction, at (0, 1) less the start.
        path: (snapshots, 2) the snapshots projected on the plane.
        share: how much of the squared distances of the snapshots from the start is in the plane, 0 to 1.
    """

    start: Weights
    along: Weights
    across: Weights
    path: Floats
    share: float

    def at(self, a: float, b: float) -> Weights:
        """Return the weights at a place of the plane."""
        return {name: self.start[name] + a * self.along[name] + b * self.across[name] for name in self.start}


def plane_of(point: Point) -> Plane | None:
    """Return the plane of a dense network, or None if its snapshots show no movement.

    The end is the last snapshot whose weights are finite and whose distance from the start is too.
    """
    snapshots = [_precise(snapshot) for _, snapshot in sorted(point.history.snapshots.items())]
    if not snapshots:
        return None
    start = snapshots[0]
    with np.errstate(over="ignore", invalid="ignore"):
        moved = [joined(one.values()) - joined(start.values()) for one in snapshots]
        squares = np.array([change @ change for change in moved])
    finite = np.isfinite(squares)
    if not finite[0] or not squares[finite].any():
        return None
    last = int(np.flatnonzero(finite)[-1])
    end = snapshots[last]
    if not squares[last] > 0:
        return None
    along: Weights = {name: end[name] - start[name] for name in start}
    with np.errstate(over="ignore", invalid="ignore"):
        across = filter_normalised(random_direction(end, point.config.seed), end)
    # Of weights beyond 1e154 the norms overflow.
    if not all(np.isfinite(array).all() for array in across.values()):
        return None
    kept = np.stack([change for change, known in zip(moved, finite, strict=True) if known])
    # Of huge weights a product overflows: they are divided by the length of the change, and so is the random direction.
    length = np.sqrt(squares[last])
    axes = np.stack([joined(along.values()), joined(across.values())], axis=1) / length
    path, *_ = np.linalg.lstsq(axes, kept.T / length, rcond=None)
    left = kept.T / length - axes @ path
    total = float((kept / length * (kept / length)).sum())
    # Rounding makes the two ends differ from where they are.
    path[:, 0] = 0
    path[:, -1] = (1, 0)
    return Plane(start, along, across, path.T, 1 - float((left * left).sum()) / total)


def random_direction(weights: Weights, seed: int) -> Weights:
    """Return a direction of normal random numbers in the shapes of weights; 0 for biases and statistics."""
    random = np.random.default_rng(seed)
    return {
        name: random.standard_normal(array.shape) if name.endswith("weights") else np.zeros(array.shape)
        for name, array in weights.items()
    }


def filter_normalised(direction: Weights, weights: Weights) -> Weights:
    """Give the weights into each unit the norm in a direction that they have in a network.

    Args:
        direction: arrays by name, (inputs, units) for weights.
        weights: those of the network, in the same shapes.
    """
    normalised = dict(direction)
    for name, array in direction.items():
        if name.endswith("weights"):
            norms = np.linalg.norm(array, axis=0)
            wanted = np.linalg.norm(weights[name], axis=0)
            normalised[name] = array * np.divide(wanted, norms, out=np.zeros_like(norms), where=norms > 0)
    return normalised


class LossOnRows:
    """The training loss of a dense network, penalties included, as a function of its weights, in float64.

    Without dropout, and with the moving statistics of batch normalization, as a trained network is used.

    Args:
        config: the network.
        places: the number of losses that will be computed; the more, the fewer rows they are computed on.
        project: the folder with the prepared data.

    Attributes:
        rows: the number of training rows that the losses are computed on, the first ones.
        of: the number of training rows.

    Raises:
        LabError: the data is not prepared.
    """

    def __init__(self, config: Config, places: int, project: Path) -> None:
        self._config = config
        arrays: Arrays = load(config.data, "float64", project).at_most(config.training.rows)
        self.of = len(arrays.train_inputs)
        widths = [arrays.features, *_hidden_sizes(config), arrays.outputs]
        products = sum(inputs * units for inputs, units in pairwise(widths))
        self.rows = int(min(self.of, max(1, MOST_OPERATIONS / (2 * products * places))))
        self._inputs = arrays.scaled(arrays.train_inputs[: self.rows]).astype(np.float64)
        self._targets = arrays.train_targets[: self.rows]
        self._together = int(max(1, MOST_VALUES / (self.rows * max(widths))))

    def on(self, plane: Plane, places: Floats) -> Floats:
        """Return the losses at places of a plane, (places,), given (places, 2); inf or NaN where they overflow."""
        losses = [
            self._of_stack([plane.at(float(a), float(b)) for a, b in places[first : first + self._together]])
            for first in range(0, len(places), self._together)
        ]
        return np.concatenate(losses)

    def _of_stack(self, networks: list[Weights]) -> NDArray[np.float64]:
        parameters = stack(networks)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            sums = forward(self._config.dense, parameters, self._inputs)[-1]
            losses, _ = loss_and_slope(self._config.loss, self._config.output_activation, sums, self._targets)
            whole: NDArray[np.float64] = losses + penalty(self._config.training, parameters)
        return whole


def _hidden_sizes(config: Config) -> list[int]:
    sizes = [config.dense.hidden_size, *config.dense.further_hidden_sizes]
    return [size for size in sizes if size is not None]


def _precise(weights: Mapping[str, NDArray[np.floating]]) -> Weights:
    return {name: array.astype(np.float64) for name, array in weights.items()}
