"""Optimizers against scalar loops of the published formulas, and properties that hold for any of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.backends.numpy import optimizers
from pipeline.backends.numpy.network import Parameters
from pipeline.backends.numpy.packed import Packed
from pipeline.optimizer_sections import Adam, Momentum, Optimizer, Sgd

Knobs = Optimizer
Slope = Callable[[float], float]


def knobs(name: str, rate: float = 0.1, **changed: float) -> Knobs:
    if name == "sgd":
        return Sgd(name="sgd", learning_rate=rate, output_learning_rate=None)
    if name == "adam":
        return Adam.model_validate(
            {"name": "adam", "learning_rate": rate, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7} | changed
        )
    return Momentum.model_validate({"name": name, "learning_rate": rate, "momentum": 0.9} | changed)


State = dict[str, Any]


class Moved:
    """A stack under an optimizer, as training calls it; states are copied, so that two calls can be compared."""

    def __init__(self, points: list[Knobs], dtype: str, grid_last: bool = True) -> None:
        self.points, self.dtype, self.grid_last = points, dtype, grid_last

    def init(self, arrays: Mapping[str, NDArray[Any]]) -> State:
        moments = optimizers.MOMENTS[self.points[0].name]
        return {"t": 0, "moments": {name: self.packed(arrays).flat for name in moments}}

    def packed(self, arrays: Mapping[str, NDArray[Any]]) -> Packed:
        shapes = {name: (array.shape[1], array.shape[2]) for name, array in arrays.items()}
        return Packed(shapes, len(self.points), self.dtype, self.grid_last)

    def update(self, gradients: Mapping[str, NDArray[Any]], state: State) -> tuple[Parameters, State]:
        gradient, change = self.packed(gradients), self.packed(gradients)
        for name, array in gradient.arrays.items():
            array[...] = gradients[name]
        before = gradient.flat.copy()
        after = {"t": state["t"] + 1, "moments": copy.deepcopy(state["moments"])}
        knobs = optimizers.knobs(self.points, gradient)
        update = optimizers.UPDATES[self.points[0].name]
        update(gradient.flat, after["moments"], knobs, change.flat, np.full_like(change.flat, np.nan), after["t"])
        assert np.array_equal(gradient.flat, before, equal_nan=True)
        return change.arrays, after


def build(points: list[Knobs], dtype: str) -> Moved:
    return Moved(points, dtype)


def path(points: list[Knobs], slope: Slope, start: float, steps: int) -> list[list[float]]:
    """Where one weight goes in each point of a stack."""
    optimizer = build(points, "float64")
    weights: Parameters = {"w": np.full((len(points), 1, 1), start)}
    state = optimizer.init(weights)
    visited = []
    for _ in range(steps):
        gradients = {"w": np.array([slope(float(w)) for w in weights["w"].ravel()]).reshape(-1, 1, 1)}
        updates, state = optimizer.update(gradients, state)
        weights = {"w": weights["w"] + updates["w"]}
        visited.append(weights["w"].ravel().tolist())
    return [list(column) for column in zip(*visited, strict=True)]


def curve(w: float) -> float:
    """Slope of a curve that is no parabola."""
    return 2 * (w - 3) + math.sin(3 * w)


def sgd_by_hand(slope: Slope, w: float, steps: int, rate: float) -> list[float]:
    visited = []
    for _ in range(steps):
        w = w - rate * slope(w)
        visited.append(w)
    return visited


def momentum_by_hand(slope: Slope, w: float, steps: int, rate: float, kept: float) -> list[float]:
    """Polyak's heavy ball: w_(t+1) = w_t - rate * slope(w_t) + kept * (w_t - w_(t-1))."""
    before, visited = w, []
    for _ in range(steps):
        w, before = w - rate * slope(w) + kept * (w - before), w
        visited.append(w)
    return visited


def nesterov_by_hand(slope: Slope, w: float, steps: int, rate: float, kept: float) -> list[float]:
    """Sutskever et al. (2013), equations 3 and 4; what is returned is the place where the next slope is taken."""
    velocity, visited = 0.0, []
    for _ in range(steps):
        velocity = kept * velocity - rate * slope(w + kept * velocity)
        w += velocity
        visited.append(w + kept * velocity)
    return visited


def adam_by_hand(slope: Slope, w: float, steps: int, rate: float, b1: float, b2: float, eps: float) -> list[float]:
    """Kingma and Ba (2015), algorithm 1 in the order of its section 2's last paragraph."""
    mean = square = 0.0
    visited = []
    for t in range(1, steps + 1):
        g = slope(w)
        mean = b1 * mean + (1 - b1) * g
        square = b2 * square + (1 - b2) * g**2
        w -= rate * math.sqrt(1 - b2**t) / (1 - b1**t) * mean / (math.sqrt(square) + eps)
        visited.append(w)
    return visited


RATES = [0.003, 0.02, 0.3]


def test_sgd() -> None:
    found = path([knobs("sgd", rate) for rate in RATES], curve, -1.0, 50)
    for rate, own in zip(RATES, found, strict=True):
        assert own == pytest.approx(sgd_by_hand(curve, -1.0, 50, rate), rel=1e-10)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9])
def test_momentum(kept: float) -> None:
    found = path([knobs("momentum", rate, momentum=kept) for rate in RATES[:2]], curve, -1.0, 50)
    for rate, own in zip(RATES, found, strict=False):
        assert own == pytest.approx(momentum_by_hand(curve, -1.0, 50, rate, kept), rel=1e-9)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9])
def test_nesterov(kept: float) -> None:
    found = path([knobs("nesterov", rate, momentum=kept) for rate in RATES[:2]], curve, -1.0, 50)
    for rate, own in zip(RATES, found, strict=False):
        assert own == pytest.approx(nesterov_by_hand(curve, -1.0, 50, rate, kept), rel=1e-9)


@pytest.mark.parametrize(("b1", "b2", "eps"), [(0.9, 0.999, 1e-7), (0.5, 0.9, 1e-2), (0.0, 0.0, 1e-3)])
def test_adam(b1: float, b2: float, eps: float) -> None:
    found = path([knobs("adam", rate, beta_1=b1, beta_2=b2, epsilon=eps) for rate in RATES], curve, -1.0, 50)
    for rate, own in zip(RATES, found, strict=True):
        assert own == pytest.approx(adam_by_hand(curve, -1.0, 50, rate, b1, b2, eps), rel=1e-9)


def test_momentum_and_nesterov_differ() -> None:
    assert path([knobs("momentum")], curve, 0.0, 2) != path([knobs("nesterov")], curve, 0.0, 2)


# --- properties

NAMES = ["sgd", "momentum", "nesterov", "adam"]
NUMBERS = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6)


@st.composite
def settings(draw: st.DrawFn) -> tuple[list[Knobs], list[Parameters]]:
    """Points of one optimizer with knobs of their own, and gradients for some steps."""
    name = draw(st.sampled_from(NAMES))
    rate, share = st.floats(1e-6, 1e3), st.floats(0, 0.999)
    points = []
    for _ in range(draw(st.integers(1, 3))):
        changed = {
            "sgd": {},
            "adam": {"beta_1": draw(share), "beta_2": draw(share), "epsilon": draw(st.floats(1e-8, 1))},
        }.get(name, {"momentum": draw(share)})
        points.append(knobs(name, draw(rate), **changed))
    shapes = {"layer_0/weights": (len(points), 2, 3), "layer_0/bias": (len(points), 1, 3)}
    gradients = []
    for _ in range(draw(st.integers(1, 4))):
        flat = {key: draw(st.lists(NUMBERS, min_size=math.prod(s), max_size=math.prod(s))) for key, s in shapes.items()}
        gradients.append({key: np.array(values).reshape(shapes[key]) for key, values in flat.items()})
    return points, gradients


@given(settings())
def test_the_place_of_the_grid_axis_in_memory_changes_nothing(setting: tuple[list[Knobs], list[Parameters]]) -> None:
    points, steps = setting
    one, other = Moved(points, "float64", grid_last=True), Moved(points, "float64", grid_last=False)
    state, own = one.init(steps[0]), other.init(steps[0])
    for gradients in steps:
        updates, state = one.update(gradients, state)
        same, own = other.update(gradients, own)
        assert all(np.array_equal(updates[key], same[key]) for key in gradients)


@given(settings())
def test_a_stack_moves_as_each_point_alone(setting: tuple[list[Knobs], list[Parameters]]) -> None:
    points, steps = setting
    together = build(points, "float64")
    alone = [build([point], "float64") for point in points]
    state, states = together.init(steps[0]), [optimizer.init(steps[0]) for optimizer in alone]
    states = [
        optimizer.init({key: array[place : place + 1] for key, array in steps[0].items()})
        for place, optimizer in enumerate(alone)
    ]
    for gradients in steps:
        updates, state = together.update(gradients, state)
        for place, optimizer in enumerate(alone):
            part = {key: array[place : place + 1] for key, array in gradients.items()}
            own, states[place] = optimizer.update(part, states[place])
            assert all(np.array_equal(own[key][0], updates[key][place]) for key in gradients)


@given(settings())
def test_updates_have_the_shape_of_the_gradients_and_zero_stays_zero(
    setting: tuple[list[Knobs], list[Parameters]],
) -> None:
    points, steps = setting
    optimizer = build(points, "float64")
    nothing = {key: np.zeros_like(array) for key, array in steps[0].items()}
    updates, state = optimizer.update(nothing, optimizer.init(steps[0]))
    assert {key: array.shape for key, array in updates.items()} == {key: a.shape for key, a in steps[0].items()}
    assert all(np.all(array == 0) for array in updates.values())
    updates, _ = optimizer.update(steps[0], state)
    assert {key: array.shape for key, array in updates.items()} == {key: a.shape for key, a in steps[0].items()}


@given(settings())
def test_the_first_update_goes_downhill(setting: tuple[list[Knobs], list[Parameters]]) -> None:
    points, steps = setting
    optimizer = build(points, "float64")
    updates, _ = optimizer.update(steps[0], optimizer.init(steps[0]))
    for key, gradient in steps[0].items():
        assert np.all(updates[key] * gradient <= 0)
        assert np.all((updates[key] != 0) == (gradient != 0))


def test_adams_first_step_has_the_size_of_the_rate() -> None:
    optimizer = build([knobs("adam", 0.01), knobs("adam", 2.0)], "float64")
    gradients = {"w": np.array([1e-3, 1e3]).reshape(2, 1, 1)}
    updates, _ = optimizer.update(gradients, optimizer.init(gradients))
    assert updates["w"].ravel() == pytest.approx([-0.01, -2], rel=1e-2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_updates_keep_the_dtype(name: str, dtype: str) -> None:
    optimizer = build([knobs(name), knobs(name, 0.2)], dtype)
    gradients = {"w": np.ones((2, 3, 1), dtype=dtype)}
    state = optimizer.init(gradients)
    for _ in range(2):
        updates, state = optimizer.update(gradients, state)
        assert updates["w"].dtype == dtype


@pytest.mark.parametrize("name", NAMES)
def test_not_a_number_in_one_point_stays_there(name: str) -> None:
    optimizer = build([knobs(name)] * 3, "float64")
    gradients = {"w": np.array([1.0, math.nan, math.inf]).reshape(3, 1, 1)}
    clean = {"w": np.ones((1, 1, 1))}
    single = build([knobs(name)], "float64")
    state, own = optimizer.init(gradients), single.init(clean)
    with np.errstate(invalid="ignore"):
        for _ in range(3):
            updates, state = optimizer.update(gradients, state)
            expected, own = single.update(clean, own)
            assert updates["w"][0] == expected["w"][0]
