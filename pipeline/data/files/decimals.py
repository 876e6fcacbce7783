"""Find the decimal mark of a text file from its first rows, column by column."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from pipeline.system.errors import LabError
from pipeline.system.wording import some

WHOLE = re.compile(r"[-+]?\d+")
# 1.000,5 and 1,000.5 have a mark too, although thousands separators are refused later.
COMMA = re.compile(r"[-+]?(\d+|\d{1,3}(\.\d{3})+),\d+([eE][-+]?\d+)?")
POINT = re.compile(r"[-+]?(\d*|\d{1,3}(,\d{3})+)\.\d+([eE][-+]?\d+)?")
# 1,000 in quotes: where commas separate columns, few people write decimal commas.
COMMA_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+")
# A column is one of numbers if at least this share of its values is.
SHARE_OF_NUMBERS = 0.9
# How many columns a message lists.
MOST_NAMED = 5


def decimal_mark(path: Path, names: Sequence[str], rows: Sequence[Sequence[str]], delimiter: str) -> str:
    """Return a comma if columns of numbers have decimal commas, and otherwise a point.

    Columns of text do not count, whatever some of their values look like.

    Args:
        path: the file, for the message.
        names: the names of the columns.
        rows: the first rows.
        delimiter: what separates the columns.

    Raises:
        LabError: some columns have decimal commas, and others decimal points.
    """
    commas = []
    points = []
    for name, values in zip(names, zip_longest(*rows, fillvalue=""), strict=False):
        mark = _mark_of([value.strip() for value in values if value.strip()], delimiter)
        if mark == ",":
            commas.append(name)
        elif mark == ".":
            points.append(name)
    if commas and points:
        raise LabError(
            f"{path} has numbers with a decimal comma and numbers with a decimal point.",
            expected="one decimal mark in all columns of numbers",
            received=f"commas in {some(commas, MOST_NAMED)}; points in {some(points, MOST_NAMED)}",
            fix='give the mark of the columns that you use: decimal: "," or decimal: "."; the others are read as text, '
            "so leave them out with exclude:, or write the file with one mark",
        )
    if commas:
        return ","
    return "."


def _mark_of(values: Sequence[str], delimiter: str) -> str | None:
    """Return the mark of most numbers in a column; None for a column of text or of whole numbers."""
    marks: Counter[str] = Counter()
    for value in values:
        if POINT.fullmatch(value):
            marks["."] += 1
        elif COMMA.fullmatch(value) and not (delimiter == "," and COMMA_THOUSANDS.fullmatch(value)):
            marks[","] += 1
        elif WHOLE.fullmatch(value):
            marks["whole"] += 1
    if marks.total() < SHARE_OF_NUMBERS * len(values) or not marks["."] + marks[","]:
        return None
    if marks[","] > marks["."]:
        return ","
    return "."
