"""The number of random starts that find all minima, checked by drawing starts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.studies.curves.restarts import chance_of_all, countable, starts_needed
from tests.support.curves import curve


@pytest.mark.parametrize(
    "shares", [[1.0], [0.5, 0.5], [0.1, 0.6, 0.3], [0.2, 0.3, 0.1], [0.184, 0.211, 0.21, 0.211, 0.184]]
)
@pytest.mark.parametrize("starts", [1, 3, 8, 20])
def test_the_chance_is_that_of_drawing(shares: list[float], starts: int) -> None:
    draws = np.random.default_rng(0).random((20_000, starts))
    found = np.searchsorted(np.cumsum(shares), draws)  # beyond the last: in no valley
    all_found = np.all([(found == index).any(axis=1) for index in range(len(shares))], axis=0)
    assert chance_of_all(np.array(shares), starts) == pytest.approx(all_found.mean(), abs=0.015)


def test_with_as_many_starts_as_minima_each_order_counts() -> None:
    assert chance_of_all(np.array([0.5, 0.5]), 2) == pytest.approx(0.5)
    assert chance_of_all(np.full(5, 0.2), 5) == pytest.approx(120 / 5**5)
    assert chance_of_all(np.full(5, 0.2), 4) == pytest.approx(0, abs=1e-12)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.sampled_from([0.1, 0.5, 0.99]))
def test_the_number_needed_is_the_first_that_is_enough(weights: list[int], chance: float) -> None:
    shares = np.array(weights) / sum(weights)
    needed = starts_needed(shares, chance)
    assert chance_of_all(shares, needed) >= chance
    assert needed == 1 or chance_of_all(shares, needed - 1) < chance


def test_a_curve_without_minima_has_nothing_to_find() -> None:
    assert not countable(curve("x").shares())
    assert countable(curve("x**2").shares())
