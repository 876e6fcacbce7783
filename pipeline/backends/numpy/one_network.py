"""Backpropagation of one network at a time, on minibatches or larger tables, in buffers that are allocated once.

Two things are left out that the plain words of `gradients.backpropagation` say: pixels that are zero in every row of a
batch have no part in a product, and the bias of the first layer is the weight of an input that is always 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.losses import Targets, loss_and_slope
from pipeline.backends.numpy.network import ACTIVATIONS, SLOPES, Array
from pipeline.backends.numpy.packed import Packed
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays

WIDE = 64
"""From so many features on, those that are zero in a whole batch are looked for."""


class Batch(NamedTuple):
    """Rows as the first layer's product takes them.

    Attributes:
        inputs: (rows, used), a column of ones last where there are biases.
        used: which rows of the first layer's weights and bias, one below the other, take part, ascending; None: all.
        idle: the others.
        targets: as `losses.loss_and_slope` takes them.
    """

    inputs: Array
    used: NDArray[np.intp] | None
    idle: NDArray[np.intp]
    targets: Targets


def batch(arrays: Arrays, inputs: NDArray[Any], targets: Targets, bias: bool) -> Batch:
    """Make a batch of rows, (rows, features), as they are in the data set."""
    used, idle = None, np.empty(0, np.intp)
    if inputs.shape[1] >= WIDE:
        seen = (inputs.max(axis=0) > 0) if inputs.dtype == np.uint8 else inputs.any(axis=0)
        if not seen.all():
            idle = np.flatnonzero(~seen)
            used = np.flatnonzero(np.append(seen, True) if bias else seen)
            inputs = inputs[:, seen]
    if not bias:
        return Batch(arrays.scaled(inputs), used, idle, targets)
    dtype = arrays.dtype if inputs.dtype == np.uint8 else inputs.dtype
    extended = np.empty((len(inputs), inputs.shape[1] + 1), dtype)
    arrays.scaled(inputs, out=extended[:, :-1])
    extended[:, -1] = 1
    return Batch(extended, used, idle, targets)


class OneNetwork:
    """Loss and gradient of the points of a stack, one after the other.

    Args:
        config: model and loss.
        rows: as many as a batch can have.
        parameters: the stack, each point's numbers side by side in memory; read at every call.
        gradient: of the same shapes; written at every call.
    """

    def __init__(self, config: Config, rows: int, parameters: Packed, gradient: Packed) -> None:
        self._config, self._bias = config, config.model.bias
        self._layers = sum(name.endswith("weights") for name in parameters.shapes)
        features, width = parameters.shapes["layer_0/weights"]
        self._grid, self._first_shape = parameters.grid, (features + self._bias, width)
        self._parameters, self._gradient = parameters, gradient
        dtype = parameters.flat.dtype
        self._used_weights = np.empty(self._first_shape, dtype)
        self._hidden, self._delta = np.empty((rows, width), dtype), np.empty((rows, width), dtype)

    def sums(self, place: int, rows: Batch) -> Array:
        """The last layer's sums of one point, (rows, outputs); valid until the next call where there is one layer."""
        first = self._first(self._parameters, place)
        if rows.used is not None:
            first = np.take(first, rows.used, axis=0, out=self._used_weights[: len(rows.used)], mode="clip")
        sums = np.matmul(rows.inputs, first, out=self._hidden[: len(rows.inputs)])
        if self._layers == 1:
            return sums
        if self._config.model.hidden_activation == "relu":
            hidden = np.maximum(sums, 0, out=sums)
        else:
            hidden = sums
            hidden[...] = ACTIVATIONS[self._config.model.hidden_activation](sums)
        outputs: Array = hidden @ self._parameters.arrays["layer_1/weights"][place]
        if self._bias:
            outputs += self._parameters.arrays["layer_1/bias"][place]
        return outputs

    def __call__(self, place: int, rows: Batch) -> tuple[float, Array]:
        """Loss and the last layer's sums (rows, outputs) of one point; its gradient is in its place."""
        sums = self.sums(place, rows)
        losses, slopes = loss_and_slope(
            self._config.loss, self._config.model.output_activation, sums[None], rows.targets
        )
        delta = slopes[0]
        if self._layers == 2:
            hidden, weights = self._hidden[: len(delta)], self._parameters.arrays["layer_1/weights"][place]
            np.matmul(hidden.T, delta, out=self._gradient.arrays["layer_1/weights"][place])
            if self._bias:
                np.add.reduce(delta, axis=0, keepdims=True, out=self._gradient.arrays["layer_1/bias"][place])
            delta = np.matmul(delta, weights.T, out=self._delta[: len(delta)])
            slope = hidden > 0 if self._config.model.hidden_activation == "relu" else SLOPES["sigmoid"](hidden)
            np.multiply(delta, slope, out=delta)
        first = self._first(self._gradient, place)
        if rows.used is None:
            np.matmul(rows.inputs.T, delta, out=first)
        else:
            first[rows.idle] = 0
            first[rows.used] = np.matmul(rows.inputs.T, delta, out=self._used_weights[: len(rows.used)])
        return float(losses[0]), sums

    def _first(self, packed: Packed, place: int) -> Array:
        """Weights and bias of the first layer, one below the other: a view (features + 1, width)."""
        rows, width = self._first_shape
        return packed.flat[place, : rows * width].reshape(rows, width)
