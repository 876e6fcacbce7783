"""Brackets around the rates at which networks break: every one ends, and holds what was asked of it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sweep.bisection import BISECTIONS, MOST_FACTORS, Bracket, bisect
from pipeline.sweep.shared_arrays import SharedArrays
from tests.support.trained import config

RATES = st.floats(1e-200, 1e200)


@given(start=RATES, off=st.floats(1e-6, 1e6))
def test_the_rate_is_between_the_two_and_known_to_a_percent(start: float, off: float) -> None:
    breaks_at = start * off
    bracket = Bracket(start)
    trainings = 0
    while not bracket.done:
        trainings += 1
        bracket.note(rose=bracket.rate >= breaks_at)
    assert bracket.holds is not None
    assert bracket.breaks is not None
    assert bracket.holds < breaks_at <= bracket.breaks
    assert bracket.bisections == BISECTIONS
    assert trainings <= BISECTIONS + MOST_FACTORS
    # The factor at the end follows from that at the beginning: at most 2 ** 16, of a rate that far away.
    assert bracket.breaks / bracket.holds < 1.012
    if 0.51 < off < 1.99:
        assert bracket.breaks / bracket.holds < 1.0007


@pytest.mark.parametrize("rose", [True, False])
def test_a_network_that_breaks_at_every_rate_or_at_none_ends(rose: bool) -> None:
    bracket = Bracket(0.1)
    trainings = 0
    while not bracket.done:
        bracket.note(rose)
        trainings += 1
    assert trainings == MOST_FACTORS
    known = bracket.breaks if rose else bracket.holds
    assert (bracket.holds is None) is rose
    assert (bracket.breaks is None) is not rose
    assert known is not None
    assert 0 < known < math.inf


def test_networks_of_one_and_of_other_shapes_are_narrowed_together(tmp_path: Path) -> None:
    """A line through x: the Hessian of the mean squared error is 2 mean(x^2) for a weight alone, so 2 / L is known."""
    common = ("experiment=line_y2x", "model.bias=false", "dtype=float64", "gradient=backpropagation")
    networks = [
        config(*common, "training.epochs=4000", f"data.inputs=[[{x}],[{2 * x}],[{x}],[{2 * x}]]") for x in (1.0, 3.0)
    ]
    expected = [2 / (2 * (x**2 + (2 * x) ** 2) / 2) for x in (1.0, 3.0)]
    counts = []
    for brackets in bisect(networks, [1.0, 0.001], SharedArrays(tmp_path)):
        counts.append(sum(bracket.bisections for bracket in brackets))
    assert counts == sorted(counts)
    for bracket, rate in zip(brackets, expected, strict=True):
        assert bracket.holds is not None
        assert bracket.breaks is not None
        assert bracket.holds * 0.999 < rate < bracket.breaks * 1.001
