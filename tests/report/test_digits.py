"""Numbers are shown with the digits that another processor computes too."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.digits import bound, difference_text, shown


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("train/loss", 1.1774030099331867e-05, "1.177e-05"),
        ("train/loss", 1566494848.0, "1566000000.0"),
        ("test/accuracy", 0.9237666666666667, "0.9238"),
        ("map/converged_share", 0.00012345, "0.0001"),
        ("points", 65536, "65536"),
        ("train/loss", math.inf, "inf"),
        ("diagnosis", "converged", "converged"),
        ("missing", None, "None"),
    ],
)
def test_what_is_shown(name: str, value: Any, text: str) -> None:
    assert str(shown(name, value)) == text


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_what_differs_by_rounding_is_shown_alike_or_one_unit_away(value: float) -> None:
    one, other = shown("train/loss", value), shown("train/loss", value * (1 + 1e-13))
    assert abs(one - other) <= 1.001e-3 * abs(value)
    assert shown("train/loss", one) == one


def test_a_difference_of_rounding_has_only_a_bound() -> None:
    assert difference_text(3e-16, 4.7e-16) == "at most 1e-15"
    assert difference_text(6.6e-05, 0.044) == "7e-05"
    assert difference_text(0.0, 0.0) == "0"
    assert bound(1e-3) == 1e-3
