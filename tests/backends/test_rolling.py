"""Rolling balls: against the formula of the bowl, and their outcomes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends.numpy.curves.rolling import (
    DIVERGED,
    FAR,
    MOVING,
    SETTLED,
    STUCK,
    SWINGING,
    Rolling,
)
from pipeline.config.optimizer import Exponential, Momentum, Sgd
from tests.support.curves import curve


def sgd(rate: float) -> Sgd:
    return Sgd(name="sgd", learning_rate=rate, output_learning_rate=None)


def after(updates: int, text: str, starts: list[float], rate: float) -> Rolling:
    rolling = Rolling(curve(text), np.array(starts), sgd(rate))
    with np.errstate(all="ignore"):
        for _ in range(updates):
            rolling.step()
    return rolling


@given(st.floats(0.05, 3), st.floats(0.01, 2), st.floats(-4, 4), st.integers(1, 30))
def test_in_a_bowl_each_step_multiplies_the_distance(steepness: float, rate: float, start: float, updates: int) -> None:
    """On a * x^2 the ball is at start * (1 - 2 * a * rate)^n after n updates."""
    expected = start * (1 - 2 * steepness * rate) ** updates
    rolling = after(updates, f"{steepness!r} * x**2", [start], rate)
    if abs(expected) < FAR:
        assert rolling.x[0] == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(st.floats(0.01, 0.99))
def test_below_the_limit_a_bowl_draws_balls_in_and_above_it_throws_them_out(share: float) -> None:
    starts = [-4.0, 1.0, 3.0]
    inside, outside = (after(20, "x**2", starts, rate) for rate in (share, 1 / share))
    assert (np.abs(inside.x) < np.abs(starts)).all()
    gone = outside.lost >= 0
    assert ((np.abs(outside.x) > np.abs(starts)) | gone).all()


def test_a_ball_is_not_stuck_because_a_schedule_ends() -> None:
    falling = Exponential(name="exponential", final=1e-6)
    rolling = Rolling(curve("x**2"), np.array([4.0]), sgd(0.01), schedule=falling, planned=40)
    for _ in range(40):
        rolling.step()
    assert abs(rolling.change[0]) < 1e-5
    assert rolling.outcomes().tolist() == [MOVING]


CASES = [
    ("x**2", 4.0, 0.2, 100, SETTLED),
    ("x**2", 4.0, 1.0, 100, SWINGING),
    ("x**2", 4.0, 1.5, 100, DIVERGED),
    ("x**2", 4.0, 1e-5, 100, STUCK),
    ("x**2", 4.0, 0.01, 40, MOVING),
    ("x", 4.0, 1.0, 10, MOVING),
    ("exp(x**2)", 4.9, 1.0, 10, DIVERGED),
]


@pytest.mark.parametrize(("text", "start", "rate", "updates", "outcome"), CASES)
def test_how_a_ball_ends(text: str, start: float, rate: float, updates: int, outcome: int) -> None:
    rolling = after(updates, text, [start], rate)
    assert rolling.outcomes().tolist() == [outcome]
    assert (rolling.minimum()[0] == 0) == (outcome == SETTLED)
    assert np.isfinite(rolling.x).all()


def test_a_ball_that_has_diverged_stays_and_the_others_roll_on() -> None:
    alone, both = after(80, "x**4 / 4", [1.0], 0.3), after(80, "x**4 / 4", [4.0, 1.0], 0.3)
    assert both.lost[0] > 0
    assert both.lost[1] == -1
    assert both.x[1] == alone.x[0]
    assert both.ended()[0] == both.lost[0] < 80


def test_it_has_settled_since_it_last_came_to_rest() -> None:
    rolling = after(60, "x**2", [4.0], 0.25)  # half as far away with each update
    near = 1e-3 * 10
    assert rolling.settled[0] == next(n for n in range(60) if 4 / 2**n <= near)
    assert rolling.ended()[0] == rolling.settled[0]


def test_a_state_brings_back_every_number() -> None:
    momentum = Momentum(name="momentum", learning_rate=0.02, momentum=0.9)
    whole, first = (Rolling(curve("x**4 / 4 - x**2"), np.array([4.0, 0.3]), momentum) for _ in range(2))
    for _ in range(30):
        whole.step()
    for _ in range(13):
        first.step()
    second = Rolling(curve("x**4 / 4 - x**2"), np.array([4.0, 0.3]), momentum)
    second.restore(first.state())
    for _ in range(17):
        second.step()
    assert {n: a.tobytes() for n, a in second.state().items()} == {n: a.tobytes() for n, a in whole.state().items()}
