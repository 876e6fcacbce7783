"""Split rows into training and test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.config.data import Split
from pipeline.system.errors import LabError

TEST = ("test", "true", "1")
TRAIN = ("train", "training", "false", "0")


@dataclass(frozen=True)
class Sides:
    """Positions of training and test rows, each in the order of the file; together every row once."""

    train: NDArray[np.intp]
    test: NDArray[np.intp]


def draw(
    settings: Split, rows: int, classes: Sequence[str] | None = None, groups: Sequence[str] | None = None
) -> Sides:
    """Draw test rows at random.

    Args:
        settings: the share of test rows, and the seed of the draw.
        rows: number of rows.
        classes: the class of each row, so that each class has its share of test rows; None: no classes.
        groups: the group of each row: then whole groups are drawn, of which the share is a share; None: single rows.

    Raises:
        LabError: there are too few rows, or too few groups.
    """
    from sklearn.model_selection import GroupShuffleSplit, StratifiedShuffleSplit, train_test_split

    positions = np.arange(rows)
    if settings.test_share == 0:
        return Sides(positions, positions[:0])
    options = {"test_size": settings.test_share, "random_state": settings.split_seed}
    # scikit-learn raises a ValueError when one of the sides would be empty, or too small for all classes.
    try:
        if groups is not None:
            drawn = next(GroupShuffleSplit(1, **options).split(positions, groups=_numbered(groups)))
        elif classes is not None:
            drawn = next(StratifiedShuffleSplit(1, **options).split(positions, _numbered(classes)))
        else:
            drawn = train_test_split(positions, **options)
    except ValueError:
        received = f"{rows:,} rows"
        if groups is not None:
            received += f" of {len(set(groups)):,} groups"
        elif classes is not None:
            received += f" of {len(set(classes)):,} classes"
        raise LabError(
            f"The rows cannot be split with test_share={settings.test_share:g}.",
            expected="on both sides a row, a whole group, or a row of each class",
            received=received,
            fix="use another test_share:, 0 for no test rows, or add rows",
        ) from None
    train, test = drawn
    return Sides(np.sort(train), np.sort(test))


def _numbered(labels: Sequence[str]) -> NDArray[np.intp]:
    """Return the number of each label: scikit-learn sorts a million numbers in a fraction of the time of text."""
    import pandas as pd

    numbers: NDArray[np.intp] = pd.factorize(np.asarray(labels, dtype=object), sort=True)[0]
    return numbers


def by_column(where: str, values: Sequence[str]) -> Sides:
    """Split rows by the values of a column.

    Args:
        where: the file and the column, for the message.
        values: test, true or 1 for a test row; train, false or 0 for a training row; in upper or lower case.

    Raises:
        LabError: there is another value, or there are no training rows.
    """
    sides = np.array([value.strip().lower() for value in values])
    tests = np.isin(sides, TEST)
    unknown = np.flatnonzero(~tests & ~np.isin(sides, TRAIN))
    if unknown.size or tests.all():
        received = "test rows only"
        if unknown.size:
            received = repr(values[unknown[0]])
        raise LabError(
            f"{where}: a value that does not say on which side of the split a row is.",
            expected=f"{', '.join(TEST)} for test rows; {', '.join(TRAIN)} for training rows, at least one",
            received=received,
            fix="correct the column, or name another in split_column:",
        )
    return Sides(np.flatnonzero(~tests), np.flatnonzero(tests))
