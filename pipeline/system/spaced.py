"""Lists of spaced values in the grid of a sweep: `optimizer.learning_rate=logspace(0.0001,1,9)`.

Hydra's language for overrides has `choice` and `range`, and gets three functions more here:

- `logspace(START,STOP,COUNT)`: geometrically spaced, as on the axes of maps; `geomspace` is another name of it;
- `linspace(START,STOP,COUNT)`: evenly spaced.

COUNT values from START to STOP, both included, are v_i = START * (STOP / START)^(i / (COUNT - 1)) or
v_i = START + (STOP - START) * i / (COUNT - 1), computed in decimal numbers of 40 digits. Each is written with the
fewest digits that are as good: 0.001, and not 0.0010000000000000002. Between the ends six digits are enough,
0.00316228, unless the value is a whole number or its neighbours are less than a thousandth of it away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from typing import Any

from hydra.core.override_parser import overrides_parser
from hydra.core.override_parser.types import ChoiceSweep, Override

from pipeline.system.errors import LabError
from pipeline.system.wording import some

Number = int | float

# Digits of the computation.
DIGITS = 40
# Fewer digits are as good if they change a value by at most this share of it.
DIFFERENCE = Decimal("1e-12")
# Digits of a float, and of a value between the ends.
ALL_DIGITS = 17
ENOUGH_DIGITS = 6
# Neighbours that are closer, relative to the larger one, are written with all digits.
CLOSE = Decimal("1e-3")
# As many points as a command may have; more would fill the memory before they are counted.
MOST = 10_000
# Maximum number of values to name in a message.
MOST_NAMED = 8
# Above this, neighbouring whole numbers are not different as floats.
LARGEST_WHOLE = 1e15
GEOMETRIC = ("logspace", "geomspace")
NAMES = (*GEOMETRIC, "linspace")


@dataclass
class SpacedSweep(ChoiceSweep):
    """The values of one call; a sweep like any other to Hydra.

    Attributes:
        text: the call, for messages.
    """

    text: str = ""


def extend_hydra() -> None:
    """Add the functions to those that Hydra knows in overrides, in this process."""
    # Hydra has no public way to add a function, and makes its table of them anew for each parser.
    original = overrides_parser.create_functions
    if getattr(original, "has_spaced", False):
        return

    def create_functions() -> Any:
        functions = original()
        for name in NAMES:
            functions.register(name=name, func=_function(name))
        return functions

    create_functions.has_spaced = True  # type: ignore[attr-defined]
    overrides_parser.create_functions = create_functions


def spaced_values(name: str, start: Number, stop: Number, count: int) -> list[Number]:
    """Return the values of a call; see the module for the equations.

    Args:
        name: `logspace`, `geomspace` or `linspace`.
        start: the first value.
        stop: the last value, above or below the first.
        count: number of values.
    """
    with localcontext(Context(prec=DIGITS)):
        # By its text, so that 0.1 is a tenth and not the nearest binary number.
        first = Decimal(repr(start))
        last = Decimal(repr(stop))
        steps = max(count - 1, 1)
        values = []
        for index in range(count):
            if name in GEOMETRIC:
                values.append(first * (last / first) ** (Decimal(index) / steps))
            else:
                values.append((first * (steps - index) + last * index) / steps)
        return [_readable(value, _most_digits(values, index)) for index, value in enumerate(values)]


def flat(values: Sequence[Any]) -> list[Any]:
    """Return the values of a list such as `0.5,logspace(1,100,3)`, with those of the call in its place."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, SpacedSweep):
            found += value.list
        else:
            found.append(value)
    return found


def has_spaced(override: Override) -> bool:
    """Whether some of the values of an override are spaced."""
    return any(True for _ in _calls(override))


def has_whole_ends(override: Override) -> bool:
    """Whether START and STOP of all spaced values of an override are whole numbers."""
    return all(isinstance(call.list[index], int) for call in _calls(override) for index in (0, -1))


def written_out(override: Override, whole: bool) -> str:
    """Return an override with its spaced values written out, as Hydra without the functions reads it.

    Args:
        override: an override with spaced values.
        whole: whether its key takes whole numbers only, to which the values are then rounded.

    Raises:
        LabError: two values round to the same whole number.
    """
    key = override.get_key_element()
    if whole:
        for call in _calls(override):
            call.list = _rounded(call, key)
    sweep: Any = override.value()
    # The override still refers to this sweep, and writes its values as Hydra does.
    sweep.list = flat(sweep.list)
    return f"{key}={','.join(map(str, override.sweep_string_iterator()))}"


def _calls(override: Override) -> Iterator[SpacedSweep]:
    """Yield the calls among the values of an override."""
    value = override.value()
    found: list[Any] = [value]
    if isinstance(value, ChoiceSweep):
        found += value.list
    for one in found:
        if isinstance(one, SpacedSweep):
            yield one


def _function(name: str) -> Callable[..., SpacedSweep]:
    """Return the function that Hydra calls for a name."""

    def call(*arguments: Any, **named: Any) -> SpacedSweep:
        given = [*map(str, arguments), *(f"{key}={value}" for key, value in named.items())]
        text = f"{name}({','.join(given)})"
        if named or len(arguments) != 3:
            raise _refused(name, f"{name}(START,STOP,COUNT)", text)
        start, stop, count = arguments
        if not (_is_number(start) and _is_number(stop)):
            raise _refused(name, "numbers for START and STOP", text)
        if name in GEOMETRIC and not (start > 0 and stop > 0):
            raise _refused(name, "START and STOP above 0; linspace takes any", text)
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST:
            raise _refused(name, f"a whole number from 1 to {MOST} for COUNT", text)
        values = spaced_values(name, start, stop, count)
        if len(set(values)) < count:
            raise _refused(name, "a STOP that differs from START, so that no value is there twice", text)
        return SpacedSweep(list=list(values), text=text)

    # Hydra compares arguments with these, which must be types and not their names.
    call.__annotations__ = {"arguments": Any, "named": Any}
    return call


def _refused(name: str, expected: str, received: str) -> LabError:
    example = f"{name}(0,1,5)"
    if name in GEOMETRIC:
        example = f"{name}(0.0001,1,9)"
    return LabError(
        f"{name} cannot make a list of values.",
        expected=expected,
        received=received,
        fix=f"for instance KEY='{example}'",
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _rounded(call: SpacedSweep, key: str) -> list[Any]:
    """Return the values of a call as whole numbers.

    Raises:
        LabError: two of them are the same.
    """
    numbers = [round(value) for value in flat(call.list)]
    if len(set(numbers)) < len(numbers):
        raise LabError(
            f"{key} takes whole numbers, and {call.text} rounds to some of them twice.",
            expected="values that stay different",
            received=some([*map(str, numbers)], MOST_NAMED),
            fix="ask for fewer values, or a wider range",
        )
    return numbers


def _most_digits(values: Sequence[Decimal], index: int) -> int:
    """Return the number of digits that a value is written with at most."""
    value = values[index]
    whole = value == value.to_integral_value() and abs(value) < LARGEST_WHOLE
    if whole or index in (0, len(values) - 1):
        return ALL_DIGITS
    neighbours = (values[index - 1], values[index + 1])
    if any(abs(value - other) < CLOSE * max(abs(value), abs(other)) for other in neighbours):
        return ALL_DIGITS
    return ENOUGH_DIGITS


def _readable(value: Decimal, most: int) -> Number:
    """Return the number with the fewest digits that is as good as a value, and with at most this many of them."""
    number = float(value)
    for digits in range(1, most + 1):
        number = float(f"{value:.{digits - 1}e}")
        if abs(Decimal(repr(number)) - value) <= abs(value) * DIFFERENCE:
            break
    if number.is_integer() and abs(number) < LARGEST_WHOLE:
        return int(number)
    return number
