"""The training loss of a Keras network: its gradients, and products of its Hessian.

Products are exact: the derivative of the gradient along a vector, forward over reverse (Pearlmutter 1994). Each engine
has its own way to differentiate; this is TensorFlow's. Some layers have a correct gradient and a wrong second
derivative, such as batch normalization, whose variance stops the gradient of the mean. So one product is compared with
differences of gradients each time, and where the two are apart, differences give all products.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, repeat
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.backends.curvature.curved import joined
from pipeline.backends.keras.building import with_loss
from pipeline.backends.keras.precision import floatx
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, epoch_order

Vector = NDArray[np.float64]
# How far a product may be from differences of gradients, as a share of its norm. A kink that a step crosses, of a
# rectifier or a maximum, moves the differences a little.
APART = 1e-2
# The length of the step of the differences, as a share of 1 + the norm of the weights.
STEP = 1e-5


class KerasLoss:
    """The training loss of a point, in float64; at its initial weights, or those that `move_to` sets.

    Args:
        config: the point.
        arrays: its data.

    Attributes:
        network: in float64.
        sizes: the number of weights of each of its arrays, by name.
        weights: their sum.
    """

    def __init__(self, config: Config, arrays: Arrays) -> None:
        self._config = config
        self._arrays = arrays
        self._exact = True
        # The function of a model of one's own draws other weights in another dtype.
        drawn = _network(config, arrays).get_weights()
        precise = config.model_copy(update={"dtype": "float64"})
        self.network = _network(precise, arrays)
        self.network.set_weights(drawn)
        self._variables = [variable.value for variable in self.network.trainable_variables]
        self._others = self.network.non_trainable_variables
        self._start = [variable.numpy() for variable in self._others]
        sizes = [int(np.prod(variable.shape)) for variable in self._variables]
        self.sizes: Mapping[str, int] = dict(zip(self.network.trained_names, sizes, strict=True))
        self.weights = sum(sizes)
        self._gradients = tf.function(self._differentiate, reduce_retracing=True)
        self._products = tf.function(self._multiply, reduce_retracing=True)

    def hessian(self, inputs: NDArray[np.floating], targets: NDArray[Any]) -> KerasHessian:
        """Return the Hessian of the loss of rows, (rows, features), in float64."""
        return KerasHessian(self, inputs, targets)

    def batch_gradients(self) -> Iterator[Vector]:
        """Yield the gradients of the minibatches of training in their order, (weights,) each, without end."""
        arrays = self._arrays
        rows = len(arrays.train_inputs)
        size = self._config.training.batch_size or rows
        for epoch in count(1):
            order = epoch_order(self._config.seed, epoch, rows)
            for chosen in (order[start : start + size] for start in range(0, rows, size)):
                gradient = self.gradient(arrays.scaled(arrays.train_inputs[chosen]), arrays.train_targets[chosen])[1]
                if self._config.training.batch_size is None:
                    yield from repeat(gradient)
                yield gradient

    def gradient(self, inputs: NDArray[np.floating], targets: NDArray[Any]) -> tuple[float, Vector]:
        """Return the loss of rows, (rows, features), and its gradient, (weights,)."""
        self._restart()
        loss, gradients = self._gradients(tf.constant(inputs, "float64"), tf.constant(targets))
        return float(loss), joined(gradients)

    def product(self, inputs: NDArray[np.floating], targets: NDArray[Any], vector: Vector) -> Vector:
        """Return the product of the Hessian of the loss of rows with a vector: (weights,)."""
        self._restart()
        return joined(self._products(tf.constant(inputs, "float64"), tf.constant(targets), list(self.parts(vector))))

    def difference(self, inputs: NDArray[np.floating], targets: NDArray[Any], vector: Vector) -> Vector:
        """Return that product by differences of gradients.

        The central difference d(h) = (g(w + h v) - g(w - h v)) / 2 h is off by a multiple of h^2, which drops out of
        (4 d(h) - d(2 h)) / 3.
        """
        weights = joined(self._variables)
        step = STEP * float((1 + np.linalg.norm(weights)) / np.linalg.norm(vector))

        def at(distance: float) -> Vector:
            self.move_to(weights + distance * vector)
            return self.gradient(inputs, targets)[1]

        try:
            near: Vector = (at(step) - at(-step)) / (2 * step)
            far: Vector = (at(2 * step) - at(-2 * step)) / (4 * step)
        finally:
            self.move_to(weights)
        result: Vector = (4 * near - far) / 3
        return result

    def is_exact(self, inputs: NDArray[np.floating], targets: NDArray[Any]) -> bool:
        """Return whether `product` agrees with `difference` at the present weights, and has done so before."""
        # At weights where the wrong term is multiplied by 0, such as a last layer of zeros, they agree by chance.
        if self._exact:
            direction = np.random.default_rng(0).standard_normal(self.weights)
            by_differences = self.difference(inputs, targets, direction)
            distance = np.linalg.norm(self.product(inputs, targets, direction) - by_differences)
            self._exact = bool(distance <= APART * np.linalg.norm(by_differences))
        return self._exact

    def move_to(self, weights: Vector) -> None:
        """Take the trained weights from a vector."""
        for variable, part in zip(self._variables, self.parts(weights), strict=True):
            variable.assign(part)

    def _restart(self) -> None:
        """Set random states and moving statistics back, so that the masks of dropout stay the same."""
        for variable, value in zip(self._others, self._start, strict=True):
            variable.assign(value)

    def _loss(self, inputs: Any, targets: Any) -> Any:
        outputs = self.network(inputs, training=True)
        # Without `training`, which would note it as a loss of an update.
        return self.network.compute_loss(x=inputs, y=targets, y_pred=outputs, training=False)

    def _differentiate(self, inputs: Any, targets: Any) -> tuple[Any, list[Any]]:
        with tf.GradientTape() as tape:
            loss = self._loss(inputs, targets)
        return loss, self._dense(tape.gradient(loss, self._variables))

    def _multiply(self, inputs: Any, targets: Any, along: Sequence[Any]) -> list[Any]:
        with tf.autodiff.ForwardAccumulator(self._variables, along) as forward:
            _, gradients = self._differentiate(inputs, targets)
        return self._dense([forward.jvp(gradient) for gradient in gradients])

    def _dense(self, gradients: Sequence[Any]) -> list[Any]:
        """Return zeros for variables on which the loss does not depend, and arrays for gradients of single rows."""
        pairs = zip(gradients, self._variables, strict=True)
        return [tf.zeros_like(value) if one is None else tf.convert_to_tensor(one) for one, value in pairs]

    def parts(self, vector: Vector) -> Iterator[Any]:
        """Yield the parts of a vector, (weights,), in the shapes of the network's variables."""
        start = 0
        for variable in self._variables:
            size = int(np.prod(variable.shape))
            yield tf.constant(vector[start : start + size].reshape(variable.shape), "float64")
            start += size


class KerasHessian:
    """The Hessian of a `KerasLoss` for some rows, as a stack of one; see `hessian.Hessian`.

    Args:
        loss: the loss.
        inputs: (rows, features), scaled.
        targets: (rows, outputs), or labels (rows,).
    """

    def __init__(self, loss: KerasLoss, inputs: NDArray[np.floating], targets: NDArray[Any]) -> None:
        self._inputs = inputs
        self._targets = targets
        self.shape = (1, loss.weights)
        self.losses = np.array([loss.gradient(inputs, targets)[0]])
        self._product = loss.difference
        if loss.is_exact(inputs, targets):
            self._product = loss.product

    def __matmul__(self, vectors: NDArray[np.floating]) -> Vector:
        """Return the product with a vector: (1, weights)."""
        return self._product(self._inputs, self._targets, vectors[0])[None]

    def point(self, index: int) -> KerasHessian:
        """Return the Hessian of one point: itself, which has only one."""
        if index:
            raise IndexError(index)
        return self


def _network(config: Config, arrays: Arrays) -> Any:
    keras.utils.set_random_seed(config.seed)
    with floatx(config.dtype):
        return with_loss(config, arrays)
