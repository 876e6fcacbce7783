"""How many digits of a computed number the tracked report shows: those that another processor computes too.

Libraries for matrix products add in another order on another processor, which changes the last digits of every sum, and
training carries that on. What remains in doubt is a number at the edge between two printed ones: it may end one unit of
the last digit away.
"""

from __future__ import annotations

import math
from typing import Any

# Significant digits of a number, and decimals of a share.
DIGITS = 4
DECIMALS = 4
# The names of metrics that are shares of 1 contain one of these.
SHARES = ("accuracy", "_share")
# A relative difference below this is one of rounding alone, of which not even the first digit is the same elsewhere.
ROUNDING = 1e-6


def shown(name: str, value: Any) -> Any:
    """Return a computed value as the report shows it; only floats are rounded.

    Args:
        name: the metric or quantity.
        value: its value.
    """
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    if is_share(name):
        return round(value, DECIMALS)
    return significant(value, DIGITS)


def is_share(name: str) -> bool:
    """Whether a metric or quantity is a share of 1, such as an accuracy."""
    return any(share in name for share in SHARES)


def significant(value: float, digits: int) -> float:
    """Round to a number of significant digits."""
    return float(f"{value:.{digits}g}")


def bound(difference: float) -> float:
    """Return the power of ten that a difference, above 0, does not exceed."""
    return float(f"1e{math.ceil(math.log10(difference))}")


def difference_text(difference: float, relative: float) -> str:
    """Return a difference with one digit, or the power of ten that it does not exceed if it is one of rounding alone.

    Args:
        difference: the difference, at least 0.
        relative: the same, relative to the values.
    """
    if 0 < relative < ROUNDING:
        return f"at most {bound(difference):.0e}"
    return f"{difference:.1g}"
