"""Classes: their labels, what refuses them, and the targets that a network learns from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.data import Task
from pipeline.data.convert import as_text
from pipeline.system.errors import LabError
from pipeline.system.wording import some

# How many classes a message lists.
MOST_NAMED = 10
# Text that programs write for a whole number: 1.0. A leading 0 makes it a code.
WHOLE = re.compile(r"-?(0|[1-9]\d*)\.0*")


def labels_of(values: Any) -> list[str]:
    """Return class labels as text: whole numbers without a decimal point, so that 1 and 1.0 are one class.

    Args:
        values: a pandas Series or an array, (rows,), without missing values.
    """
    array = np.asarray(values)
    if array.dtype.kind == "f" and bool(np.all(array == np.floor(array))):
        return [str(int(value)) for value in array]
    # A Series of text is slow to walk through.
    labels: list[str] = as_text(values).to_numpy(dtype=object).tolist()
    # One by one, so that a part of the rows has the same classes as all of them.
    short = {label: label[: label.index(".")] for label in set(labels) if WHOLE.fullmatch(label)}
    if short:
        return [short.get(label, label) for label in labels]
    return labels


def in_order(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the different labels, sorted as numbers if all of them are, and as text otherwise."""
    different = sorted(set(labels))
    try:
        return tuple(sorted(different, key=float))
    except ValueError:
        return tuple(different)


def check_classes(what: str, task: Task, labels: Sequence[str]) -> None:
    """Refuse classes that nothing can be learned about.

    Args:
        what: the file and the column, for the messages.
        task: classification or binary.
        labels: the class of each row, training and test rows together.

    Raises:
        LabError: there is one class only, there are more than two for a binary task, as many as rows, or a class occurs
            once.
    """
    counts = Counter(labels)
    classes = in_order(labels)
    if len(classes) < 2:
        raise LabError(
            f"{what}: only one class.",
            expected="at least two classes",
            received=f"{classes[0]!r} in all {len(labels):,} rows",
            fix="correct target:, or add rows of another class",
        )
    if task == "binary" and len(classes) > 2:
        raise LabError(
            f"{what}: more than two classes.",
            expected="two classes for task: binary",
            received=f"{len(classes):,} classes: {some(classes, MOST_NAMED)}",
            fix="use task: classification",
        )
    if 2 * len(classes) > len(labels):
        raise LabError(
            f"{what}: too many classes for the rows.",
            expected="at least two rows of each class",
            received=f"{len(classes):,} classes in {len(labels):,} rows",
            fix="use task: regression if they are numbers, or correct target:",
        )
    once = [label for label in classes if counts[label] == 1]
    if once:
        raise LabError(
            f"{what}: a class that occurs once.",
            expected="at least two rows of each class, one to learn from and one to test",
            received=some([repr(label) for label in once], MOST_NAMED),
            fix="remove its row, or give it the class of similar rows",
        )


def check_learned(
    what: str, learned: Sequence[str], tested: Sequence[str], own_file: str | None = None, split: str = "test"
) -> None:
    """Refuse test or validation rows of classes that no training row has, and training rows of one class.

    Args:
        what: the file and the column, for the messages.
        learned: the classes of the training rows.
        tested: those of the test or validation rows.
        own_file: the file or folder of the test rows; None: they are from the same as the training rows.
        split: which rows they are, test or validation.

    Raises:
        LabError: there are some.
    """
    unknown = [label for label in in_order(tested) if label not in set(learned)]
    if unknown and own_file is not None:
        raise LabError(
            f"{own_file}: a class that no training row has.",
            expected=f"the classes of {what}: {some(in_order(learned), MOST_NAMED)}",
            received=some(unknown, MOST_NAMED),
            fix="remove its rows from there, or add rows of it to the training rows",
        )
    if unknown or len(set(learned)) < 2:
        raise LabError(
            f"{what}: a class that occurs in {split} rows only.",
            expected="each class in the training rows, and at least two classes",
            received=f"training rows of {some(in_order(learned), MOST_NAMED)}; "
            f"{split} rows of {some(in_order(tested), MOST_NAMED)}",
            fix=f"split the rows in another way: {split}_share:, split_seed:, or other groups",
        )


def targets_of(labels: Sequence[str], classes: Sequence[str], task: Task) -> NDArray[Any]:
    """Return the targets of classes.

    Returns:
        The number of each class, int64 (rows,); for a binary task 0 or 1, float64 (rows, 1).
    """
    number = {label: index for index, label in enumerate(classes)}
    numbers = np.array([number[label] for label in labels], np.int64)
    if task == "binary":
        return numbers.astype(np.float64)[:, None]
    return numbers
