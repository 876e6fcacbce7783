"""Arrays and the order of minibatches: what both backends are given, and the same for both."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.curve import CurveData
from pipeline.config.data import IdxData, TableData
from pipeline.system.errors import LabError
from pipeline.system.files import file_sha256, readable
from pipeline.system.formats import read_array, read_json

PREPARED = Path("data") / "prepared"
Inputs = NDArray[Any]
"""Floats, or bytes."""


@dataclass(frozen=True)
class Arrays:
    """A data set in memory.

    Attributes:
        train_inputs: (rows, features), floats, or grey values 0 to 255 in one byte each; `scaled` makes them numbers.
        train_targets: (rows, outputs) floats, or (rows,) integer class labels.
        test_inputs, test_targets: the same for the test rows; None where a data set has none.
        outputs: how many outputs a network for it has.
        checksums: SHA-256 by array name.
        dtype: of the numbers that a network is given.
    """

    train_inputs: Inputs
    train_targets: NDArray[np.floating] | NDArray[np.integer]
    test_inputs: Inputs | None
    test_targets: NDArray[np.integer] | None
    outputs: int
    checksums: dict[str, str]
    dtype: str = "float32"

    @property
    def features(self) -> int:
        return int(self.train_inputs.shape[1])

    def first(self, rows: int | None) -> Arrays:
        """The same data with at most so many training rows; None: all of them."""
        if rows is None or rows >= len(self.train_inputs):
            return self
        return replace(self, train_inputs=self.train_inputs[:rows], train_targets=self.train_targets[:rows])

    def scaled(self, inputs: Inputs, out: NDArray[np.floating] | None = None) -> NDArray[np.floating]:
        """Some rows as the numbers that a network is given: grey value / 255, rounded to float32 in either dtype.

        Args:
            inputs: rows of the inputs, of any shape.
            out: where to write them, of the same shape and of `dtype`.

        Returns:
            `out`; without it a new array, or `inputs` themselves where they are floats.
        """
        if out is None:
            if np.issubdtype(inputs.dtype, np.floating):
                return inputs
            out = np.empty(inputs.shape, self.dtype)
        np.copyto(out, inputs)
        if inputs.dtype == np.uint8:
            np.divide(out, np.float32(255), out=out, dtype=np.float32, casting="same_kind")
        return out


def load(data: TableData | IdxData | CurveData, dtype: str, project: Path) -> Arrays:
    """Read a data set.

    Args:
        data: its config; a table carries its rows itself, and a curve has none.
        dtype: of the numbers that a network is given; inputs that are bytes stay so until they are `scaled`.
        project: folder that holds data/prepared.

    Raises:
        LabError: the data is not prepared, or a file is not the one that was prepared.
    """
    if isinstance(data, TableData):
        inputs = np.array(data.inputs, dtype=dtype)
        targets = np.array(data.targets, dtype=dtype)
        rows = json.dumps([data.inputs, data.targets]).encode()
        return Arrays(inputs, targets, None, None, targets.shape[1], {"table": hashlib.sha256(rows).hexdigest()}, dtype)
    if isinstance(data, CurveData):
        sum_ = hashlib.sha256(data.model_dump_json(exclude={"name"}).encode()).hexdigest()
        return Arrays(np.empty((0, 1), dtype), np.empty((0, 1), dtype), None, None, 1, {"curve": sum_}, dtype)
    return _load_prepared(data, dtype, project / PREPARED / data.name)


def _load_prepared(data: IdxData, dtype: str, folder: Path) -> Arrays:
    again = f"python -m pipeline.fetch data={data.name} && python -m pipeline.prepare data={data.name}"
    fix = f"delete {folder}, then {again}"
    description = folder / "data.json"
    if not description.exists():
        raise LabError(
            f"The data set {data.name} is not there yet.",
            expected=f"prepared arrays in {folder}",
            received="no such folder" if not folder.exists() else "a folder without data.json",
            fix=again,
        )
    with readable(str(description), expected="the description that pipeline.prepare writes", fix=fix):
        sums = read_json(description).get("sha256")
        if not isinstance(sums, dict):
            raise ValueError("no checksums under sha256")
    checksums = {name: str(sum_) for name, sum_ in sums.items()}
    arrays: dict[str, NDArray[Any]] = {}
    for name in ("train_inputs", "train_targets", "test_inputs", "test_targets"):
        file = folder / f"{name}.npy"
        expected = checksums.get(f"{name}.npy", "a checksum in data.json")
        with readable(str(file), expected="an array of numbers in NumPy's .npy format", fix=fix):
            received = file_sha256(file) if file.exists() else "no such file"
            if received == expected:
                arrays[name] = read_array(file)
        if received != expected:
            raise LabError(f"{file} is not the file that was prepared.", expected=expected, received=received, fix=fix)
    for split in ("train", "test"):
        inputs, targets = arrays[f"{split}_inputs"], arrays[f"{split}_targets"]
        if not _fit(inputs, targets, arrays["train_inputs"].shape[1:], data.classes):
            raise LabError(
                f"The {split} arrays in {folder} do not fit {data.name}.",
                expected=f"bytes or floats (rows, features), and for each row a class label below {data.classes}",
                received=f"inputs {inputs.dtype} {inputs.shape}, targets {targets.dtype} {targets.shape}",
                fix=fix,
            )
    for name in ("train_inputs", "test_inputs"):
        if arrays[name].dtype != np.uint8:
            arrays[name] = arrays[name].astype(dtype, copy=False)
    return Arrays(**arrays, outputs=data.classes, checksums=checksums, dtype=dtype)


def _fit(inputs: NDArray[Any], targets: NDArray[Any], features: tuple[int, ...], classes: int) -> bool:
    """Whether these are the rows of a data set of so many features and classes."""
    if inputs.ndim != 2 or inputs.shape[1:] != features or inputs.size == 0 or targets.shape != inputs.shape[:1]:
        return False
    if not (np.issubdtype(inputs.dtype, np.floating) or inputs.dtype == np.uint8):
        return False
    if not np.issubdtype(targets.dtype, np.integer) or targets.min() < 0 or targets.max() >= classes:
        return False
    return inputs.dtype == np.uint8 or bool(np.isfinite(inputs).all())


def epoch_order(seed: int, epoch: int, rows: int) -> NDArray[np.integer]:
    """In which order the rows are visited in one epoch: a permutation of 0 ... rows - 1.

    Args:
        seed: the run's seed.
        epoch: counted from 1. Every epoch has its own stream, so that epoch n can be had without n - 1.
        rows: number of training rows.
    """
    return np.random.default_rng([seed, epoch]).permutation(rows)
