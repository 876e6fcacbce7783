"""The loss of Keras models of one's own at their initial weights: gradients, products of the Hessian, predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from pipeline.backends.curvature.breaking import breaking_rate
from pipeline.backends.curvature.curved import sample
from pipeline.backends.curvature.eigenvalues import largest_eigenvalues
from pipeline.backends.curvature.hessian import Hessian
from pipeline.backends.curvature.initial_loss import DenseLoss
from pipeline.backends.curvature.prediction import predict, why_not
from pipeline.backends.numpy.network import stack as stacked
from pipeline.backends.shared.history import History
from pipeline.data.arrays import Arrays
from tests.backends.test_own_models import MODEL, SMALL, pictures, run, written  # noqa: F401 - a fixture
from tests.support.trained import config

if keras.backend.backend() != "tensorflow":
    pytest.skip("TensorFlow multiplies with the Hessian", allow_module_level=True)
from pipeline.backends.curvature.keras_loss import KerasLoss, Vector

SMOOTH = """
import keras

def build(input_shape, outputs, units=4):
    return keras.Sequential([
        keras.Input(input_shape), keras.layers.Flatten(),
        keras.layers.Dense(units, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.01)),
        LAYER keras.layers.Dropout(0.5), keras.layers.Dense(outputs)])
"""
DENSE = """
import keras

def build(input_shape, outputs):
    return keras.Sequential([
        keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(5, activation="tanh"),
        keras.layers.Dense(outputs)])
"""


@pytest.mark.parametrize("layer", ["", "keras.layers.BatchNormalization(),"], ids=["exact", "wrong second derivative"])
def test_products_are_differences_of_gradients_with_the_masks_held_fixed(
    layer: str,
    tmp_path: Path,
    pictures: Arrays,  # noqa: F811
) -> None:
    point = written(tmp_path, SMOOTH.replace("LAYER", layer), name=f"smooth_{len(layer)}")
    loss = KerasLoss(point, pictures)
    inputs, targets = sample(point, pictures, 30)
    hessian = loss.hessian(inputs, targets)
    direction = np.random.default_rng(0).normal(size=hessian.shape)
    assert np.array_equal(hessian @ direction, hessian @ direction)
    start = [variable.numpy() for variable in loss.network.trainable_variables]

    def gradient_at(step: float) -> Vector:
        for variable, value, along in zip(
            loss.network.trainable_variables, start, loss.parts(direction[0]), strict=True
        ):
            variable.assign(value + step * along.numpy())
        return loss.gradient(inputs, targets)[1]

    def difference(step: float) -> Vector:
        return (gradient_at(step) - gradient_at(-step)) / (2 * step)

    expected = (4 * difference(1e-5) - difference(2e-5)) / 3
    gradient_at(0)
    size = np.abs(expected).max()
    np.testing.assert_allclose((hessian @ direction)[0] / size, expected / size, atol=1e-7)


def test_a_model_that_is_a_densenetwork_has_its_hessian(tmp_path: Path, pictures: Arrays) -> None:  # noqa: F811
    point = written(tmp_path, DENSE, "optimizer=sgd")
    loss = KerasLoss(point, pictures)
    inputs, targets = sample(point, pictures, 40)
    hessian = loss.hessian(inputs, targets)
    names = ("layer_0/weights", "layer_0/bias", "layer_1/weights", "layer_1/bias")
    weights = {name: variable.numpy() for name, variable in zip(names, loss.network.trainable_variables, strict=True)}
    dense = config("experiment=mnist", "model.hidden_size=5", "model.hidden_activation=tanh", "optimizer=sgd")
    ours = Hessian([dense], stacked([weights]), inputs, targets)
    assert hessian.losses[0] == pytest.approx(ours.losses[0], rel=1e-12)
    direction = np.random.default_rng(0).normal(size=hessian.shape)
    np.testing.assert_allclose(hessian @ direction, ours @ direction, rtol=1e-9, atol=1e-10)
    expected = largest_eigenvalues(ours).values[0, 0]
    assert largest_eigenvalues(hessian).values[0, 0] == pytest.approx(expected, rel=1e-5)
    found = predict(point, pictures, 40)
    assert found.breaking_rate == pytest.approx(breaking_rate(point.optimizer, expected), rel=1e-5)


def test_its_start_is_that_of_training(tmp_path: Path, pictures: Arrays) -> None:  # noqa: F811
    point = written(tmp_path, DENSE)
    loss = KerasLoss(point, pictures)
    trained = run(point, pictures)
    first = trained.snapshots[0].values()
    for variable, array in zip(loss.network.trainable_variables, first, strict=True):
        assert np.array_equal(variable.numpy(), array)


def test_adaptive_methods_see_the_minibatches_of_training(tmp_path: Path, pictures: Arrays) -> None:  # noqa: F811
    """The gradients of a model that is a dense network, against those with which the NumPy backend trains."""
    point = written(tmp_path, DENSE)
    loss = KerasLoss(point, pictures)
    kept = [variable.numpy() for variable in loss.network.trainable_variables]
    dense = config("experiment=mnist", "model.hidden_size=5", "model.hidden_activation=tanh", "training.batch_size=16",
                   "dtype=float64")  # fmt: skip
    numpy_loss = DenseLoss(dense, replace(pictures, dtype="float64"))
    for name, value in zip(list(numpy_loss.drawn), kept, strict=True):
        numpy_loss.drawn[name][...] = value
    for _, ours, theirs in zip(range(7), numpy_loss.batch_gradients(), loss.batch_gradients(), strict=False):
        np.testing.assert_allclose(theirs, ours, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", ["sgd", "adam"])
def test_the_example_is_predicted_and_breaks_there(method: str, pictures: Arrays) -> None:  # noqa: F811
    """In full batches: below the predicted rate the loss falls at first, well above it rises."""
    point = config(*SMALL, f"optimizer={method}", "training.batch_size=null", "training.epochs=6")
    found = predict(point, pictures, 40)
    assert found.unclear == ""

    def first_losses(factor: float) -> Vector:
        optimizer = point.optimizer.model_copy(update={"learning_rate": found.breaking_rate * factor})
        history: History = run(point.model_copy(update={"optimizer": optimizer}), pictures)
        return history.series("train/loss")[1]

    below = first_losses(0.3)
    assert below[-1] < below[0]
    above = first_losses(10.0)
    assert above.max() > above[0]


def test_a_wrong_second_derivative_is_found_where_it_begins_to_count(tmp_path: Path, pictures: Arrays) -> None:  # noqa: F811
    """With a last layer of zeros the term that is wrong is multiplied by 0."""
    code = SMOOTH.replace("LAYER", "keras.layers.BatchNormalization(),").replace(
        "Dense(outputs)", "Dense(outputs, kernel_initializer='zeros')"
    )
    point = written(tmp_path, code, name="zeros")
    loss = KerasLoss(point, pictures)
    inputs, targets = sample(point, pictures, 30)
    assert loss.is_exact(inputs, targets)
    loss.move_to(np.random.default_rng(1).normal(size=loss.weights))
    assert not loss.is_exact(inputs, targets)


def test_other_engines_have_no_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.backends.curvature.prediction.keras_engine", lambda: "jax")
    assert "jax" in why_not(config(*SMALL))
    assert why_not(config("experiment=mnist")) == ""


def test_dropout_of_the_example_is_in_the_prediction(tmp_path: Path, pictures: Arrays) -> None:  # noqa: F811
    point = written(tmp_path, MODEL, "optimizer=sgd")
    curvatures = [predict(point, pictures, 40).curvature for _ in range(2)]
    assert curvatures[0] == curvatures[1] > 0
