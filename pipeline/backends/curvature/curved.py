"""What has a curvature: a Hessian by its products with vectors; the rows that it is computed on; vectors of weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, Targets, epoch_order


class Curved(Protocol):
    """The Hessian of a stack's losses, by its products with vectors.

    Attributes:
        shape: (grid, weights).
        losses: (grid,).
    """

    shape: tuple[int, int]
    losses: NDArray[np.floating]

    def __matmul__(self, vectors: Any, /) -> NDArray[np.floating]:
        """Return the product of each point's Hessian with a vector of its own: (grid, weights)."""

    def point(self, index: int) -> Curved:
        """Return the Hessian of one point, as a stack of one."""


def joined(arrays: Iterable[Any]) -> NDArray[np.float64]:
    """Join arrays of NumPy, or variables of Keras, to one vector in float64."""
    return np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays])


def sample(config: Config, arrays: Arrays, most: int) -> tuple[NDArray[np.float64], Targets]:
    """Return the rows on which the curvature is computed, with their targets: inputs (rows, features) in float64.

    They are the training rows, and for training on minibatches at most `most` of them: those of the first minibatches,
    so that the state of an adaptive method knows every input that they have.
    """
    inputs = arrays.train_inputs
    targets = arrays.train_targets
    if config.training.batch_size is not None and len(inputs) > most:
        chosen = np.sort(epoch_order(config.seed, 1, len(inputs))[:most])
        inputs = inputs[chosen]
        targets = targets[chosen]
    return arrays.scaled(inputs).astype(np.float64), targets
