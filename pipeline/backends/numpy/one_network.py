"""Backpropagation of any dense network, one at a time, in buffers that are allocated once: see `layers.py`.

Pixels that are zero in every row of a batch have no part in a product. In a plain network the bias of the first layer
is the weight of an input that is always 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
from pipeline.backends.numpy.losses import Targets, loss_and_slope
from pipeline.backends.numpy.network import Array, Parameters, forward
from pipeline.backends.numpy.packed import Packed
from pipeline.backends.numpy.state import Progress
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays

WIDE = 64
"""From so many features on, those that are zero in a whole batch are looked for."""


class Batch(NamedTuple):
    """Rows as the first layer's product takes them.

    Attributes:
        inputs: (rows, used), a column of ones last where the first layer's bias is the weight of it.
        used: which rows of the first layer's weights and bias, one below the other, take part, ascending; None: all.
        idle: the others.
        targets: as `losses.loss_and_slope` takes them.
    """

    inputs: Array
    used: NDArray[np.intp] | None
    idle: NDArray[np.intp]
    targets: Targets


def batch(arrays: Arrays, inputs: NDArray[Any], targets: Targets, bias: bool) -> Batch:
    """Make a batch of rows, (rows, features), as they are in the data set; with `bias` it has the column of ones."""
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


class Passed(NamedTuple):
    """What the way back through a layer needs of the way forward; None where the network has none of it.

    Attributes:
        inputs: (rows, inputs).
        weights: (inputs, units), as they were multiplied: without those that were left out.
        connected: the mask of the weights, in their shape.
        normalized: the sums over the batch.
        sums: before the activation, (rows, units); a rectifier has put its values in their place.
        values: after it, before units are left out, (rows, units).
        kept: the mask of the values, in their shape.
    """

    inputs: Array
    weights: Array
    connected: Array | None
    normalized: Normalized | None
    sums: Array
    values: Array
    kept: Array | None


class OneNetwork:
    """Loss and gradient of the points of a stack, one after the other.

    What is left out by chance depends on the point's seed, the number of the update and the layer alone.

    Args:
        config: model and loss.
        seeds: of each point.
        rows: as many as a batch in training can have.
        progress: of the stack, each point's numbers side by side in memory; weights and the number of the update are
            read at every call, moving statistics written.
        gradient: of the same shapes; written at every call.

    Attributes:
        extended: whether batches must have the column of ones.
    """

    def __init__(self, config: Config, seeds: Sequence[int], rows: int, progress: Progress, gradient: Packed) -> None:
        self._config, self._model, self._seeds, self._progress = config, config.model, seeds, progress
        module = gradient.module
        # Other networks add the bias after the product, as their recorded numbers do.
        self.extended = config.model.bias and config.model.plain and module is np
        self._last = sum(name.endswith("weights") for name in gradient.shapes) - 1
        # Views of each point's arrays, made once: in a small network they would cost as much as its products.
        points = range(gradient.grid)
        self._own: list[Parameters] = [progress.network(place) for place in points]
        self._dense = [self._weights_and_biases(progress.parameters, place) for place in points]
        self._gradient = [{name: array[place] for name, array in gradient.arrays.items()} for place in points]
        self._dense_gradient = [self._weights_and_biases(gradient, place) for place in points]
        dtype = gradient.flat.dtype
        self._used = module.empty(self._dense[0][0][0].shape, dtype)
        widths = [gradient.shapes[f"layer_{layer}/weights"][1] for layer in range(self._last)]
        self._sums = [module.empty((rows, width), dtype) for width in widths]
        self._deltas = [module.empty((rows, width), dtype) for width in widths]

    def _weights_and_biases(self, packed: Packed, place: int) -> list[tuple[Array, Array | None]]:
        """Of each layer of a point; where `extended`, the first bias is the last row of the first weights."""
        arrays = {name: array[place] for name, array in packed.arrays.items()}
        names = [f"layer_{layer}" for layer in range(self._last + 1)]
        layers = [(arrays[f"{name}/weights"], arrays.get(f"{name}/bias")) for name in names]
        if self.extended:
            features, width = packed.shapes["layer_0/weights"]
            first = packed.flat[place, : (features + 1) * width].reshape(features + 1, width)
            layers[0] = first, None
        return layers

    def sums(self, place: int, rows: Batch) -> Array:
        """The last layer's sums of one point for inference, (rows, outputs): with moving statistics and all units."""
        stack = {name: np.atleast_2d(array)[None] for name, array in self._own[place].items()}
        weights, bias = self._first(place, rows)
        stack["layer_0/weights"] = weights[None]
        if bias is None:
            stack.pop("layer_0/bias", None)
        sums: Array = forward(self._model, stack, rows.inputs)[-1][0]
        return sums

    def __call__(self, place: int, rows: Batch) -> tuple[float, Array]:
        """Loss and the last layer's sums (rows, outputs) of one point in training; its gradient is in its place."""
        passed, values = list[Passed](), rows.inputs
        for layer in range(self._last + 1):
            weights, bias = self._dense[place][layer] if layer else self._first(place, rows)
            passed.append(self._forward(place, layer, values, weights, bias))
            values = passed[-1].values if passed[-1].kept is None else passed[-1].values * passed[-1].kept
        sums = passed[-1].sums
        losses, slopes = loss_and_slope(self._config.loss, self._model.output_activation, sums[None], rows.targets)
        delta = slopes[0]
        for layer in reversed(range(self._last + 1)):
            self._backward(place, layer, delta, passed[layer], rows)
            if layer:
                delta = np.matmul(delta, passed[layer].weights.T, out=self._deltas[layer - 1][: len(delta)])
        return float(losses[0]), sums

    def _first(self, place: int, rows: Batch) -> tuple[Array, Array | None]:
        """Weights and bias of the first layer; of the weights a copy of those that take part."""
        weights, bias = self._dense[place][0]
        if rows.used is None:
            return weights, bias
        return np.take(weights, rows.used, axis=0, out=self._used[: len(rows.used)], mode="clip"), bias

    def _forward(self, place: int, layer: int, inputs: Array, weights: Array, bias: Array | None) -> Passed:
        """One layer; the last one has no activation here, for the loss takes its sums."""
        model, connected, normalized, kept = self._model, None, None, None
        if model.drop_connect:
            connected = self._mask(place, weights, model.drop_connect, 2 * layer + 1)
            weights = weights * connected
        if layer == self._last:
            sums = dense(inputs, weights, bias)
            return Passed(inputs, weights, connected, normalized, sums, sums, kept)
        sums = dense(inputs, weights, bias, out=self._sums[layer][: len(inputs)])
        if model.batch_normalization:
            own, name = self._own[place], f"layer_{layer}"
            normalized = normalize(sums)
            keep_moving(own[f"{name}/moving_mean"], normalized.mean[0])
            keep_moving(own[f"{name}/moving_variance"], normalized.variance[0])
            np.multiply(normalized.values, own[f"{name}/scale"], out=sums)
            sums += own[f"{name}/shift"]
        values = activation(model.hidden_activation, sums)
        if model.dropout:
            kept = self._mask(place, values, model.dropout, 2 * layer + 2)
        return Passed(inputs, weights, connected, normalized, sums, values, kept)

    def _backward(self, place: int, layer: int, delta: Array, passed: Passed, rows: Batch) -> None:
        """Put a layer's gradient in its place; `delta`, the derivative by what it gave, becomes that by its sums."""
        if passed.kept is not None:
            delta *= passed.kept
        if layer < self._last:
            delta *= activation_slope(self._model.hidden_activation, passed.sums, passed.values)
        if passed.normalized is not None:
            gradient, name = self._gradient[place], f"layer_{layer}"
            delta[...], gradient[f"{name}/scale"][...], gradient[f"{name}/shift"][...] = normalize_backward(
                delta, passed.normalized, self._own[place][f"{name}/scale"]
            )
        by_weights, by_bias = self._dense_gradient[place][layer]
        used = rows.used if layer == 0 else None
        out = by_weights if used is None else self._used[: len(used)]
        np.matmul(passed.inputs.T, delta, out=out)
        if passed.connected is not None:
            out *= passed.connected
        if used is not None:
            by_weights[rows.idle] = 0
            by_weights[used] = out
        if by_bias is not None:
            delta.sum(axis=0, keepdims=True, out=by_bias)

    def _mask(self, place: int, array: Array, dropped: float, number: int) -> Array:
        """The mask of an array; `number` is above 0, for zeros at the end of a key would not count."""
        key = (self._seeds[place], self._progress.updates, number)
        drawn: Array = self._progress.parameters.module.asarray(mask(array.shape, dropped, key, array.dtype))
        return drawn
