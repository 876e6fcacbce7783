"""Backpropagation of many small networks at once, with the points of the grid side by side in memory.

Each NumPy call then works on whole vectors of points, which share the fixed cost of the call. All networks see the same
few rows. `tests/support/plain_network.py` is a plain reference implementation.
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

# Largest product of rows and widest layer: for larger networks one network at a time is faster.
NUMBERS = 8192
# The losses whose derivative is computed here from squared errors.
LOSSES = ("mean_squared_error", "half_summed_squared_error")
# For fewer points, repeating an array along an axis by a copy is faster than broadcasting it in each call.
SPREAD = 256


def suits(config: Config, arrays: Arrays) -> bool:
    """Return whether `GridLast` can train points with this config."""
    sizes = layer_sizes(config.dense, arrays.features, arrays.outputs)
    return (
        config.dense.plain
        and config.training.batch_size is None
        and config.gradient == "backpropagation"
        and config.loss in LOSSES
        and len(arrays.train_inputs) * max(sizes) <= NUMBERS
    )


class GridLast:
    """Errors and gradient of a stack of at least two points; all buffers are allocated once.

    For a single point NumPy would sum along rows and units in a different order, and the point's results would differ
    in the last bits from its results in a stack.

    The computation is prepared once, as a list of calls whose arguments stay the same. Running all of them computes
    errors and gradient from the present weights.

    Args:
        config: model and loss.
        inputs: (rows, features), the same for all points.
        targets: (rows, outputs), the same for all points.
        parameters: the stack, with the grid axis last in memory; read by the program.
        gradient: in the same shapes; written by the program.

    Attributes:
        program: the calls.
        forward: the first of them, which compute the errors.
        errors: targets minus outputs (rows, outputs, grid), after the program has run.
        bounded: whether outputs are bounded, so that a loss is NaN only for NaN weights, which stay NaN from then on.

    Raises:
        ValueError: there is one point, or the grid axis is not last.

    Example:
        Losses and gradient at the present weights::

            for call in network.program:
                call()
            losses = network.losses()
    """

    def __init__(self, config: Config, inputs: Array, targets: Targets, parameters: Packed, gradient: Packed) -> None:
        if parameters.grid < 2 or not parameters.grid_last or not gradient.grid_last:
            raise ValueError("expected at least two points with the grid axis last in memory")
        self.program: list[Callable[[], object]] = []
        self.forward: list[Callable[[], object]] = []
        rows, outputs = targets.shape
        grid = parameters.grid
        dtype = parameters.flat.dtype
        self._config = config
        self.bounded = config.dense.output_activation == "sigmoid"
        self._spread_out = grid < SPREAD
        self._module = parameters.module
        # An array: NumPy takes longer to convert a Python number than to add it.
        self._one = self._module.ones((), dtype)
        self._weights, self._biases = _layers(parameters)
        self._weight_gradients, self._bias_gradients = _layers(gradient)
        self.errors: Array = self._module.empty((rows, outputs, grid), dtype)
        wanted = np.repeat(targets.astype(dtype, copy=False)[:, :, None], grid, axis=2)
        units = self._weights[0].shape[1]
        first = self._module.empty((rows, units, grid), dtype)
        # Negative sums: exp(-z), the first step of a sigmoid, then needs no call that negates them.
        self._sums(first, -inputs)
        if len(self._weights) == 1:
            self._activation(config.dense.output_activation, first, minus=False)
            delta = self._output_delta(first, wanted)
            sign = -1
        else:
            self._activation(config.dense.hidden_activation, first, minus=True)
            delta, sign = self._last_layer(first, wanted)
        # dW = inputs^T delta. A negative delta is corrected in the inputs, which do not change between updates.
        self._product((sign * inputs.T).copy(), delta, self._weight_gradients[0])
        if self._biases:
            self._bias_gradient(0, delta, sign)

    def losses(self) -> Array:
        """Return the loss of each point, (grid,), at the weights of the last run; see `losses.loss_and_slope`."""
        squares: Array = np.add.reduce(self.errors * self.errors, axis=(0, 1))
        rows, outputs, _ = self.errors.shape
        if self._config.loss == "half_summed_squared_error":
            squares /= 2
        else:
            squares /= rows * outputs
        return squares

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        """Append a call to the program."""
        self.program.append(partial(function, *arguments))

    def _sums(self, out: Array, minus_inputs: Array) -> None:
        """Compute -(inputs W + b) of the first layer: (rows, units, grid)."""
        self._product(minus_inputs, self._weights[0], out)
        if self._biases:
            self._call(np.subtract, out, self._biases[0], out)

    def _activation(self, name: str, sums: Array, minus: bool) -> None:
        """Overwrite a layer's negative sums with its values; if `minus`, with its negative values."""
        if name == "sigmoid":
            # 1 / (1 + exp(-z)), or 1 / (-1 - exp(-z)) for the negative value.
            self._call(np.exp, sums, sums)
            if minus:
                self._call(np.subtract, np.negative(self._one), sums, sums)
            else:
                self._call(np.add, sums, self._one, sums)
            self._call(np.reciprocal, sums, sums)
            return
        if name == "relu":
            # min(-z, 0) = -max(z, 0)
            self._call(partial(np.minimum, out=sums), sums, 0)
        if not minus:
            self._call(np.negative, sums, sums)

    def _spread(self, array: Array, shape: tuple[int, ...]) -> Array:
        """Return an array repeated to a shape, with the values that it has when the program reaches this call."""
        view = np.broadcast_to(array, shape)
        if not self._spread_out:
            return view
        copy: Array = self._module.empty(shape, array.dtype)
        self._call(np.copyto, copy, view)
        return copy

    def _output_delta(self, outputs: Array, targets: Array) -> Array:
        """Compute the loss's negative derivative with respect to the last sums: (targets - outputs) * slope."""
        self._call(np.subtract, targets, outputs, self.errors)
        self.forward = self.program.copy()
        delta = self.errors
        if self._config.loss == "mean_squared_error":
            count = len(self.errors) * outputs.shape[1]
            delta = np.empty_like(self.errors)
            self._call(np.multiply, self.errors, 2 / count, delta)
        if self._config.dense.output_activation == "sigmoid":
            # The slope of a sigmoid is out * (1 - out).
            slopes = np.empty_like(self.errors)
            self._call(np.subtract, self._one, outputs, slopes)
            self._call(np.multiply, slopes, outputs, slopes)
            self._call(np.multiply, slopes, delta, slopes)
            delta = slopes
        return delta

    def _last_layer(self, minus_hidden: Array, targets: Array) -> tuple[Array, int]:
        """Compute outputs and the last layer's gradient.

        The hidden values are negative, so that the last sums are too, which is what a sigmoid starts from. Negative
        values times the negative delta give the gradient.

        Returns:
            The derivative with respect to the hidden layer's sums, and its sign.
        """
        weights = self._weights[1]
        product = np.empty_like(minus_hidden)
        outputs = np.empty_like(self.errors)
        # One output at a time, (rows, units, grid): NumPy has no matrix product with the points as the last axis.
        spread = [self._spread(weights[:, output], product.shape) for output in range(outputs.shape[1])]
        for output, own in enumerate(spread):
            self._call(np.multiply, minus_hidden, own, product)
            self._call(np.add.reduce, product, 1, None, outputs[:, output])
        if self._biases:
            self._call(np.subtract, outputs, self._biases[1], outputs)
        self._activation(self._config.dense.output_activation, outputs, minus=False)
        delta = self._output_delta(outputs, targets)
        sigmoid = self._config.dense.hidden_activation == "sigmoid"
        before = np.empty_like(minus_hidden)
        for output, own in enumerate(spread):
            one = self._spread(delta[:, output : output + 1], product.shape)
            self._call(np.multiply, minus_hidden, one, product)
            self._call(np.add.reduce, product, 0, None, self._weight_gradients[1][:, output])
            # The hidden delta is W d * slope. A sigmoid's slope is h (1 - h), and h d is in `product` already.
            factor = product if sigmoid else one
            if output == 0:
                self._call(np.multiply, own, factor, before)
            else:
                self._call(np.multiply, own, factor, product)
                self._call(np.add, before, product, before)
        if self._biases:
            self._bias_gradient(1, delta, -1)
        if sigmoid:
            # The other factor of the slope, 1 - h, from the negative h.
            self._call(np.add, minus_hidden, self._one, minus_hidden)
            self._call(np.multiply, before, minus_hidden, before)
            return before, 1
        # The slope of a rectifier is 1 for positive values, which are negative here.
        positive = self._module.empty(minus_hidden.shape, np.bool_)
        self._call(np.less, minus_hidden, 0, positive)
        self._call(np.multiply, before, positive, before)
        return before, -1

    def _bias_gradient(self, layer: int, delta: Array, sign: int) -> None:
        """Compute db, the sum of delta over the rows."""
        gradient = self._bias_gradients[layer]
        self._call(np.add.reduce, delta, 0, None, gradient)
        if sign < 0:
            self._call(np.negative, gradient, gradient)

    def _product(self, left: Array, right: Array, out: Array) -> None:
        """Compute a matrix (m, k) times (k, units, grid)."""
        m, k = left.shape
        if m > 1:
            self._call(np.dot, left, right.reshape(k, -1), out.reshape(m, -1))
        else:
            # A vector times a matrix: the order of BLAS' sums would depend on the grid. NumPy adds in a fixed order.
            product = np.empty_like(right)
            self._call(np.multiply, left.reshape(k, 1, 1), right, product)
            self._call(np.add.reduce, product, 0, None, out[0])


def _layers(packed: Packed) -> tuple[list[Array], list[Array]]:
    """Return weights (inputs, outputs, grid) and biases (outputs, grid), layer by layer."""
    views = {name: np.moveaxis(array, 0, -1) for name, array in packed.arrays.items()}
    weights = [view for name, view in views.items() if name.endswith("weights")]
    return weights, [view[0] for name, view in views.items() if name.endswith("bias")]
