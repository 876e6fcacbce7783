"""The printed numbers and statements beside the ones seen, as Markdown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import get_args

from pipeline.report.published.reproduction import BACKENDS, Cell, Key, Verdict
from pipeline.report.published.statements import Statement
from pipeline.system.wording import table

WORST = 8


def reproduction_lines(cells: Sequence[Cell]) -> Iterator[str]:
    """The section on the printed numbers: verdicts, the numbers that do not agree, and what rounding says of them."""
    yield (
        "`reproduced`: the number agrees on every printed digit (12 for errors, 8 decimals for weights, 2 decimals for "
        "weights after one epoch), a count exactly. `within rounding`: it does not, but both the printed number and "
        "the one seen lie between the smallest and the largest that came out when the point was trained again, many "
        "times, with each initial weight moved by one unit in the last place (`python -m pipeline.rounding`)."
    )
    yield ""
    yield from table(verdict_table(cells))
    yield ""
    for backend in BACKENDS:
        seen = [cell for cell in cells if cell.backend == backend and cell.value is not None]
        agree = sum(cell.agrees for cell in seen)
        yield (
            f"- {backend}: {agree} of {len(seen)} numbers agree on every printed digit, or exactly."
            if seen
            else f"- {backend}: not run."
        )
    off = [cell for cell in cells if cell.value is not None and not cell.agrees]
    for sentence in _rounding_sentences(off):
        yield f"- {sentence}"
    yield ""
    numbers = dict.fromkeys(cell.key for cell in off)
    if numbers:
        furthest = sorted(off, key=lambda cell: -(cell.relative_difference or 0))
        worst = list(dict.fromkeys(cell.key for cell in furthest))[:WORST]
        yield "The others:" if len(numbers) == len(worst) else f"The {WORST} that are furthest off:"
        yield ""
        shown = ([cell for cell in cells if cell.key == key] for key in numbers if key in worst)
        yield from table([CELL_HEAD, *map(_cell_row, shown)])
        yield ""


def verdict_table(cells: Sequence[Cell]) -> list[list[str]]:
    """How many cells have which verdict: a header, then quantity, verdict and a count for each backend."""
    counts = Counter((cell.quantity, cell.verdict, cell.backend) for cell in cells)
    rows = [["quantity", "verdict", *BACKENDS]]
    for kind in dict.fromkeys(cell.quantity for cell in cells):
        for verdict in get_args(Verdict):
            if any(counts[kind, verdict, backend] for backend in BACKENDS):
                rows.append([kind, verdict, *(str(counts[kind, verdict, backend]) for backend in BACKENDS)])
    return rows


def _rounding_sentences(off: Sequence[Cell]) -> Iterator[str]:
    """What the measured spread says of the numbers that do not agree."""
    numbers: dict[Key, list[Cell]] = {}
    for cell in off:
        numbers.setdefault(cell.key, []).append(cell)
    spreads = {key: _relative_spread(same[0]) for key, same in numbers.items()}
    measured = {key: spread for key, spread in spreads.items() if spread is not None}
    if measured:
        least, most = (f"{100 * spread:.2g} %" for spread in (min(measured.values()), max(measured.values())))
        within = sum(all(cell.verdict == "within rounding" for cell in numbers[key]) for key in measured)
        yield (
            f"{_count(len(measured))} not agree on every backend. Training again from initial weights that are moved "
            f"by one unit in the last place spreads {'it' if len(measured) == 1 else 'them'} by "
            f"{least if least == most else f'{least} to {most}'} of the printed number."
        )
        cases = f"of {len(measured)} cases"
        if within:
            yield f"In {within} {cases} that covers the printed number and the ones seen: rounding decides them."
        if within < len(measured):
            yield f"In {len(measured) - within} {cases} it does not: rounding does not explain the difference."
    if len(measured) < len(numbers):
        yield (
            f"{_count(len(numbers) - len(measured))} not agree, and how far rounding spreads such numbers was not "
            "measured: `python -m pipeline.rounding` does."
        )


def _relative_spread(cell: Cell) -> float | None:
    """The measured spread as a share of the printed number; None where it was not measured."""
    if cell.rounding_smallest is None or cell.rounding_largest is None:
        return None
    width = cell.rounding_largest - cell.rounding_smallest
    return width / abs(cell.published) if cell.published else math.inf


def _count(numbers: int) -> str:
    return f"{numbers} printed number does" if numbers == 1 else f"{numbers} printed numbers do"


CELL_HEAD = ["point", "number", "printed", *BACKENDS, "with moved weights", "verdict"]


def _cell_row(same: Sequence[Cell]) -> list[str]:
    """One printed number beside those of the backends, with two digits more than agree."""
    one = same[0]
    size = "" if one.hidden_size is None else f", hidden size {one.hidden_size}"
    agreeing = max((int(cell.digits) for cell in same if cell.digits.isdigit()), default=0)
    form = f".{min(max(agreeing + 2, 6), 12)}g"
    seen = {cell.backend: format(cell.value, form) for cell in same if cell.value is not None}
    verdicts = {cell.backend: cell.verdict for cell in same}
    smallest, largest = one.rounding_smallest, one.rounding_largest
    spread = "not measured" if smallest is None or largest is None else f"{smallest:{form}} to {largest:{form}}"
    verdict = ", ".join(f"{backend}: {verdict}" for backend, verdict in verdicts.items())
    return [f"{one.study}, rate {one.learning_rate:g}{size}", f"{one.quantity}, {one.place}",
            format(one.published, form), *(seen.get(backend, "") for backend in BACKENDS), spread,
            one.verdict if len(set(verdicts.values())) == 1 else verdict]  # fmt: skip


def statement_lines(statements: Sequence[Statement]) -> list[str]:
    """The table of what the texts say in words, each statement's backends one below the other."""
    rows = [["study", "the text says", "judged by", "backend", "verdict", "seen"]]
    order = list(dict.fromkeys((one.study, one.text) for one in statements))
    for one in sorted(statements, key=lambda one: order.index((one.study, one.text))):
        rows.append([one.study, one.text, one.rule, one.backend, one.verdict, one.seen])
    return table(rows)
