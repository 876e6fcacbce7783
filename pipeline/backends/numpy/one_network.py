"""Backpropagation of any dense network, one network at a time, in buffers that are allocated once; see `layers.py`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np

from pipeline.backends.numpy.batches import Batch
from pipeline.backends.numpy.layers import (
    Normalized,
    activation,
    activation_slope,
    dense,
    keep_moving,
    mask,
    normalize,
    normalize_backward,
)
from pipeline.backends.numpy.losses import loss_and_slope
from pipeline.backends.numpy.network import Array, Parameters, forward
from pipeline.backends.numpy.packed import Packed
from pipeline.backends.numpy.state import Progress
from pipeline.backends.numpy.threads import Threads
from pipeline.config.schema import Config


class LayerValues(NamedTuple):
    """The values of a layer that backpropagation needs again; None for a feature that the network does not have.

    Attributes:
        inputs: (rows, inputs).
        weights: (inputs, units), as they were multiplied: those that DropConnect drops are 0.
        connected: DropConnect's mask of the weights, in their shape.
        normalized: the sums, normalized over the batch.
        sums: before the activation, (rows, units); overwritten by the values if the activation is a rectifier.
        values: after the activation, before dropout, (rows, units).
        kept: dropout's mask of the values, in their shape.
    """

    inputs: Array
    weights: Array
    connected: Array | None
    normalized: Normalized | None
    sums: Array
    values: Array
    kept: Array | None


class Buffers(threading.local):
    """What a thread overwrites while it trains a point; each thread gets its own at its first use.

    Args:
        first: the first layer's weights of one point.
        rows: the largest number of rows of a training batch.
        widths: the number of units of each hidden layer.
        module: NumPy or CuPy.

    Attributes:
        used: for the weights of the inputs that a batch does not skip, and later for their gradient.
        sums, deltas: of each hidden layer, (rows, units).
    """

    def __init__(self, first: Array, rows: int, widths: Sequence[int], module: ModuleType) -> None:
        self.used: Array = module.empty(first.shape, first.dtype)
        self.sums: list[Array] = [module.empty((rows, width), first.dtype) for width in widths]
        self.deltas: list[Array] = [module.empty((rows, width), first.dtype) for width in widths]


class OneNetwork:
    """Loss and gradient of the points of a stack, each computed on its own; several threads may compute one each.

    The masks of dropout and DropConnect depend only on the point's seed, the number of the update and the layer.

    Args:
        config: model and loss.
        seeds: the points' seeds.
        rows: the largest number of rows of a training batch.
        progress: the state of the stack, with each point's arrays contiguous in memory. Every call reads the weights
            and the number of updates, and updates the moving statistics.
        gradient: in the same shapes; written by every call.
        threads: share the parts of large products.

    Attributes:
        extended: whether batches must have the column of ones.
    """

    def __init__(
        self,
        config: Config,
        seeds: Sequence[int],
        rows: int,
        progress: Progress,
        gradient: Packed,
        threads: Threads,
    ) -> None:
        self._config = config
        self._model = config.dense
        self._seeds = seeds
        self._threads = threads
        self._progress = progress
        # Only plain networks in memory have the bias as a row of the weights. The others add it after the product, as
        # when the published numbers were computed: otherwise rounding would differ.
        self.extended = config.dense.bias and config.dense.plain and gradient.module is np
        self._last = sum(name.endswith("weights") for name in gradient.shapes) - 1
        # Views of each point's arrays, made once: in a small network making them would cost as much as its products.
        points = range(gradient.grid)
        self._own: list[Parameters] = [progress.network(index) for index in points]
        self._dense = [self._weights_and_biases(progress.parameters, index) for index in points]
        self._gradient = [{name: array[index] for name, array in gradient.arrays.items()} for index in points]
        self._dense_gradient = [self._weights_and_biases(gradient, index) for index in points]
        first_weights, _ = self._dense[0][0]
        widths = [gradient.shapes[f"layer_{layer}/weights"][1] for layer in range(self._last)]
        self._buffers = Buffers(first_weights, rows, widths, gradient.module)

    def _weights_and_biases(self, packed: Packed, index: int) -> list[tuple[Array, Array | None]]:
        """Return each layer's weights and bias of a point; if `extended`, the first weights include the bias."""
        arrays = {name: array[index] for name, array in packed.arrays.items()}
        names = [f"layer_{layer}" for layer in range(self._last + 1)]
        layers = [(arrays[f"{name}/weights"], arrays.get(f"{name}/bias")) for name in names]
        if self.extended:
            # In memory the bias of a layer follows its weights, so that one view has it as their last row.
            features, width = packed.shapes["layer_0/weights"]
            first = packed.flat[index, : (features + 1) * width].reshape(features + 1, width)
            layers[0] = (first, None)
        return layers

    def sums(self, index: int, rows: Batch) -> Array:
        """Compute the last layer's sums of one point for inference, (rows, outputs): moving statistics, no masks."""
        stack = {name: np.atleast_2d(array)[None] for name, array in self._own[index].items()}
        weights, bias = self._first(index, rows)
        stack["layer_0/weights"] = weights[None]
        if bias is None:
            stack.pop("layer_0/bias", None)
        sums: Array = forward(self._model, stack, rows.inputs)[-1][0]
        return sums

    def __call__(self, index: int, rows: Batch) -> tuple[float, Array]:
        """Compute loss, gradient and the last layer's sums (rows, outputs) of one point in training.

        Loss and sums are returned; the gradient is written to the point's arrays.
        """
        layers: list[LayerValues] = []
        values = rows.inputs
        for layer in range(self._last + 1):
            weights, bias = self._first(index, rows) if layer == 0 else self._dense[index][layer]
            found = self._forward(index, layer, values, weights, bias)
            layers.append(found)
            values = found.values
            if found.kept is not None:
                # A new array: the backward pass needs the values without the mask, for the slope of the activation.
                values = values * found.kept
        sums = layers[-1].sums
        losses, slopes = loss_and_slope(self._config.loss, self._model.output_activation, sums[None], rows.targets)
        delta = slopes[0]
        for layer in reversed(range(self._last + 1)):
            self._backward(index, layer, delta, layers[layer], rows)
            if layer:
                # The derivative with respect to the layer's input: d_(l-1) = d_l W_l^T.
                delta = self._threads.product(
                    delta, layers[layer].weights.T, self._buffers.deltas[layer - 1][: len(delta)]
                )
        return float(losses[0]), sums

    def _first(self, index: int, rows: Batch) -> tuple[Array, Array | None]:
        """Return weights and bias of the first layer; if the batch skips inputs, a copy of the other weight rows."""
        weights, bias = self._dense[index][0]
        if rows.used is None:
            return weights, bias
        # The indices are in range. Only with mode="clip" does NumPy write to `out` without another buffer.
        return np.take(weights, rows.used, axis=0, out=self._buffers.used[: len(rows.used)], mode="clip"), bias

    def _forward(self, index: int, layer: int, inputs: Array, weights: Array, bias: Array | None) -> LayerValues:
        """Compute one layer. The last one has no activation here, because the loss is computed from its sums."""
        model = self._model
        connected = None
        if model.drop_connect:
            connected = self._mask(index, weights, model.drop_connect, 2 * layer + 1)
            weights = weights * connected
        if layer == self._last:
            sums = dense(self._threads, inputs, weights, bias)
            return LayerValues(inputs, weights, connected, None, sums, sums, None)
        sums = dense(self._threads, inputs, weights, bias, self._buffers.sums[layer][: len(inputs)])
        normalized = None
        if model.batch_normalization:
            own = self._own[index]
            name = f"layer_{layer}"
            normalized = normalize(sums)
            keep_moving(own[f"{name}/moving_mean"], normalized.mean[0])
            keep_moving(own[f"{name}/moving_variance"], normalized.variance[0])
            # sums = scale * n + shift, in the layer's buffer.
            np.multiply(normalized.values, own[f"{name}/scale"], out=sums)
            sums += own[f"{name}/shift"]
        values = activation(model.hidden_activation, sums)
        kept = None
        if model.dropout:
            kept = self._mask(index, values, model.dropout, 2 * layer + 2)
        return LayerValues(inputs, weights, connected, normalized, sums, values, kept)

    def _backward(self, index: int, layer: int, delta: Array, values: LayerValues, rows: Batch) -> None:
        """Write the gradient of one layer.

        `delta` is the derivative with respect to the layer's output. It is overwritten by the derivative with respect
        to the layer's sums, which the caller needs for the previous layer.
        """
        # The steps of `_forward` in reverse order: mask, activation, normalization, product.
        if values.kept is not None:
            delta *= values.kept
        if layer < self._last:
            delta *= activation_slope(self._model.hidden_activation, values.sums, values.values)
        if values.normalized is not None:
            gradient = self._gradient[index]
            name = f"layer_{layer}"
            by_sums, by_scale, by_shift = normalize_backward(
                delta, values.normalized, self._own[index][f"{name}/scale"]
            )
            delta[...] = by_sums
            gradient[f"{name}/scale"][...] = by_scale
            gradient[f"{name}/shift"][...] = by_shift
        by_weights, by_bias = self._dense_gradient[index][layer]
        used = None
        if layer == 0:
            used = rows.used
        out = by_weights
        if used is not None:
            # The copy of the first weights is no longer needed: its buffer is free for their gradient.
            out = self._buffers.used[: len(used)]
        self._threads.product(values.inputs.T, delta, out)
        if values.connected is not None:
            out *= values.connected
        if used is not None:
            # An input that is zero in all rows has the derivative 0.
            by_weights[rows.idle] = 0
            by_weights[used] = out
        if by_bias is not None:
            delta.sum(axis=0, keepdims=True, out=by_bias)

    def _mask(self, index: int, array: Array, dropped: float, number: int) -> Array:
        """Draw the mask of an array; `number` identifies the mask within the present update.

        Numbers start at 1, because a generator ignores zeros at the end of its key.
        """
        key = (self._seeds[index], self._progress.updates, number)
        drawn: Array = self._progress.parameters.module.asarray(mask(array.shape, dropped, key, array.dtype))
        return drawn
