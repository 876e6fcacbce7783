"""Learn from training rows how raw columns become inputs: means, deviations and categories."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from pipeline.data.checks import Rows, check_categories, numbers_of
from pipeline.data.convert import as_text
from pipeline.data.description import Column

Missing = Literal["error", "drop", "mean", "indicator"]


def learn_numbers(name: str, rows: Rows, standardise: bool, missing: Missing) -> tuple[Column, list[str]]:
    """Learn the mean and the deviation of a column of numbers.

    The mean is that of the values that are present. It takes the place of missing values before the deviation, which
    is that of all rows, sqrt(mean((x - mean)^2)), is computed.

    Args:
        name: the column.
        rows: the training rows.
        standardise: whether numbers become (x - mean) / deviation; otherwise they stay as they are.
        missing: what becomes of missing values.

    Returns:
        The column, and what a person should know of it.
    """
    from sklearn.preprocessing import StandardScaler

    numbers = numbers_of(rows, name)
    absent = np.isnan(numbers)
    fill = None
    indicator = False
    if missing in ("mean", "indicator"):
        fill = float(numbers[~absent].mean())
        indicator = missing == "indicator" and bool(absent.any())
        numbers[absent] = fill
    scaler = StandardScaler().fit(numbers[:, None])
    notes = []
    if numbers.min() == numbers.max():
        notes.append(f"{name} is constant in the training rows ({numbers[0]:g}): it is kept, and says nothing")
    mean = 0.0
    deviation = 1.0
    if standardise:
        mean = float(scaler.mean_[0])
        # 1 for a constant column.
        deviation = float(scaler.scale_[0])
    column = Column(name=name, kind="number", mean=mean, deviation=deviation, fill=fill, indicator=indicator)
    return column, notes


def learn_categories(name: str, rows: Rows) -> tuple[Column, list[str]]:
    """Learn the categories of a column of text; a missing value is the category of the empty text.

    Args:
        name: the column.
        rows: the training rows.

    Raises:
        LabError: there are too many categories.

    Returns:
        The column, and what a person should know of it.
    """
    text: Any = as_text(rows.frame[name])
    categories = tuple(sorted(set(text)))
    check_categories(rows, name, categories, len(text))
    notes: list[str] = []
    if len(categories) == 1:
        notes = [f"{name} is constant in the training rows ({categories[0]}): it is kept, and says nothing"]
    return Column(name=name, kind="category", categories=categories), notes
