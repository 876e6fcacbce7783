"""A file of rows, whatever its format: its columns, its rows, and where a row is in the file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pipeline.system import limits
from pipeline.system.errors import LabError

# Bytes of a number as float64.
NUMBER = 8
# How many times as much memory as its numbers preparing a table takes: the table as read, its training rows, and the
# network's inputs. Measured at 1,000,000 rows of 20 numbers.
COPIES = 4
# What Python and its libraries take besides, in bytes.
PROGRAM = 400 * 2**20


class Source(Protocol):
    """A file of rows.

    Attributes:
        path: the file.
        names: the names of its columns, in order; none twice.
        groups: names that stand for several columns, those of an array of two dimensions.
        decimal: the decimal mark of text, from which the types of columns were found; None if the file gives types.
    """

    path: Path
    names: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    decimal: str | None

    def read(self, columns: Sequence[str], labels: Collection[str], text: Collection[str] = ()) -> Any:
        """Return some columns as a pandas DataFrame, with an index from 0.

        Args:
            columns: their names.
            labels: those whose text must stay as it is, although it may look like numbers or like a missing value.
            text: those that must be text, with missing values.

        Raises:
            LabError: the content is damaged, or needs more memory than there is.
        """

    def row(self, index: int) -> int:
        """Return the row in the file, counted from 1, of a row of the DataFrame; in text the row of names counts."""


def check_memory(what: Path | str, rows: int, columns: int, bytes_read: int = 0) -> None:
    """Refuse rows that need more memory than this process may use, before they are read.

    Args:
        what: the file, for the message.
        rows: number of rows.
        columns: number of columns.
        bytes_read: the size of their text, which is a lower bound for columns that are no numbers.

    Raises:
        LabError: they do.
    """
    needed = PROGRAM + COPIES * max(rows * columns * NUMBER, bytes_read // 2)
    available = limits.memory()
    if needed > available:
        raise LabError(
            f"{what} needs more memory than there is.",
            expected=f"about {_gigabytes(needed)} for {rows:,} rows of {columns:,} columns",
            received=f"{_gigabytes(available)} for this process",
            fix="use a machine with more memory, fewer rows, or fewer columns with features: or exclude:",
        )


def check_columns(path: Path, names: Sequence[str]) -> None:
    """Refuse a file with two columns of the same name.

    Raises:
        LabError: it has.
    """
    for number, name in enumerate(names, start=1):
        if name in names[: number - 1]:
            first = list(names).index(name) + 1
            raise LabError(
                f"{path} has two columns of the same name.",
                expected="a name of its own for each column",
                received=f"row 1, columns {first} and {number}: both are named {name!r}",
                fix="rename one of them",
            )


def unreadable(path: Path, expected: str, error: BaseException) -> LabError:
    """Return the message about a file whose content its reader refuses."""
    lines = str(error).splitlines() or [type(error).__name__]
    return LabError(
        f"{path} cannot be read.",
        expected=expected,
        received=lines[0][:300],
        fix="write or download the file again, or correct data.path",
    )


def no_rows(path: Path, received: str) -> LabError:
    """Return the message about a file without rows."""
    return LabError(
        f"{path} has no rows of data.",
        expected="a row of names and at least two rows of values",
        received=received,
        fix="write the file again, or correct data.path",
    )


def _gigabytes(size: int) -> str:
    return f"{size / 2**30:.1f} GB"
