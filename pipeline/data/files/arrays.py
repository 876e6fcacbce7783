"""Read .npy and .npz files of a user as columns: without pickle, and never more than the memory holds."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.files.source import check_memory, no_rows, unreadable
from pipeline.system.errors import LabError
from pipeline.system.formats import ZIP_ERRORS, array_of, read_array

EXPECTED_NPY = "an array of numbers or text as numpy.save writes it, without pickle"
EXPECTED_NPZ = "arrays of numbers or text as numpy.savez writes them, without pickle"


class ArrayFile:
    """An .npy with an array (rows, columns), or an .npz whose arrays are columns; see `source.Source`.

    The columns of a bare array are named 0, 1, ... An array x (rows, columns) in an .npz has the columns x_0, x_1, ...,
    and x stands for all of them.

    Raises:
        LabError: the file is damaged or pickled, or its arrays are no columns of the same length.
    """

    decimal: str | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: dict[str, NDArray[Any]] = {}
        groups: dict[str, tuple[str, ...]] = {}
        if path.suffix == ".npz":
            for name, array in read_npz(path).items():
                columns = _columns(path, name, array)
                groups[name] = tuple(columns)
                self._columns |= columns
        else:
            self._columns = _columns(path, "", _read_npy(path))
        self.groups: Mapping[str, tuple[str, ...]] = groups
        lengths = {name: len(column) for name, column in self._columns.items()}
        if len(set(lengths.values())) > 1:
            raise LabError(
                f"The arrays in {path} have different numbers of rows.",
                expected="one number of rows",
                received=", ".join(f"{name} {rows:,}" for name, rows in lengths.items()),
                fix="write training rows and test rows to two files, and name the second one with test_path:",
            )
        for name, column in self._columns.items():
            if column.dtype.kind == "c":
                raise LabError(
                    f"{path}, column {name}: complex numbers.",
                    expected="numbers or text",
                    received=str(column.dtype),
                    fix="write the real and the imaginary parts as two columns",
                )
        if not self._columns or 0 in lengths.values():
            raise no_rows(path, "an empty array")
        self.names = tuple(self._columns)

    def read(self, columns: Sequence[str], labels: Collection[str], text: Collection[str] = ()) -> Any:
        """See `source.Source.read`; arrays have types, so `labels` and `text` change nothing."""
        import pandas as pd

        rows = len(self._columns[columns[0]])
        check_memory(self.path, rows, len(columns))
        return pd.DataFrame({name: self._columns[name] for name in columns})

    def row(self, index: int) -> int:
        """See `source.Source.row`."""
        return index + 1


def _columns(path: Path, name: str, array: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the columns of one array by name; an empty name is that of the only array.

    Raises:
        LabError: the array has no rows and columns.
    """
    if array.dtype.names and array.ndim == 1:
        return {field: array[field] for field in array.dtype.names}
    if array.ndim == 1 and name:
        return {name: array}
    if array.ndim == 2:
        numbered = {str(number): column for number, column in enumerate(array.T)}
        if not name:
            return numbered
        return {f"{name}_{number}": column for number, column in numbered.items()}
    raise LabError(
        f"{path} has an array that is not rows of values.",
        expected="(rows, columns), or in an .npz (rows,) for one column",
        received=f"{name} {array.shape}".strip(),
        fix="reshape it; images need kind: images",
    )


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz file, which may be compressed.

    Raises:
        LabError: the file is damaged, has pickled objects, or needs more memory than there is.
    """
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            # A small file may unpack to more than the memory.
            check_memory(path, sum(member.file_size for member in members) // 8, 1)
            for member in members:
                arrays[member.filename.removesuffix(".npy")] = array_of(archive.read(member), member.filename)
    except (*ZIP_ERRORS, zlib.error, ValueError, RuntimeError) as error:
        raise _refused(path, EXPECTED_NPZ, error) from None
    return arrays


def _read_npy(path: Path) -> NDArray[Any]:
    check_memory(path, path.stat().st_size // 8, 1)
    try:
        return read_array(path)
    except ValueError as error:
        raise _refused(path, EXPECTED_NPY, error) from None


def _refused(path: Path, expected: str, error: Exception) -> LabError:
    """Return the message about a file that is damaged, or pickled, which is not opened: a pickle can run any code."""
    if "allow_pickle" in str(error):
        return LabError(
            f"{path} contains pickled objects, which are never read: a pickle can run any code.",
            expected=expected,
            received="an array of objects",
            fix="convert the array before saving it, for instance with .astype(float) or .astype(str)",
        )
    return unreadable(path, expected, error)


def grey_values(array: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return whole numbers from 0 to 255 as bytes; None if an array has other values."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "iuf":
        return None
    with np.errstate(invalid="ignore"):
        grey = array.astype(np.uint8)
    if np.array_equal(grey, array):
        return grey
    return None
