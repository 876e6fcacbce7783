"""Build a compiled Keras model from a config."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pipeline.backends.keras import optimizers, own_model
from pipeline.backends.keras.layers import build_layers, variables
from pipeline.backends.shared.initial_weights import Weights, array_names, draw
from pipeline.backends.shared.parametrization import rate_scales
from pipeline.backends.shared.schedules import updates_per_epoch
from pipeline.config.data import Task
from pipeline.config.model import Model, layer_sizes
from pipeline.config.own_model import KerasModel
from pipeline.config.schema import Config, KerasBackend
from pipeline.data.arrays import Arrays


class Network(keras.Sequential):  # type: ignore[misc]
    """A network that notes the update at which its training loss stops being finite.

    Attributes:
        names: names of its arrays; those of a dense network are the same for both backends.
        updates_per_call: number of updates that a LoopedNetwork makes in one call of its training step.
        updates_made: number of training losses so far. Not the optimizer's count, which JAX compiles in as a constant.
        diverged_step: number of updates made when the loss was inf or NaN for the first time; -1 if it never was.
        last_finite_loss: the last training loss before that; NaN before the first.
    """

    def __init__(self, layers: list[Any], dtype: str, names: list[str]) -> None:
        super().__init__(layers)
        self.names = names
        # Variables of the model, not of Python: the compiled step can assign them, and checkpoints contain them.
        self.updates_per_call = self._add_scalar("updates_per_call", 1, "int32")
        self.updates_made = self._add_scalar("updates_made", 0, "int32")
        self.diverged_step = self._add_scalar("diverged_step", -1, "int32")
        self.last_finite_loss = self._add_scalar("last_finite_loss", float("nan"), dtype)

    def _add_scalar(self, name: str, value: float, dtype: str) -> Any:
        initializer = keras.initializers.Constant(value)
        return self.add_weight(shape=(), initializer=initializer, dtype=dtype, trainable=False, name=name)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Return the loss; in training also note whether it is finite."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if training:
            self.see_loss(loss, self.updates_made.value)
            self.updates_made.assign(self.updates_made.value + 1)
        return loss

    def see_loss(self, loss: Any, updates: Any) -> None:
        """Update `last_finite_loss` and `diverged_step` with a training loss measured after `updates` updates."""
        # `ops.where` and not `if`: this is traced into the compiled step, where the loss has no value yet.
        step = self.diverged_step.value
        finite = ops.isfinite(loss)
        not_diverged = ops.less(step, 0)
        self.last_finite_loss.assign(
            ops.where(ops.logical_and(finite, not_diverged), loss, self.last_finite_loss.value)
        )
        diverges_now = ops.logical_and(ops.logical_not(finite), not_diverged)
        self.diverged_step.assign(ops.where(diverges_now, ops.cast(updates, "int32"), step))

    def weights_by_name(self) -> Weights:
        """Return copies of the arrays by name."""
        return {name: variable.numpy() for name, variable in zip(self.names, variables(self), strict=True)}

    @property
    def trained_names(self) -> list[str]:
        """The names of the arrays that gradients change; the others, such as moving statistics, follow them."""
        return list(self.names[: len(self.trainable_variables)])

    @property
    def seeds(self) -> list[Any]:
        """The states of the random generators of dropout and DropConnect; Keras' own files do not contain them."""
        held = [variable for layer in self.layers for variable in layer.variables]
        return [variable for variable in held if variable.name == "seed_generator_state"]


class LoopedNetwork(Network):
    """A network for TensorFlow that makes many updates on the same rows in one call.

    A call for every update would spend most of its time in Python; in a loop 60,000 updates of a small network take
    seconds. The training step returns the metrics of the rows, measured with the weights after the last update.
    """

    _updating = False

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the metrics of the rows; nothing during the update loop, because they would not be used."""
        if self._updating:
            return {}
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def train_step(self, data: Any) -> Any:
        """Make `updates_per_call` updates (possibly 0) with the rows of `data`, then evaluate these rows."""
        update = super().train_step

        def once_more(made: Any) -> Any:
            update(data)
            # A schedule compares the loss with its best. The last finite loss can stand in for an infinite one:
            # neither is an improvement.
            self.optimizer.end_epoch(self.last_finite_loss)
            return made + 1

        self._updating = True
        ops.while_loop(lambda made: ops.less(made, self.updates_per_call), once_more, 0)
        self._updating = False
        # The metrics have accumulated values at every update of the loop; only those at the last weights are wanted.
        self.reset_metrics()
        measured = self.test_step(data)
        # `test_step` does not train, so `compute_loss` has not noted this loss.
        self.see_loss(measured["loss"], self.optimizer.iterations)
        return measured


class HalfSummedSquaredError(keras.losses.Loss):  # type: ignore[misc]
    """1/2 * sum over rows and outputs of (out - y)^2."""

    def __init__(self) -> None:
        super().__init__(reduction="sum")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the half sums of each row (rows,), which Keras adds up."""
        return ops.sum(ops.square(y_pred - y_true), axis=-1) / 2


def same_side_of_half(y_true: Any, y_pred: Any) -> Any:
    """Return the share of outputs on the same side of 1/2 as the target: (rows,)."""
    same = ops.equal(ops.greater(y_pred, 0.5), ops.greater(y_true, 0.5))
    return ops.mean(ops.cast(same, y_pred.dtype), axis=-1)


def of_sigmoid(metric: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return a metric of the sigmoids of a network's outputs, for a loss that takes sums."""
    return lambda y_true, y_pred: metric(y_true, ops.sigmoid(y_pred))


def build(config: Config, arrays: Arrays) -> tuple[Network, optimizers.Watched]:
    """Build the compiled model with the initial weights that both backends share, and its optimizer.

    `keras.config.floatx()` must be the config's dtype: optimizer, loss and metrics compute in it.
    """
    on_tensorflow = keras.backend.backend() == "tensorflow"
    network = _network(config, arrays, on_tensorflow)
    optimizer = _optimizer(config, arrays, network)
    loss, metrics = _loss_and_metrics(config, arrays.task)
    asked = isinstance(config.backend, KerasBackend) and config.backend.jit_compile
    # JAX always compiles ("auto"): otherwise an update takes 0.1 s, compared with 1 ms in TensorFlow's graph.
    jit_compile: bool | str = "auto"
    if asked or on_tensorflow:
        jit_compile = asked
    network.compile(optimizer, loss, metrics=metrics, jit_compile=jit_compile)
    return network, optimizer


def _network(config: Config, arrays: Arrays, on_tensorflow: bool) -> Network:
    """Build the network, not compiled yet, with the weights that both backends share, or those of its own function."""
    last = config.output_activation
    # Softmax, and the sigmoid of a cross-entropy, are left to the loss, which takes the logarithm without overflow.
    if last in ("identity", "softmax") or config.loss == "binary_cross_entropy":
        last = "linear"
    network_class: type[Network] = Network
    # Minibatches differ from update to update, so there is nothing to loop over.
    if on_tensorflow and config.training.batch_size is None:
        network_class = LoopedNetwork
    if isinstance(config.model, KerasModel):
        made = own_model.make(config.model, config, arrays)
        own_layers = own_model.around(made, own_model.input_shape(arrays), last, config.dtype)
        return network_class(own_layers, config.dtype, own_model.array_names(made))
    knobs = config.model
    sizes = layer_sizes(knobs, arrays.features, arrays.outputs)
    layers = [keras.Input((sizes[0],), dtype=config.dtype), *build_layers(config, sizes, last, training=True)]
    network = network_class(layers, config.dtype, array_names(knobs))
    drawn = draw(knobs, arrays.features, arrays.outputs, config.seed, config.dtype)
    for variable, array in zip(variables(network), drawn.values(), strict=True):
        variable.assign(array)
    return network


def _optimizer(config: Config, arrays: Arrays, network: Network) -> optimizers.Watched:
    """Build the optimizer for the variables of a network, with its limits and the scales of its rates."""
    updates = config.training.epochs * updates_per_epoch(config.training, len(arrays.train_inputs))
    optimizer = optimizers.build(config.optimizer, config.schedule, updates)
    optimizer.limits = config.training
    if isinstance(config.model, Model):
        names = network.trained_names
        scales = rate_scales(config.model, config.optimizer.name, names)
        optimizer.scales = {names.index(name): scale for name, scale in scales.items()}
    optimizer.watch(network.trainable_variables, config.recording.direction_changes)
    return optimizer


def outputs_of(config: Config, values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the outputs of a network, from the values that its loss takes: sums of classes stay as they are.

    Args:
        config: config of the point.
        values: what the trained network returns, (rows, outputs).
    """
    if config.loss == "binary_cross_entropy":
        with np.errstate(over="ignore"):
            values = 1 / (1 + np.exp(-values))
    return values


def _loss_and_metrics(config: Config, task: Task | None) -> tuple[Any, list[Any]]:
    """Return the config's loss, and the metrics that go with it under the names that both backends record.

    Args:
        config: config of the point.
        task: what described data predicts; None for a table, and for images of IDX files.
    """
    loss = LOSSES[config.loss]()
    if config.loss == "cross_entropy":
        return loss, [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
    measures: dict[str, Callable[[Any, Any], Any]] = {}
    if task == "binary" or (task is None and config.output_activation == "sigmoid"):
        measures["accuracy"] = same_side_of_half
    if task != "binary":
        measures["mean_absolute_error"] = keras.losses.mean_absolute_error
    if config.loss == "binary_cross_entropy":
        measures = {name: of_sigmoid(measure) for name, measure in measures.items()}
    return loss, [keras.metrics.MeanMetricWrapper(measure, name=name) for name, measure in measures.items()]


# Keras' losses, which take sums for cross-entropies and are means over rows and outputs except for half the sum.
LOSSES: dict[str, Callable[[], Any]] = {
    "cross_entropy": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "binary_cross_entropy": lambda: keras.losses.BinaryCrossentropy(from_logits=True),
    "mean_squared_error": keras.losses.MeanSquaredError,
    "half_summed_squared_error": HalfSummedSquaredError,
    "mean_absolute_error": keras.losses.MeanAbsoluteError,
    "huber": keras.losses.Huber,
}
