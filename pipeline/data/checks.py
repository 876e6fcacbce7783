"""Checks of raw rows: what a network cannot learn from is refused, with the row and the column where it stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.data.convert import as_numbers
from pipeline.system.errors import LabError

Kind = Literal["number", "category"]

# Text of which at least this share is numbers is a column of numbers with a mistake.
SHARE_OF_NUMBERS = 0.9
# Each category becomes an input. More of them are names, or free text.
MOST_CATEGORIES = 1000
# Above this many rows, text that differs in more than half of them names the rows.
FEW_ROWS = 20
# 2024-01-31, 31.1.2024, 1/31/24, Jan 31, 2024 and 31 January 2024, each perhaps with a time.
MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
DATE = re.compile(
    r"\s*(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|\d{1,2}/\d{1,2}/\d{2}"
    rf"|{MONTH}[ -]\d{{1,2}},?[ -]\d{{4}}|\d{{1,2}}\.?[ -]{MONTH},?[ -](\d{{2}}|\d{{4}}))([ T].*)?",
    re.IGNORECASE,
)
# 1,000 and 1.000.000,5, but not 0.125: a number below one has no thousands.
THOUSANDS = re.compile(r"\s*[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?\s*|\s*[-+]?[1-9]\d{0,2}([.' ]\d{3})+(,\d+)?\s*")
# Above this, float32 is infinite.
LARGEST = float(np.finfo(np.float32).max)
LEAVE_OUT = "leave the column out with exclude:"


@dataclass(frozen=True)
class Rows:
    """Rows that were read.

    Attributes:
        frame: a pandas DataFrame; its index counts the rows as they were read, from 0.
        origin: the file or the library that they were read from.
        row: returns the row in the file, counted from 1, of an index.
        decimal: the decimal mark of text from which the types of columns were found; None if the types were given.
    """

    frame: Any
    origin: str
    row: Callable[[int], int]
    decimal: str | None = None

    def place(self, position: int, column: str) -> str:
        """Return where the value is that a position in the frame and a column name, for a message."""
        row = self.row(int(self.frame.index[position]))
        return f"{self.origin}, row {row:,}, column {column}"


def kind_of(rows: Rows, name: str, learned: NDArray[np.intp]) -> Kind:
    """Return whether a column is numbers or text.

    Args:
        rows: all rows.
        name: the column.
        learned: positions of the training rows, which decide.

    Raises:
        LabError: the column is dates, has no values in the training rows, or is numbers with text among them.
    """
    import pandas as pd

    column = rows.frame[name].iloc[learned]
    values = column.dropna()
    kind = pd.api.types.infer_dtype(values)
    if kind == "empty" or not len(values):
        raise LabError(
            f"{rows.origin}, column {name}: no values in the training rows.",
            expected="a value in at least one of them",
            received=f"{len(column):,} missing values",
            fix=LEAVE_OUT,
        )
    is_text = kind in ("string", "categorical", "mixed", "mixed-integer")
    if kind.startswith(("date", "time", "period")) or (is_text and _are_dates(values)):
        position = int(learned[int(np.flatnonzero(column.notna())[0])])
        raise LabError(
            f"{rows.place(position, name)}: a network cannot take dates.",
            expected="numbers or categories",
            received=str(values.iloc[0]),
            fix="turn it into numbers, for instance days since a date, or leave it out with exclude:",
        )
    if not is_text:
        return "number"
    if kind != "categorical" and rows.decimal is not None:
        _check_text(rows, name, values.astype(str), rows.decimal)
    return "category"


def _are_dates(values: Any) -> bool:
    return bool(values.astype(str).str.fullmatch(DATE).all())


def _check_text(rows: Rows, name: str, text: Any, decimal: str) -> None:
    """Refuse text among numbers, and numbers with thousands separators.

    Raises:
        LabError: almost all values of the training rows are numbers.
    """
    numeric = _are_numbers(text, decimal)
    separated = text.str.fullmatch(THOUSANDS).to_numpy()
    if (numeric | separated).mean() < SHARE_OF_NUMBERS:
        return
    every = rows.frame[name]
    present = every.notna().to_numpy()
    if separated.any():
        value = text.iloc[int(np.flatnonzero(separated)[0])]
        position = int(np.flatnonzero(present & (every == value).to_numpy(dtype=bool, na_value=False))[0])
        raise LabError(
            f"{rows.place(position, name)}: a number with a thousands separator.",
            expected="numbers with a decimal mark and no other",
            received=repr(value),
            fix="write the file without thousands separators, give decimal: if it is the decimal mark, or leave the "
            "column out with exclude:",
        )
    wrong = present.copy()
    wrong[present] = ~_are_numbers(every[present].astype(str), decimal)
    if not wrong.any():
        # Arrow reads a number of 400 digits as text.
        wrong = present
    raise text_among_numbers(rows, name, int(np.flatnonzero(wrong)[0]))


def _are_numbers(text: Any, decimal: str) -> NDArray[np.bool_]:
    import pandas as pd

    numbers = pd.to_numeric(text.str.replace(decimal, "."), errors="coerce")
    found: NDArray[np.bool_] = numbers.notna().to_numpy()
    return found


def text_among_numbers(rows: Rows, name: str, position: int) -> LabError:
    """Return the message about text in a column of numbers."""
    return LabError(
        f"{rows.place(position, name)}: text in a column of numbers.",
        expected="a number, or nothing for a missing value",
        received=repr(rows.frame[name].iloc[position]),
        fix="correct it; if numbers are names here, put a letter before each of them; or leave the column out with "
        "exclude:",
    )


def numbers_of(rows: Rows, name: str) -> NDArray[np.float64]:
    """Return a column of numbers, (rows,), NaN where a value is missing.

    Raises:
        LabError: a value is text, infinite, or too large for float32.
    """
    try:
        numbers = as_numbers(rows.frame[name], name)
    except ValueError:
        present = rows.frame[name].notna().to_numpy()
        parsed = np.array([_is_number(value) for value in rows.frame[name]])
        raise text_among_numbers(rows, name, int(np.flatnonzero(present & ~parsed)[0])) from None
    too_large = np.flatnonzero(np.abs(numbers) > LARGEST)
    if too_large.size:
        position = int(too_large[0])
        raise LabError(
            f"{rows.place(position, name)}: not a finite number in float32.",
            expected=f"numbers from -{LARGEST:.2g} to {LARGEST:.2g}",
            received=str(numbers[position]),
            fix="correct the value, or leave it empty and use missing: mean",
        )
    return numbers


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def check_present(rows: Rows, names: Sequence[str], what: str, fix: str) -> None:
    """Refuse missing values.

    Args:
        rows: the rows.
        names: the columns in which no value may be missing.
        what: what such a column is, for the message.
        fix: the next step.

    Raises:
        LabError: a value is missing.
    """
    for name in names:
        missing = np.flatnonzero(rows.frame[name].isna().to_numpy())
        if missing.size:
            raise LabError(
                f"{rows.place(int(missing[0]), name)}: a missing value in {what}.",
                expected="a value in each row",
                received=f"{len(missing):,} of {len(rows.frame):,} rows without one",
                fix=fix,
            )


def check_categories(rows: Rows, name: str, categories: Sequence[str], learned: int) -> None:
    """Refuse text that names rows instead of sorting them.

    Args:
        rows: the rows.
        name: the column.
        categories: its different values in the training rows.
        learned: number of training rows.

    Raises:
        LabError: there are too many.
    """
    names_rows = learned > FEW_ROWS and len(categories) > learned / 2
    if len(categories) > MOST_CATEGORIES or names_rows:
        raise LabError(
            f"{rows.origin}, column {name}: {len(categories):,} different texts in {learned:,} training rows.",
            expected=f"at most {MOST_CATEGORIES:,} categories, and fewer than half of the rows: each becomes an input",
            received=", ".join(map(repr, categories[:3])) + ", ...",
            fix=LEAVE_OUT,
        )
