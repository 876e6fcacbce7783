"""Rules across the sections of a config; each rule yields one line for each problem that it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from pipeline.config.data import TableData
from pipeline.config.model import layer_sizes
from pipeline.config.needs import (
    CURVE,
    FULL_BATCH,
    MAP,
    METHOD,
    NO_PENALTY,
    typed,
    unmet,
    value_of,
)
from pipeline.config.optimizer import OWN_TRAINING
from pipeline.config.own_model import KerasModel
from pipeline.config.own_rules import own_model
from pipeline.config.precision import lost_numbers
from pipeline.config.schema import Config, is_server_address, not_a_server
from pipeline.config.task_rules import (
    RULES_OF_REPORTS,
    loss_of_the_data,
    output_activation,
    split_of_repeats,
    targets_of_the_loss,
)

# Maximum number of records of a run; each record is about ten metrics in memory, in the journal and in MLflow.
RECORDS = 100_000
# Maximum number of weights for annealing: an epoch computes two losses for each, and more weights need more epochs.
ANNEALED = 1000

Rule = Callable[[Config], Iterator[str]]


def problems(config: Config, trained: bool = False) -> list[str]:
    """Return all inconsistencies, one line each: the key, what it must be and what it was.

    Args:
        config: a complete config, or one made by `Config.model_construct` without the sections that are invalid. A rule
            that needs one of those stops there.
        trained: whether the config is that of a trained point, which only has to be consistent.
    """
    rules = RULES
    if isinstance(getattr(config, "model", None), KerasModel):
        rules = RULES_OF_OWN_MODELS
    if not trained:
        rules = (*rules, *RULES_TO_TRAIN)
    return [problem for rule in rules for problem in _until_unread(rule, config)]


def _until_unread(rule: Rule, config: Config) -> Iterator[str]:
    """Yield the problems that a rule finds before it needs a missing section."""
    try:
        yield from rule(config)
    except AttributeError as error:
        # Any other missing attribute is a mistake in the rule.
        if error.obj is not config or error.name not in Config.model_fields:
            raise


def _recording(config: Config) -> Iterator[str]:
    epochs = config.training.epochs
    every = config.recording.metrics_every
    if every != "auto" and epochs > RECORDS * every:
        # Division that rounds up, exact for whole numbers that no float can hold.
        enough = -(-epochs // RECORDS)
        yield (
            f"recording.metrics_every: training.epochs={epochs} recorded every {every} makes more than {RECORDS} "
            f"records; use at least {enough}"
        )
    if config.recording.update_losses and config.training.batch_size is None:
        yield (
            "recording.update_losses: with a full batch each update is an epoch, and recording.metrics_every=1 records "
            "its loss; use recording.update_losses=false, or training.batch_size=256"
        )


def _keras_gradient(config: Config) -> Iterator[str]:
    if config.backend.name == "keras" and config.gradient == "finite_difference":
        yield (
            "gradient: the Keras backend uses automatic differentiation, and does not support finite differences; "
            "use gradient=backpropagation, or backend=numpy"
        )


def _table_rows(config: Config) -> Iterator[str]:
    data = config.data
    rows = config.training.rows
    if rows is not None and isinstance(data, TableData) and rows < len(data.inputs):
        yield (
            f"training.rows: a table is always used in full, and {data.name} has {len(data.inputs)} rows; "
            f"received {rows}; remove rows from its file in conf/data instead"
        )


def _hidden_layers(config: Config) -> Iterator[str]:
    """Refuse features of hidden layers if there are none; a curve has its own rule about them."""
    model = config.dense
    if model.hidden_size is not None or config.data.kind == "curve":
        return
    for name, off in {"further_hidden_sizes": (), "batch_normalization": False, "dropout": 0}.items():
        value = getattr(model, name)
        if value:
            yield (
                f"model.{name}: there is no hidden layer (model.hidden_size=null) to apply it to; "
                f"use model.{name}={typed(off)}, or set model.hidden_size; received {typed(value)}"
            )


def _one_network(config: Config) -> Iterator[str]:
    if config.gradient != "finite_difference":
        return
    for name in ("batch_normalization", "dropout", "drop_connect"):
        value = getattr(config.dense, name)
        if value:
            yield (
                f"model.{name}: forward differences compare two losses of the same network, and this setting makes the "
                f"network differ between them; use gradient=backpropagation; received {typed(value)}"
            )


def _maximal_update(config: Config) -> Iterator[str]:
    model = config.dense
    subject = "model.parametrization: maximal_update"
    if model.parametrization != "maximal_update" or config.data.kind == "curve":
        return
    if model.hidden_size is None:
        yield f"{subject} depends on the width of hidden layers; set model.hidden_size; received null"
    if not model.initializer.startswith(("he_", "lecun_")):
        yield (
            f"{subject} needs initial weights whose variance depends only on the inputs of a layer; "
            f"use model.initializer=lecun_normal, or he_normal; received {model.initializer}"
        )
    if model.hidden_size is not None and set(model.further_hidden_sizes) - {model.hidden_size}:
        yield (
            f"{subject} needs hidden layers of one width; received model.hidden_size={model.hidden_size} and "
            f"model.further_hidden_sizes={typed(model.further_hidden_sizes)}"
        )
    if config.optimizer.name in ("bfgs", "lbfgs", "annealing"):
        yield (
            f"{subject} scales the rate of each layer, and {config.optimizer.name} has one step for all layers; "
            "use model.parametrization=standard"
        )
    if getattr(config.optimizer, "output_learning_rate", None) is not None:
        yield f"{subject} sets the last layer's rate; use optimizer.output_learning_rate=null"


def _method(config: Config) -> Iterator[str]:
    """Refuse settings that BFGS, L-BFGS, annealing and AW-SGD do not support."""
    method = config.optimizer.name
    if method not in OWN_TRAINING:
        return
    subject = f"optimizer={method}"
    if method == "aw_sgd":
        yield from unmet(config, subject, METHOD | NO_PENALTY)
        if config.training.batch_size is None:
            yield f"training.batch_size: {subject} needs minibatches, training.batch_size=NUMBER; received null"
        if config.dense.hidden_activation == "gelu":
            yield f"model.hidden_activation: {subject} needs an activation other than gelu; received gelu"
    else:
        yield from unmet(config, subject, METHOD | FULL_BATCH)
    if config.grid is not None:
        yield f"grid: {subject} needs grid=null; received a map"
    if method == "annealing":
        yield from _annealed_weights(config)


def _annealed_weights(config: Config) -> Iterator[str]:
    data = config.data
    if not isinstance(data, TableData):
        yield f"data: optimizer=annealing needs a table, data=three_bits or another in conf/data; received {data.name}"
        return
    sizes = layer_sizes(config.dense, len(data.inputs[0]), len(data.targets[0]))
    # `bias` counts as one more input of each layer.
    weights = sum((inputs + config.dense.bias) * outputs for inputs, outputs in pairwise(sizes))
    if weights > ANNEALED:
        yield (
            f"model.hidden_size: optimizer=annealing needs a network of at most {ANNEALED} weights and biases; "
            f"received one of {weights:,}"
        )


def _array_module(config: Config) -> Iterator[str]:
    """Refuse features that the NumPy backend supports only on the CPU."""
    # Keras has no array module.
    if getattr(config.backend, "array_module", "numpy") == "numpy":
        return
    refused: dict[str, tuple[Sequence[object], str]] = {
        "gradient": (["finite_difference"], "gradient=backpropagation"),
        "optimizer": (OWN_TRAINING, "an optimizer that follows the gradient, optimizer=adam"),
        "data": (["curve"], "a table or images, data=three_bits or data=mnist"),
    }
    for key, (values, fix) in refused.items():
        received = value_of(config, key)
        if received in values:
            yield (
                f"{key}: backend.array_module=cupy needs {fix}, or use backend.array_module=numpy; received {received}"
            )


def _map(config: Config) -> Iterator[str]:
    """Refuse settings that a map of networks does not support; a map of balls has the rules of a curve."""
    if config.grid is None or config.data.kind == "curve":
        return
    subject = "a map (grid.x, grid.y)"
    knobs = [axis.knob for axis in config.grid.axes]
    if "balls.start" in knobs:
        yield f"data: {subject} of balls.start needs a curve, such as data=curve_bowl; received {config.data.kind}"
    elif config.data.kind != "table":
        yield f"data: {subject} needs a table, such as data=three_bits; received {config.data.kind}"
    # Only plain gradient descent has a rate for the last layer.
    if "optimizer.output_learning_rate" in knobs:
        yield from unmet(config, subject, {"optimizer": ["sgd"]})
    yield from unmet(config, subject, MAP)
    yield from _schedule(config, subject)


def _curve(config: Config) -> Iterator[str]:
    """Refuse settings that have no meaning on a curve, and balls without a curve."""
    if config.data.kind != "curve":
        if config.balls is not None:
            yield f"balls: must be null unless the data is a curve; received data={config.data.name}"
        return
    subject = "a curve, which has no network,"
    if (config.balls is None) != (config.grid is not None):
        yield (
            "balls: a curve needs balls.starts or balls.random; for a map (grid.x, grid.y) balls must be null, "
            "because balls.start is one of its axes"
        )
    if config.grid and {axis.knob for axis in config.grid.axes} != {"optimizer.learning_rate", "balls.start"}:
        yield "grid: a map of a curve needs the knobs optimizer.learning_rate and balls.start"
    yield from unmet(config, subject, CURVE)
    yield from _schedule(config, subject)
    if hasattr(config.optimizer, "output_learning_rate"):
        yield from unmet(config, subject, {"optimizer.output_learning_rate": [None]})


def _schedule(config: Config, subject: str) -> Iterator[str]:
    # Many networks or balls have many losses, but only one schedule.
    if config.schedule.name == "reduce_on_plateau":
        yield (
            f"schedule: {subject} needs a schedule that does not depend on the loss, such as schedule=cosine; "
            "received reduce_on_plateau"
        )


def _precision(config: Config) -> Iterator[str]:
    """Refuse numbers that become 0, 1 or infinite in the dtype of the training."""
    for lost in lost_numbers(config):
        fix = "a smaller number"
        if lost.becomes == 0:
            fix = "a number further from 0"
        if lost.kept_by_float64:
            fix = f"dtype=float64, or {fix}"
        yield f"{lost.key}: {lost.value!r} becomes {lost.becomes:g} in {lost.dtype}; use {fix}"


def _server_address(config: Config) -> Iterator[str]:
    """Refuse an address that is not one of a server, such as a database that two clones would change at once."""
    uri = config.tracking.uri
    if uri is not None and not is_server_address(uri):
        yield f"tracking.uri: {not_a_server(uri)}"


# Problems are listed in this order.
RULES: Sequence[Rule] = (
    _recording,
    _keras_gradient,
    output_activation,
    loss_of_the_data,
    targets_of_the_loss,
    _table_rows,
    _hidden_layers,
    _maximal_update,
    _one_network,
    _method,
    _array_module,
    _map,
    _curve,
)
# In the place of these, for a Keras model of one's own.
RULES_OF_OWN_MODELS: Sequence[Rule] = (
    _recording,
    _keras_gradient,
    own_model,
    loss_of_the_data,
    targets_of_the_loss,
    _table_rows,
)
# Earlier versions have trained points that do not follow these. They can still be read.
RULES_TO_TRAIN: Sequence[Rule] = (_precision, _server_address, *RULES_OF_REPORTS, split_of_repeats)
