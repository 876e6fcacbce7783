"""A stand-in for CuPy: arrays that do not mix with NumPy's, just like CuPy's, but are computed by NumPy.

It has only what the NumPy backend uses; `tests/backends/test_array_modules.py` compares it with CuPy if that is
installed. Like CuPy's arrays, these are not converted to NumPy's unless `get` is called, do not accept a NumPy array as
an operand, and dispatch calls of ufuncs, but of the other methods of ufuncs only `numpy.add.reduce`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.lib.mixins import NDArrayOperatorsMixin

FUNCTIONS = {
    "broadcast_to", "clip", "concatenate", "copyto", "count_nonzero", "dot", "empty_like", "moveaxis",
    "put_along_axis", "repeat", "take_along_axis", "where", "zeros_like", "atleast_2d", "min",
}  # fmt: skip
"""Functions that NumPy dispatches to arrays of another type."""
UFUNCS = {
    "absolute", "add", "bitwise_and", "bitwise_or", "divide", "equal", "erf", "exp", "expm1", "greater",
    "greater_equal", "invert", "isfinite", "less", "less_equal", "log", "log1p", "logaddexp", "matmul", "maximum",
    "minimum", "multiply", "negative", "not_equal", "power", "reciprocal", "sign", "sqrt", "square", "subtract",
    "tanh",
}  # fmt: skip
UFUNC_KEYWORDS = {"axis", "casting", "dtype", "keepdims", "out"}
MAKERS = ("zeros", "ones", "empty", "full", "asarray", "ascontiguousarray")
METHODS = ("all", "any", "argmax", "argmin", "astype", "copy", "max", "mean", "reshape", "sum")


class DeviceArray(NDArrayOperatorsMixin):
    """An array that can be combined only with arrays of its own type, and with numbers."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self._values = values

    def get(self) -> np.ndarray[Any, Any]:
        """Return a copy in memory."""
        return self._values.copy()

    def __array__(self, *arguments: object, **keywords: object) -> np.ndarray[Any, Any]:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
        if ufunc.__name__ not in UFUNCS or set(keywords) - UFUNC_KEYWORDS:
            return NotImplemented
        if method != "__call__" and (ufunc.__name__, method) != ("add", "reduce"):
            return NotImplemented
        given, compute = _bare(inputs), getattr(ufunc, method)
        if "out" not in keywords:
            return _wrapped(compute(*given, **keywords))
        compute(*given, **_bare(keywords))
        return keywords["out"][0]

    def __array_function__(self, function: Callable[..., Any], types: object, arguments: Any, keywords: Any) -> Any:
        if function.__name__ not in FUNCTIONS:
            return NotImplemented
        return _wrapped(function(*_bare(arguments), **_bare(keywords)))

    def __getitem__(self, place: Any) -> Any:
        return _wrapped(self._values[_bare(place)])

    def __setitem__(self, place: Any, values: Any) -> None:
        self._values[_bare(place)] = _bare(values)

    def __iter__(self) -> Iterator[Any]:
        return (self[place] for place in range(len(self)))

    def __len__(self) -> int:
        return len(self._values)

    def __float__(self) -> float:
        return float(self._values)

    def __bool__(self) -> bool:
        return bool(self._values)

    def __getattr__(self, name: str) -> Any:
        if name in ("shape", "ndim", "dtype", "size"):
            return getattr(self._values, name)
        if name == "T":
            return _wrapped(self._values.T)
        if name not in METHODS:
            raise AttributeError(name)
        method = getattr(self._values, name)
        return lambda *arguments, **keywords: _wrapped(method(*_bare(arguments), **_bare(keywords)))


def _bare(given: Any) -> Any:
    """Return arguments for NumPy; an array in memory among them is an error, as in CuPy."""
    if isinstance(given, DeviceArray):
        return given._values  # noqa: SLF001 - of this module
    if isinstance(given, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(given, tuple | list):
        return type(given)(_bare(one) for one in given)
    if isinstance(given, dict):
        return {name: _bare(one) for name, one in given.items()}
    return given


def _wrapped(found: Any) -> Any:
    """Return arrays, and the numbers that NumPy returns for arrays without axes, as arrays of the device."""
    return DeviceArray(np.asarray(found)) if isinstance(found, np.ndarray | np.generic) else found


def _upload(given: Any, *arguments: Any, **keywords: Any) -> Any:
    """Implement `asarray`: an array in memory is copied."""
    if isinstance(given, DeviceArray):
        return _wrapped(np.asarray(_bare(given), *arguments, **keywords))
    return DeviceArray(np.array(given, *arguments, **keywords))


def install(patch: pytest.MonkeyPatch) -> None:
    """Make `import cupy` find the stand-in."""
    cupy = ModuleType("cupy")

    def own(name: str) -> Callable[..., Any]:
        function = getattr(np, name)
        return lambda *arguments, **keywords: _wrapped(function(*_bare(arguments), **_bare(keywords)))

    for name in MAKERS:
        setattr(cupy, name, _upload if name == "asarray" else own(name))
    patch.setitem(sys.modules, "cupy", cupy)
