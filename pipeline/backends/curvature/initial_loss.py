"""The training loss of a point at its initial weights: its gradients, and its Hessian."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, repeat
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.curvature.curved import Curved, joined
from pipeline.backends.curvature.hessian import Hessian
from pipeline.backends.numpy.batches import Batch
from pipeline.backends.numpy.network import stack as stacked
from pipeline.backends.numpy.stack import Stack
from pipeline.backends.shared.initial_weights import draw, is_trained
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays


class InitialLoss(Protocol):
    """The training loss of one point as a function of its weights, at its initial weights.

    Attributes:
        sizes: the number of weights of each of its arrays, by name.
    """

    sizes: Mapping[str, int]

    def hessian(self, inputs: NDArray[np.floating], targets: NDArray[Any]) -> Curved:
        """Return the Hessian of the loss of rows, (rows, features), in float64."""

    def batch_gradients(self) -> Iterator[NDArray[np.float64]]:
        """Yield the gradients of the minibatches of training in their order, (weights,) each, without end."""


class DenseLoss:
    """The training loss of a dense network.

    Args:
        config: the point.
        arrays: its data.

    Attributes:
        drawn: the initial weights, as training starts from them.
        sizes: the number of weights of each of its arrays, by name.
    """

    def __init__(self, config: Config, arrays: Arrays) -> None:
        self._config = config
        self._arrays = arrays
        self.drawn = draw(config.dense, arrays.features, arrays.outputs, config.seed, config.dtype)
        trained = {name: array for name, array in self.drawn.items() if is_trained(name)}
        self._weights = {name: array.astype(np.float64) for name, array in stacked([trained]).items()}
        self.sizes: Mapping[str, int] = {name: array.size for name, array in self._weights.items()}

    def hessian(self, inputs: NDArray[np.floating], targets: NDArray[Any]) -> Hessian:
        """Return the Hessian of the loss of rows, (rows, features), in float64."""
        return Hessian([self._config], self._weights, inputs, targets)

    def batch_gradients(self) -> Iterator[NDArray[np.float64]]:
        """Yield the gradients of the minibatches of training in their order, (weights,) each, without end."""
        stack = Stack([self._config], self._arrays, [self.drawn])
        for batches in _batches(stack):
            stack.differentiate(batches, measured=False)
            # A stack of one may be computed beside a copy of itself.
            gradient = joined(stack.gradient.at(0).values())
            if self._config.training.batch_size is None:
                yield from repeat(gradient)
            yield gradient


def _batches(stack: Stack) -> Iterator[Sequence[Batch]]:
    for epoch in count(1):
        yield from stack.batches(epoch)
