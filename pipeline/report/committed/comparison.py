"""The committed report beside the one that was written anew: which values came out again, and what explains others."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import PurePosixPath
from typing import NamedTuple

from pipeline.report.committed.values import NUMBER, NUMBERS, RATE, SIZE, VALUE, Place, metric_of, number_in, values_of
from pipeline.report.digits import DECIMALS, DIGITS, is_share

# Below this, a number that trains towards 0 is what rounding leaves of it.
NOTHING = 1e-12
DIVERGED = "chaotic: diverged point"
PERTURBED = "no more than weights perturbed by their last bit change it"
BACKENDS = "no more than NumPy and Keras differ there"
NEAR_ZERO = f"both below {NOTHING:g}: what rounding leaves of 0"
PARITY = "how far NumPy and Keras are apart, which rounding decides"
EXPLAINED = {DIVERGED, PERTURBED, BACKENDS, NEAR_ZERO, PARITY}
REWORDED = "the sentence around it reads differently"


class Difference(NamedTuple):
    """A committed value that did not come out again.

    Attributes:
        file: the file below the folder of the report.
        place: where it is in the file.
        committed: the committed value.
        now: the new value; empty if there is none.
        relative: |committed - now| / |committed|; inf for words, or if there is no new value.
        why: what explains the difference, or how far it is.
    """

    file: str
    place: str
    committed: str
    now: str
    relative: float
    why: str


@dataclass
class Comparison:
    """What came out again.

    Attributes:
        values: how many values the committed report has.
        same: how many of them are printed in the same way.
        last_digit: how many others are one unit of the last printed digit away.
        differences: the rest.
    """

    values: int = 0
    same: int = 0
    last_digit: int = 0
    differences: list[Difference] = field(default_factory=list)


def compare_reports(committed: Mapping[str, str], now: Mapping[str, str]) -> Comparison:
    """Compare the values of two reports.

    Args:
        committed: the text of each file of the committed report, by its path in the folder.
        now: the same of the new report.
    """
    comparison = Comparison()
    diverged = {row[:-1] for report in (committed, now) for row in _diverged(report)}
    apart = _apart(committed)
    spreads = _spreads(committed)
    for file, text in committed.items():
        new = values_of(file, now.get(file, ""))
        for place, value in values_of(file, text).items():
            comparison.values += 1
            found = new.get(place)
            if found == value:
                comparison.same += 1
            elif found is not None and _is_last_digit(file, place, value, found):
                comparison.last_digit += 1
            else:
                relative = _relative(value, found)
                why = _reason(file, found, relative)
                if PurePosixPath(file).stem == "parity" and found is not None:
                    why = PARITY
                elif file == "points.csv" and place[:3] in diverged:
                    why = DIVERGED
                elif relative <= spreads.get((file, *place[:-1]), 0.0):
                    why = PERTURBED
                elif file == "points.csv" and relative <= apart.get((place[0], _quantity(place[-1])), 0.0):
                    why = BACKENDS
                elif _is_nothing(value) and _is_nothing(found):
                    why = NEAR_ZERO
                comparison.differences.append(Difference(file, " ".join(place), value, found or "", relative, why))
    return comparison


def _diverged(report: Mapping[str, str]) -> Iterator[Place]:
    """Yield the places of the outcome of points that diverged."""
    for place, value in values_of("points.csv", report.get("points.csv", "")).items():
        if place[-1] == "outcome" and value == "diverged":
            yield place


def _spreads(report: Mapping[str, str]) -> dict[Place, float]:
    """Return, by file and row, how far perturbed weights moved the numbers (pipeline.rounding)."""
    widths: dict[Place, float] = {}
    measured = values_of("rounding.csv", report.get("rounding.csv", ""))
    for (study, _, size, rate, _, column), value in measured.items():
        if column == "relative_spread":
            widths[study, size, rate] = max(float(value), widths.get((study, size, rate), 0.0))
    found: dict[Place, float] = {}
    points = values_of("points.csv", report.get("points.csv", ""))
    for study, backend, name in {place[:3] for place in points}:
        size, rate = (points.get((study, backend, name, key), "") for key in (SIZE, RATE))
        found["points.csv", study, backend, name] = widths.get((study, size, rate), 0.0)
    for study, backend, quantity, size, rate, number, _ in values_of(NUMBERS, report.get(NUMBERS, "")):
        found[NUMBERS, study, backend, quantity, size, rate, number] = widths.get((study, size, rate), 0.0)
    return found


def _apart(report: Mapping[str, str]) -> dict[tuple[str, str], float]:
    """Return the largest relative difference of the two backends by study and quantity."""
    places = values_of("parity.csv", report.get("parity.csv", ""))
    return {
        (study, quantity): float(value)
        for (study, quantity, kind, column), value in places.items()
        if (kind, column) == ("relative", "value")
    }


def _quantity(column: str) -> str:
    """Return the metric that a column of points.csv has the best or the final value of."""
    return column.removeprefix("best/").removeprefix("final/")


def _is_nothing(text: str | None) -> bool:
    number = number_in(text)
    return number is not None and abs(number) < NOTHING


def _is_last_digit(file: str, place: Place, committed: str, now: str) -> bool:
    """Whether two numbers, or those in two texts of the same words, are one unit of the last printed digit apart."""
    if VALUE.sub("#", committed) != VALUE.sub("#", now):
        return False
    metric = None
    if not file.endswith(".md") and NUMBER.fullmatch(committed):
        metric = metric_of(file, place)
    values = zip(VALUE.findall(committed), VALUE.findall(now), strict=True)
    return all(one == other or _are_neighbours(one, other, metric) for one, other in values)


def _are_neighbours(one: str, other: str, metric: str | None) -> bool:
    mine, theirs = number_in(one), number_in(other)
    if mine is None or theirs is None or not math.isfinite(mine - theirs):
        return False
    # Whole numbers count, and must be equal.
    if not re.search(r"[.e]", one + other):
        return False
    unit = max(_unit(one, metric), _unit(other, metric))
    # A little more, because the difference of two decimals is not exact in binary.
    return abs(mine - theirs) <= unit * 1.001


def _unit(printed: str, metric: str | None) -> float:
    """Return one unit of the last printed digit of a metric in a table, or of a number in a text (None)."""
    number = Decimal(printed.replace(",", ""))
    if metric is None:
        return float(10.0 ** int(number.as_tuple().exponent))
    # Tables drop the zeros at the end of a number, and write .0 after a whole one: 0.12 has four digits there.
    last = int(number.normalize().as_tuple().exponent)
    if is_share(metric):
        return float(10.0 ** min(last, -DECIMALS))
    if not number:
        return 0.0  # of a number that was rounded to significant digits, 0 is exact
    return float(10.0 ** min(last, number.adjusted() - DIGITS + 1))


def _relative(committed: str, now: str | None) -> float:
    one, other = number_in(committed), number_in(now)
    if one is None or other is None:
        return math.inf
    if one == 0 or not math.isfinite(one - other):
        return math.inf
    return abs(one - other) / abs(one)


def _reason(file: str, now: str | None, relative: float) -> str:
    if now is None:
        if file.endswith(".md"):
            return REWORDED
        return "not there any more"
    if relative < math.inf:
        return f"differs by {100 * relative:.2g} %"
    return "differs"
