"""Backpropagation of many small networks at once, the points of the grid side by side in memory.

One NumPy call then works on whole vectors of points, and what it costs to make the call is shared by them. The networks
see the same few rows. `tests/support/plain_network.py` says the same in the plainest words.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from pipeline.backends.numpy.losses import Targets
from pipeline.backends.numpy.network import Array
from pipeline.backends.numpy.packed import Packed
from pipeline.config.model import layer_sizes
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays

NUMBERS = 8192
"""Rows times the widest layer, at most: beyond it one network at a time is faster."""
SPREAD = 256
"""Below so many points a copy of what is repeated along an axis costs less than repeating it in each call."""


def suits(config: Config, arrays: Arrays) -> bool:
    """Whether points with this config are networks for `GridLast`."""
    sizes = layer_sizes(config.model, arrays.features, arrays.outputs)
    return (
        config.model.plain
        and config.training.batch_size is None
        and config.gradient == "backpropagation"
        and config.loss != "cross_entropy"
        and len(arrays.train_inputs) * max(sizes) <= NUMBERS
    )


class GridLast:
    """Errors and gradient of a stack of at least two points; all buffers are allocated once.

    With one point NumPy would add along rows and units in another order, and the point would not be what it is in a
    stack, bit for bit.

    What a network computes is put together once, as a list of calls whose arguments stay the same: `for call in
    network.program: call()` computes it anew from the present weights.

    Args:
        config: model and loss.
        inputs, targets: (rows, features) and (rows, outputs), the same for all points.
        parameters: the stack, grid axis last in memory; read by the program.
        gradient: of the same shapes; written by the program.

    Attributes:
        program: the calls.
        errors: targets minus outputs (rows, outputs, grid), as the program left them.

    Raises:
        ValueError: there is one point, or the grid axis is not last.
    """

    def __init__(self, config: Config, inputs: Array, targets: Targets, parameters: Packed, gradient: Packed) -> None:
        if parameters.grid < 2 or not parameters.grid_last or not gradient.grid_last:
            raise ValueError("expected at least two points with the grid axis last in memory")
        self.program: list[Callable[[], object]] = []
        (rows, outputs), grid, dtype = targets.shape, parameters.grid, parameters.flat.dtype
        self._config, self._spread_out, self._module = config, grid < SPREAD, parameters.module
        self._one = self._module.ones((), dtype)  # NumPy takes longer to read a Python number than to add it
        self._weights, self._biases = _layers(parameters)
        self._weight_gradients, self._bias_gradients = _layers(gradient)
        self.errors: Array = self._module.empty((rows, outputs, grid), dtype)
        wanted = np.repeat(targets.astype(dtype, copy=False)[:, :, None], grid, axis=2)
        units = self._weights[0].shape[1]
        first = self._module.empty((rows, units, grid), dtype)
        self._sums(first, -inputs)
        if len(self._weights) == 1:
            self._activation(config.model.output_activation, first, minus=False)
            delta, sign = self._output_delta(first, wanted), -1
        else:
            self._activation(config.model.hidden_activation, first, minus=True)
            delta, sign = self._last_layer(first, wanted)
        self._product((sign * inputs.T).copy(), delta, self._weight_gradients[0])
        if self._biases:
            self._bias_gradient(0, delta, sign)

    def losses(self) -> Array:
        """The loss of each point, (grid,), at the weights that the program saw; see `losses.loss_and_slope`."""
        squares: Array = np.add.reduce(self.errors * self.errors, axis=(0, 1))
        rows, outputs, _ = self.errors.shape
        squares /= 2 if self._config.loss == "half_summed_squared_error" else rows * outputs
        return squares

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        self.program.append(partial(function, *arguments))

    def _sums(self, out: Array, minus_inputs: Array) -> None:
        """-(inputs W + b) of the first layer: (rows, units, grid)."""
        self._product(minus_inputs, self._weights[0], out)
        if self._biases:
            self._call(np.subtract, out, self._biases[0], out)

    def _activation(self, name: str, sums: Array, minus: bool) -> None:
        """A layer's values in place of its sums, which come with their sign turned; with `minus` the values' is too."""
        if name == "sigmoid":
            self._call(np.exp, sums, sums)
            if minus:
                self._call(np.subtract, np.negative(self._one), sums, sums)
            else:
                self._call(np.add, sums, self._one, sums)
            self._call(np.reciprocal, sums, sums)
            return
        if name == "relu":
            self._call(partial(np.minimum, out=sums), sums, 0)
        if not minus:
            self._call(np.negative, sums, sums)

    def _spread(self, array: Array, shape: tuple[int, ...]) -> Array:
        """The array as the program finds it then, repeated to a shape."""
        view = np.broadcast_to(array, shape)
        if not self._spread_out:
            return view
        copy: Array = self._module.empty(shape, array.dtype)
        self._call(np.copyto, copy, view)
        return copy

    def _output_delta(self, outputs: Array, targets: Array) -> Array:
        """The loss's derivative by the last layer's sums, sign turned: (targets - outputs) * slope."""
        self._call(np.subtract, targets, outputs, self.errors)
        delta, rows = self.errors, len(self.errors)
        if self._config.loss == "mean_squared_error":
            delta = np.empty_like(self.errors)
            self._call(np.multiply, self.errors, 2 / (rows * outputs.shape[1]), delta)
        if self._config.model.output_activation == "sigmoid":
            slopes = np.empty_like(self.errors)
            self._call(np.subtract, self._one, outputs, slopes)
            self._call(np.multiply, slopes, outputs, slopes)
            self._call(np.multiply, slopes, delta, slopes)
            delta = slopes
        return delta

    def _last_layer(self, minus_hidden: Array, targets: Array) -> tuple[Array, int]:
        """Outputs and the last layer's gradient; returns the derivative by the hidden layer's sums, and its sign.

        The hidden values come with their sign turned, so that the sums do too, as a sigmoid wants them. Times a delta
        whose sign is turned they give the gradient.
        """
        weights, product = self._weights[1], np.empty_like(minus_hidden)
        outputs = np.empty_like(self.errors)
        spread = [self._spread(weights[:, output], product.shape) for output in range(outputs.shape[1])]
        for output, own in enumerate(spread):
            self._call(np.multiply, minus_hidden, own, product)
            self._call(np.add.reduce, product, 1, None, outputs[:, output])
        if self._biases:
            self._call(np.subtract, outputs, self._biases[1], outputs)
        self._activation(self._config.model.output_activation, outputs, minus=False)
        delta = self._output_delta(outputs, targets)
        sigmoid, before = self._config.model.hidden_activation == "sigmoid", np.empty_like(minus_hidden)
        for output, own in enumerate(spread):
            one = self._spread(delta[:, output : output + 1], product.shape)
            self._call(np.multiply, minus_hidden, one, product)
            self._call(np.add.reduce, product, 0, None, self._weight_gradients[1][:, output])
            # h d is at hand, and a sigmoid's slope is h (1 - h).
            self._call(np.multiply, own, product if sigmoid else one, product if output else before)
            if output:
                self._call(np.add, before, product, before)
        if self._biases:
            self._bias_gradient(1, delta, -1)
        if sigmoid:
            self._call(np.add, minus_hidden, self._one, minus_hidden)
            self._call(np.multiply, before, minus_hidden, before)
            return before, 1
        positive = self._module.empty(minus_hidden.shape, np.bool_)
        self._call(np.less, minus_hidden, 0, positive)
        self._call(np.multiply, before, positive, before)
        return before, -1

    def _bias_gradient(self, layer: int, delta: Array, sign: int) -> None:
        gradient = self._bias_gradients[layer]
        self._call(np.add.reduce, delta, 0, None, gradient)
        if sign < 0:
            self._call(np.negative, gradient, gradient)

    def _product(self, left: Array, right: Array, out: Array) -> None:
        """Matrix (m, k) times (k, units, grid). With one row NumPy adds: BLAS' order would change with the grid."""
        m, k = left.shape
        if m > 1:
            self._call(np.dot, left, right.reshape(k, -1), out.reshape(m, -1))
        else:
            product = np.empty_like(right)
            self._call(np.multiply, left.reshape(k, 1, 1), right, product)
            self._call(np.add.reduce, product, 0, None, out[0])


def _layers(packed: Packed) -> tuple[list[Array], list[Array]]:
    """Weights (inputs, outputs, grid) and biases (outputs, grid), layer by layer."""
    views = {name: np.moveaxis(array, 0, -1) for name, array in packed.arrays.items()}
    weights = [view for name, view in views.items() if name.endswith("weights")]
    return weights, [view[0] for name, view in views.items() if name.endswith("bias")]
