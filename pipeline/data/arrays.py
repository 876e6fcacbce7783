"""A data set as arrays, and the order of its rows in each epoch, the same for both backends."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from pipeline.config.curve import CurveData
from pipeline.config.data import DescribedData, IdxData, LibraryData, TableData, Task
from pipeline.config.fields import PositiveInt
from pipeline.config.schema import Data
from pipeline.data.array_checks import check_arrays
from pipeline.data.description import DataDescription
from pipeline.data.prepared_folder import prepare_command, prepared_folder
from pipeline.data.raw_files import RawFile, check_current
from pipeline.data.validation import validation_rows
from pipeline.system.errors import LabError
from pipeline.system.files import file_sha256, readable
from pipeline.system.formats import read_array, read_json

DESCRIPTION = "the description that pipeline.prepare writes"
# What data.json says besides the description.
RawFiles = TypeAdapter(list[RawFile])
RowShape: TypeAdapter[tuple[int, ...] | None] = TypeAdapter(tuple[PositiveInt, ...] | None)
# The seed of the draw of a part of the training rows: one for all, so that points differ in their knobs only.
DRAW_SEED = 1
# Validation and test rows go through a network in blocks of this size, so that their hidden values fit in memory.
EVALUATION_ROWS = 2048
# Floats, or grey values of one byte, which take a quarter of the memory of float32.
Inputs = NDArray[Any]
Targets = NDArray[np.floating] | NDArray[np.integer]


@dataclass(frozen=True)
class Arrays:
    """A data set in memory.

    Attributes:
        train_inputs: (rows, features), floats, or grey values from 0 to 255 in one byte each, which `scaled` converts.
        train_targets: (rows, outputs) floats, or (rows,) integer class labels.
        test_inputs, test_targets: the same for the test rows; None if the data set has none.
        validation_inputs, validation_targets: the same for the validation rows; None if there are none.
        outputs: number of outputs of a network for this data set.
        checksums: SHA-256 by array name.
        dtype: dtype of a network's inputs.
        row_shape: shape of a row before it was flattened, for instance (28, 28, 1); None: (features,). Also None for
            IDX images that an earlier version prepared.
        description: what the data is; None for a table, a curve, and images of IDX files.
    """

    train_inputs: Inputs
    train_targets: Targets
    test_inputs: Inputs | None
    test_targets: Targets | None
    outputs: int
    checksums: dict[str, str]
    dtype: str = "float32"
    row_shape: tuple[int, ...] | None = None
    description: DataDescription | None = None
    validation_inputs: Inputs | None = None
    validation_targets: Targets | None = None

    @property
    def features(self) -> int:
        """Number of inputs of a network for this data set."""
        return int(self.train_inputs.shape[1])

    @property
    def task(self) -> Task | None:
        """What described data predicts; None for a table, a curve, and images of IDX files."""
        if self.description is None:
            return None
        return self.description.task

    def evaluated(self, last: bool) -> Iterator[tuple[str, Inputs, Targets]]:
        """Yield the rows on which a network in training is measured, besides its training rows, with their name.

        Validation rows are measured at every record, and test rows at the last one, because they are for the report
        alone. Without validation rows, test rows are measured at every record.

        Args:
            last: whether the point ends here.
        """
        held_back = self.validation_inputs is not None
        if self.validation_inputs is not None and self.validation_targets is not None:
            yield "validation", self.validation_inputs, self.validation_targets
        if self.test_inputs is not None and self.test_targets is not None and (last or not held_back):
            yield "test", self.test_inputs, self.test_targets

    def at_most(self, rows: int | None) -> Arrays:
        """Return the same data with at most `rows` training rows; None keeps all of them. All others stay.

        Of described data, whose file may be sorted by class, they are drawn at random: always the same ones, each
        draw with all rows of the smaller draws. Of IDX files, which are in random order, they are the first ones.
        """
        if rows is None or rows >= len(self.train_inputs):
            return self
        if self.description is None:
            return replace(self, train_inputs=self.train_inputs[:rows], train_targets=self.train_targets[:rows])
        order = np.random.default_rng(DRAW_SEED).permutation(len(self.train_inputs))
        drawn = np.sort(order[:rows])
        return replace(self, train_inputs=self.train_inputs[drawn], train_targets=self.train_targets[drawn])

    def scaled(self, inputs: Inputs, out: NDArray[np.floating] | None = None) -> NDArray[np.floating]:
        """Return rows as a network's inputs: grey value / 255, rounded to float32 for either dtype.

        Args:
            inputs: rows of the inputs, of any shape.
            out: where to write the result, of the same shape and of `dtype`.

        Returns:
            `out` if it is given; otherwise a new array, or `inputs` themselves if they are floats.
        """
        if out is None:
            if np.issubdtype(inputs.dtype, np.floating):
                return inputs
            out = np.empty(inputs.shape, self.dtype)
        np.copyto(out, inputs)
        # Divided in float32 for float64 as well, so that networks of both dtypes are trained on the same numbers.
        if inputs.dtype == np.uint8:
            np.divide(out, np.float32(255), out=out, dtype=np.float32, casting="same_kind")
        return out


def load(data: Data, dtype: str, project: Path) -> Arrays:
    """Read a data set.

    Args:
        data: config of the data set. The config of a table contains the rows; a curve has none.
        dtype: dtype of a network's inputs; inputs of bytes remain bytes until they are `scaled`.
        project: folder that contains data/prepared.

    Raises:
        LabError: the data is not prepared, was prepared from other files or with other settings, or a file is not the
            one that was prepared.
    """
    if isinstance(data, TableData):
        inputs = np.array(data.inputs, dtype=dtype)
        targets = np.array(data.targets, dtype=dtype)
        rows = json.dumps([data.inputs, data.targets]).encode()
        checksums = {"table": hashlib.sha256(rows).hexdigest()}
        return Arrays(inputs, targets, None, None, targets.shape[1], checksums, dtype)
    if isinstance(data, CurveData):
        # The name does not count: a curve of another name is the same data.
        curve = data.model_dump_json(exclude={"name"}).encode()
        checksums = {"curve": hashlib.sha256(curve).hexdigest()}
        return Arrays(np.empty((0, 1), dtype), np.empty((0, 1), dtype), None, None, 1, checksums, dtype)
    return _load_prepared(data, dtype, project)


def _load_prepared(data: IdxData | DescribedData, dtype: str, project: Path) -> Arrays:
    folder = prepared_folder(data, project)
    prepare = prepare_command(data, further=folder.name != data.name)
    if isinstance(data, IdxData) or (isinstance(data, LibraryData) and data.is_downloaded):
        prepare = f"python -m pipeline.fetch data={data.name} && {prepare}"
    fix = f"delete {folder}, then {prepare}"
    if not folder.exists():
        raise _not_prepared(data, folder, "no such folder", prepare)
    if not (folder / "data.json").exists():
        raise _not_prepared(data, folder, "a folder without data.json", prepare)
    content, checksums = _content(folder / "data.json", fix)
    if isinstance(data, IdxData):
        arrays = _read_arrays(folder, checksums, ("train", "test"), dtype, fix)
        check_arrays(data.name, folder, arrays, (data.classes, True), fix)
        row_shape = _idx_shape(folder / "data.json", content, arrays["train_inputs"].shape[1], fix)
        drawn = validation_rows(data, len(arrays["train_targets"]), arrays["train_targets"])
        if drawn.any():
            for part in ("inputs", "targets"):
                whole = arrays[f"train_{part}"]
                arrays |= {f"train_{part}": whole[~drawn], f"validation_{part}": whole[drawn]}
        return replace(_arrays(arrays, data.classes, checksums, dtype), row_shape=row_shape)
    with readable(str(folder / "data.json"), expected=DESCRIPTION, fix=fix):
        description = DataDescription.model_validate(content.get("description"))
        raw = RawFiles.validate_python(content.get("raw", []))
    check_current(data, content.get("config"), raw, folder / "data.json", project)
    counts = {"train": 1, "validation": description.validation_rows, "test": description.test_rows}
    splits = [split for split, rows in counts.items() if rows]
    arrays = _read_arrays(folder, checksums, splits, dtype, fix)
    check_arrays(data.name, folder, arrays, (description.outputs, description.task == "classification"), fix)
    # A changed file is another point, also where the arrays stay the same.
    checksums["data.json"] = description.checksum
    loaded = _arrays(arrays, description.outputs, checksums, dtype)
    return replace(loaded, row_shape=description.row_shape, description=description)


def _read_arrays(
    folder: Path, checksums: dict[str, str], splits: Sequence[str], dtype: str, fix: str
) -> dict[str, NDArray[Any]]:
    """Read the arrays of some splits by name, floats in the dtype of the training."""
    names = [f"{split}_{part}" for split in splits for part in ("inputs", "targets")]
    arrays = {name: _verified(folder / f"{name}.npy", checksums, fix) for name in names}
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating):
            arrays[name] = array.astype(dtype, copy=False)
    return arrays


def _arrays(arrays: dict[str, NDArray[Any]], outputs: int, checksums: dict[str, str], dtype: str) -> Arrays:
    return Arrays(
        train_inputs=arrays["train_inputs"],
        train_targets=arrays["train_targets"],
        test_inputs=arrays.get("test_inputs"),
        test_targets=arrays.get("test_targets"),
        outputs=outputs,
        checksums=checksums,
        dtype=dtype,
        validation_inputs=arrays.get("validation_inputs"),
        validation_targets=arrays.get("validation_targets"),
    )


def _not_prepared(data: IdxData | DescribedData, folder: Path, received: str, fix: str) -> LabError:
    return LabError(
        f"The data set {data.name} is not prepared yet.",
        expected=f"prepared arrays in {folder}",
        received=received,
        fix=fix,
    )


def _content(file: Path, fix: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Read data.json; return all of it, and the SHA-256 of each file."""
    with readable(str(file), expected=DESCRIPTION, fix=fix):
        content = read_json(file)
        sums = content.get("sha256")
        if not isinstance(sums, dict):
            raise ValueError("no checksums under sha256")
    return content, {name: str(checksum) for name, checksum in sums.items()}


def _idx_shape(file: Path, content: dict[str, Any], features: int, fix: str) -> tuple[int, ...] | None:
    """Return the shape of an image; None for arrays that an earlier version prepared, which dense networks can use."""
    with readable(str(file), expected=DESCRIPTION, fix=fix):
        shape = RowShape.validate_python(content.get("row_shape"))
        if shape is not None and math.prod(shape) != features:
            raise ValueError(f"row_shape {shape} is not that of {features} inputs")
    return shape


def _verified(file: Path, checksums: dict[str, str], fix: str) -> NDArray[Any]:
    """Read an array whose file has the checksum that data.json gives; any other file is not even opened."""
    expected = checksums.get(file.name, "a checksum in data.json")
    received = "no such file"
    with readable(str(file), expected="an array of numbers in NumPy's .npy format", fix=fix):
        if file.exists():
            received = file_sha256(file)
        if received == expected:
            return read_array(file)
    raise LabError(f"{file} is not the file that was prepared.", expected=expected, received=received, fix=fix)


def epoch_order(seed: int, epoch: int, rows: int) -> NDArray[np.integer]:
    """Return the order in which the rows are visited in one epoch: a permutation of 0 ... rows - 1.

    Args:
        seed: the run's seed.
        epoch: counted from 1.
        rows: number of training rows.
    """
    # Each epoch has its own stream, so that the order of epoch n can be generated without the orders before it.
    return np.random.default_rng([seed, epoch]).permutation(rows)
