"""A config as a compiled Keras model."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from pipeline.backends.keras import optimizers
from pipeline.backends.keras.layers import build_layers, variables
from pipeline.backends.shared.initial_weights import Weights, array_names, draw, is_trained
from pipeline.backends.shared.parametrization import rate_scales
from pipeline.backends.shared.schedules import updates_per_epoch
from pipeline.config.model import layer_sizes
from pipeline.config.schema import Config, KerasBackend
from pipeline.data.arrays import Arrays


class Network(keras.Sequential):  # type: ignore[misc]
    """Dense layers that note at which update the training loss stops being finite.

    Attributes:
        names: of its arrays, as both backends call them.
        updates_per_call: how many updates a LoopedNetwork makes in one call of its training step.
        diverged_step: how many updates had been made when the loss first was inf or NaN, -1 where it never was.
        last_finite_loss: NaN before the first.
    """

    def __init__(self, layers: list[Any], dtype: str, names: list[str]) -> None:
        super().__init__(layers)
        self.names = names
        self.updates_per_call = self._note("updates_per_call", 1, "int32")
        self.diverged_step = self._note("diverged_step", -1, "int32")
        self.last_finite_loss = self._note("last_finite_loss", float("nan"), dtype)

    def _note(self, name: str, value: float, dtype: str) -> Any:
        initializer = keras.initializers.Constant(value)
        return self.add_weight(shape=(), initializer=initializer, dtype=dtype, trainable=False, name=name)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The loss; in training it is noted whether it is finite."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if training:
            self.see_loss(loss, self.optimizer.iterations)
        return loss

    def see_loss(self, loss: Any, updates: Any) -> None:
        """Note a loss of the training rows, taken after `updates` updates."""
        step = self.diverged_step.value
        finite, before = ops.isfinite(loss), ops.less(step, 0)
        self.last_finite_loss.assign(ops.where(ops.logical_and(finite, before), loss, self.last_finite_loss.value))
        first = ops.logical_and(ops.logical_not(finite), before)
        self.diverged_step.assign(ops.where(first, ops.cast(updates, "int32"), step))

    def weights_by_name(self) -> Weights:
        """Copies of the arrays under the names that both backends use."""
        return {name: variable.numpy() for name, variable in zip(self.names, variables(self), strict=True)}

    @property
    def seeds(self) -> list[Any]:
        """The variables that say what is left out next by chance; Keras' own files do not hold them."""
        return [v for layer in self.layers for v in layer.variables if v.name == "seed_generator_state"]


class LoopedNetwork(Network):
    """A network for TensorFlow that makes many updates on the same rows in one call: 60,000 take seconds.

    Its training step returns what the rows measure at the weights after the last update.
    """

    _updating = False

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """What `x` measures; nothing while the updates of the loop are traced, for nobody would see it."""
        return {} if self._updating else super().compute_metrics(x, y, y_pred, sample_weight)

    def train_step(self, data: Any) -> Any:
        """Make `updates_per_call` updates, which may be 0, with the rows of `data`; then evaluate them."""
        update = super().train_step

        def once_more(made: Any) -> Any:
            update(data)
            self.optimizer.end_epoch(self.last_finite_loss)  # an infinite loss would be no improvement on it either
            return made + 1

        self._updating = True
        ops.while_loop(lambda made: ops.less(made, self.updates_per_call), once_more, 0)
        self._updating = False
        self.reset_metrics()
        measured = self.test_step(data)
        self.see_loss(measured["loss"], self.optimizer.iterations)
        return measured


class HalfSummedSquaredError(keras.losses.Loss):  # type: ignore[misc]
    """1/2 * sum over rows and outputs of (out - y)^2."""

    def __init__(self) -> None:
        super().__init__(reduction="sum")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return ops.sum(ops.square(y_pred - y_true), axis=-1) / 2


def same_side_of_half(y_true: Any, y_pred: Any) -> Any:
    """The share of outputs on the target's side of 1/2: (rows,)."""
    same = ops.equal(ops.greater(y_pred, 0.5), ops.greater(y_true, 0.5))
    return ops.mean(ops.cast(same, y_pred.dtype), axis=-1)


def build(config: Config, arrays: Arrays) -> tuple[Network, optimizers.Watched]:
    """The compiled model with the weights that both backends start from, and its optimizer.

    `keras.config.floatx()` must be the config's dtype: optimizer, loss and metrics compute in it.
    """
    knobs = config.model
    sizes = layer_sizes(knobs, arrays.features, arrays.outputs)
    # Softmax is left to the loss, which computes its logarithm without overflow.
    last = "linear" if knobs.output_activation in ("identity", "softmax") else knobs.output_activation
    layers = build_layers(config, sizes, last, training=True)
    on_tensorflow = keras.backend.backend() == "tensorflow"
    looped = on_tensorflow and config.training.batch_size is None
    network = (LoopedNetwork if looped else Network)(
        [keras.Input((sizes[0],), dtype=config.dtype), *layers], config.dtype, array_names(knobs)
    )
    drawn = draw(knobs, arrays.features, arrays.outputs, config.seed, config.dtype)
    for variable, array in zip(variables(network), drawn.values(), strict=True):
        variable.assign(array)
    updates = config.training.epochs * updates_per_epoch(config.training, len(arrays.train_inputs))
    optimizer = optimizers.build(config.optimizer, config.schedule, updates)
    optimizer.limits = config.training
    trained = [name for name in array_names(knobs) if is_trained(name)]
    scales = rate_scales(knobs, config.optimizer.name, trained)
    optimizer.scales = {trained.index(name): scale for name, scale in scales.items()}
    optimizer.watch(network.trainable_variables, config.recording.direction_changes)
    loss, metrics = _loss_and_metrics(config)
    asked = isinstance(config.backend, KerasBackend) and config.backend.jit_compile
    # JAX always compiles ("auto"): step by step it takes 0.1 s an update, where TensorFlow's graph takes 1 ms.
    network.compile(optimizer, loss, metrics=metrics, jit_compile=asked or (False if on_tensorflow else "auto"))
    return network, optimizer


def _loss_and_metrics(config: Config) -> tuple[Any, list[Any]]:
    """The config's loss and what is measured beside it, under the names that both backends record."""
    if config.loss == "cross_entropy":
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True), [accuracy]
    summed = config.loss == "half_summed_squared_error"
    metrics = [keras.metrics.MeanAbsoluteError(name="mean_absolute_error")]
    if config.model.output_activation == "sigmoid":
        metrics.insert(0, keras.metrics.MeanMetricWrapper(same_side_of_half, name="accuracy"))
    return HalfSummedSquaredError() if summed else keras.losses.MeanSquaredError(), metrics
