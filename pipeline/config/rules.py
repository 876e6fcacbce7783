"""What the sections of a config cannot be combined with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pipeline.config.data import TableData
from pipeline.config.model import layer_sizes
from pipeline.config.optimizer import ALONE
from pipeline.config.schema import Config

RECORDS = 100_000
"""How often a run may be recorded; each record is some ten metrics in memory, in the journal and in MLflow."""
ANNEALED = 1000
"""Weights that annealing takes on: an epoch is two losses for each, and the places to look at grow with them."""
MAP_KNOBS = {"optimizer.learning_rate", "balls.start"}
NETWORKS_ALONE = {
    "hidden_size": None, "further_hidden_sizes": (), "hidden_activation": "sigmoid", "output_activation": "identity",
    "bias": True, "initializer": "constant", "initial_weight": 0.0, "initial_bias": 0.0, "batch_normalization": False,
    "dropout": 0.0, "drop_connect": 0.0,
}  # fmt: skip
"""The knobs of `model` as conf/model/linear.yaml has them: no curve reads them, and another value is refused."""
NETWORKS: list[tuple[str, Sequence[object], str]] = [
    ("model.further_hidden_sizes", [()], "[]"),
    ("model.hidden_activation", ["sigmoid", "relu"], "sigmoid, or relu"),
    ("model.batch_normalization", [False], "false"),
    ("model.dropout", [0], "0"),
    ("model.drop_connect", [0], "0"),
    ("training.l1", [0], "0"),
    ("training.l2", [0], "0"),
    ("training.clip_value", [None], "null"),
    ("training.clip_norm", [None], "null"),
]
"""What the networks of a map are made of: keys, the values that they may have, and what is said of these."""


def check(config: Config) -> None:
    """Refuse values that do not go together.

    Raises:
        ValueError: naming the key, what it must be and what it was.
    """
    if config.training.epochs > RECORDS * config.recording.metrics_every:
        raise ValueError(
            f"recording.metrics_every: training.epochs={config.training.epochs} recorded every "
            f"{config.recording.metrics_every} are more than {RECORDS} records; "
            f"use at least {-(-config.training.epochs // RECORDS)}"
        )
    if config.backend.name == "keras" and config.gradient == "finite_difference":
        raise ValueError(
            "gradient: forward differences have no meaning for the Keras backend, which differentiates the loss "
            "itself; use gradient=backpropagation, or backend=numpy"
        )
    if (config.loss == "cross_entropy") != (config.model.output_activation == "softmax"):
        raise ValueError(
            "loss: cross_entropy and model.output_activation=softmax belong together; "
            f"got loss={config.loss} with output_activation={config.model.output_activation}"
        )
    if (config.loss == "cross_entropy") != (config.data.kind == "idx"):
        raise ValueError(
            "loss: cross_entropy is for data with class labels, the squared errors for data with numbers; "
            f"got loss={config.loss} with data={config.data.name}"
        )
    if config.recording.update_losses and config.training.batch_size is None:
        raise ValueError(
            "recording.update_losses: with a full batch an update is an epoch, and recording.metrics_every=1 keeps "
            "its loss; use recording.update_losses=false, or training.batch_size=256"
        )
    rows = config.training.rows
    if rows is not None and isinstance(config.data, TableData) and rows < len(config.data.inputs):
        raise ValueError(
            f"training.rows: a table is used whole, and {config.data.name} has {len(config.data.inputs)} rows; "
            f"received {rows}; take rows out of its file in conf/data"
        )
    check_features(config)
    check_method(config)
    check_array_module(config)
    check_map(config)
    check_curve(config)


def check_features(config: Config) -> None:
    """Refuse features of a network that nothing would read, and those that forward differences cannot be of.

    Raises:
        ValueError: naming the key, what it must be and what it was.
    """
    model, nothing = config.model, {"further_hidden_sizes": [], "batch_normalization": False, "dropout": 0.0}
    for name, fix in nothing.items() if model.hidden_size is None else ():
        value = getattr(model, name)
        if value:
            raise ValueError(
                f"model.{name}: there is no hidden layer (model.hidden_size=null) that it could be of; "
                f"use model.{name}={str(fix).lower()}, or give model.hidden_size; received {value}"
            )
    if model.parametrization == "maximal_update":
        _check_maximal_update(config)
    for name in ("batch_normalization", "dropout", "drop_connect") if config.gradient == "finite_difference" else ():
        if getattr(model, name):
            raise ValueError(
                f"model.{name}: forward differences compare losses of one network, and this is another one in "
                f"training; use gradient=backpropagation; received {getattr(model, name)}"
            )


def _check_maximal_update(config: Config) -> None:
    model, says = config.model, "model.parametrization: maximal_update"
    if model.hidden_size is None:
        raise ValueError(f"{says} goes by the width of hidden layers; give model.hidden_size, received null")
    if not model.initializer.startswith(("he_", "lecun_")):
        raise ValueError(
            f"{says} needs weights whose variance goes by the inputs of a layer alone; "
            f"use model.initializer=lecun_normal, or he_normal, received {model.initializer}"
        )
    if set(model.further_hidden_sizes) - {model.hidden_size}:
        raise ValueError(
            f"{says} is of hidden layers of one width; received model.hidden_size={model.hidden_size} and "
            f"model.further_hidden_sizes={list(model.further_hidden_sizes)}"
        )
    if config.optimizer.name in ("bfgs", "lbfgs", "annealing"):
        raise ValueError(
            f"{says} says by how much each layer's rate differs, and {config.optimizer.name} has one step for all; "
            "use model.parametrization=standard"
        )
    if getattr(config.optimizer, "output_learning_rate", None) is not None:
        raise ValueError(f"{says} sets the last layer's rate; use optimizer.output_learning_rate=null")


def check_method(config: Config) -> None:
    """Refuse what these methods cannot be combined with.

    Raises:
        ValueError: naming the key, what it must be and what it was.
    """
    method, training, model = config.optimizer.name, config.training, config.model
    if method not in ALONE:
        return
    needed: list[tuple[str, object, Sequence[object], str]] = [
        ("backend", config.backend.name, ["numpy"], "backend=numpy"),
        ("grid", config.grid is None, [True], "grid=null"),
        ("gradient", config.gradient, ["backpropagation"], "gradient=backpropagation"),
        ("schedule", config.schedule.name, ["constant"], "schedule=constant"),
        ("training.clip_value", training.clip_value, [None], "training.clip_value=null"),
        ("training.clip_norm", training.clip_norm, [None], "training.clip_norm=null"),
        ("model.batch_normalization", model.batch_normalization, [False], "model.batch_normalization=false"),
        ("model.dropout", model.dropout, [0], "model.dropout=0"),
        ("model.drop_connect", model.drop_connect, [0], "model.drop_connect=0"),
    ]
    if method == "aw_sgd":
        minibatches = training.batch_size is not None
        needed += [
            ("training.batch_size", minibatches, [True], "minibatches, training.batch_size=NUMBER"),
            ("training.l1", training.l1, [0], "training.l1=0"),
            ("training.l2", training.l2, [0], "training.l2=0"),
            ("model.hidden_activation", model.hidden_activation == "gelu", [False], "any but gelu"),
        ]
    else:
        needed += [("training.batch_size", training.batch_size, [None], "training.batch_size=null")]
    for key, received, accepted, fix in needed:
        if received not in accepted:
            raise ValueError(f"{key}: optimizer={method} needs {fix}; received {_shown(key, config, received)}")
    if method == "annealing":
        _check_weights(config)


def check_array_module(config: Config) -> None:
    """Refuse what the NumPy backend computes in memory alone.

    Raises:
        ValueError: naming the key, what it must be and what it was.
    """
    if getattr(config.backend, "array_module", "numpy") == "numpy":
        return
    in_memory = {
        "gradient": (config.gradient, ["finite_difference"], "gradient=backpropagation"),
        "optimizer": (config.optimizer.name, ALONE, "an optimizer that follows the gradient, optimizer=adam"),
        "data": (config.data.kind, ["curve"], "a table or images, data=three_bits or data=mnist"),
    }
    for key, (received, refused, fix) in in_memory.items():
        if received in refused:
            raise ValueError(
                f"{key}: backend.array_module=cupy needs {fix}, or use backend.array_module=numpy; received {received}"
            )


def _shown(key: str, config: Config, received: object) -> object:
    """What was received where the table above holds whether it fits."""
    given = {"grid": "a map", "training.batch_size": config.training.batch_size, "model.hidden_activation": "gelu"}
    return given.get(key, received)


def _check_weights(config: Config) -> None:
    if config.data.kind != "table":
        raise ValueError(
            f"data: optimizer=annealing needs a table, data=three_bits or another in conf/data; "
            f"received {config.data.name}, images"
        )
    sizes = layer_sizes(config.model, len(config.data.inputs[0]), len(config.data.targets[0]))
    weights = sum((inputs + config.model.bias) * outputs for inputs, outputs in pairwise(sizes))
    if weights > ANNEALED:
        raise ValueError(
            f"model.hidden_size: optimizer=annealing needs a network of at most {ANNEALED} weights and biases; "
            f"received one of {weights:,}"
        )


def check_map(config: Config) -> None:
    """Refuse what a map cannot be of.

    Raises:
        ValueError: naming the key, what it must be and what it was.
    """
    if config.grid is None:
        return
    knobs = [axis.knob for axis in config.grid.axes]
    sgd_only = "optimizer.output_learning_rate" in knobs
    schedule, table = config.schedule.name, config.schedule.name != "reduce_on_plateau"
    recording = config.recording
    needed: list[tuple[str, object, Sequence[object], str]] = [
        ("backend", config.backend.name, ["numpy"], "backend=numpy"),
        ("data", config.data.kind, ["curve"] if "balls.start" in knobs else ["table"],
         "data=curve_bowl, or another curve in conf/data" if "balls.start" in knobs
         else "data=three_bits, or another table in conf/data"),
        ("training.batch_size", config.training.batch_size, [None], "training.batch_size=null"),
        ("gradient", config.gradient, ["backpropagation"], "gradient=backpropagation"),
        ("recording.weight_metrics", recording.weight_metrics, [False], "recording.weight_metrics=false"),
        ("recording.direction_changes", recording.direction_changes, [False], "recording.direction_changes=false"),
        ("recording.table_epochs", recording.table_epochs, [0], "recording.table_epochs=0"),
        ("optimizer", config.optimizer.name, ["sgd"] if sgd_only else [config.optimizer.name], "optimizer=sgd"),
        ("schedule", schedule, [schedule] if table else [], "one that does not go by the loss, as schedule=cosine"),
    ]  # fmt: skip
    for key, accepted, said in NETWORKS:
        section, name = key.split(".")
        needed.append((key, getattr(getattr(config, section), name), accepted, f"{key}={said}"))
    for key, received, accepted, fix in needed:
        if received not in accepted:
            raise ValueError(f"{key}: a map (grid.x, grid.y) needs {fix}; received {received}")


def check_curve(config: Config) -> None:
    """Refuse what has no meaning on a curve, and balls elsewhere.

    Raises:
        ValueError: naming the key, what it must be and what it was.
    """
    on_curve = config.data.kind == "curve"
    if (config.loss == "curve_height") != on_curve:
        raise ValueError(
            "loss: curve_height and a curve as data belong together; "
            f"got loss={config.loss} with data={config.data.name}"
        )
    if not on_curve:
        if config.balls is not None:
            raise ValueError(f"balls: expected null, as balls roll on a curve only; got data={config.data.name}")
        return
    if (config.balls is None) != (config.grid is not None):
        raise ValueError(
            "balls: a curve needs balls.starts or balls.random; of a map (grid.x, grid.y) balls is null, "
            "as balls.start is one of its knobs"
        )
    if config.grid is not None and {axis.knob for axis in config.grid.axes} != MAP_KNOBS:
        raise ValueError("grid: a map of a curve has the knobs optimizer.learning_rate and balls.start")
    training, recording = config.training, config.recording
    needed: list[tuple[str, object, object]] = [
        ("backend", config.backend.name, "numpy"),
        ("gradient", config.gradient, "backpropagation"),
        ("training.batch_size", training.batch_size, None),
        ("training.l1", training.l1, 0.0),
        ("training.l2", training.l2, 0.0),
        ("training.clip_value", training.clip_value, None),
        ("training.clip_norm", training.clip_norm, None),
        ("recording.weight_metrics", recording.weight_metrics, False),
        ("recording.direction_changes", recording.direction_changes, False),
        ("recording.table_epochs", recording.table_epochs, 0),
        ("optimizer.output_learning_rate", getattr(config.optimizer, "output_learning_rate", None), None),
        *((f"model.{key}", getattr(config.model, key), value) for key, value in NETWORKS_ALONE.items()),
    ]
    if config.schedule.name == "reduce_on_plateau":
        raise ValueError(
            "schedule: a curve needs one that does not go by the loss, as schedule=cosine; got reduce_on_plateau"
        )
    for key, received, accepted in needed:
        if received != accepted:
            raise ValueError(f"{key}: a curve, which has no network, needs {key}={_plain(accepted)}; got {received}")


def _plain(value: object) -> str:
    """A value as it is typed on the command line."""
    words = {None: "null", True: "true", False: "false"}
    if isinstance(value, bool) or value is None:
        return words[value]
    return "[]" if isinstance(value, Sequence) and not value else str(value)
