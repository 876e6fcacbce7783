"""The number type of Keras."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def floatx(dtype: str) -> Iterator[None]:
    """Set Keras' default dtype: with float32, the rate of a float64 run would be rounded."""
    before = keras.config.floatx()
    policy = keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(before)
        keras.config.set_dtype_policy(policy)
