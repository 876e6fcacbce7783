"""What `python -m pipeline.prepare` prints of a data set: what is predicted, and what each column became."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.description import Column, DataDescription
from pipeline.system.wording import counted, some

# Maximum number of columns that get a line each, and of classes and categories that are named.
MOST_COLUMNS = 20
MOST_NAMED = 6
# Numbers to predict with a standard deviation outside of these change the rates at which a network trains.
USUAL = (0.1, 10.0)


def summary(description: DataDescription, arrays: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    """Yield lines for the terminal.

    Args:
        description: what the data is.
        arrays: its arrays by name, with `train_targets`.
    """
    targets = arrays["train_targets"]
    if description.task == "regression":
        yield from _numbers(description, targets)
    else:
        yield f"predicted: {', '.join(description.targets)}: {_classes(description, targets)} (training rows)"
    for column in description.columns[:MOST_COLUMNS]:
        yield f"{column.name}: {_what(column)}"
    rest = len(description.columns) - MOST_COLUMNS
    if rest > 0:
        yield f"and {counted(rest, 'more column')}: all are in data.json"


def _numbers(description: DataDescription, targets: NDArray[Any]) -> Iterator[str]:
    """Describe each column that is predicted, and warn of units in which common rates do not train."""
    far = []
    for name, mean, deviation in zip(description.targets, targets.mean(axis=0), targets.std(axis=0), strict=True):
        yield f"predicted: {name}: mean {mean:.4g}, standard deviation {deviation:.4g} (training rows)"
        if not USUAL[0] <= deviation <= USUAL[1]:
            far.append(name)
    if far:
        yield (
            f"note: {some(far, MOST_NAMED)}: far from a standard deviation of 1; numbers to predict are not scaled. "
            "The rates that train are then unusual, and of several numbers the largest decide the loss; better scale "
            "them in the file"
        )


def _classes(description: DataDescription, targets: NDArray[Any]) -> str:
    """Name the classes with their shares of the training rows."""
    counts = np.bincount(targets.ravel().astype(np.int64), minlength=len(description.classes))
    shares = [f"{name} {count / len(targets):.1%}" for name, count in zip(description.classes, counts, strict=True)]
    return some(shares, MOST_NAMED)


def _what(column: Column) -> str:
    """Say what a column became."""
    if column.kind == "category":
        named = some([category or "(no text)" for category in column.categories], MOST_NAMED)
        return f"text, {counted(len(column.categories), 'value')}: {named}"
    text = "numbers"
    if column.deviation != 1 or column.mean != 0:
        text += f", mean {column.mean:.4g}, standard deviation {column.deviation:.4g}"
    if column.indicator:
        text += ", with an input that says where one was missing"
    return text
