"""Build a compiled Keras model from a config."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pipeline.backends.keras import optimizers, own_model
from pipeline.backends.keras.layers import build_layers, variables
from pipeline.backends.keras.network import LoopedNetwork, MinibatchNetwork, Network
from pipeline.backends.shared.initial_weights import array_names, draw
from pipeline.backends.shared.parametrization import rate_scales
from pipeline.backends.shared.schedules import updates_per_epoch
from pipeline.config.data import Task
from pipeline.config.model import Model, layer_sizes
from pipeline.config.optimizer import Constant
from pipeline.config.own_model import KerasModel
from pipeline.config.schema import NO_SETTINGS, Config, KerasBackend
from pipeline.data.arrays import Arrays

# How many networks are kept for further points, and of at most how many numbers with those of the optimizer: a larger
# one trains for longer than its graph takes.
KEPT = 8
LARGEST = 2_000_000


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


class Compiled(NamedTuple):
    """A compiled network.

    Attributes:
        network, optimizer: these.
        fresh: what their variables hold before the first update, but for the weights; of many equal numbers, such as
            momenta, only one is stored.
    """

    network: Network
    optimizer: optimizers.Watched
    fresh: list[tuple[Any, NDArray[Any]]]


# The networks that may serve further points, by what their graphs depend on; the one used last is the last.
kept: dict[str, Compiled] = {}


def build(config: Config, arrays: Arrays) -> tuple[Network, optimizers.Watched]:
    """Build the compiled model with the initial weights that both backends share, and its optimizer.

    On TensorFlow a dense network of moderate size serves all points that differ only in what its variables hold: in the
    seed, unless it draws masks, and in the learning rate, if that is constant. Tracing its graph takes as long as a
    thousand updates.

    `keras.config.floatx()` must be the config's dtype: optimizer, loss and metrics compute in it.
    """
    key = _graph(config, arrays)
    compiled = kept.pop(key, None)
    if compiled is not None:
        _renew(compiled, config, arrays)
        kept[key] = compiled
        return compiled.network, compiled.optimizer
    # Otherwise names of the previous point would stay in use, and what is not kept in memory.
    keras.utils.clear_session()
    network, optimizer = _compile(config, arrays)
    held = [*network.variables, *optimizer.variables]
    if key and sum(math.prod(variable.shape) for variable in held) <= LARGEST:
        weights = {id(variable) for variable in variables(network)}
        others = [variable for variable in held if id(variable) not in weights]
        kept[key] = Compiled(network, optimizer, [(variable, _value(variable)) for variable in others])
        for oldest in list(kept)[:-KEPT]:
            del kept[oldest]
    return network, optimizer


def _graph(config: Config, arrays: Arrays) -> str:
    """Return what the graph of a point depends on, or more than that; empty if it cannot serve another point."""
    # Other engines compile in more.
    if isinstance(config.model, KerasModel) or keras.backend.backend() != "tensorflow":
        return ""
    settings = config.model_dump(mode="json", exclude={*NO_SETTINGS, "study", "results", "data"})
    # A schedule is compiled in with its rate.
    if isinstance(config.schedule, Constant):
        del settings["optimizer"]["learning_rate"]
    # Dropout and DropConnect draw from the seed.
    if not (config.model.dropout or config.model.drop_connect):
        del settings["seed"]
    rows = len(arrays.train_inputs)
    return json.dumps([settings, arrays.features, arrays.outputs, arrays.task, rows], sort_keys=True)


def _renew(compiled: Compiled, config: Config, arrays: Arrays) -> None:
    """Make a compiled network one that no point has used."""
    for variable, value in compiled.fresh:
        variable.assign(value)
    _start_at_initial_weights(compiled.network, config, arrays)
    if isinstance(config.schedule, Constant):
        compiled.optimizer.learning_rate = float(config.optimizer.learning_rate)


def _value(variable: Any) -> NDArray[Any]:
    """Return a copy of what a variable holds; of many equal numbers only one."""
    array: NDArray[Any] = np.array(variable.numpy())
    if array.size and (array == array.flat[0]).all():
        return np.broadcast_to(array.flat[0], array.shape)
    return array


def _compile(config: Config, arrays: Arrays) -> tuple[Network, optimizers.Watched]:
    on_tensorflow = keras.backend.backend() == "tensorflow"
    network = _network(config, arrays)
    optimizer = _optimizer(config, arrays, network)
    loss, metrics = _loss_and_metrics(config, arrays.task)
    asked = _jit_compile(config)
    # JAX always compiles ("auto"): otherwise an update takes 0.1 s, compared with 1 ms in TensorFlow's graph.
    jit_compile: bool | str = "auto"
    if asked or on_tensorflow:
        jit_compile = asked
    network.compile(optimizer, loss, metrics=metrics, jit_compile=jit_compile)
    return network, optimizer


def with_loss(config: Config, arrays: Arrays) -> Network:
    """Build a network that has its loss and no optimizer, which no other point gets; see `build`."""
    keras.utils.clear_session()
    network = _network(config, arrays)
    loss, _ = _loss_and_metrics(config, arrays.task)
    network.compile(loss=loss)
    return network


def _network(config: Config, arrays: Arrays) -> Network:
    """Build the network, not compiled yet, with the weights that both backends share, or those of its own function."""
    rows = len(arrays.train_inputs)
    last = config.output_activation
    # Softmax, and the sigmoid of a cross-entropy, are left to the loss, which takes the logarithm without overflow.
    if last in ("identity", "softmax") or config.loss == "binary_cross_entropy":
        last = "linear"
    if isinstance(config.model, KerasModel):
        made = own_model.make(config.model, config, arrays)
        own_layers = own_model.around(made, own_model.input_shape(arrays), last, config.dtype)
        return of_layers(config, own_layers, own_model.array_names(made), rows)
    sizes = layer_sizes(config.model, arrays.features, arrays.outputs)
    layers = [keras.Input((sizes[0],), dtype=config.dtype), *build_layers(config, sizes, last, training=True)]
    network = of_layers(config, layers, array_names(config.model), rows)
    _start_at_initial_weights(network, config, arrays)
    return network


def _jit_compile(config: Config) -> bool:
    """Return whether the config asks for XLA."""
    return isinstance(config.backend, KerasBackend) and config.backend.jit_compile


def of_layers(config: Config, layers: list[Any], names: list[str], rows: int) -> Network:
    """Make a network of layers, one that makes many updates in a call where that can be.

    Args:
        config: config of the point.
        layers: from the inputs to the outputs.
        names: names of the arrays.
        rows: number of training rows.
    """
    size = config.training.batch_size
    if keras.backend.backend() != "tensorflow":
        return Network(layers, config.dtype, names)
    if size is None:
        return LoopedNetwork(layers, config.dtype, names)
    # Where the losses of all updates are recorded, so is the penalty before each. XLA needs minibatches of one size.
    if config.recording.update_losses or _jit_compile(config):
        return Network(layers, config.dtype, names)
    return MinibatchNetwork(layers, config.dtype, names, size, rows)


def _start_at_initial_weights(network: Network, config: Config, arrays: Arrays) -> None:
    """Assign the weights that both backends draw from the seed."""
    drawn = draw(config.dense, arrays.features, arrays.outputs, config.seed, config.dtype)
    for variable, array in zip(variables(network), drawn.values(), strict=True):
        variable.assign(array)


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
