"""Training against scikit-learn's networks, an independent implementation: the same weights after the same updates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier, MLPRegressor

from pipeline.backends.choose import trainer
from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, epoch_order
from tests.support.described import TASKS, config_of, prepared

EPOCHS = 4
BATCHES = 5  # in an epoch, the last one smaller: 20 updates
# scikit-learn halves squared errors. With twice the slope and twice the epsilon, Adam's update is the same.
EPSILON = {"classification": 1e-8, "binary": 1e-8, "regression": 2e-8}
ACTIVATIONS = {"relu": "relu", "tanh": "tanh", "sigmoid": "logistic"}


def by_scikit_learn(point: Config, arrays: Arrays, start: dict[str, NDArray[Any]], size: int) -> dict[str, Any]:
    """Return the weights after the updates, from the same start and on the same batches."""
    targets = arrays.train_targets
    if targets.ndim == 2:
        targets = targets[:, 0]
    kind = MLPRegressor if point.task == "regression" else MLPClassifier
    network = kind(
        hidden_layer_sizes=(point.dense.hidden_size, *point.dense.further_hidden_sizes),
        activation=ACTIVATIONS[point.dense.hidden_activation],
        solver="adam",
        alpha=0.0,
        batch_size=size,
        learning_rate_init=point.optimizer.learning_rate,
        shuffle=False,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
    )
    classes = {} if point.task == "regression" else {"classes": np.unique(targets)}
    network.partial_fit(arrays.train_inputs[:size], targets[:size], **classes)  # which makes its arrays
    layers = range(len(network.coefs_))
    network.coefs_ = [start[f"layer_{layer}/weights"].copy() for layer in layers]
    network.intercepts_ = [start[f"layer_{layer}/bias"].copy() for layer in layers]
    del network._optimizer  # noqa: SLF001 - the next call begins with a new one
    for epoch in range(1, EPOCHS + 1):
        order = epoch_order(point.seed, epoch, len(targets))
        network.partial_fit(arrays.train_inputs[order], targets[order])
    weights = {f"layer_{layer}/weights": network.coefs_[layer] for layer in layers}
    return weights | {f"layer_{layer}/bias": network.intercepts_[layer] for layer in layers}


@pytest.mark.parametrize("backend", ["numpy", "keras"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", ["iris", "digits", "breast_cancer", "diabetes"])
def test_twenty_updates_end_at_the_same_weights(name: str, activation: str, backend: str) -> None:
    data = prepared(name).loaded("float64")
    size = math.ceil(len(data.train_inputs) / BATCHES)
    point = config_of(
        name,
        f"backend={backend}",
        "dtype=float64",
        "optimizer=adam",
        f"optimizer.epsilon={EPSILON[TASKS[name]]}",
        "optimizer.learning_rate=0.01",
        f"training.batch_size={size}",
        f"training.epochs={EPOCHS}",
        f"model.hidden_activation={activation}",
        "model.hidden_size=7",
        "model.further_hidden_sizes=[5]",
    )
    history = History()
    trainer(point)([point], data, [history], lambda epoch, loss: None)
    start, end = history.snapshots[0], history.snapshots[EPOCHS]
    expected = by_scikit_learn(point, data, start, size)
    assert sorted(expected) == sorted(end)
    for array, values in expected.items():
        np.testing.assert_allclose(end[array], values, rtol=0, atol=1e-6, err_msg=array)
        assert np.abs(values - start[array]).max() > 0.001  # it moved
