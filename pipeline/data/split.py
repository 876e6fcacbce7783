"""Split rows into training, validation and test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.config.data import Split
from pipeline.data.validation import validation_rows
from pipeline.system.errors import LabError

TEST = ("test", "true", "1")
VALIDATION = ("validation",)
TRAIN = ("train", "training", "false", "0")


@dataclass(frozen=True)
class Sides:
    """Positions of training, validation and test rows, each in the order of the file; together every row once."""

    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    test: NDArray[np.intp]


def draw(
    settings: Split, rows: int, classes: Sequence[str] | None = None, groups: Sequence[str] | None = None
) -> Sides:
    """Draw test rows at random, and validation rows from the others.

    Args:
        settings: the shares of test and validation rows, and the seed of the draws.
        rows: number of rows.
        classes: the class of each row, so that each class has its share of test rows; None: no classes.
        groups: the group of each row: then whole groups are drawn, of which the share is a share; None: single rows.

    Raises:
        LabError: there are too few rows, or too few groups.
    """
    from sklearn.model_selection import StratifiedShuffleSplit, train_test_split

    positions = np.arange(rows)
    if settings.test_share == 0:
        return held_back(settings, Sides(positions, positions[:0], positions[:0]), classes, groups)
    share = settings.test_share
    seed = settings.split_seed
    # scikit-learn raises a ValueError when one of the sides would be empty, or too small for all classes.
    try:
        if groups is not None:
            drawn = _draw_groups(groups, share, seed)
        elif classes is not None:
            splitter = StratifiedShuffleSplit(1, test_size=share, random_state=seed)
            drawn = next(splitter.split(positions, _numbered(classes)))
        else:
            drawn = train_test_split(positions, test_size=share, random_state=seed)
    except ValueError:
        received = f"{rows:,} rows"
        if groups is not None:
            received += f" of {len(set(groups)):,} groups"
        elif classes is not None:
            received += f" of {len(set(classes)):,} classes"
        raise LabError(
            f"The rows cannot be split with test_share={share:g}.",
            expected="on both sides a row, a whole group, or a row of each class",
            received=received,
            fix="use another test_share:, 0 for no test rows, or add rows",
        ) from None
    train, test = drawn
    return held_back(settings, Sides(np.sort(train), positions[:0], np.sort(test)), classes, groups)


def held_back(
    settings: Split, sides: Sides, classes: Sequence[str] | None = None, groups: Sequence[str] | None = None
) -> Sides:
    """Draw validation rows from the training rows; the arguments are those of `draw`.

    Raises:
        LabError: there are too few training rows, or too few groups of them.
    """
    train = sides.train
    if settings.validation_share == 0 or sides.validation.size:
        return sides
    if groups is not None:
        own = [groups[position] for position in train]
        try:
            _, places = _draw_groups(own, settings.validation_share, settings.split_seed)
        except ValueError:
            raise LabError(
                f"The training rows cannot be split with validation_share={settings.validation_share:g}.",
                expected="a whole group on both sides",
                received=f"{len(train):,} training rows of {len(set(own)):,} groups",
                fix="use another validation_share:, 0 for no validation rows, or add groups",
            ) from None
        drawn = np.zeros(len(train), dtype=np.bool_)
        drawn[places] = True
    else:
        numbers = None
        if classes is not None:
            numbers = _numbered(classes)[train]
        drawn = validation_rows(settings, len(train), numbers)
    return Sides(train[~drawn], train[drawn], sides.test)


def _draw_groups(groups: Sequence[str], share: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the positions of the rows of the groups that stay, and of those that are drawn.

    Raises:
        ValueError: there are too few groups.
    """
    from sklearn.model_selection import GroupShuffleSplit

    splitter = GroupShuffleSplit(1, test_size=share, random_state=seed)
    stay, drawn = next(splitter.split(np.empty(len(groups)), groups=_numbered(groups)))
    return stay, drawn


def _numbered(labels: Sequence[str]) -> NDArray[np.intp]:
    """Return the number of each label: scikit-learn sorts a million numbers in a fraction of the time of text."""
    import pandas as pd

    numbers: NDArray[np.intp] = pd.factorize(np.asarray(labels, dtype=object), sort=True)[0]
    return numbers


def by_column(where: str, values: Sequence[str], validation: bool = True) -> Sides:
    """Split rows by the values of a column.

    Args:
        where: the file and the column, for the message.
        values: test, true or 1 for a test row; validation for a validation row; train, false or 0 for a training row;
            in upper or lower case.
        validation: whether there may be validation rows.

    Raises:
        LabError: there is another value, or there are no training rows.
    """
    sides = np.array([value.strip().lower() for value in values])
    tests = np.isin(sides, TEST)
    validations = np.isin(sides, VALIDATION)
    train = np.isin(sides, TRAIN)
    unknown = np.flatnonzero(~tests & ~validations & ~train)
    if unknown.size or not train.any():
        received = "test rows only"
        if validations.any():
            received = "validation and test rows only"
        if unknown.size:
            received = repr(values[unknown[0]])
        raise LabError(
            f"{where}: a value that does not say on which side of the split a row is.",
            expected=f"{', '.join(TEST)} for test rows; {', '.join(VALIDATION)} for validation rows; "
            f"{', '.join(TRAIN)} for training rows, at least one",
            received=received,
            fix="correct the column, or name another in split_column:",
        )
    if validations.any() and not validation:
        raise LabError(
            f"{where}: validation rows, although the config has none.",
            expected="train and test rows only with validation_share: 0",
            received=f"{np.count_nonzero(validations):,} validation rows",
            fix="leave validation_share: out, or write train for them",
        )
    return Sides(np.flatnonzero(train), np.flatnonzero(validations), np.flatnonzero(tests))
