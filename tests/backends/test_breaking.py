"""The rate at which each method breaks: on quadratics, where theory is exact, and what it makes of the gradient."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends.curvature import prediction
from pipeline.backends.curvature.breaking import FORMULAS, breaking_rate, gradient_factors
from pipeline.backends.curvature.curved import sample
from pipeline.backends.curvature.initial_loss import DenseLoss
from pipeline.backends.curvature.prediction import WARM_UP, factors_after, predict, why_not
from pipeline.backends.numpy.optimizers.by_name import OPTIMIZERS
from pipeline.config.optimizer import Optimizer
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, load
from tests.support import device_arrays
from tests.support.trained import config, trained

# y = 3 x at x = 1, 2, 3, 4. With the mean squared error the Hessian is 2 / 4 [[30, 10], [10, 4]] = [[15, 5], [5, 2]]
# in weight and bias, whose eigenvalues are (17 +- sqrt(13^2 + 10^2)) / 2.
LINE = ("experiment=line_y3x", "dtype=float64", "gradient=backpropagation")
OF_THE_LINE = (17 + np.sqrt(269)) / 2
ADAPTIVE = ("adagrad", "adadelta", "rmsprop", "adam", "adamw", "amsgrad", "nadam")


def optimizer(name: str, **knobs: Any) -> Optimizer:
    return config(f"optimizer={name}").optimizer.model_copy(update=knobs)


def on_a_parabola(method: Optimizer, curvature: float, updates: int) -> float:
    """The largest distance from the minimum of 1/2 L w^2 over the last tenth of the updates; it starts at 1."""
    knobs: dict[str, Any] = {
        name: np.float64(value) for name, value in method.model_dump().items() if isinstance(value, float)
    }
    kind = OPTIMIZERS[method.name]
    state = {slot: np.zeros(1) for slot in kind.slots}
    change = np.zeros(1)
    made = kind(knobs, np.full(1, method.learning_rate), state, change, np.zeros(1))
    weight = np.ones(1)
    late = 0.0
    for t in range(1, updates + 1):
        made.update(curvature * weight, weight, t)
        weight = weight + change
        if abs(weight[0]) > 1e6:
            return float(abs(weight[0]))
        if t > updates * 0.9:
            late = max(late, abs(float(weight[0])))
    return late


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov"])
@given(curvature=st.floats(0.01, 100), momentum=st.floats(0, 0.95))
def test_descent_on_a_parabola_trains_below_the_breaking_rate_and_diverges_above(
    name: str, curvature: float, momentum: float
) -> None:
    method = optimizer(name)
    if name != "sgd":
        method = method.model_copy(update={"momentum": momentum})
    rate = breaking_rate(method, curvature)
    below, above = (method.model_copy(update={"learning_rate": rate * factor}) for factor in (0.98, 1.02))
    assert on_a_parabola(below, curvature, 4000) < 1e-3
    assert on_a_parabola(above, curvature, 4000) > 1e3


def recurrence(name: str, b: float, rate: float) -> Any:
    """The characteristic polynomial of w on 1/2 w^2 where the method multiplies gradients by 1, bias corrected.

    With m = b m + (1 - b) w, Adam's step is -rate m, and Nadam's -rate (b m + (1 - b) w). Written for (w, m).
    """
    matrix = {
        # m' = b m + (1 - b) w; w' = w - rate m'
        "adam": [[1 - rate * (1 - b), -rate * b], [1 - b, b]],
        # w' = w - rate (b m' + (1 - b) w)
        "nadam": [[1 - rate * (1 - b) * (1 + b), -rate * b * b], [1 - b, b]],
        # v' = b v - rate w; w' = w + v'
        "rmsprop": [[1 - rate, b], [-rate, b]],
    }[name]
    return np.abs(np.linalg.eigvals(np.array(matrix))).max()


@pytest.mark.parametrize("name", ["adam", "nadam", "rmsprop"])
@pytest.mark.parametrize("b", [0.0, 0.5, 0.9, 0.99])
def test_adaptive_methods_break_where_their_recurrence_leaves_the_unit_circle(name: str, b: float) -> None:
    method = optimizer(name, **{"momentum" if name == "rmsprop" else "beta_1": b})
    rate = breaking_rate(method, 1.0)
    assert recurrence(name, b, rate * 0.999) < 1
    assert recurrence(name, b, rate * 1.001) > 1
    assert breaking_rate(method, 4.0) == pytest.approx(rate / 4)


def test_adam_breaks_at_38_over_the_curvature_and_adamw_and_amsgrad_with_it() -> None:
    assert [breaking_rate(optimizer(name), 2.0) for name in ("adam", "adamw", "amsgrad")] == pytest.approx([19.0] * 3)


@pytest.mark.parametrize("curvature", [0.0, -1.0, float("nan")])
def test_without_an_upward_curve_there_is_no_breaking_rate(curvature: float) -> None:
    assert np.isnan(breaking_rate(optimizer("sgd"), curvature))


@pytest.mark.parametrize("name", ADAPTIVE)
def test_factors_are_what_the_method_multiplies_a_gradient_by(name: str) -> None:
    """Without memory of earlier gradients, a step is -rate times factor times gradient."""
    plain = {"adam": {"beta_1": 0.0}, "adamw": {"beta_1": 0.0, "weight_decay": 0.0}, "amsgrad": {"beta_1": 0.0},
             "nadam": {"beta_1": 0.0}, "rmsprop": {"momentum": 0.0}, "adadelta": {"rho": 1 - 1e-9}}  # fmt: skip
    method = optimizer(name, learning_rate=0.25, **plain.get(name, {}))
    knobs: dict[str, Any] = {
        key: np.float64(value) for key, value in method.model_dump().items() if isinstance(value, float)
    }
    kind = OPTIMIZERS[name]
    state = {slot: np.full(3, 0.01) for slot in kind.slots}
    change = np.zeros(3)
    made = kind(knobs, np.full(3, 0.25), state, change, np.zeros(3))
    gradient = np.array([0.1, -2.0, 30.0])
    made.update(gradient, np.zeros(3), 5)
    factors = gradient_factors(method, state, 5)
    # AdaDelta's step uses its mean of steps from before the step, which hardly changes with this memory.
    np.testing.assert_allclose(change, -0.25 * factors * gradient, rtol=1e-4 if name == "adadelta" else 1e-12)


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov"])
def test_methods_with_one_rate_for_all_weights_have_no_factors(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        gradient_factors(optimizer(name), {"velocity": np.ones(2)}, 3)
    assert factors_after(optimizer(name), []) == 1


# --- the prediction of a point


def arrays_of(point: Config) -> Arrays:
    return load(point.data, point.dtype, Path())


def test_the_line_breaks_where_theory_says_to_four_digits() -> None:
    point = config(*LINE)
    found = predict(point, arrays_of(point), 100)
    assert found.curvature == pytest.approx(OF_THE_LINE, rel=1e-12)
    assert f"{found.curvature:.2f}" == "16.70"
    assert f"{found.breaking_rate:.4f}" == "0.1198"
    below, above = (
        config(*LINE, f"optimizer.learning_rate={found.breaking_rate * factor}", "training.epochs=5000")
        for factor in (0.9997, 1.0003)
    )
    histories = trained(below, above)
    series = [history.series("train/loss")[1] for history in histories]
    losses = [values[-1] for values in series]
    first = series[0][0]
    assert losses[0] < first / 100
    assert losses[1] > first * 2


def test_a_linear_network_without_a_bias_is_a_parabola() -> None:
    """The mean of (w x - y)^2 has the second derivative 2 mean(x^2)."""
    point = config("experiment=line_y2x", "dtype=float64", "gradient=backpropagation", "model.bias=false")
    arrays = arrays_of(point)
    found = predict(point, arrays, 100)
    squares = float((arrays.train_inputs**2).mean())
    assert found.curvature == pytest.approx(2 * squares, rel=1e-12)
    assert found.breaking_rate == pytest.approx(1 / squares, rel=1e-12)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_adaptive_methods_are_predicted_from_their_state_after_updates_that_move_nothing(name: str) -> None:
    """On the line, where every gradient is g, the mean of squares is g^2 times what the updates add up to."""
    overrides = ("experiment=line_y3x", "dtype=float64", "gradient=backpropagation", f"optimizer={name}")
    point = config(*overrides, "model.initial_weight=1", "model.initial_bias=0.5")
    found = predict(point, arrays_of(point), 100)
    # Errors x + 1/2 - 3 x at 1 to 4, and the gradient in weight and bias.
    errors = np.array([1.0, 2, 3, 4]) * -2 + 0.5
    gradient = 2 * np.array([(errors * [1, 2, 3, 4]).mean(), errors.mean()])
    hessian = np.array([[15.0, 5], [5, 2]])
    knobs: Any = point.optimizer
    squares = gradient**2
    if name == "adagrad":
        factors = 1 / np.sqrt(knobs.initial_accumulator_value + WARM_UP * squares + knobs.epsilon)
    elif name == "rmsprop":
        factors = 1 / np.sqrt(squares * (1 - knobs.rho**WARM_UP) + knobs.epsilon)
    elif name == "adadelta":
        mean, steps = np.zeros(2), np.zeros(2)
        for _ in range(WARM_UP):
            mean = knobs.rho * mean + (1 - knobs.rho) * squares
            step = np.sqrt(steps + knobs.epsilon) / np.sqrt(mean + knobs.epsilon) * gradient
            steps = knobs.rho * steps + (1 - knobs.rho) * step**2
        factors = np.sqrt((steps + knobs.epsilon) / (mean + knobs.epsilon))
    elif name == "nadam":
        factors = 1 / (np.abs(gradient) + knobs.epsilon)
    else:
        # Epsilon is added before the correction of the bias.
        corrected = np.sqrt(1 - knobs.beta_2**WARM_UP)
        factors = corrected / (corrected * np.abs(gradient) + knobs.epsilon)
    expected = np.linalg.eigvals(factors[:, None] * hessian).real.max()
    assert found.curvature == pytest.approx(expected, rel=1e-9)
    assert found.breaking_rate == pytest.approx(FORMULAS[name].factor(knobs) / expected, rel=1e-9)


def test_the_widths_of_maximal_update_are_in_the_prediction() -> None:
    """The scale of each array's rate is a factor of its rows of the Hessian."""
    overrides = ("experiment=three_bits", "dtype=float64", "model.hidden_size=8", "model.initializer=lecun_normal")
    plain = config(*overrides)
    scaled = config(*overrides, "model.parametrization=maximal_update", "model.base_hidden_size=8")
    wide = config(*overrides, "model.parametrization=maximal_update", "model.base_hidden_size=2")
    arrays = arrays_of(plain)
    curvatures = [predict(point, arrays, 100).curvature for point in (plain, scaled, wide)]
    assert curvatures[0] == curvatures[1]
    assert curvatures[2] != pytest.approx(curvatures[0], rel=1e-3)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("experiment=methods_three_bits", "optimizer=lion"), "Lion's steps"),
        (("experiment=methods_three_bits", "optimizer=bfgs"), "bfgs"),
        (("experiment=methods_three_bits", "optimizer=annealing"), "annealing"),
        (("experiment=methods_mnist", "optimizer=aw_sgd"), "aw_sgd"),
        (("experiment=three_bits", "optimizer.output_learning_rate=0.1"), "a rate of its own"),
        (("experiment=three_bits", "training.clip_norm=1"), "clipped"),
        (("experiment=curve_restarts",), "a map or a curve"),
        (("experiment=trainability_map",), "a map or a curve"),
    ],
)
def test_where_there_is_no_prediction_the_reason_is_said(overrides: tuple[str, ...], words: str) -> None:
    assert words in why_not(config(*overrides))


def test_a_network_without_a_finite_gradient_and_one_without_an_upward_curve() -> None:
    point = config(*LINE, "model.initial_weight=1e200")
    assert "inf or NaN" in predict(point, arrays_of(point), 100).unclear
    # Bits are not negative, so that no rectifier is active, and no weight changes the loss.
    dead = config("experiment=three_bits", "model.hidden_activation=relu", "model.initializer=constant",
                  "model.initial_weight=-1", "model.bias=false", "model.output_activation=sigmoid")  # fmt: skip
    found = predict(dead, arrays_of(dead), 100)
    assert "no direction of positive curvature" in found.unclear


def test_minibatches_are_judged_by_a_sample_that_the_seed_chooses() -> None:
    point = config("experiment=mnist")
    random = np.random.default_rng(0)
    inputs = random.integers(0, 256, (50, 4)).astype(np.uint8)
    arrays = Arrays(inputs, np.arange(50), None, None, 50, {})
    rows, labels = sample(point, arrays, 20)
    assert rows.shape == (20, 4)
    assert rows.dtype == np.float64
    np.testing.assert_array_equal(rows, arrays.scaled(inputs[labels]))
    assert np.array_equal(labels, sample(point, arrays, 20)[1])
    assert not np.array_equal(labels, sample(point.model_copy(update={"seed": 2}), arrays, 20)[1])
    assert len(sample(point, arrays, 50)[0]) == 50
    whole = config("experiment=mnist", "training.batch_size=null")
    assert len(sample(whole, arrays, 20)[0]) == 50


@pytest.mark.parametrize("size", [1, 16, 128])
def test_the_state_of_an_adaptive_method_knows_every_input_of_the_sample(size: int) -> None:
    """An input that no minibatch had would have the factor 1 / epsilon, and decide the curvature alone."""
    # Each input is that of one row.
    arrays = Arrays(np.eye(600, dtype=np.float32), np.arange(600) % 5, None, None, 5, {})
    network = ("model.hidden_size=3", "model.hidden_activation=tanh")
    point = config("experiment=mnist", "optimizer=adam", *network, f"training.batch_size={size}")
    rows, _ = sample(point, arrays, 300)
    asked: list[int] = []

    class Watched(DenseLoss):
        def batch_gradients(self) -> Iterator[Any]:
            for number, gradient in enumerate(super().batch_gradients(), start=1):
                asked.append(number)
                yield gradient

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction, "DenseLoss", Watched)
        predict(point, arrays, 300)
    factors = factors_after(point.optimizer, islice(DenseLoss(point, arrays).batch_gradients(), asked[-1]))
    lit = rows.any(axis=0)
    assert lit.sum() == 300
    assert factors[: 600 * 3].reshape(600, 3)[lit].max() < 0.1 / point.optimizer.model_dump()["epsilon"]


def test_a_full_batch_has_one_gradient() -> None:
    point = config("experiment=three_bits", "optimizer=adam")
    first, second = islice(DenseLoss(point, arrays_of(point)).batch_gradients(), 2)
    assert first is second


def test_points_on_a_gpu_have_the_same_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ("experiment=three_bits", "optimizer=adam", "dtype=float64", "model.hidden_size=5")
    plain = config(*overrides)
    on_host = predict(plain, arrays_of(plain), 100)
    device_arrays.install(monkeypatch)
    point = config(*overrides, "backend.array_module=cupy")
    assert predict(point, arrays_of(point), 100).curvature == pytest.approx(on_host.curvature, rel=1e-12)
