"""Optimizers against scalar loops of the published formulas, and properties that all of them have."""

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

from pipeline.backends.numpy.descent import formula_knobs, initial_slots, learning_rates
from pipeline.backends.numpy.network import Parameters
from pipeline.backends.numpy.optimizers.by_name import OPTIMIZERS
from pipeline.backends.numpy.packed import Packed
from pipeline.config.optimizer import Optimizer
from tests.support.trained import config

Knobs = Optimizer
Slope = Callable[[float], float]


def knobs(name: str, rate: float = 0.1, **changed: float) -> Knobs:
    """An optimizer's section as conf has it, with another rate."""
    return config(f"optimizer={name}").optimizer.model_copy(update={"learning_rate": rate} | changed)


State = dict[str, Any]


class Moved:
    """A stack under an optimizer, as training calls it; states are copied, so that two calls can be compared."""

    def __init__(self, points: list[Knobs], dtype: str, grid_last: bool = True) -> None:
        self.points = points
        self.dtype = dtype
        self.grid_last = grid_last

    def init(self, arrays: Mapping[str, NDArray[Any]]) -> State:
        slots = initial_slots(self.points, self.packed(arrays))
        return {"t": 0, "slots": {name: slot.flat for name, slot in slots.items()}}

    def packed(self, arrays: Mapping[str, NDArray[Any]]) -> Packed:
        shapes = {name: (array.shape[1], array.shape[2]) for name, array in arrays.items()}
        return Packed(shapes, len(self.points), self.dtype, self.grid_last)

    def filled(self, arrays: Mapping[str, NDArray[Any]]) -> Packed:
        packed = self.packed(arrays)
        for name, array in packed.arrays.items():
            array[...] = arrays[name]
        return packed

    def update(
        self, gradients: Mapping[str, NDArray[Any]], state: State, weights: Mapping[str, NDArray[Any]] | None = None
    ) -> tuple[Parameters, State]:
        """Return the change of the weights, which are 0 by default, and the state after it."""
        gradient, change = self.filled(gradients), self.packed(gradients)
        stack = self.packed(gradients) if weights is None else self.filled(weights)
        before = gradient.flat.copy(), stack.flat.copy()
        t, slots = state["t"] + 1, copy.deepcopy(state["slots"])
        rates, scratch = learning_rates(self.points, gradient, {}), np.full_like(change.flat, np.nan)
        values = formula_knobs(self.points, self.dtype)
        if not self.grid_last:
            values = {name: array[:, None] for name, array in values.items()}
        OPTIMIZERS[self.points[0].name](values, rates, slots, change.flat, scratch).update(gradient.flat, stack.flat, t)
        assert np.array_equal(gradient.flat, before[0], equal_nan=True)
        assert np.array_equal(stack.flat, before[1])
        return change.arrays, {"t": t, "slots": slots}


def build(points: list[Knobs], dtype: str) -> Moved:
    return Moved(points, dtype)


def path(points: list[Knobs], slope: Slope, start: float, steps: int) -> list[list[float]]:
    """Return the values of one weight after each step, for each point of a stack."""
    optimizer = build(points, "float64")
    weights: Parameters = {"w": np.full((len(points), 1, 1), start)}
    state = optimizer.init(weights)
    visited = []
    for _ in range(steps):
        gradients = {"w": np.array([slope(float(w)) for w in weights["w"].ravel()]).reshape(-1, 1, 1)}
        updates, state = optimizer.update(gradients, state, weights)
        weights = {"w": weights["w"] + updates["w"]}
        visited.append(weights["w"].ravel().tolist())
    return [list(column) for column in zip(*visited, strict=True)]


# The loops below and the stacks that they are compared with start from this weight.
START = -1.0


def curve(w: float) -> float:
    """Slope of a curve that is not a parabola."""
    return 2 * (w - 3) + math.sin(3 * w)


def sgd_by_hand(slope: Slope, steps: int, rate: float) -> list[float]:
    w = START
    visited = []
    for _ in range(steps):
        w = w - rate * slope(w)
        visited.append(w)
    return visited


def momentum_by_hand(slope: Slope, steps: int, rate: float, kept: float) -> list[float]:
    """Polyak's heavy ball: w_(t+1) = w_t - rate * slope(w_t) + kept * (w_t - w_(t-1))."""
    w = START
    before, visited = w, []
    for _ in range(steps):
        w, before = w - rate * slope(w) + kept * (w - before), w
        visited.append(w)
    return visited


def nesterov_by_hand(slope: Slope, steps: int, rate: float, kept: float) -> list[float]:
    """Sutskever et al. (2013), equations 3 and 4; the weights returned are those at which the next slope is taken."""
    w = START
    velocity, visited = 0.0, []
    for _ in range(steps):
        velocity = kept * velocity - rate * slope(w + kept * velocity)
        w += velocity
        visited.append(w + kept * velocity)
    return visited


def adam_by_hand(slope: Slope, steps: int, rate: float, b1: float, b2: float, eps: float) -> list[float]:
    """Kingma and Ba (2015), algorithm 1 in the order of its section 2's last paragraph."""
    w = START
    mean = square = 0.0
    visited = []
    for t in range(1, steps + 1):
        g = slope(w)
        mean = b1 * mean + (1 - b1) * g
        square = b2 * square + (1 - b2) * g**2
        w -= rate * math.sqrt(1 - b2**t) / (1 - b1**t) * mean / (math.sqrt(square) + eps)
        visited.append(w)
    return visited


def adagrad_by_hand(slope: Slope, steps: int, rate: float, start: float, eps: float) -> list[float]:
    """Duchi, Hazan and Singer (2011), with the diagonal of G."""
    w = START
    square, visited = start, []
    for _ in range(steps):
        g = slope(w)
        square += g**2
        w -= rate * g / math.sqrt(square + eps)
        visited.append(w)
    return visited


def adadelta_by_hand(slope: Slope, steps: int, rate: float, rho: float, eps: float) -> list[float]:
    """Zeiler (2012), algorithm 1."""
    w = START
    square = moved = 0.0
    visited = []
    for _ in range(steps):
        g = slope(w)
        square = rho * square + (1 - rho) * g**2
        delta = -math.sqrt(moved + eps) / math.sqrt(square + eps) * g
        moved = rho * moved + (1 - rho) * delta**2
        w += rate * delta
        visited.append(w)
    return visited


def rmsprop_by_hand(slope: Slope, steps: int, rate: float, rho: float, kept: float, eps: float) -> list[float]:
    """Tieleman and Hinton (2012), lecture 6.5, its step into a heavy ball's velocity."""
    w = START
    square = velocity = 0.0
    visited = []
    for _ in range(steps):
        g = slope(w)
        square = rho * square + (1 - rho) * g**2
        velocity = kept * velocity + rate * g / math.sqrt(square + eps)
        w -= velocity
        visited.append(w)
    return visited


def adamw_by_hand(slope: Slope, steps: int, rate: float, decay: float) -> list[float]:
    """Loshchilov and Hutter (2019), algorithm 2, the decay first; betas 0.9 and 0.999, epsilon 1e-7."""
    w = START
    mean = square = 0.0
    visited = []
    for t in range(1, steps + 1):
        g = slope(w)
        w -= rate * decay * w
        mean = 0.9 * mean + 0.1 * g
        square = 0.999 * square + 0.001 * g**2
        w -= rate * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * mean / (math.sqrt(square) + 1e-7)
        visited.append(w)
    return visited


def amsgrad_by_hand(slope: Slope, steps: int, rate: float, b2: float) -> list[float]:
    """Reddi, Kale and Kumar (2018), algorithm 2, with Adam's corrections in the rate; beta_1 0.9, epsilon 1e-7."""
    w = START
    mean = square = largest = 0.0
    visited = []
    for t in range(1, steps + 1):
        g = slope(w)
        mean = 0.9 * mean + 0.1 * g
        square = b2 * square + (1 - b2) * g**2
        largest = max(largest, square)
        w -= rate * math.sqrt(1 - b2**t) / (1 - 0.9**t) * mean / (math.sqrt(largest) + 1e-7)
        visited.append(w)
    return visited


def nadam_by_hand(slope: Slope, steps: int, rate: float, b1: float, b2: float) -> list[float]:
    """Dozat (2016), algorithm 2, with the schedule of its section 2.3: beta_1 * (1 - 0.5 * 0.96^t); epsilon 1e-7."""
    w = START
    mean = square = 0.0
    product, visited = 1.0, []
    for t in range(1, steps + 1):
        g = slope(w)
        now, following = b1 * (1 - 0.5 * 0.96**t), b1 * (1 - 0.5 * 0.96 ** (t + 1))
        product *= now
        mean = b1 * mean + (1 - b1) * g
        square = b2 * square + (1 - b2) * g**2
        ahead = following * mean / (1 - product * following) + (1 - now) * g / (1 - product)
        w -= rate * ahead / (math.sqrt(square / (1 - b2**t)) + 1e-7)
        visited.append(w)
    return visited


def lion_by_hand(slope: Slope, steps: int, rate: float, b1: float, b2: float) -> list[float]:
    """Chen et al. (2023), algorithm 2, without weight decay."""
    w = START
    mean, visited = 0.0, []
    for _ in range(steps):
        g = slope(w)
        w -= rate * math.copysign(1, b1 * mean + (1 - b1) * g)
        mean = b2 * mean + (1 - b2) * g
        visited.append(w)
    return visited


RATES = [0.003, 0.02, 0.3]


def test_sgd() -> None:
    found = path([knobs("sgd", rate) for rate in RATES], curve, START, 50)
    for rate, own in zip(RATES, found, strict=True):
        assert own == pytest.approx(sgd_by_hand(curve, 50, rate), rel=1e-10)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9])
def test_momentum(kept: float) -> None:
    found = path([knobs("momentum", rate, momentum=kept) for rate in RATES[:2]], curve, START, 50)
    for rate, own in zip(RATES, found, strict=False):
        assert own == pytest.approx(momentum_by_hand(curve, 50, rate, kept), rel=1e-9)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9])
def test_nesterov(kept: float) -> None:
    found = path([knobs("nesterov", rate, momentum=kept) for rate in RATES[:2]], curve, START, 50)
    for rate, own in zip(RATES, found, strict=False):
        assert own == pytest.approx(nesterov_by_hand(curve, 50, rate, kept), rel=1e-9)


@pytest.mark.parametrize(("b1", "b2", "eps"), [(0.9, 0.999, 1e-7), (0.5, 0.9, 1e-2), (0.0, 0.0, 1e-3)])
def test_adam(b1: float, b2: float, eps: float) -> None:
    found = path([knobs("adam", rate, beta_1=b1, beta_2=b2, epsilon=eps) for rate in RATES], curve, START, 50)
    for rate, own in zip(RATES, found, strict=True):
        assert own == pytest.approx(adam_by_hand(curve, 50, rate, b1, b2, eps), rel=1e-9)


# For each optimizer some knobs, its formula as a loop over one weight, and the knobs in that loop's order.
BY_HAND: dict[str, tuple[dict[str, float], Callable[..., list[float]], tuple[float, ...]]] = {
    "adagrad": ({"initial_accumulator_value": 0.3, "epsilon": 1e-3}, adagrad_by_hand, (0.3, 1e-3)),
    "adadelta": ({"rho": 0.8, "epsilon": 1e-3}, adadelta_by_hand, (0.8, 1e-3)),
    "rmsprop": ({"rho": 0.8, "momentum": 0.6, "epsilon": 1e-3}, rmsprop_by_hand, (0.8, 0.6, 1e-3)),
    "adamw": ({"weight_decay": 0.2}, adamw_by_hand, (0.2,)),
    "amsgrad": ({"beta_2": 0.7}, amsgrad_by_hand, (0.7,)),
    "nadam": ({"beta_1": 0.8, "beta_2": 0.95}, nadam_by_hand, (0.8, 0.95)),
    "lion": ({"beta_1": 0.8, "beta_2": 0.95}, lion_by_hand, (0.8, 0.95)),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_the_formulas_as_their_papers_have_them(name: str) -> None:
    changed, by_hand, values = BY_HAND[name]
    found = path([knobs(name, rate, **changed) for rate in RATES], curve, START, 50)
    for rate, own in zip(RATES, found, strict=True):
        assert own == pytest.approx(by_hand(curve, 50, rate, *values), rel=1e-9)


def test_nadams_momentum_after_a_thousand_updates() -> None:
    found = path([knobs("nadam", 0.003, beta_1=0.999)], curve, START, 1100)[0]
    assert found == pytest.approx(nadam_by_hand(curve, 1100, 0.003, 0.999, 0.999), rel=1e-6)


def test_momentum_and_nesterov_differ() -> None:
    assert path([knobs("momentum")], curve, 0.0, 2) != path([knobs("nesterov")], curve, 0.0, 2)


# --- properties

NAMES = list(OPTIMIZERS)
NUMBERS = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6)
# The values that a knob may have; knobs that are missing here are shares.
DRAWN = {
    "learning_rate": st.floats(1e-6, 1e3),
    "epsilon": st.floats(1e-8, 1),
    "initial_accumulator_value": st.floats(0, 10),
    "weight_decay": st.floats(0, 0.1),
}


@st.composite
def settings(draw: st.DrawFn) -> tuple[list[Knobs], list[Parameters]]:
    """Points of one optimizer with knobs of their own, and gradients for some steps."""
    name = draw(st.sampled_from(NAMES))
    points = []
    for _ in range(draw(st.integers(1, 3))):
        base = knobs(name)
        own = sorted(type(base).model_fields.keys() - {"name", "output_learning_rate"})
        points.append(base.model_copy(update={knob: draw(DRAWN.get(knob, st.floats(0, 0.999))) for knob in own}))
    shapes = {"layer_0/weights": (len(points), 2, 3), "layer_0/bias": (len(points), 1, 3)}
    gradients = []
    for _ in range(draw(st.integers(1, 4))):
        flat = {key: draw(st.lists(NUMBERS, min_size=math.prod(s), max_size=math.prod(s))) for key, s in shapes.items()}
        gradients.append({key: np.array(values).reshape(shapes[key]) for key, values in flat.items()})
    return points, gradients


@given(settings())
def test_the_position_of_the_grid_axis_in_memory_changes_nothing(setting: tuple[list[Knobs], list[Parameters]]) -> None:
    points, steps = setting
    one, other = Moved(points, "float64", grid_last=True), Moved(points, "float64", grid_last=False)
    state, own = one.init(steps[0]), other.init(steps[0])
    for gradients in steps:
        updates, state = one.update(gradients, state, steps[0])
        same, own = other.update(gradients, own, steps[0])
        assert all(np.array_equal(updates[key], same[key]) for key in gradients)


@given(settings())
def test_a_stack_moves_as_each_point_alone(setting: tuple[list[Knobs], list[Parameters]]) -> None:
    points, steps = setting
    together = build(points, "float64")
    alone = [build([point], "float64") for point in points]
    state = together.init(steps[0])
    states = [
        optimizer.init({key: array[place : place + 1] for key, array in steps[0].items()})
        for place, optimizer in enumerate(alone)
    ]
    for gradients in steps:
        updates, state = together.update(gradients, state, steps[0])
        for place, optimizer in enumerate(alone):
            part = {key: array[place : place + 1] for key, array in gradients.items()}
            weights = {key: array[place : place + 1] for key, array in steps[0].items()}
            own, states[place] = optimizer.update(part, states[place], weights)
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


@given(settings())
def test_gradients_and_weights_of_the_other_sign_give_changes_of_the_other_sign(
    setting: tuple[list[Knobs], list[Parameters]],
) -> None:
    points, steps = setting
    optimizer = build(points, "float64")
    state = mirrored = optimizer.init(steps[0])
    for gradients in steps:
        updates, state = optimizer.update(gradients, state, steps[0])
        turned = [{key: -array for key, array in arrays.items()} for arrays in (gradients, steps[0])]
        others, mirrored = optimizer.update(turned[0], mirrored, turned[1])
        assert all(np.array_equal(others[key], -updates[key]) for key in gradients)


@pytest.mark.parametrize("name", ["adagrad", "rmsprop", "adam", "adamw", "amsgrad", "nadam", "lion"])
@given(st.lists(st.floats(0.01, 100), min_size=4, max_size=4), st.integers(-8, 8))
def test_the_scale_of_the_loss_changes_nothing_where_epsilon_is_tiny(
    name: str, gradients: list[float], power: int
) -> None:
    """A power of 2 scales without rounding."""
    tiny = {"epsilon": 1e-300, "initial_accumulator_value": 0.0, "weight_decay": 0.0}
    base = knobs(name)
    optimizer = build([knobs(name, **{key: tiny[key] for key in tiny if hasattr(base, key)})], "float64")
    one = {"w": np.ones((1, 1, 1))}
    state = scaled = optimizer.init(one)
    for gradient in gradients:
        updates, state = optimizer.update({"w": gradient * one["w"]}, state)
        others, scaled = optimizer.update({"w": 2.0**power * gradient * one["w"]}, scaled)
        assert others["w"] == updates["w"]


@given(st.lists(NUMBERS.filter(bool), min_size=1, max_size=5), st.floats(1e-6, 1e3))
def test_every_step_of_lion_has_the_size_of_the_rate(gradients: list[float], rate: float) -> None:
    optimizer = build([knobs("lion", rate)], "float64")
    state = optimizer.init({"w": np.ones((1, 1, 1))})
    for gradient in gradients:
        updates, state = optimizer.update({"w": np.full((1, 1, 1), gradient)}, state)
        assert abs(updates["w"].item()) == rate


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
