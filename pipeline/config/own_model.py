"""The `model` section of a Keras model of one's own: the function that makes it, and the knobs that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from pipeline.config.fields import Section

# Hydra's name for the key that names a function.
TARGET = "_target_"
# `package.module.function`.
DOTTED = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"


def _is_knob(value: Any) -> Any:
    """Accept what JSON and a command line can both hold; a list becomes a tuple, which cannot be changed."""
    if isinstance(value, list | tuple):
        return tuple(_is_knob(item) for item in value)
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and isfinite(value)):
        return value
    raise ValueError(f"expected a number, a text, true, false, null, or a list of them, received {value!r}")


class KerasModel(Section):
    """A function `(input_shape, outputs, **knobs)` that returns a `keras.Model`; every other key is a knob.

    Attributes:
        target_: `package.module.function`, the key `_target_`.
        folder_: the folder that the module is imported from, the key `_folder_`. None: the project's folder, or an
            installed package. A command that finds the module elsewhere sets it, so that others find it too.
    """

    model_config = ConfigDict(extra="allow", frozen=True, serialize_by_alias=True)
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_is_knob)]]

    target_: Annotated[str, Field(alias=TARGET, pattern=DOTTED)]
    folder_: Annotated[str | None, Field(alias="_folder_")] = None

    @model_validator(mode="after")
    def names_are_parameters(self) -> KerasModel:
        """Check that each knob can be a parameter of a function."""
        for name in self.knobs:
            if not name.isidentifier() or name.startswith("_") or name in type(self).model_fields:
                raise ValueError(f"expected knobs with the names of parameters, received {name}")
        return self

    @property
    def knobs(self) -> dict[str, Any]:
        """The arguments of the function besides `input_shape` and `outputs`, lists as lists."""
        return {name: _as_list(value) for name, value in (self.__pydantic_extra__ or {}).items()}

    @property
    def hidden_size(self) -> None:
        """None: what the size of such a model is, `report.size` says."""
        return None

    @property
    def module(self) -> str:
        """The module of the function, for instance `examples.convnet`."""
        return self.target_.rpartition(".")[0]

    @property
    def function(self) -> str:
        """The name of the function in its module."""
        return self.target_.rpartition(".")[2]


def _as_list(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_as_list(item) for item in value]
    return value


def section_kind(value: Any) -> str:
    """Return which section a value of `model` is: `own`, or `dense`."""
    if isinstance(value, KerasModel) or (isinstance(value, Mapping) and TARGET in value):
        return "own"
    return "dense"
