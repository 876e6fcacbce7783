"""Rows of raw columns become arrays: split, learned from training rows, and converted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.data import Split, Task
from pipeline.data import checks
from pipeline.data.checks import Kind, Rows
from pipeline.data.classes import check_classes, check_learned, in_order, labels_of, targets_of
from pipeline.data.columns import Missing, learn_categories, learn_numbers
from pipeline.data.convert import convert
from pipeline.data.description import Column, DataDescription
from pipeline.data.files.source import check_memory
from pipeline.data.selection import Selection
from pipeline.data.split import Sides, by_column, draw, held_back
from pipeline.system.errors import LabError
from pipeline.system.wording import counted

LEAVE_ROWS_OUT = "complete the rows or remove them from the file, or use missing: drop"
FILL = "complete it, or use missing: mean, indicator or drop"


@dataclass(frozen=True)
class Plan:
    """What to make of rows.

    Attributes:
        selection: their columns by role.
        settings: how they are split and scaled.
        task: what is predicted.
        missing: what becomes of missing values.
        one_hot: whether columns of text are accepted.
    """

    selection: Selection
    settings: Split
    task: Task
    missing: Missing = "error"
    one_hot: bool = True


def complete(plan: Plan, rows: Rows) -> tuple[Rows, list[str]]:
    """Refuse rows with missing values, or drop them, as the settings say.

    Returns:
        The rows that are left, and a note about dropped ones.

    Raises:
        LabError: a value is missing that must not be, or no rows are left.
    """
    selection = plan.selection
    others = [name for name in (selection.split, selection.group) if name is not None]
    checks.check_present(rows, others, "a column that splits the rows", "complete it")
    if plan.missing != "drop":
        checks.check_present(rows, selection.targets, "the target", LEAVE_ROWS_OUT)
        if plan.missing == "error":
            fill = FILL
            if rows.decimal is not None:
                fill += "; in a file of text NA, N/A, NaN and null are missing values too"
            checks.check_present(rows, selection.features, "a column", fill)
        return rows, []
    used = [*selection.features, *selection.targets]
    kept = rows.frame.dropna(subset=used)
    dropped = len(rows.frame) - len(kept)
    if not len(kept):
        raise LabError(
            f"{rows.origin}: no row is complete.",
            expected="rows without missing values for missing: drop",
            received=f"{dropped:,} rows with missing values",
            fix="use missing: mean or indicator, or leave columns out with exclude:",
        )
    if not dropped:
        return rows, []
    return replace(rows, frame=kept), [f"{counted(dropped, 'row')} with missing values dropped, {len(kept):,} kept"]


def split_of(plan: Plan, rows: Rows, tested: bool = True) -> Sides:
    """Split the rows of one file by its columns, or at random.

    Args:
        plan: the settings.
        rows: the rows.
        tested: whether there are test rows among them; no if those are a file of their own.

    Raises:
        LabError: they cannot be split.
    """
    frame = rows.frame
    selection = plan.selection
    groups = None
    classes = None
    if selection.group is not None:
        groups = labels_of(frame[selection.group])
    if plan.task != "regression":
        classes = labels_of(frame[selection.targets[0]])
    if selection.split is not None:
        where = f"{rows.origin}, column {selection.split}"
        sides = by_column(where, labels_of(frame[selection.split]), plan.settings.validation_share > 0)
        return held_back(plan.settings, sides, classes)
    if not tested:
        positions = np.arange(len(frame))
        return held_back(plan.settings, Sides(positions, positions[:0], positions[:0]), classes)
    return draw(plan.settings, len(frame), classes, groups)


def kinds_of(plan: Plan, rows: Rows, train: NDArray[np.intp]) -> dict[str, Kind]:
    """Return whether each column to predict from is numbers or text.

    Raises:
        LabError: a column is neither, or is text although the settings refuse it.
    """
    kinds = {name: checks.kind_of(rows, name, train) for name in plan.selection.features}
    text = [name for name, kind in kinds.items() if kind == "category"]
    if text and not plan.one_hot:
        present = np.flatnonzero(rows.frame[text[0]].notna().to_numpy())
        raise checks.text_among_numbers(rows, text[0], int(present[0]))
    return kinds


def learn(plan: Plan, kinds: Mapping[str, Kind], train: Rows) -> tuple[tuple[Column, ...], list[str]]:
    """Learn the columns from the training rows.

    Returns:
        The columns, and what a person should know of them.
    """
    columns = []
    notes = []
    for name, kind in kinds.items():
        if kind == "number":
            column, said = learn_numbers(name, train, plan.settings.standardise, plan.missing)
        else:
            column, said = learn_categories(name, train)
        columns.append(column)
        notes += said
    return tuple(columns), notes


def check_labels(plan: Plan, rows: Rows) -> None:
    """Refuse classes that nothing can be learned about, before rows are split by them.

    Raises:
        LabError: there are some.
    """
    if plan.task != "regression":
        target = plan.selection.targets[0]
        check_classes(f"{rows.origin}, column {target}", plan.task, labels_of(rows.frame[target]))


def classes_of(plan: Plan, train: Rows, others: Mapping[str, Rows]) -> tuple[str, ...]:
    """Return the classes that the training rows have; none for numbers.

    Raises:
        LabError: validation or test rows have others.
    """
    if plan.task == "regression":
        return ()
    target = plan.selection.targets[0]
    learned = labels_of(train.frame[target])
    for split, rows in others.items():
        own_file = None
        if rows.origin != train.origin:
            own_file = f"{rows.origin}, column {target}"
        check_learned(f"{train.origin}, column {target}", learned, labels_of(rows.frame[target]), own_file, split)
    return in_order(learned)


def arrays_of(
    plan: Plan, columns: Sequence[Column], classes: Sequence[str], rows: Rows
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return the inputs, (rows, features) float64, and the targets of rows.

    Raises:
        LabError: a value cannot be converted, or the inputs need more memory than there is.
    """
    width = sum(column.width for column in columns)
    check_memory(rows.origin, len(rows.frame), width)
    for column in columns:
        if column.kind == "number":
            checks.numbers_of(rows, column.name)
    description = {"columns": [column.model_dump() for column in columns], "row_shape": [width]}
    inputs = convert(description, rows.frame)
    targets = plan.selection.targets
    if plan.task == "regression":
        return inputs, np.column_stack([checks.numbers_of(rows, name) for name in targets])
    return inputs, targets_of(labels_of(rows.frame[targets[0]]), classes, plan.task)


def parts_of(rows: Rows, sides: Sides) -> dict[str, Rows]:
    """Return the `train`, `validation` and `test` rows by these names."""
    positions = {"train": sides.train, "validation": sides.validation, "test": sides.test}
    return {split: replace(rows, frame=rows.frame.iloc[chosen]) for split, chosen in positions.items()}


def prepare_rows(
    plan: Plan, parts: Mapping[str, Rows], kinds: Mapping[str, Kind], head: Mapping[str, Any]
) -> tuple[dict[str, NDArray[Any]], DataDescription]:
    """Learn from training rows, and convert all rows.

    Args:
        plan: the settings.
        parts: the `train`, `validation` and `test` rows by these names; the last two may be empty.
        kinds: whether each column to predict from is numbers or text.
        head: the fields of the description that say where the rows are from: name, source, sha256, notes.

    Returns:
        The arrays by name, and the description.

    Raises:
        LabError: the rows cannot be learned from.
    """
    train = parts["train"]
    others = {split: rows for split, rows in parts.items() if split != "train"}
    classes = classes_of(plan, train, others)
    columns, said = learn(plan, kinds, train)
    arrays: dict[str, NDArray[Any]] = {}
    arrays["train_inputs"], arrays["train_targets"] = arrays_of(plan, columns, classes, train)
    for split, rows in others.items():
        if len(rows.frame):
            arrays[f"{split}_inputs"], arrays[f"{split}_targets"] = arrays_of(plan, columns, classes, rows)
    fields = {**head, "notes": (*head.get("notes", ()), *said)}
    fields.setdefault("row_shape", (arrays["train_inputs"].shape[1],))
    description = DataDescription(
        task=plan.task,
        train_rows=len(train.frame),
        validation_rows=len(parts["validation"].frame),
        test_rows=len(parts["test"].frame),
        columns=columns,
        targets=plan.selection.targets,
        classes=classes,
        **fields,
    )
    return arrays, description
