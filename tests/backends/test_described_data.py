"""Training on described data: the metrics of each task, and that both backends compute the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from pipeline.backends.choose import trainer
from pipeline.backends.numpy.network import predict, stack
from pipeline.backends.shared.history import History
from pipeline.config.metrics import OF_TASK
from pipeline.config.schema import Config
from pipeline.config.task_rules import LOSSES_OF
from pipeline.diagnosis.baseline import baseline_loss
from pipeline.diagnosis.networks import diagnose
from tests.support.described import SMALL, TASKS, config_of, prepared

CLOSE = {"float32": 1e-6, "float64": 1e-12}
# Each training takes two seconds on Keras. A loss does not know the data set: each is tried through both activations on
# numbers, and on classes of 0 and 1 one of those that are not made for them.
CASES = [
    *(("diabetes", loss, last, "float64") for loss in LOSSES_OF["regression"] for last in ("identity", "sigmoid")),
    *(("diabetes", loss, "identity", "float32") for loss in LOSSES_OF["regression"]),
    *(("breast_cancer", "mean_squared_error", last, "float64") for last in ("identity", "sigmoid")),
    *((name, LOSSES_OF[TASKS[name]][0], "auto", dtype) for name in ("iris", "breast_cancer") for dtype in CLOSE),
]


def trained_on(name: str, *overrides: str, **options: float) -> tuple[Config, History]:
    point, history = config_of(name, *overrides, **options), History()
    trainer(point)([point], prepared(name, **options).loaded(point.dtype), [history], lambda epoch, loss: None)
    return point, history


def expected_of(task: str, outputs: Any, targets: Any) -> dict[str, float]:
    """All metrics of a task but the loss, by scikit-learn."""
    if task == "classification":
        labels = outputs.argmax(axis=1)
        return {
            "accuracy": metrics.accuracy_score(targets, labels),
            "balanced_accuracy": metrics.balanced_accuracy_score(targets, labels),
        }
    if task == "binary":
        return {
            "accuracy": metrics.accuracy_score(targets, outputs > 0.5),
            "balanced_accuracy": metrics.balanced_accuracy_score(targets, outputs > 0.5),
            "auc": metrics.roc_auc_score(targets, outputs),
        }
    return {
        "mean_absolute_error": metrics.mean_absolute_error(targets, outputs),
        "root_mean_squared_error": metrics.root_mean_squared_error(targets, outputs),
        "r2": metrics.r2_score(targets, outputs),
    }


@pytest.mark.parametrize("backend", ["numpy", "keras"])
@pytest.mark.parametrize("batch_size", ["32", "null"])
@pytest.mark.parametrize("name", ["iris", "breast_cancer", "diabetes"])
def test_the_metrics_are_those_of_scikit_learn(name: str, batch_size: str, backend: str) -> None:
    point, history = trained_on(
        name, *SMALL, "training.epochs=3", f"training.batch_size={batch_size}", "dtype=float64", f"backend={backend}"
    )
    found = history.final()
    rows = prepared(name).arrays
    weights = stack([history.snapshots[3]])
    for split in ("test", "train"):
        outputs = predict(point.dense, weights, rows[f"{split}_inputs"])[0]
        expected = expected_of(TASKS[name], outputs, rows[f"{split}_targets"])
        assert set(expected) == set(OF_TASK[TASKS[name]])
        if split == "test" or batch_size == "null":
            assert {key: found[f"{split}/{key}"] for key in expected} == pytest.approx(expected, rel=1e-9)
    on_batches = {key for key in found if key.startswith("train/")}
    if batch_size == "32":  # means over the batches, each at weights of its own
        assert on_batches == {"train/loss", "train/baseline_loss", f"train/{OF_TASK[TASKS[name]][0]}"}


@pytest.mark.parametrize(("name", "loss", "activation", "dtype"), CASES)
def test_both_backends_agree_after_an_epoch(name: str, loss: str, activation: str, dtype: str) -> None:
    close = CLOSE[dtype]
    chosen = (*SMALL, f"loss={loss}", f"model.output_activation={activation}", "training.epochs=1", f"dtype={dtype}")
    point, by_numpy = trained_on(name, *chosen, "optimizer=sgd", "optimizer.learning_rate=0.001")
    _, by_keras = trained_on(name, *chosen, "optimizer=sgd", "optimizer.learning_rate=0.001", "backend=keras")
    assert point.loss == loss
    assert by_numpy.names() == by_keras.names()
    for array in by_numpy.snapshots[1]:
        one, other = by_numpy.snapshots[1][array], by_keras.snapshots[1][array]
        assert np.abs(one.astype(float) - other).max() <= close
        assert np.any(one != by_numpy.snapshots[0][array])
    for name_of in by_numpy.names():
        ends = by_numpy.final()[name_of], by_keras.final()[name_of]
        assert abs(ends[0] - ends[1]) <= max(close, close * abs(ends[0])), name_of


@pytest.mark.parametrize(
    ("name", "backend"), [("iris", "numpy"), ("breast_cancer", "numpy"), ("diabetes", "numpy"), ("diabetes", "keras")]
)
def test_data_without_test_rows_has_training_metrics_alone(name: str, backend: str) -> None:
    chosen = (*SMALL, "training.batch_size=null", f"backend={backend}")
    _, history = trained_on(name, *chosen, test_share=0.0)
    assert not [key for key in history.names() if key.startswith("test/")]
    assert {f"train/{key}" for key in OF_TASK[TASKS[name]]} <= set(history.names())


@pytest.mark.parametrize("overrides", [(), ("optimizer=bfgs",), ("optimizer=aw_sgd", "training.batch_size=32")])
@pytest.mark.parametrize("name", ["iris", "breast_cancer", "diabetes"])
def test_every_way_of_training_learns_and_records_the_baseline_once(name: str, overrides: tuple[str, ...]) -> None:
    batch = "training.batch_size=null"
    point, history = trained_on(name, *SMALL, batch, "training.epochs=30", "optimizer.learning_rate=0.05", *overrides)
    steps, values = history.series("train/baseline_loss")
    assert steps.tolist() == [0]
    assert baseline_loss(point, history) == values[0]
    assert history.final()["test/loss"] < values[0]
    assert diagnose(point, history).values["loss_over_baseline"] < 1
    assert {f"test/{key}" for key in OF_TASK[TASKS[name]]} <= set(history.names())


@pytest.mark.parametrize("backend", ["numpy", "keras"])
def test_a_point_that_diverges_at_once_is_diagnosed_too(backend: str) -> None:
    point, history = trained_on(
        "diabetes", *SMALL, "optimizer=sgd", "optimizer.learning_rate=1e38", f"backend={backend}"
    )
    assert math.isfinite(baseline_loss(point, history))
    assert diagnose(point, history).verdict == "diverged"


def test_forward_differences_come_near_backpropagation_in_training() -> None:
    chosen = ("model=linear", "model.initializer=uniform", "training.batch_size=null", "training.epochs=3")
    sgd = ("optimizer=sgd", "optimizer.learning_rate=0.1", "dtype=float64", "finite_difference_step=1e-7")
    for loss in ("binary_cross_entropy", "huber", "mean_absolute_error"):
        exact = trained_on("breast_cancer", *chosen, *sgd, f"loss={loss}")[1]
        near = trained_on("breast_cancer", *chosen, *sgd, f"loss={loss}", "gradient=finite_difference")[1]
        for array, values in exact.snapshots[3].items():
            np.testing.assert_allclose(near.snapshots[3][array], values, rtol=1e-4, atol=1e-5)
