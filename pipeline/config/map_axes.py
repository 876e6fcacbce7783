"""The `grid` section: a map, which is one run that trains a network for each pair of the values of two knobs."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.config.fields import Number, PositiveFloat, Section, Whole

Knob = Literal["optimizer.learning_rate", "optimizer.output_learning_rate", "model.hidden_size", "seed", "balls.start"]
# Knobs that are whole numbers, with the smallest value of each. All others must be positive, except for `balls.start`.
LEAST: dict[Knob, int] = {"model.hidden_size": 1, "seed": 0}
# The largest values, as in the sections of these knobs.
MOST: dict[Knob, int] = {"model.hidden_size": 2**53 - 1, "seed": 2**32 - 1}
Count = Annotated[Whole, Field(ge=2, le=100_000)]


class LogRange(Section):
    """`count` geometrically spaced values from `start` to `stop`, both included."""

    start: PositiveFloat
    stop: PositiveFloat
    count: Count


class LinearRange(Section):
    """`count` evenly spaced values from `start` to `stop`, both included."""

    start: Number
    stop: Number
    count: Count


class Axis(Section):
    """One knob and its increasing values: a logarithmic range, a linear range, or a list."""

    knob: Knob
    logspace: LogRange | None = None
    linspace: LinearRange | None = None
    list: Annotated[tuple[Number, ...], Field(min_length=2, max_length=100_000)] | None = None

    @model_validator(mode="after")
    def values_fit_the_knob(self) -> Axis:
        """Check that the values are given in exactly one form, increase, and are allowed for the knob."""
        given = [name for name in ("logspace", "linspace", "list") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of logspace, linspace and list, received {' and '.join(given) or 'none'}")
        values = self.values()
        if not (np.diff(values) > 0).all():
            raise ValueError(f"expected {self.knob} in increasing order, received {_some(values)}")
        least = LEAST.get(self.knob)
        if least is None:
            if values[0] <= 0 and self.knob != "balls.start":
                raise ValueError(f"expected {self.knob} above 0, received {_some(values)}")
        elif not (np.rint(values) == values).all() or values[0] < least or values[-1] > MOST[self.knob]:
            raise ValueError(
                f"expected whole numbers from {least} for {self.knob}, received {_some(values)}; use a list"
            )
        return self

    @property
    def name(self) -> str:
        """The knob's short name."""
        return self.knob.rsplit(".", 1)[-1]

    @property
    def count(self) -> int:
        """Number of values."""
        span = self.logspace or self.linspace
        if span is not None:
            return span.count
        return len(self.list or ())

    @property
    def logarithmic(self) -> bool:
        """Whether a figure shows the values on a logarithmic scale."""
        return self.logspace is not None or (self.list is not None and self.knob not in (*LEAST, "balls.start"))

    def values(self) -> NDArray[np.float64]:
        """Return the values, (count,)."""
        if self.logspace is not None:
            values = np.geomspace(self.logspace.start, self.logspace.stop, self.logspace.count)
        elif self.linspace is not None:
            values = np.linspace(self.linspace.start, self.linspace.stop, self.linspace.count)
        else:
            values = np.array(self.list, dtype=np.float64)
        # Values that miss a whole number only by floating-point errors are rounded, for instance 2**k from geomspace.
        if self.knob in LEAST:
            values = np.where(np.isclose(values, np.rint(values), rtol=1e-12, atol=0), np.rint(values), values)
        return values


class GridAxes(Section):
    """The axes of a map: `x` is horizontal, `y` vertical."""

    x: Axis
    y: Axis

    @model_validator(mode="after")
    def knobs_differ(self) -> GridAxes:
        """Check that the two axes have different knobs."""
        if self.x.knob == self.y.knob:
            raise ValueError(f"expected a different knob for each axis, received {self.x.knob} for both")
        return self

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Both axes, x first."""
        return self.x, self.y

    @property
    def points(self) -> int:
        """Number of points in the map."""
        return math.prod(axis.count for axis in self.axes)


def _some(values: NDArray[np.float64]) -> str:
    """Format the first values, and their number if there are more."""
    shown = ", ".join(f"{value:.6g}" for value in values[:4])
    if len(values) > 4:
        shown += f", ... ({len(values)} values)"
    return shown
