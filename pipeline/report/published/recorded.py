"""Reads the runs in reports/recorded/, which took too long to be repeated with every report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.drawing.plot_data import Series
from pipeline.system.files import readable
from pipeline.system.formats import read_rows

# The columns of a recorded run that are not metrics.
KEYS = ("learning_rate", "epoch")


def read_recorded(file: Path) -> dict[float, dict[str, Series]]:
    """Read the metrics of a stored run by learning rate, from a CSV file of learning_rate, epoch and metrics.

    Raises:
        DamagedError: the content is not such a table.
        LabError: the file cannot be read for any other reason.
    """
    with readable(
        f"The recorded run in {file}",
        expected="a CSV file with the columns learning_rate, epoch, train/loss, train/accuracy, test/loss, "
        "test/accuracy",
        fix="restore the file from git, or delete it",
    ):
        rows = [_numbers(row) for row in read_rows(file.read_bytes())]
        if not all("learning_rate" in row and "epoch" in row for row in rows):
            raise ValueError("a rate or an epoch is not a number")
        # Some metrics may not have been recorded at every rate.
        names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in KEYS]
        if not names:
            raise ValueError("there are no rows, or no metric has a value")
        by_rate: dict[float, dict[str, Series]] = {}
        for rate in sorted({row["learning_rate"] for row in rows}):
            mine = [row for row in rows if row["learning_rate"] == rate]
            by_rate[rate] = {name: _series(mine, name) for name in names if any(name in row for row in mine)}
    return by_rate


def _numbers(row: Mapping[str, str]) -> dict[str, float]:
    """Read the numbers of a row. As in a history, a metric that is inf, NaN or empty was not recorded."""
    numbers = {name: float(value) for name, value in row.items() if value}
    return {name: number for name, number in numbers.items() if math.isfinite(number)}


def _series(rows: Sequence[Mapping[str, float]], name: str) -> Series:
    recorded = [(row["epoch"], row[name]) for row in rows if name in row]
    return np.array([epoch for epoch, _ in recorded]), np.array([value for _, value in recorded])
