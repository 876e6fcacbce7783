"""What BFGS, L-BFGS, annealing and AW-SGD cannot be combined with, and what cannot be computed on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from pipeline.backends.shared.initial_weights import layer_sizes

if TYPE_CHECKING:
    from pipeline.config import Config

MINIMIZERS = ("bfgs", "lbfgs")
ALONE = (*MINIMIZERS, "annealing", "aw_sgd")
"""Optimizers whose points have a `train` of their own, and do not share a pass."""
ANNEALED = 1000
"""Weights that annealing takes on: an epoch is two losses for each, and the places to look at grow with them."""


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
