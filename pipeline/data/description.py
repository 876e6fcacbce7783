"""What prepared data is: its columns, classes and rows, and what was learned from its training rows.

`python -m pipeline.prepare` writes it to data.json. Each trained point has a copy, and so has its model, which converts
raw rows by it.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.data import Task
from pipeline.config.fields import Number, PositiveInt, Section, Whole

Count = Annotated[Whole, Field(ge=0)]


class Column(Section):
    """A raw column, and how it becomes inputs of a network.

    A column of numbers becomes (value - mean) / deviation, with `fill` for a missing value, and with a further input of
    0 or 1 if `indicator`. A column of text becomes one input of 0 or 1 for each of its categories.

    Attributes:
        name: its name in the raw data; for data without names, its number as text.
        kind: numbers or text.
        mean: what is subtracted; 0 if numbers stay as they are.
        deviation: what the difference is divided by; 1 if numbers stay as they are.
        fill: the raw value in the place of a missing one; None if missing values are refused.
        indicator: whether a further input says that the value was missing.
        categories: the values of a column of text, in the order of their inputs; another value gives only zeros.
    """

    name: str
    kind: Literal["number", "category"]
    mean: Number = 0.0
    deviation: Annotated[Number, Field(gt=0)] = 1.0
    fill: Number | None = None
    indicator: bool = False
    categories: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Number of inputs that it becomes."""
        if self.kind == "category":
            return len(self.categories)
        return 1 + self.indicator


class DataDescription(Section):
    """What prepared data is.

    Attributes:
        name: name of the data set.
        task: what is predicted.
        source: what the rows were read from, a path or `sklearn:iris`.
        sha256: checksum of the files that were read, or of the library's arrays.
        train_rows, validation_rows, test_rows: numbers of rows.
        row_shape: shape of a row: (features,), or (height, width, channels) of an image.
        columns: the raw columns in the order of the inputs; empty for images.
        targets: names of the predicted columns.
        classes: class labels in the order of the outputs; for a binary task the second one is that of the output 1.
        notes: what a person should know, one sentence each, for instance of a column that is constant.
    """

    name: str
    task: Task
    source: str
    sha256: str
    train_rows: PositiveInt
    validation_rows: Count = 0
    test_rows: Count
    row_shape: tuple[PositiveInt, ...]
    columns: tuple[Column, ...] = ()
    targets: tuple[str, ...]
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def outputs(self) -> int:
        """Number of outputs of a network: one for each class, one for two classes, or one for each number."""
        if self.task == "classification":
            return len(self.classes)
        return len(self.targets)

    @property
    def checksum(self) -> str:
        """SHA-256 of all of this but the name, the path and the notes: elsewhere, the same data has others."""
        said = self.model_dump_json(exclude={"name", "source", "notes"})
        return hashlib.sha256(said.encode()).hexdigest()
