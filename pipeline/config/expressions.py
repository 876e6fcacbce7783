"""Expressions in x, such as `x**2 / 4 - cos(pi * x)`: from text to a function that returns value and slope.

The text is parsed and never executed: each node must be on an allow-list, and is translated into a NumPy call. Slopes
are exact. They are computed by forward differentiation: every node returns its value and its derivative with respect
to x.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
# Long enough for any curve of a study, and short enough to parse at once and to show in a message.
MOST_CHARACTERS = 200
# Small integer powers are computed by multiplication, which is five times as fast as `np.power`.
PRODUCTS = range(1, 9)
ALLOWED = "x, pi, numbers, + - * / **, and sin, cos, exp, log, sqrt, tanh or abs of one argument"


class Dual(NamedTuple):
    """A value and its derivative with respect to x: two floats for a constant, otherwise arrays (balls,)."""

    value: Any
    slope: Any


Function = Callable[[Array], Dual]


# Each rule below is the chain rule: f(a) has the slope f'(a) * a'.


def _sqrt(a: Dual) -> Dual:
    root = np.sqrt(a.value)
    return Dual(root, a.slope / (2 * root))


def _exp(a: Dual) -> Dual:
    value = np.exp(a.value)
    return Dual(value, value * a.slope)


def _tanh(a: Dual) -> Dual:
    value = np.tanh(a.value)
    return Dual(value, (1 - value * value) * a.slope)


FUNCTIONS: dict[str, Callable[[Dual], Dual]] = {
    "sin": lambda a: Dual(np.sin(a.value), np.cos(a.value) * a.slope),
    "cos": lambda a: Dual(np.cos(a.value), -np.sin(a.value) * a.slope),
    "exp": _exp,
    "log": lambda a: Dual(np.log(a.value), a.slope / a.value),
    "sqrt": _sqrt,
    "tanh": _tanh,
    "abs": lambda a: Dual(np.abs(a.value), np.sign(a.value) * a.slope),
}


def _divide(a: Dual, b: Dual) -> Dual:
    # (a / b)' = (a' b - a b') / b^2, divided by b in two steps: b^2 overflows where b does not.
    quotient = a.value / b.value
    return Dual(quotient, (a.slope - quotient * b.slope) / b.value)


def _power(a: Dual, b: Dual) -> Dual:
    """Raise to a constant power n: (a^n)' = n a^(n - 1) a'."""
    n = b.value
    if n in PRODUCTS:
        lower = math.prod([a.value] * (int(n) - 1))
        return Dual(lower * a.value, n * lower * a.slope)
    # a^(n - 1) would be 1 / 0 at a = 0.
    if not n:
        return Dual(a.value**n, 0.0)
    return Dual(a.value**n, n * a.value ** (n - 1) * a.slope)


OPERATORS: dict[type[ast.operator], Callable[[Dual, Dual], Dual]] = {
    ast.Add: lambda a, b: Dual(a.value + b.value, a.slope + b.slope),
    ast.Sub: lambda a, b: Dual(a.value - b.value, a.slope - b.slope),
    ast.Mult: lambda a, b: Dual(a.value * b.value, a.slope * b.value + a.value * b.slope),
    ast.Div: _divide,
    ast.Pow: _power,
}
SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}


def parse(text: str) -> Function:
    """Return the function that a text describes, from positions (balls,) to values and slopes in their dtype.

    Raises:
        ValueError: the text is too long, is not an expression, uses something not allowed, or does not depend on x.

    Example:
        >>> parse("x**2")(np.array([1.0, 3.0]))
        Dual(value=array([1., 9.]), slope=array([2., 6.]))
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"expected at most {MOST_CHARACTERS} characters, received {len(text)}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"not an expression from column {error.offset or 1} on, received {text!r}") from None
    # Python raises other errors for zero bytes, deep nesting and numbers of thousands of digits.
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"not an expression ({error}), received {text!r}") from None
    built = _build(tree)
    if isinstance(built, float):
        raise ValueError(f"expected an expression in x, received {text!r}, which is the same number everywhere")

    def function(x: Array) -> Dual:
        # A slope may be a single number, for instance for `2 * x`, and constants are float64 whatever the dtype of x.
        found = built(x)
        return Dual(*(np.broadcast_to(np.asarray(part, x.dtype), x.shape) for part in found))

    return function


def _build(node: ast.expr) -> Function | float:
    """Return the function that a node of an expression computes, or its value if it does not contain x."""
    # `type` and not `isinstance`: True is an int.
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _number(node, lambda: float(node.value))  # type: ignore[arg-type]
    if isinstance(node, ast.Name) and node.id == "pi":
        return math.pi
    if isinstance(node, ast.Name) and node.id == "x":
        return lambda x: Dual(x, 1.0)
    if isinstance(node, ast.UnaryOp) and type(node.op) in SIGNS:
        sign = SIGNS[type(node.op)]
        return _applied(node, lambda a: Dual(sign(a.value), sign(a.slope)), _build(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left = _build(node.left)
        right = _build(node.right)
        if isinstance(node.op, ast.Pow) and not isinstance(right, float):
            column = node.right.col_offset + 1
            raise ValueError(f"column {column}: expected a number as exponent; a**b with x in b is exp(b * log(a))")
        return _applied(node, OPERATORS[type(node.op)], left, right)
    # None of the functions has a second argument or a keyword.
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1 and not node.keywords:
        rule = FUNCTIONS.get(node.func.id)
        if rule is not None:
            return _applied(node, rule, _build(node.args[0]))
    raise ValueError(f"column {node.col_offset + 1}: expected {ALLOWED}, received {ast.unparse(node)[:40]!r}")


def _applied(node: ast.expr, rule: Callable[..., Dual], *parts: Function | float) -> Function | float:
    """Apply a rule to the operands of a node: fold constants now, otherwise return a function of x."""
    if all(isinstance(part, float) for part in parts):
        return _number(node, lambda: float(rule(*(Dual(part, 0.0) for part in parts)).value))
    functions = [_as_function(part) for part in parts]
    return lambda x: rule(*(function(x) for function in functions))


def _as_function(part: Function | float) -> Function:
    """Turn a number into a constant function."""
    if isinstance(part, float):
        constant = Dual(part, 0.0)
        return lambda _: constant
    return part


def _number(node: ast.expr, compute: Callable[[], float]) -> float:
    """Compute the value of a node without x, and check that it is real and finite."""
    try:
        with np.errstate(all="ignore"):
            value = compute()
    # A TypeError comes from a root of a negative number, which is complex.
    except (ArithmeticError, TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"column {node.col_offset + 1}: {ast.unparse(node)[:40]!r} is not a finite number")
    return value
