"""Curves: the positions of their minima, maxima and valleys."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import Polynomial

from pipeline.backends.numpy.curves.shape import curve_of
from pipeline.config.curve import CurveData
from pipeline.system.project import CONF
from tests.support.curves import curve


@settings(max_examples=25)
@given(st.lists(st.integers(-45, 45), min_size=1, max_size=5, unique=True))
def test_minima_are_the_roots_of_the_slope_where_it_rises(tenths: list[int]) -> None:
    """A polynomial whose slope has these roots, against NumPy's."""
    slope = Polynomial.fromroots([root / 10 for root in tenths])
    heights = slope.integ()
    text = " + ".join(f"({c!r})*x**{n}" for n, c in enumerate(heights.coef.tolist()) if c)
    if len(text) > 200:
        return
    roots = np.sort(np.real(slope.roots()))
    rising = slope.deriv()(roots) > 0
    found = curve(text)
    np.testing.assert_allclose(found.minima, roots[rising], atol=1e-6)
    np.testing.assert_allclose(found.maxima, roots[~rising], atol=1e-6)
    np.testing.assert_allclose(found.curvatures(), slope.deriv()(roots[rising]), rtol=1e-3, atol=1e-2)
    if len(found.minima):
        assert heights(found.minima)[found.deepest] == pytest.approx(heights(found.minima).min())


def test_the_curves_of_conf_have_the_minima_of_their_names() -> None:
    counts = {"curve_bowl": 1, "curve_two_minima": 2, "curve_five_minima": 5, "curve_plateau": 1, "curve_points": 3}
    for name, count in counts.items():
        found = curve_of(CurveData.model_validate(yaml.safe_load((CONF / "data" / f"{name}.yaml").read_text())))
        assert len(found.minima) == count, name
        assert found.curvatures().min() > 0
        assert 0 < found.shares().sum() <= 1 + 1e-12


def test_valleys_lie_between_maxima_and_one_may_have_no_minimum() -> None:
    found = curve("x**3 / 3 - x", -3, 3)  # a maximum at -1, a minimum at 1; left of the maximum it falls outwards
    assert found.minima == pytest.approx([1])
    assert found.maxima == pytest.approx([-1])
    assert found.valley(np.array([-2.0, 0.0, 2.0])).tolist() == [-1, 0, 0]
    assert found.shares() == pytest.approx([4 / 6])
    assert found.nearest(np.array([-9.0, 9.0])).tolist() == [0, 0]


def test_a_curve_that_only_falls_has_no_minimum() -> None:
    found = curve("-x")
    assert (len(found.minima), found.deepest, found.valley(np.zeros(1)).tolist()) == (0, -1, [-1])


def test_points_are_joined_smoothly_and_go_on_straight() -> None:
    points = ((-1.0, 2.0), (0.0, 0.0), (1.0, 2.0), (2.0, 1.0))
    found = curve_of(CurveData(kind="curve", name="p", expression=None, points=points, lowest=-1, highest=2))
    assert found.at(np.array([x for x, _ in points])).value == pytest.approx([y for _, y in points])
    x = np.linspace(-2, 3, 2001)
    heights, slopes = found.at(x)
    np.testing.assert_allclose(np.gradient(heights, x)[1:-1], slopes[1:-1], atol=0.02)
    assert np.ptp(slopes[x < -1]) == 0 == np.ptp(slopes[x > 2])
    assert found.at(np.zeros(1, np.float32)).value.dtype == np.float32


def test_a_position_is_formatted_to_a_thousandth_of_the_width() -> None:
    assert [curve("x**2").label(x) for x in (-1e-19, 2.94999, -4.0)] == ["0", "2.95", "-4"]
