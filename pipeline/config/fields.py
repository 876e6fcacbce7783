"""The building blocks of the config: sections that refuse unknown keys, and bounded numbers."""

from __future__ import annotations

import fractions
import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError


def _not_a_bool(value: object) -> object:
    # Pydantic would accept true as 1, so that `seed=yes` would train with seed 1.
    if isinstance(value, bool):
        raise PydanticCustomError("number_type", "Input should be a number")
    return value


def _quotient(value: object) -> object:
    # 1/6 is text in YAML, and no other spelling of a sixth is exact.
    if not isinstance(value, str) or "/" not in value:
        return value
    try:
        return float(fractions.Fraction(value))
    except (ValueError, ZeroDivisionError):
        return value


Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_not_a_bool)]
Whole = Annotated[int, BeforeValidator(_not_a_bool)]
PositiveFloat = Annotated[Number, Field(gt=0)]
# Below 2**53 a whole number is exact as a float, and JSON readers that know only floats keep it.
PositiveInt = Annotated[Whole, Field(gt=0, lt=2**53)]
Fraction = Annotated[Number, Field(ge=0, lt=1)]
# Also as a quotient: 1/6.
Share = Annotated[Fraction, BeforeValidator(_quotient)]


def _seconds(value: object) -> object:
    # As people say it: 90, 90s, 20m, 1.5h.
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([smh])", value)
    if found is None:
        raise PydanticCustomError("seconds", "Input should be a number of seconds, or a time such as 20m or 2h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


# A length of time in seconds, also as 20m or 2h.
Seconds = Annotated[Number, Field(ge=0), BeforeValidator(_seconds)]


class Section(BaseModel):
    """A part of the config, which is frozen and refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
