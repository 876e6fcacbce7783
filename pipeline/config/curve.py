"""The sections of the config that make a point a descent on a curve: `data` of kind curve, and `balls`."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from pipeline.config.expressions import parse
from pipeline.config.fields import Number, Section, Whole

# Each ball is a row of a table, which a report must be able to show.
MOST_BALLS = 100_000


class CurveData(Section):
    """A function of one variable x that balls roll down: an expression, or a smooth curve through given points."""

    kind: Literal["curve"]
    name: str
    expression: str | None
    points: tuple[tuple[Number, Number], ...] | None
    lowest: Number
    highest: Number

    @field_validator("expression")
    @classmethod
    def is_an_expression(cls, value: str | None) -> str | None:
        """Check that the text is an expression in x."""
        if value is not None:
            parse(value)
        return value

    @field_validator("points")
    @classmethod
    def x_increases(cls, value: tuple[tuple[float, float], ...] | None) -> tuple[tuple[float, float], ...] | None:
        """Check that x increases from point to point, and that there are enough points for a cubic spline."""
        if value is not None and (len(value) < 3 or not (np.diff([x for x, _ in value]) > 0).all()):
            raise ValueError(f"expected three or more points [x, height] in increasing x, received {len(value)} points")
        return value

    @model_validator(mode="after")
    def is_a_curve(self) -> CurveData:
        """Check that the curve is given in exactly one form, and is finite from `lowest` to `highest`."""
        if (self.expression is None) == (self.points is None):
            raise ValueError("expected exactly one of expression and points, and null for the other")
        # Two finite numbers may be farther apart than the largest float.
        if not self.lowest < self.highest or not np.isfinite(self.highest - self.lowest):
            raise ValueError(f"highest: expected more than lowest={self.lowest:g}, received {self.highest:g}")
        if self.expression is not None:
            # An odd number of samples includes the middle: the pole of 1 / x in a symmetric domain is found.
            samples = np.linspace(self.lowest, self.highest, 1001)
            with np.errstate(all="ignore"):
                gaps = samples[~np.isfinite(parse(self.expression)(samples).value)]
            if len(gaps):
                raise ValueError(
                    f"expression: expected a finite height from lowest to highest, received none at x={gaps[0]:g}"
                )
        return self


class Balls(Section):
    """The starts of the balls: a list of positions, or a number of random ones within the limits of the curve."""

    starts: Annotated[tuple[Number, ...], Field(min_length=1, max_length=MOST_BALLS)] | None
    random: Annotated[Whole, Field(ge=1, le=MOST_BALLS)] | None

    @model_validator(mode="after")
    def starts_are_given_once(self) -> Balls:
        """Check that the starts are given in exactly one form."""
        if (self.starts is None) == (self.random is None):
            raise ValueError("expected exactly one of starts and random, and null for the other")
        return self

    @property
    def count(self) -> int:
        """Number of balls."""
        if self.starts is not None:
            return len(self.starts)
        return self.random or 0
