"""Files in the formats that this program writes, read back: JSON, CSV, .npz and zip.

Whatever a library raises at damaged content, these raise ValueError; an OSError is the disk's alone (files.readable).
"""

from __future__ import annotations

import csv
import io
import json
import math
import struct
import tokenize
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_json(file: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: it is not JSON, or another value than an object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{file.name} is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} is not a JSON object")
    return content


def read_rows(content: bytes, columns: Sequence[str] | None = None) -> Iterator[dict[str, str]]:
    """The rows of a CSV file that begins with a header, each with a text for every column.

    Args:
        content: the file's.
        columns: what the header must name, in any order; None: anything.

    Raises:
        ValueError: the header is missing or names other columns, or a row is longer or shorter than it.
    """
    reader = csv.reader(io.StringIO(content.decode(), newline=""))
    try:
        header = next(reader, [])
        if not header or (columns is not None and sorted(header) != sorted(columns)):
            raise ValueError(f"columns {', '.join(header)}")
        for row in reader:
            if row and len(row) != len(header):  # csv makes an empty row of an empty line
                raise ValueError(f"line {reader.line_num} has {len(row)} fields, not {len(header)}")
            if row:
                yield dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from None


def stored_members(file: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a zip archive whose members are stored as they are, so that nothing can unfold.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: it is cut short, changed or of another kind.
    """
    content = io.BytesIO(file.read_bytes())  # from here on no error can be the disk's
    try:
        with zipfile.ZipFile(content) as archive:
            for member in archive.infolist():
                if member.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"{file.name} is compressed, which this program never does")
                if member.flag_bits & 1:
                    raise ValueError(f"{file.name} is encrypted, which this program never does")
                if member.comment:  # where a damaged length hides the next member
                    raise ValueError(f"{member.filename} in {file.name} has a comment, which this program never writes")
                yield member.filename, archive.read(member)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OverflowError, struct.error) as error:
        raise ValueError(f"{file.name} is not a whole zip archive: {error}") from None


def read_array(file: Path) -> NDArray[np.generic]:
    """Read an .npy as `numpy.save` writes it, without pickle.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: it is cut short, changed or of another kind.
    """
    return _array(file.read_bytes(), file.name)


def read_arrays(file: Path) -> dict[str, NDArray[np.generic]]:
    """Read an .npz as `numpy.savez` writes it: without pickle, and stored as it is, so that nothing can unfold.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: it is cut short, changed or of another kind.
    """
    return {
        name.removesuffix(".npy"): _array(content, f"{name} in {file.name}") for name, content in stored_members(file)
    }


def read_one_array(file: Path, name: str) -> NDArray[np.generic]:
    """Read one array of an .npz; the rest of the file is not read.

    Raises:
        OSError: the file is not there, or cannot be read.
        ValueError: it is cut short, changed or of another kind, or has no such array.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            content = archive.read(f"{name}.npy")
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, OverflowError, struct.error) as error:
        raise ValueError(f"{file.name} is not a whole zip archive: {error}") from None
    return _array(content, f"{name} in {file.name}")


def _array(content: bytes, what: str) -> NDArray[np.generic]:
    stream = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("another version of the format than arrays of numbers have")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    except (
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        SyntaxError,
        tokenize.TokenError,
        RecursionError,
        MemoryError,
    ) as error:  # NumPy evaluates these few bytes as a Python literal, which can fail in any of these ways
        raise ValueError(f"{what} is not an array: {error}") from None
    length = stream.tell() + math.prod(shape) * dtype.itemsize
    if length != len(content) and not dtype.hasobject:  # before NumPy makes room for what a damaged shape says
        raise ValueError(f"{what} has {len(content)} bytes, and its array {length}")
    stream.seek(0)
    array: NDArray[np.generic] = np.lib.format.read_array(stream, allow_pickle=False)
    return array
