"""Which keys of the config take whole numbers only, read from the types of its sections."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pipeline.config.fields import Section
from pipeline.config.schema import Config


def takes_whole_numbers(key: str) -> bool | None:
    """Whether a key takes whole numbers only; None: it takes no numbers, or is not in the typed config.

    Example:
        >>> takes_whole_numbers("model.hidden_size"), takes_whole_numbers("optimizer.learning_rate")
        (True, False)
    """
    return _numbers().get(key)


@cache
def _numbers() -> dict[str, bool]:
    """Return for every key that takes a number whether it takes whole numbers only."""
    found: dict[str, bool] = {}
    for key, kinds in _keys(Config, ""):
        numbers = kinds & {int, float}
        if numbers:
            # One key can be in several sections, for instance of several optimizers.
            found[key] = found.get(key, True) and numbers == {int}
    return found


def _keys(section: type[Section], prefix: str) -> Iterator[tuple[str, set[Any]]]:
    """Yield every key of a section and of all sections that may be in it, with the types of its values."""
    for name, field in section.model_fields.items():
        kinds = set(_kinds(field.annotation))
        yield f"{prefix}{name}", kinds
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from _keys(kind, f"{prefix}{name}.")


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield the types that an annotation joins."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        for member in get_args(annotation):
            yield from _kinds(member)
    elif origin is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif origin is None:
        yield annotation
