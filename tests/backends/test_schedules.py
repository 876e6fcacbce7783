"""Tables of factors against formulas written by hand, and properties that all schedules have."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends.shared.schedules import factors, updates_per_epoch
from pipeline.config.model import Training
from pipeline.config.optimizer import Constant, Cosine, Exponential, OneCycle, ReduceOnPlateau, Schedule, Step
from tests.support.methods import SCHEDULES
from tests.support.trained import config

TABLES = [name for name in SCHEDULES if name != "reduce_on_plateau"]


def schedule(name: str) -> Schedule:
    return config(*SCHEDULES[name]).schedule


def one_cycle_by_hand(t: int, total: int, rising: float, initial: float, final: float) -> float:
    """PyTorch's OneCycleLR with anneal_strategy="cos", maximum 1, `initial` its 1 / div_factor."""

    def annealed(start: float, end: float, share: float) -> float:
        return end + (start - end) / 2 * (math.cos(math.pi * share) + 1)

    first_end, second_end = rising * total - 1, total - 1
    if t <= first_end:
        return annealed(initial, 1, t / first_end)
    return annealed(1, final, (t - first_end) / (second_end - first_end))


def test_constant_changes_nothing() -> None:
    assert factors(Constant(name="constant"), 7).tolist() == [1] * 7


def test_a_step_falls_after_each_share_of_the_updates() -> None:
    found = factors(Step(name="step", every=0.25, factor=0.5), 8)
    assert found.tolist() == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    assert factors(Step(name="step", every=0.3, factor=0.1), 5) == pytest.approx([1, 1, 0.1, 0.01, 0.01])
    exact = factors(Step(name="step", every=0.07, factor=0.5), 100)  # 0.07 * 100 is more than 7
    assert [int(t) for t in np.flatnonzero(np.diff(exact)) + 1] == list(range(7, 100, 7))
    assert factors(Step(name="step", every=0.5, factor=0.0), 4).tolist() == [1, 1, 0, 0]


def test_exponential_loses_the_same_share_at_every_update() -> None:
    found = factors(Exponential(name="exponential", final=0.01), 200)
    assert found == pytest.approx([0.01 ** (t / 200) for t in range(200)], rel=1e-13)


@pytest.mark.parametrize(("warm_up", "final"), [(0.1, 0.0), (0.0, 0.2), (0.5, 0.1)])
def test_cosine_rises_in_a_line_and_falls_along_half_a_cosine(warm_up: float, final: float) -> None:
    found, total = factors(Cosine(name="cosine", warm_up=warm_up, final=final), 40), 40
    rising = round(warm_up * total)
    for t in range(total):
        down = (t - rising) / (total - rising)
        expected = t / rising if t < rising else final + (1 - final) * (1 + math.cos(math.pi * down)) / 2
        assert found[t] == pytest.approx(expected, rel=1e-13)
    assert found[rising] == 1


@pytest.mark.parametrize(("rising", "total"), [(0.3, 100), (0.29, 100), (0.5, 7), (1.0, 9), (0.07, 100)])
def test_one_cycle_is_pytorchs(rising: float, total: int) -> None:
    found = factors(OneCycle(name="one_cycle", rising=rising, initial=0.04, final=4e-6), total)
    assert found == pytest.approx([one_cycle_by_hand(t, total, rising, 0.04, 4e-6) for t in range(total)], rel=1e-12)
    assert found[0] == pytest.approx(0.04)
    assert found[-1] == pytest.approx(4e-6 if rising < 1 else 1)


def test_a_plateau_has_no_table() -> None:
    with pytest.raises(ValueError, match="no table"):
        factors(ReduceOnPlateau(name="reduce_on_plateau", factor=0.5, patience=2, min_delta=0), 5)


SHARES = st.floats(1e-6, 1)
ANY = st.one_of(
    st.builds(Step, name=st.just("step"), every=SHARES, factor=st.floats(0, 0.99)),
    st.builds(Exponential, name=st.just("exponential"), final=SHARES),
    st.builds(Cosine, name=st.just("cosine"), warm_up=st.floats(0, 0.999), final=st.floats(0, 0.999)),
    st.builds(OneCycle, name=st.just("one_cycle"), rising=SHARES, initial=SHARES, final=SHARES),
)


@given(ANY, st.integers(1, 500))
def test_factors_are_shares_and_there_is_one_for_each_update(one: Schedule, updates: int) -> None:
    with np.errstate(all="raise", under="ignore"):
        found = factors(one, updates)
    assert found.shape == (updates,)
    assert found.dtype == np.float64
    assert ((found >= 0) & (found <= 1 + 1e-12)).all()


@given(ANY, st.integers(2, 300))
def test_a_rate_that_has_begun_to_fall_never_rises_again(one: Schedule, updates: int) -> None:
    moves = np.diff(factors(one, updates))
    falls = np.flatnonzero(moves < -1e-12)
    assert len(falls) == 0 or (moves[falls[0] :] <= 1e-12).all()


def test_an_epoch_has_as_many_updates_as_batches() -> None:
    training = config().training
    for size, rows, expected in ((None, 10, 1), (3, 10, 4), (5, 10, 2), (20, 10, 1)):
        assert updates_per_epoch(Training(**(training.model_dump() | {"batch_size": size})), rows) == expected
