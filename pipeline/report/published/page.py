"""The published numbers and statements compared with the reproduced ones, as Markdown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import get_args

from pipeline.report.published.reproduction import BACKENDS, Cell, Verdict
from pipeline.report.published.statements import Statement
from pipeline.report.published.tables import Key
from pipeline.system.wording import table

# The maximum number of mismatches in the table; reproduction.csv has all of them.
WORST = 8
CELL_HEAD = ["point", "number", "published", *BACKENDS, "range with perturbed weights", "verdict"]


def reproduction_lines(cells: Sequence[Cell]) -> Iterator[str]:
    """Write the section on the published numbers: verdicts, the effect of rounding, and the largest differences."""
    yield (
        "`reproduced`: the number matches to every printed digit (12 digits for errors, 8 decimals for weights, 2 "
        "decimals for weights after one epoch; counts must match exactly). `within rounding`: the published and the "
        "reproduced number differ, but both are within the range of values obtained by retraining the point many "
        "times, with each initial weight perturbed by one unit in the last place (`python -m pipeline.rounding`)."
    )
    yield ""
    yield from table(verdict_table(cells))
    yield ""
    for backend in BACKENDS:
        computed = [cell for cell in cells if cell.backend == backend and cell.value is not None]
        if computed:
            matching = sum(cell.agrees for cell in computed)
            yield (
                f"- {backend}: {matching} of {len(computed)} numbers match (to every printed digit, or exactly for "
                "counts)."
            )
        else:
            yield f"- {backend}: not run."
    off = [cell for cell in cells if cell.value is not None and not cell.agrees]
    for sentence in _rounding_sentences(off):
        yield f"- {sentence}"
    yield ""
    yield from _worst(cells, off)


def _worst(cells: Sequence[Cell], off: Sequence[Cell]) -> Iterator[str]:
    """Write the table of the numbers with the largest differences; nothing if all match."""
    numbers = dict.fromkeys(cell.key for cell in off)
    if not numbers:
        return
    # A published number that differs on both backends is listed once, by its larger difference.
    furthest = sorted(off, key=lambda cell: -(cell.relative_difference or 0))
    worst = list(dict.fromkeys(cell.key for cell in furthest))[:WORST]
    if len(worst) == len(numbers):
        yield "Numbers that do not match:"
    else:
        yield f"The {WORST} numbers with the largest differences:"
    yield ""
    # In the order of the texts, with both backends, also if only one of them differs.
    shown = [[cell for cell in cells if cell.key == key] for key in numbers if key in worst]
    yield from table([CELL_HEAD, *map(_cell_row, shown)])
    yield ""


def verdict_table(cells: Sequence[Cell]) -> list[list[str]]:
    """Count the verdicts: a header, then rows of quantity, verdict and a count for each backend."""
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
    """Yield whether the measured ranges explain the numbers that do not match."""
    numbers: dict[Key, list[Cell]] = {}
    for cell in off:
        numbers.setdefault(cell.key, []).append(cell)
    # The range belongs to the published number, so it is the same in the cells of both backends.
    spreads = {key: _relative_spread(same[0]) for key, same in numbers.items()}
    measured = {key: spread for key, spread in spreads.items() if spread is not None}
    if measured:
        # One backend outside of the range is enough for a difference that rounding does not explain.
        within = sum(all(cell.verdict == "within rounding" for cell in numbers[key]) for key in measured)
        outside = len(measured) - within
        yield (
            f"{_count(len(measured))} not match on every backend. Retraining from initial weights perturbed by one "
            f"unit in the last place {_spread_words(list(measured.values()))} of the published number."
        )
        cases = f"of {len(measured)} cases"
        if within:
            yield (
                f"In {within} {cases}, this range includes both the published and the reproduced values, so rounding "
                "explains the difference."
            )
        if outside:
            yield f"In {outside} {cases}, it does not, so rounding does not explain the difference."
    unmeasured = len(numbers) - len(measured)
    if unmeasured:
        yield (
            f"{_count(unmeasured)} not match, and the effect of rounding has not been measured; run "
            "`python -m pipeline.rounding`."
        )


def _spread_words(spreads: Sequence[float]) -> str:
    """Describe the spread with two digits, for instance `changes it by 3%` or `changes them by 1.4% to 1.6%`."""
    least = f"{100 * min(spreads):.2g}%"
    most = f"{100 * max(spreads):.2g}%"
    verb = "changes them by"
    if len(spreads) == 1:
        verb = "changes it by"
    if least == most:
        return f"{verb} {least}"
    return f"{verb} {least} to {most}"


def _relative_spread(cell: Cell) -> float | None:
    """Return the width of the measured range as a share of the published number; None if it was not measured."""
    if cell.rounding_smallest is None or cell.rounding_largest is None:
        return None
    if cell.published == 0:
        return math.inf
    return (cell.rounding_largest - cell.rounding_smallest) / abs(cell.published)


def _count(numbers: int) -> str:
    if numbers == 1:
        return "1 published number does"
    return f"{numbers} published numbers do"


def _cell_row(same: Sequence[Cell]) -> list[str]:
    """Write a row with one published number and the numbers of the backends.

    Args:
        same: the cells of that number, one for each backend.
    """
    one = same[0]
    point = f"{one.study}, rate {one.learning_rate:g}"
    if one.hidden_size is not None:
        point += f", hidden size {one.hidden_size}"
    # Two digits more than match show the first difference; a total of 6 to 12 digits keeps the columns readable.
    matching = max((int(cell.digits) for cell in same if cell.digits.isdigit()), default=0)
    digits = min(max(matching + 2, 6), 12)
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
    """Write the table of qualitative claims, with one row per backend for each of them."""
    order = list(dict.fromkeys((one.study, one.text) for one in statements))
    together = sorted(statements, key=lambda one: order.index((one.study, one.text)))
    rows = [["study", "the text says", "criterion", "backend", "verdict", "observed"]]
    rows += [[one.study, one.text, one.rule, one.backend, one.verdict, one.seen] for one in together]
    return table(rows)
