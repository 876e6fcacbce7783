"""The printed numbers and statements beside those computed here, as Markdown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import get_args

from pipeline.report.published.reproduction import BACKENDS, Cell, Key, Verdict
from pipeline.report.published.statements import Statement
from pipeline.system.wording import table

# How many of the numbers that do not agree are shown; reproduction.csv has all of them.
WORST = 8
CELL_HEAD = ["point", "number", "printed", *BACKENDS, "range with moved weights", "verdict"]


def reproduction_lines(cells: Sequence[Cell]) -> Iterator[str]:
    """Write the section on the printed numbers: verdicts, what rounding explains, and the numbers furthest off."""
    yield (
        "`reproduced`: the number agrees on every printed digit (12 digits for errors, 8 decimals for weights, 2 "
        "decimals for weights after one epoch); a count agrees exactly. `within rounding`: the printed number and the "
        "number computed here differ, but both lie in the range that came out when the point was trained again many "
        "times, each time with every initial weight moved by one unit in the last place "
        "(`python -m pipeline.rounding`)."
    )
    yield ""
    yield from table(verdict_table(cells))
    yield ""
    for backend in BACKENDS:
        computed = [cell for cell in cells if cell.backend == backend and cell.value is not None]
        if computed:
            agreeing = sum(cell.agrees for cell in computed)
            yield (
                f"- {backend}: {agreeing} of {len(computed)} numbers agree: counts exactly, the others on every "
                "printed digit."
            )
        else:
            yield f"- {backend}: not run."
    off = [cell for cell in cells if cell.value is not None and not cell.agrees]
    for sentence in _rounding_sentences(off):
        yield f"- {sentence}"
    yield ""
    yield from _worst(cells, off)


def _worst(cells: Sequence[Cell], off: Sequence[Cell]) -> Iterator[str]:
    """Write the table of the numbers that are furthest off; nothing if all agree."""
    numbers = dict.fromkeys(cell.key for cell in off)
    if not numbers:
        return
    # A printed number that is off on both backends counts once, with its larger difference.
    furthest = sorted(off, key=lambda cell: -(cell.relative_difference or 0))
    worst = list(dict.fromkeys(cell.key for cell in furthest))[:WORST]
    if len(worst) == len(numbers):
        yield "The numbers that do not agree:"
    else:
        yield f"The {WORST} numbers that differ most:"
    yield ""
    # In the order of the texts, each beside the number of a backend that does agree.
    shown = [[cell for cell in cells if cell.key == key] for key in numbers if key in worst]
    yield from table([CELL_HEAD, *map(_cell_row, shown)])
    yield ""


def verdict_table(cells: Sequence[Cell]) -> list[list[str]]:
    """Count the verdicts: a header, then rows of quantity, verdict and the count of each backend."""
    counts = Counter((cell.quantity, cell.verdict, cell.backend) for cell in cells)
    rows = [["quantity", "verdict", *BACKENDS]]
    for quantity in dict.fromkeys(cell.quantity for cell in cells):
        # In the order of `Verdict`, from best to worst.
        for verdict in get_args(Verdict):
            numbers = [counts[quantity, verdict, backend] for backend in BACKENDS]
            if any(numbers):
                rows.append([quantity, verdict, *map(str, numbers)])
    return rows


def _rounding_sentences(off: Sequence[Cell]) -> Iterator[str]:
    """Say what the measured range explains of the numbers that do not agree."""
    numbers: dict[Key, list[Cell]] = {}
    for cell in off:
        numbers.setdefault(cell.key, []).append(cell)
    # The range belongs to the printed number, so it is the same in the cells of both backends.
    spreads = {key: _relative_spread(same[0]) for key, same in numbers.items()}
    measured = {key: spread for key, spread in spreads.items() if spread is not None}
    if measured:
        # One backend outside of the range is enough for a difference that rounding does not explain.
        within = sum(all(cell.verdict == "within rounding" for cell in numbers[key]) for key in measured)
        outside = len(measured) - within
        yield (
            f"{_count(len(measured))} not agree on every backend. Training again, with every initial weight moved by "
            f"one unit in the last place, {_spread_words(list(measured.values()))} of the printed number."
        )
        cases = f"of {len(measured)} cases"
        if within:
            yield (
                f"In {within} {cases}, this range contains the printed number and those computed here: rounding "
                "decides them."
            )
        if outside:
            yield f"In {outside} {cases}, it does not: rounding does not explain the difference."
    unmeasured = len(numbers) - len(measured)
    if unmeasured:
        yield (
            f"{_count(unmeasured)} not agree, and the range that rounding gives was not measured: "
            "`python -m pipeline.rounding` measures it."
        )


def _spread_words(spreads: Sequence[float]) -> str:
    """Say how far the numbers spread, with two digits: `spreads it by 3%`, `spreads them by 1.4% to 1.6%`."""
    least = f"{100 * min(spreads):.2g}%"
    most = f"{100 * max(spreads):.2g}%"
    verb = "spreads them by"
    if len(spreads) == 1:
        verb = "spreads it by"
    if least == most:
        return f"{verb} {least}"
    return f"{verb} {least} to {most}"


def _relative_spread(cell: Cell) -> float | None:
    """Return the measured range as a share of the printed number; None if it was not measured."""
    if cell.rounding_smallest is None or cell.rounding_largest is None:
        return None
    if cell.published == 0:
        return math.inf
    return (cell.rounding_largest - cell.rounding_smallest) / abs(cell.published)


def _count(numbers: int) -> str:
    if numbers == 1:
        return "1 printed number does"
    return f"{numbers} printed numbers do"


def _cell_row(same: Sequence[Cell]) -> list[str]:
    """Write one printed number beside those of the backends.

    Args:
        same: the cells of that number, one for each backend.
    """
    one = same[0]
    point = f"{one.study}, rate {one.learning_rate:g}"
    if one.hidden_size is not None:
        point += f", hidden size {one.hidden_size}"
    # Two digits more than agree show where the numbers part; 6 to 12 in all keep the columns readable.
    agreeing = max((int(cell.digits) for cell in same if cell.digits.isdigit()), default=0)
    digits = min(max(agreeing + 2, 6), 12)
    values = {cell.backend: f"{cell.value:.{digits}g}" for cell in same if cell.value is not None}
    spread = "not measured"
    if one.rounding_smallest is not None and one.rounding_largest is not None:
        spread = f"{one.rounding_smallest:.{digits}g} to {one.rounding_largest:.{digits}g}"
    verdict: str = one.verdict
    if any(cell.verdict != verdict for cell in same):
        verdict = ", ".join(f"{cell.backend}: {cell.verdict}" for cell in same)
    return [
        point,
        f"{one.quantity}, {one.place}",
        f"{one.published:.{digits}g}",
        *(values.get(backend, "") for backend in BACKENDS),
        spread,
        verdict,
    ]


def statement_lines(statements: Sequence[Statement]) -> list[str]:
    """Write the table of what the texts say in words, with the backends of a statement below each other."""
    order = list(dict.fromkeys((one.study, one.text) for one in statements))
    together = sorted(statements, key=lambda one: order.index((one.study, one.text)))
    rows = [["study", "the text says", "judged by", "backend", "verdict", "observed"]]
    rows += [[one.study, one.text, one.rule, one.backend, one.verdict, one.seen] for one in together]
    return table(rows)
