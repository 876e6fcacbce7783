"""Plain backpropagation against central differences; forward differences against the source text's numbers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from pipeline.backends.numpy.gradients import forward_differences
from pipeline.backends.numpy.losses import Targets, loss_and_slope
from pipeline.backends.numpy.network import Array, Parameters, forward
from pipeline.config.model import Model
from tests.support.plain_network import NO_FEATURES, backpropagation
from tests.support.trained import config, trained

POINTS, ROWS, FEATURES, HIDDEN, OUTPUTS = 3, 5, 4, 6, 3
LOSSES = [
    (loss, activation)
    for loss in ("mean_squared_error", "half_summed_squared_error", "mean_absolute_error", "huber")
    for activation in ("identity", "sigmoid")
]
LOSSES += [("cross_entropy", "softmax"), ("binary_cross_entropy", "sigmoid")]


def setting(loss: str, output: str, hidden: str | None, bias: bool) -> tuple[Model, Parameters, Array, Targets]:
    random = np.random.default_rng(7)
    model = Model.model_validate(
        {
            "hidden_size": None if hidden is None else HIDDEN,
            "hidden_activation": hidden or "sigmoid",
            "output_activation": output,
            "bias": bias,
            "initializer": "uniform",
            "initial_weight": 0.0,
            "initial_bias": 0.0,
            **NO_FEATURES,
        }
    )
    sizes = [FEATURES, OUTPUTS] if hidden is None else [FEATURES, HIDDEN, OUTPUTS]
    parameters: Parameters = {}
    for layer, (wide, narrow) in enumerate(pairwise(sizes)):
        parameters[f"layer_{layer}/weights"] = random.normal(size=(POINTS, wide, narrow))
        if bias:
            parameters[f"layer_{layer}/bias"] = random.normal(size=(POINTS, 1, narrow))
    inputs = random.normal(size=(ROWS, FEATURES))
    labels = loss == "cross_entropy"
    targets = random.integers(0, OUTPUTS, ROWS) if labels else random.uniform(size=(ROWS, OUTPUTS))
    return model, parameters, inputs, targets


def differences(
    loss: str, model: Model, parameters: Parameters, inputs: Array, targets: Targets, step: float = 1e-4
) -> tuple[Array, Parameters, Array]:
    """`forward_differences` with the arguments of `backpropagation`."""
    knobs = {"loss": loss, "model": model, "finite_difference_step": step}
    point = config("experiment=line_y2x").model_copy(update=knobs)
    return forward_differences(point, parameters, inputs, targets)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("hidden", [None, "sigmoid", "relu"])
@pytest.mark.parametrize(("loss", "output"), LOSSES)
def test_backpropagation_is_the_derivative(loss: str, output: str, hidden: str | None, bias: bool) -> None:
    model, parameters, inputs, targets = setting(loss, output, hidden, bias)
    if hidden == "relu":
        # A difference across the kink would not be the derivative.
        first = inputs @ parameters["layer_0/weights"] + parameters.get("layer_0/bias", np.zeros(1))
        assert np.abs(first).min() > 1e-4

    def losses(at: Parameters) -> Array:
        return loss_and_slope(loss, output, forward(model, at, inputs)[-1], targets)[0]

    found, gradients, sums = backpropagation(loss, model, parameters, inputs, targets)
    assert np.array_equal(found, losses(parameters))
    assert np.array_equal(sums, forward(model, parameters, inputs)[-1])
    assert sorted(gradients) == sorted(parameters)
    step = 1e-5
    for name, array in parameters.items():
        expected = np.empty_like(array)
        for index in np.ndindex(array.shape[1:]):
            up = array.copy()
            down = array.copy()
            up[(slice(None), *index)] += step
            down[(slice(None), *index)] -= step
            difference = losses({**parameters, name: up}) - losses({**parameters, name: down})
            expected[(slice(None), *index)] = difference / (2 * step)
        assert gradients[name].shape == array.shape
        np.testing.assert_allclose(gradients[name], expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("hidden", [None, "sigmoid", "relu"])
@pytest.mark.parametrize(("loss", "output"), LOSSES)
def test_forward_differences_come_near_backpropagation(loss: str, output: str, hidden: str | None, bias: bool) -> None:
    model, parameters, inputs, targets = setting(loss, output, hidden, bias)
    losses, gradients, _ = backpropagation(loss, model, parameters, inputs, targets)
    same, slopes, _ = differences(loss, model, parameters, inputs, targets, 1e-6)
    assert np.array_equal(same, losses)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(slopes[name], gradient, rtol=1e-3, atol=1e-4)
        assert slopes[name].dtype == np.float64


def test_gradients_of_a_stack_are_those_of_each_point_alone() -> None:
    model, parameters, inputs, targets = setting("cross_entropy", "softmax", "relu", bias=True)
    for method in (backpropagation, differences):
        losses, gradients, _ = method("cross_entropy", model, parameters, inputs, targets)
        for point in range(POINTS):
            alone = {name: array[point : point + 1] for name, array in parameters.items()}
            own_loss, own, _ = method("cross_entropy", model, alone, inputs, targets)
            assert own_loss[0] == losses[point]
            assert all(np.array_equal(own[name][0], gradients[name][point]) for name in gradients)


def test_gradients_leave_parameters_and_data_as_they_were() -> None:
    model, parameters, inputs, targets = setting("half_summed_squared_error", "sigmoid", "sigmoid", bias=True)
    before = {name: array.copy() for name, array in parameters.items()}
    given = inputs.copy(), np.array(targets)
    backpropagation("half_summed_squared_error", model, parameters, inputs, targets)
    differences("half_summed_squared_error", model, parameters, inputs, targets)
    assert all(np.array_equal(parameters[name], before[name]) for name in before)
    assert np.array_equal(inputs, given[0])
    assert np.array_equal(targets, given[1])


def test_the_config_chooses_the_method() -> None:
    study = ("experiment=line_y3x", "optimizer.learning_rate=0.1", "training.epochs=1", "recording.metrics_every=1")
    (exact,) = trained(config(*study, "gradient=backpropagation", "dtype=float64", "model.initial_weight=0"))
    (forward_step,) = trained(config(*study, "dtype=float64", "model.initial_weight=0"))
    slopes = {"weight": (-45, 7.5 * 1e-4), "bias": (-15, 1e-4)}
    for name, (slope, beyond) in slopes.items():
        assert exact.final()[f"weights/{name}"] == pytest.approx(-0.1 * slope, rel=1e-12)
        assert forward_step.final()[f"weights/{name}"] == pytest.approx(-0.1 * (slope + beyond), rel=1e-9)


def test_a_large_float32_weight_does_not_move_by_the_small_step() -> None:
    model = setting("mean_squared_error", "identity", None, bias=False)[0]
    inputs, targets = np.array([[1.0]], np.float32), np.array([[3.0]], np.float32)
    for dtype, stuck in (("float32", True), ("float64", False)):
        parameters: Parameters = {"layer_0/weights": np.full((1, 1, 1), 4096.0, dtype=dtype)}
        gradient = differences("mean_squared_error", model, parameters, inputs, targets)[1]
        assert (gradient["layer_0/weights"].item() == 0) is stuck


# The text's table, to its two decimals: epoch, weight, loss, loss after the small step, gradient, new weight; and
# the rows that follow from its formulas for the later epochs, computed here with plain Python numbers.
PRINTED = {0.01: 0.45, 0.1: 4.5, 1.0: 45.0}


def text_by_hand(rate: float, epochs: int) -> list[tuple[float, float, float, float, float]]:
    """Weight, loss, loss after the step, gradient, new weight; weights rounded to float32 after each step."""
    weight = bias = np.float32(0)
    step = np.float32(0.0001)

    def loss(w: np.float32, b: np.float32) -> float:
        return sum((float(w) * x + float(b) - 3 * x) ** 2 for x in (1, 2, 3, 4)) / 4

    rows = []
    for _ in range(epochs):
        now, after = loss(weight, bias), loss(weight + step, bias)
        slope, slope_bias = (after - now) / 0.0001, (loss(weight, bias + step) - now) / 0.0001
        new = np.float32(weight + np.float32(-rate * slope))
        rows.append((float(weight), now, after, slope, float(new)))
        weight, bias = new, np.float32(bias + np.float32(-rate * slope_bias))
    return rows


@pytest.mark.parametrize("rate", PRINTED)
def test_the_first_epochs_of_the_text(rate: float) -> None:
    (history,) = trained(config("experiment=line_y3x", f"optimizer.learning_rate={rate}"))
    rows = history.tables["first_epochs"]
    assert [row["epoch"] for row in rows] == list(range(1, 11))
    assert rows[0]["loss"] == 67.5
    assert f"{rows[0]['loss_after_step']:.2f}" == "67.50"
    assert f"{rows[0]['gradient']:.2f}" == "-45.00"
    assert f"{rows[0]['updated_weight']:.2f}" == f"{PRINTED[rate]:.2f}"
    for row, expected in zip(rows, text_by_hand(rate, 10), strict=True):
        found = [row[key] for key in ("weight", "loss", "loss_after_step", "gradient", "updated_weight")]
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-3)
    assert [row["updated_weight"] for row in rows[:-1]] == [row["weight"] for row in rows[1:]]
