"""Backpropagation of any dense network, one at a time, with all its features: see `layers.py` for the equations.

At most one hidden layer of sigmoids or rectifiers without anything else has a faster way in memory, `one_network.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.backends.numpy.layers import (
    Normalized,
    activation,
    activation_backward,
    dense,
    dense_backward,
    dense_inputs_backward,
    keep_moving,
    mask,
    normalize,
    normalize_backward,
)
from pipeline.backends.numpy.losses import loss_and_slope
from pipeline.backends.numpy.network import Array, Parameters, forward
from pipeline.backends.numpy.one_network import Batch
from pipeline.backends.numpy.packed import Packed
from pipeline.backends.numpy.state import Progress
from pipeline.config.schema import Config


class Passed(NamedTuple):
    """What the way back through a layer needs of the way forward; None where the network has none of it.

    Attributes:
        inputs: (rows, inputs).
        weights: (inputs, units), as they were multiplied: without those that were left out.
        connected: the mask of the weights, in their shape.
        normalized: the sums over the batch.
        sums, values: before and after the activation, (rows, units).
        kept: the mask of the values, in their shape.
    """

    inputs: Array
    weights: Array
    connected: Array | None
    normalized: Normalized | None
    sums: Array
    values: Array
    kept: Array | None


class DeepNetwork:
    """Loss and gradient of the points of a stack, one after the other; the interface of `OneNetwork`.

    What is left out by chance depends on the point's seed, the number of the update and the layer alone.

    Args:
        config: model and loss.
        seeds: of each point.
        progress: of the stack; weights and the number of the update are read, moving statistics written.
        gradient: written at every call.
    """

    def __init__(self, config: Config, seeds: Sequence[int], progress: Progress, gradient: Packed) -> None:
        self._config, self._seeds, self._progress, self._gradient = config, seeds, progress, gradient
        self._last = sum(name.endswith("weights") for name in gradient.shapes) - 1

    def sums(self, place: int, rows: Batch) -> Array:
        """The last layer's sums of one point for inference, (rows, outputs): with moving statistics and all units."""
        stack = {name: np.atleast_2d(array)[None] for name, array in self._arrays(place, rows).items()}
        sums: Array = forward(self._config.model, stack, rows.inputs)[-1][0]
        return sums

    def __call__(self, place: int, rows: Batch) -> tuple[float, Array]:
        """Loss and the last layer's sums (rows, outputs) of one point in training; its gradient is in its place."""
        arrays, passed = self._arrays(place, rows), list[Passed]()
        values = rows.inputs
        for layer in range(self._last + 1):
            passed.append(self._forward(place, layer, values, arrays))
            values = passed[-1].values if passed[-1].kept is None else passed[-1].values * passed[-1].kept
        sums = passed[-1].sums
        losses, slopes = loss_and_slope(
            self._config.loss, self._config.model.output_activation, sums[None], rows.targets
        )
        delta = slopes[0]
        for layer in reversed(range(self._last + 1)):
            delta = self._backward(place, layer, delta, passed[layer], rows)
        return float(losses[0]), sums

    def _arrays(self, place: int, rows: Batch) -> Parameters:
        """Views of the arrays of one point; of the first weights a copy of those that take part."""
        arrays: Parameters = self._progress.network(place)
        if rows.used is not None:
            arrays["layer_0/weights"] = arrays["layer_0/weights"][rows.used]
        return arrays

    def _forward(self, place: int, layer: int, inputs: Array, arrays: Parameters) -> Passed:
        """One layer; the last one has no activation here, for the loss takes its sums."""
        model, name, hidden = self._config.model, f"layer_{layer}", layer < self._last
        weights, connected, normalized, kept = arrays[f"{name}/weights"], None, None, None
        if model.drop_connect:
            connected = self._mask(place, weights, model.drop_connect, 2 * layer + 1)
            weights = weights * connected
        sums = dense(inputs, weights, arrays.get(f"{name}/bias"))
        if hidden and model.batch_normalization:
            normalized = normalize(sums)
            keep_moving(arrays[f"{name}/moving_mean"], normalized.mean[0])
            keep_moving(arrays[f"{name}/moving_variance"], normalized.variance[0])
            sums = normalized.values * arrays[f"{name}/scale"] + arrays[f"{name}/shift"]
        values = activation(model.hidden_activation, sums) if hidden else sums
        if hidden and model.dropout:
            kept = self._mask(place, values, model.dropout, 2 * layer + 2)
        return Passed(inputs, weights, connected, normalized, sums, values, kept)

    def _backward(self, place: int, layer: int, delta: Array, passed: Passed, rows: Batch) -> Array:
        """Put a layer's gradient in its place; returns the derivative by its inputs, of the first layer its own."""
        gradient = {name: array[place] for name, array in self._gradient.arrays.items()}
        name = f"layer_{layer}"
        if passed.kept is not None:
            delta = delta * passed.kept
        if layer < self._last:
            delta = activation_backward(self._config.model.hidden_activation, delta, passed.sums, passed.values)
        if passed.normalized is not None:
            scale = self._progress.parameters.arrays[f"{name}/scale"][place]
            delta, gradient[f"{name}/scale"][...], gradient[f"{name}/shift"][...] = normalize_backward(
                delta, passed.normalized, scale
            )
        by_weights, by_bias = dense_backward(delta, passed.inputs)
        if passed.connected is not None:
            by_weights *= passed.connected
        if layer == 0 and rows.used is not None:
            gradient[f"{name}/weights"][rows.idle] = 0
            gradient[f"{name}/weights"][rows.used] = by_weights
        else:
            gradient[f"{name}/weights"][...] = by_weights
        if f"{name}/bias" in gradient:
            gradient[f"{name}/bias"][...] = by_bias
        return dense_inputs_backward(delta, passed.weights) if layer else delta

    def _mask(self, place: int, array: Array, dropped: float, number: int) -> Array:
        """The mask of an array; `number` is above 0, for zeros at the end of a key would not count."""
        key = (self._seeds[place], self._progress.updates, number)
        drawn: Array = self._progress.parameters.module.asarray(mask(array.shape, dropped, key, array.dtype))
        return drawn
