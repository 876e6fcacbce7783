"""The tables that the comparison reads: the published numbers, and how far rounding moves some of ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.system.files import readable
from pipeline.system.formats import read_rows

FILES = {
    "three_bits.csv": ("hidden_size", "learning_rate", "iteration", "error"),
    "three_bits_final_weights.csv": ("learning_rate", "layer", "row", "column", "weight"),
    "three_bits_direction_changes.csv": ("learning_rate", "layer", "row", "column", "count"),
}
# Columns of these files that hold whole numbers.
WHOLE = {"hidden_size", "iteration", "layer", "row", "column", "count"}
# The columns of rounding.csv, which pipeline.rounding writes.
ROUNDING_COLUMNS = ("study", "quantity", "model.hidden_size", "optimizer.learning_rate", "place", "networks",
                    "smallest", "largest", "median", "relative_spread", "control")  # fmt: skip


class Key(NamedTuple):
    """Identifies a published number across backends.

    Attributes:
        study: the study of the point.
        quantity: `error`, `final weight`, `direction changes` or `weight after one epoch`.
        hidden_size: the point's hidden size; None without a hidden layer.
        learning_rate: the point's rate.
        place: position among the point's numbers, for instance `iteration 10000` or `layer 0, row 1, column 2`.
    """

    study: str
    quantity: str
    hidden_size: int | None
    learning_rate: float
    place: str


# The range of each published number under rounding perturbations: smallest and largest.
Spreads = Mapping[Key, tuple[float, float]]


def read_spreads(file: Path) -> Spreads:
    """Read rounding.csv, which pipeline.rounding writes; empty if the file does not exist.

    Raises:
        LabError: the file is the wrong table, or cannot be read.
    """
    if not file.exists():
        return {}
    with readable(
        f"The measured rounding in {file}",
        expected=f"a CSV file with the columns {', '.join(ROUNDING_COLUMNS)}",
        fix="run python -m pipeline.rounding, which rewrites it",
    ):
        spreads = {}
        for row in read_rows(file.read_bytes(), ROUNDING_COLUMNS):
            key = rounding_key(row)
            smallest = float(row["smallest"])
            largest = float(row["largest"])
            # The difference is inf or NaN if either end is.
            if not (math.isfinite(largest - smallest) and smallest <= largest):
                raise ValueError(f"{smallest} to {largest} is not a range")
            spreads[key] = (smallest, largest)
    return spreads


def rounding_key(row: Mapping[str, str]) -> Key:
    """Return the key of a row of rounding.csv.

    Raises:
        ValueError: the hidden size or the rate is not a number.
    """
    size = int(row["model.hidden_size"]) if row["model.hidden_size"] else None
    return Key(row["study"], row["quantity"], size, float(row["optimizer.learning_rate"]), row["place"])


def read_table(file: Path, columns: Sequence[str]) -> list[dict[str, float]]:
    """Read a table of published numbers.

    Raises:
        LabError: the file is the wrong table, or cannot be read.
    """
    with readable(
        f"The published numbers in {file}",
        expected=f"a CSV file with the columns {', '.join(columns)}, numbers only",
        fix="restore the file from git, or name the folder: published=DIR",
    ):
        rows = [{name: float(row[name]) for name in columns} for row in read_rows(file.read_bytes(), columns)]
        for row in rows:
            if not all(map(math.isfinite, row.values())):
                raise ValueError(f"a value that is not a finite number: {row}")
            if any(row[name] < 0 or row[name] != int(row[name]) for name in WHOLE.intersection(row)):
                raise ValueError(f"a position or a count that is not a whole number from 0: {row}")
    return rows
