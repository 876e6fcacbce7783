"""Numbers of a config that the dtype of the training cannot hold: there they become 0, 1 or infinite.

A config is read in float64. Most of its numbers are then used in the dtype of the weights, where `beta_2=0.99999999` is
1 and Adam learns nothing. Rounding that keeps the meaning, as of 0.1, does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.config.fields import Section
from pipeline.config.map_axes import LEAST, Axis
from pipeline.config.optimizer import Annealing, Bfgs, LBfgs
from pipeline.config.schema import Config

Floats = NDArray[np.float64]
# Keys that are computed in float64 whatever the dtype: shares of the number of updates, factors that are multiplied
# before they are rounded, and the distribution that AW-SGD learns.
IN_FLOAT64 = (
    "schedule.every",
    "schedule.warm_up",
    "schedule.rising",
    "schedule.factor",
    "schedule.min_delta",
    "optimizer.sampling_learning_rate",
    "optimizer.uniform_share",
)
# Keys that are compared with random numbers in float32 whatever the dtype, so that both dtypes drop the same units.
IN_FLOAT32 = ("model.dropout", "model.drop_connect")
# Optimizers of SciPy, which computes in float64.
OF_SCIPY = (Bfgs, LBfgs, Annealing)


class LostNumber(NamedTuple):
    """A number that means something else in the dtype of the training.

    Attributes:
        key: its key, for a map the axis.
        value: the number in the config.
        dtype: the dtype that it is used in, in words.
        becomes: the number that it becomes there: 0, inf or the bound that its key must stay below.
        kept_by_float64: whether `dtype=float64` keeps it.
    """

    key: str
    value: float
    dtype: str
    becomes: float
    kept_by_float64: bool


def lost_numbers(config: Config) -> Iterator[LostNumber]:
    """Yield the first number of each key that the dtype of the training cannot hold.

    Args:
        config: a complete config, or one without the sections that are invalid, which are skipped.
    """
    # The engines of Keras compute with 0 instead of a subnormal number, in float64 too.
    keras = config.backend.name == "keras"
    for key, values, below in _numbers(config, ""):
        if key in IN_FLOAT64:
            continue
        dtype: str = config.dtype
        if key in IN_FLOAT32:
            dtype = "float32"
        held = _held(values, dtype, keras)
        lost = np.flatnonzero(_differs(values, held, below))
        if len(lost):
            first = lost[0]
            in_float64 = _held(values, "float64", keras)
            kept = key not in IN_FLOAT32 and not _differs(values, in_float64, below)[first]
            if keras:
                dtype += " with Keras"
            yield LostNumber(key, float(values[first]), dtype, float(held[first]), kept)


def _numbers(section: Section, prefix: str) -> Iterator[tuple[str, Floats, float]]:
    """Yield the key of every float or list of floats, the numbers (count,), and the bound that they must stay below."""
    # Pairs of name and value; those that `model_construct` was not given are missing.
    for name, value in section:
        key = f"{prefix}{name}"
        if isinstance(value, Axis):
            # The other knobs are whole numbers.
            if value.knob not in LEAST:
                yield key, value.values(), np.inf
        elif isinstance(value, Section) and not isinstance(value, OF_SCIPY):
            yield from _numbers(value, f"{key}.")
        # What a knob of a model of one's own becomes, only its function knows.
        elif isinstance(value, float | tuple) and name in type(section).model_fields:
            numbers: NDArray[Any] = np.asarray(value).ravel()
            if numbers.dtype == np.float64:
                limits = type(section).model_fields[name].metadata
                bounds: list[Any] = [limit.lt for limit in limits if hasattr(limit, "lt")]
                yield key, numbers, min([*bounds, np.inf])


def _held(values: Floats, dtype: str, keras: bool) -> Floats:
    """Return numbers as a dtype holds them."""
    with np.errstate(over="ignore", under="ignore"):
        held = values.astype(dtype)
    if keras:
        held[np.abs(held) < np.finfo(dtype).smallest_normal] = 0
    return held.astype(np.float64)


def _differs(values: Floats, held: Floats, below: float) -> NDArray[np.bool_]:
    """Return whether each number has another meaning as it is held."""
    became_zero = (values != 0) & (held == 0)
    reached_bound = (values < below) & (held >= below)
    result: NDArray[np.bool_] = became_zero | reached_bound | np.isinf(held)
    return result
