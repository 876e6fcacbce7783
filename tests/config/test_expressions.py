"""Expressions: their values against sympy, and the expressions that are refused."""

from __future__ import annotations

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.expressions import FUNCTIONS, MOST_CHARACTERS, parse

X = np.linspace(0.3, 2.7, 7)
WRITTEN = [
    "x", "-x + +3", "x**2", "x**-1.5", "3 * x**0 + x", "2 * x / (1 + x**2)", "(x - 1) / (x + 1) - 7", "1 / x",
    "0.25 * x**4 - 2 * x**2 + 0.5 * x + 6", "sin(2 * pi * x) + cos(x) * exp(-x)", "log(x) * sqrt(x + 1)",
    "tanh(x - 1) ** 3", "abs(x - 1) * x", "sqrt(2) * sin(1) * x", "exp(sin(cos(x)))", "2 ** 0.5 ** 2 * x",
]  # fmt: skip


@pytest.mark.parametrize("text", WRITTEN)
def test_values_and_slopes_are_those_of_sympy(text: str) -> None:
    x = sympy.Symbol("x", real=True)
    expected = sympy.sympify(text, {"x": x})
    found = parse(text)(X)
    np.testing.assert_allclose(found.value, [float(expected.subs(x, at)) for at in X], rtol=1e-12)
    np.testing.assert_allclose(found.slope, [float(sympy.diff(expected, x).subs(x, at)) for at in X], rtol=1e-11)


leaves = st.sampled_from(["x", "pi", "2", "0.5", "3e-1"])
texts = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner),
        st.builds("{}({})".format, st.sampled_from(sorted(FUNCTIONS)), inner),
        st.builds("({})**{}".format, inner, st.sampled_from(["2", "3", "-1", "0.5"])),
        st.builds("-{}".format, inner),
    ),
    max_leaves=6,
)


@given(texts)
def test_any_expression_is_computed_or_refused_and_its_slope_is_that_of_a_difference(text: str) -> None:
    try:
        function = parse(text)
    except ValueError:
        return
    h = 1e-6
    with np.errstate(all="ignore"):
        below, found, above = (function(X + d) for d in (-h, 0.0, h))
        differences = (above.value - below.value) / (2 * h)
        usable = np.isfinite(differences) & np.isfinite(found.slope) & (np.abs(found.value) < 100)
        usable &= (np.abs(found.slope) < 100) & (np.abs(above.slope - below.slope) < 1e-3)
    np.testing.assert_allclose(found.slope[usable], differences[usable], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_numbers_stay_in_their_dtype(dtype: str) -> None:
    for text in ("2 * x", "sin(2) * x + pi", "x**3 / 7"):
        found = parse(text)(X.astype(dtype))
        assert found.value.dtype == found.slope.dtype == dtype
        assert found.value.shape == found.slope.shape == X.shape


REFUSED = {
    "__import__('os').system('x')": "column 1: expected x, pi, numbers",
    "x + y": "column 5: expected x, pi, numbers, + - * / **, and sin, cos",
    "x.real": "column 1",
    "(lambda: x)()": "column 1",
    "x if x else 1": "column 1",
    "[x for x in x]": "column 1",
    "2 * open(x)": "column 5",
    "sin(x, x)": "column 1",
    "sin(a=x)": "column 1",
    "sin": "column 1",
    "x @ x": "column 1",
    "x % 2": "column 1",
    "x * True": "column 5",
    "x * 2j": "column 5",
    "'x'": "column 1",
    "x**x": "column 4: expected a number as exponent; a**b with x in b is exp(b * log(a))",
    "9**9**9**9 * x": "'9 ** 9 ** 9' is not a finite number",
    "exp(exp(exp(9))) + x": "not a finite number",
    "x + 1/0": "column 5: '1 / 0' is not a finite number",
    "(-8)**0.5 * x": "not a finite number",
    "log(0) + x": "not a finite number",
    "9" * 190 + "e300 + x": "not a finite number",
    "3 + 4": "which is the same number everywhere",
    "": "not an expression",
    "x +": "not an expression from column",
    "x = 1": "not an expression from column",
    "(" * 150 + "x" + ")" * 40: "not an expression",
    "x\0": "not an expression",
    "+".join("x" * MOST_CHARACTERS): f"at most {MOST_CHARACTERS} characters",
}


@pytest.mark.parametrize(("text", "message"), REFUSED.items(), ids=[text[:20] for text in REFUSED])
def test_a_text_that_is_not_an_expression_in_x_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        parse(text)
    assert message in str(error.value)


@given(st.text(max_size=40) | st.text("x()*+-/.,123 sincoexplgqrtab'\"_[]{}:=", max_size=60))
def test_no_text_does_anything_but_compute_or_be_refused(text: str) -> None:
    try:
        function = parse(text)
    except ValueError:
        return
    with np.errstate(all="ignore"):
        assert function(X).value.shape == X.shape
