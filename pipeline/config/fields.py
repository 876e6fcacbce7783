"""What every part of the config is made of: closed sections, and numbers with their limits."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError


def _not_a_bool(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("number_type", "Input should be a number")
    return value


Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_not_a_bool)]
Whole = Annotated[int, BeforeValidator(_not_a_bool)]
PositiveFloat = Annotated[Number, Field(gt=0)]
PositiveInt = Annotated[Whole, Field(gt=0, lt=2**53)]
Fraction = Annotated[Number, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A part of the config: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)
