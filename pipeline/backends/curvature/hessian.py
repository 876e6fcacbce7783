"""Products of the Hessian of the loss with vectors, exact, for a stack of dense networks.

Pearlmutter's R-operator (1994, "Fast exact multiplication by the Hessian") differentiates every step of the forward and
of the backward pass along a direction v of the weights. What the backward pass then computes is the derivative of the
gradient along v, which is H v. A product takes about as long as two gradients, and the Hessian itself, whose size is
the square of the number of weights, is never stored. Below, `moved` arrays are derivatives along v.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.curvature.normalization import MovedNormalization, Normalization
from pipeline.backends.curvature.second_derivatives import activation_curvature, moved_slope
from pipeline.backends.numpy.layers import activation_slope, mask
from pipeline.backends.numpy.losses import Targets, loss_and_slope, penalty, penalty_slope
from pipeline.backends.numpy.network import ACTIVATIONS, Array, Parameters
from pipeline.config.schema import Config


def _unknown() -> Array:
    return np.empty(0)


@dataclass
class Layer:
    """What a layer has computed at the weights of the Hessian; `z` is what its activation is applied to.

    Attributes:
        name: `layer_0` and so on.
        inputs: (grid, rows, inputs); (rows, inputs) for the first layer.
        weights: (grid, inputs, units), times the mask of DropConnect.
        connected: that mask, in their shape; None: no weight is dropped.
        normalization: the batch normalization of the sums; None: z are the sums.
        sums: z, (grid, rows, units).
        kept: the mask of dropout, (grid, rows, units); None: no unit is dropped.
        slope: f'(z).
        bend: f''(z).
        by_values: the derivative of the loss with respect to f(z), in the shape of z; unused in the last layer.
        by_z: the derivative of the loss with respect to z.
        by_sums: the derivative of the loss with respect to inputs W + b.
    """

    name: str
    inputs: Array
    weights: Array
    connected: Array | None
    normalization: Normalization | None
    sums: Array
    kept: Array | None = None
    slope: Array | NDArray[np.bool_] | float = 1.0
    bend: Array | float = 0.0
    by_values: Array = field(default_factory=_unknown)
    by_z: Array = field(default_factory=_unknown)
    by_sums: Array = field(default_factory=_unknown)


class Moved(NamedTuple):
    """How a layer changes along a direction of the weights.

    Attributes:
        inputs: the change of its inputs; None: they do not change.
        weights: that of its weights, times the mask of DropConnect.
        normalization: that of its batch normalization.
        sums: that of what its activation is applied to.
    """

    inputs: Array | None
    weights: Array
    normalization: MovedNormalization | None
    sums: Array


class Hessian:
    """The Hessian of a stack's losses in all trained weights, at given weights, by its products with vectors.

    The loss includes the penalty. Batch normalization is in its training form: mean and variance are those of the rows,
    and change with the weights. The masks of dropout and DropConnect are drawn once from the seed of each point, and
    stay as they are.

    Args:
        configs: one for each point; they differ only in what can vary in a stack.
        parameters: the trained weights, grid axis first: weights (grid, inputs, outputs), others (grid, 1, outputs).
        inputs: (rows, features), scaled.
        targets: in the form that `losses.loss_and_slope` accepts.

    Attributes:
        shape: (grid, weights).
        losses: (grid,).
        gradient: (grid, weights), in the order of the parameters.

    Example:
        >>> hessian = Hessian([config], stack([weights]), inputs, targets)
        >>> hessian @ np.ones(hessian.shape)  # the sums over the rows of the Hessian, (1, weights)
    """

    def __init__(
        self, configs: Sequence[Config], parameters: Mapping[str, Array], inputs: Array, targets: Targets
    ) -> None:
        self._configs = configs
        self._config = configs[0]
        self._inputs = inputs
        self._parameters = parameters
        self._targets = targets
        self.shape = (len(configs), sum(array[0].size for array in parameters.values()))
        self._layers = self._forward(inputs)
        self.losses, self.gradient = self._backward()

    def _forward(self, inputs: Array) -> list[Layer]:
        model = self._config.dense
        parameters = self._parameters
        count = sum(name.endswith("/weights") for name in parameters)
        layers: list[Layer] = []
        for number in range(count):
            name = f"layer_{number}"
            weights = parameters[f"{name}/weights"]
            connected = None
            if model.drop_connect:
                connected = self._masks(weights, model.drop_connect, 2 * number + 1)
                weights = weights * connected
            sums: Array = inputs @ weights
            if f"{name}/bias" in parameters:
                sums += parameters[f"{name}/bias"]
            normalization = None
            if f"{name}/scale" in parameters:
                normalization = Normalization(sums, parameters[f"{name}/scale"])
                sums = normalization.output(parameters[f"{name}/shift"])
            layer = Layer(name, inputs, weights, connected, normalization, sums)
            layers.append(layer)
            if number == count - 1:
                break
            inputs = ACTIVATIONS[model.hidden_activation](sums)
            layer.slope = activation_slope(model.hidden_activation, sums, inputs)
            layer.bend = activation_curvature(model.hidden_activation, sums, inputs)
            if model.dropout:
                layer.kept = self._masks(inputs, model.dropout, 2 * number + 2)
                inputs = inputs * layer.kept
        return layers

    def _masks(self, like: Array, dropped: float, number: int) -> Array:
        """Draw the masks of an array, as training does at its first update."""
        return np.stack(
            [mask(like.shape[1:], dropped, (config.seed, 0, number), like.dtype) for config in self._configs]
        )

    def _backward(self) -> tuple[Array, Array]:
        """Compute losses and gradient, and note in each layer what the products need."""
        config = self._config
        training = config.training
        activation = config.dense.output_activation
        losses, delta = loss_and_slope(config.loss, activation, self._layers[-1].sums, self._targets)
        gradient: Parameters = {}
        for layer in reversed(self._layers):
            if layer is not self._layers[-1]:
                if layer.kept is not None:
                    delta = delta * layer.kept
                layer.by_values = delta
                delta = delta * layer.slope
            layer.by_z = delta
            if layer.normalization is not None:
                delta = layer.normalization.backward(delta)
                gradient |= _named(layer.name, layer.normalization.gradient(layer.by_z))
            layer.by_sums = delta
            by_weights = np.swapaxes(layer.inputs, -1, -2) @ delta
            if layer.connected is not None:
                by_weights *= layer.connected
            if training.penalised:
                by_weights += penalty_slope(training, self._parameters[f"{layer.name}/weights"])
            gradient[f"{layer.name}/weights"] = by_weights
            gradient[f"{layer.name}/bias"] = delta.sum(axis=-2, keepdims=True)
            delta = delta @ np.swapaxes(layer.weights, -1, -2)
        if training.penalised:
            losses = losses + penalty(training, self._parameters)
        return losses, self.packed(gradient)

    def __matmul__(self, vectors: Array) -> Array:
        """Return the product of each point's Hessian with a vector of its own: (grid, weights)."""
        along = self.unpacked(vectors)
        moves = self._moved_forward(along)
        config = self._config
        last = self._layers[-1]
        delta = moved_slope(config.loss, config.dense.output_activation, last.sums, self._targets, moves[-1].sums)
        products: Parameters = {}
        for layer, move in zip(reversed(self._layers), reversed(moves), strict=True):
            if layer is not last:
                if layer.kept is not None:
                    delta = delta * layer.kept
                delta = delta * layer.slope + layer.bend * move.sums * layer.by_values
            if layer.normalization is not None and move.normalization is not None:
                products |= _named(
                    layer.name, layer.normalization.moved_gradient(layer.by_z, delta, move.normalization)
                )
                delta = layer.normalization.moved_backward(layer.by_z, delta, move.normalization)
            by_weights = np.swapaxes(layer.inputs, -1, -2) @ delta
            if move.inputs is not None:
                by_weights += np.swapaxes(move.inputs, -1, -2) @ layer.by_sums
            if layer.connected is not None:
                by_weights *= layer.connected
            if config.training.l2:
                # The second derivative of l1 |w| is 0 on both sides of the kink.
                by_weights += 2 * config.training.l2 * along[f"{layer.name}/weights"]
            products[f"{layer.name}/weights"] = by_weights
            products[f"{layer.name}/bias"] = delta.sum(axis=-2, keepdims=True)
            delta = delta @ np.swapaxes(layer.weights, -1, -2) + layer.by_sums @ np.swapaxes(move.weights, -1, -2)
        return self.packed(products)

    def _moved_forward(self, along: Mapping[str, Array]) -> list[Moved]:
        """Differentiate the forward pass along a direction, in the shapes of the parameters."""
        moves: list[Moved] = []
        inputs: Array | None = None
        for layer in self._layers:
            weights = along[f"{layer.name}/weights"]
            if layer.connected is not None:
                weights = weights * layer.connected
            sums: Array = layer.inputs @ weights
            if inputs is not None:
                sums += inputs @ layer.weights
            if f"{layer.name}/bias" in along:
                sums += along[f"{layer.name}/bias"]
            normalization = None
            if layer.normalization is not None:
                scale = along[f"{layer.name}/scale"]
                normalization = layer.normalization.move(sums, scale)
                sums = layer.normalization.moved_output(normalization, along[f"{layer.name}/shift"])
            moves.append(Moved(inputs, weights, normalization, sums))
            inputs = sums * layer.slope
            if layer.kept is not None:
                inputs = inputs * layer.kept
        return moves

    def point(self, index: int) -> Hessian:
        """Return the Hessian of one point, as a stack of one."""
        if len(self._configs) == 1:
            return self
        own = {name: array[index : index + 1] for name, array in self._parameters.items()}
        return Hessian(self._configs[index : index + 1], own, self._inputs, self._targets)

    def packed(self, arrays: Mapping[str, Array]) -> Array:
        """Join arrays in the shapes of the parameters, of which there may be others too: (grid, weights)."""
        return np.concatenate([arrays[name].reshape(len(arrays[name]), -1) for name in self._parameters], axis=1)

    def unpacked(self, vectors: Array) -> Parameters:
        """Return views of vectors, (grid, weights), in the shapes of the parameters."""
        views: Parameters = {}
        start = 0
        for name, array in self._parameters.items():
            size = array[0].size
            views[name] = vectors[:, start : start + size].reshape(array.shape)
            start += size
        return views


def _named(layer: str, arrays: Mapping[str, Array]) -> Parameters:
    return {f"{layer}/{name}": array for name, array in arrays.items()}
