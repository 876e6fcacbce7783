"""Read files in the formats that this program writes: JSON, CSV, .npy, .npz and zip.

These functions raise ValueError for damaged content, whatever the libraries raise for it. An OSError is always an
error of the disk. `files.readable` turns each into a message of its own.
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

# What zipfile may raise for a damaged archive, besides ValueError.
ZIP_ERRORS = (zipfile.BadZipFile, EOFError, NotImplementedError, OverflowError, struct.error)
# NumPy evaluates the header of an array as a Python literal, which can fail in any of these ways.
HEADER_ERRORS = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    SyntaxError,
    tokenize.TokenError,
    RecursionError,
    MemoryError,
)


def read_json(file: Path) -> dict[str, Any]:
    """Read the object in a JSON file.

    Raises:
        OSError: the file does not exist or cannot be read.
        ValueError: the content is not JSON, or not an object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{file.name} is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} is not a JSON object")
    return content


def read_rows(content: bytes, columns: Sequence[str] | None = None) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file with a header, each as a map from columns to strings.

    Args:
        content: the content of the file.
        columns: the columns that the header must have, in any order; None: any columns.

    Raises:
        ValueError: the header is missing or has other columns, or a row has more or fewer fields than the header.
    """
    reader = csv.reader(io.StringIO(content.decode(), newline=""))
    try:
        header = next(reader, [])
        if not header or (columns is not None and sorted(header) != sorted(columns)):
            raise ValueError(f"columns {', '.join(header)}")
        for row in reader:
            # csv returns an empty row for an empty line.
            if not row:
                continue
            if len(row) != len(header):
                raise ValueError(f"line {reader.line_num} has {len(row)} fields, not {len(header)}")
            yield dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from None


def stored_members(file: Path) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of a zip archive whose members are not compressed.

    Raises:
        OSError: the file does not exist or cannot be read.
        ValueError: the content is truncated, changed or of the wrong type.
    """
    # The whole file is read first, so that no later error can come from the disk.
    content = io.BytesIO(file.read_bytes())
    try:
        with zipfile.ZipFile(content) as archive:
            for member in archive.infolist():
                # A compressed member could be a zip bomb, which unpacks to more than the memory.
                if member.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"{file.name} is compressed, which this program never does")
                # Bit 0 of the flags marks encryption. zipfile would ask for a password, with a RuntimeError.
                if member.flag_bits & 1:
                    raise ValueError(f"{file.name} is encrypted, which this program never does")
                # A damaged length can make the entry of the next member look like the comment of this one.
                if member.comment:
                    raise ValueError(f"{member.filename} in {file.name} has a comment, which this program never writes")
                yield member.filename, archive.read(member)
    except ZIP_ERRORS as error:
        raise ValueError(f"{file.name} is not a complete zip archive: {error}") from None


def read_array(file: Path) -> NDArray[np.generic]:
    """Read an .npy file as `numpy.save` writes it, without pickle.

    Raises:
        OSError: the file does not exist or cannot be read.
        ValueError: the content is truncated, changed or of the wrong type.
    """
    return array_of(file.read_bytes(), file.name)


def read_arrays(file: Path) -> dict[str, NDArray[np.generic]]:
    """Read all arrays of an .npz file as `numpy.savez` writes it: without pickle, and not compressed.

    Raises:
        OSError: the file does not exist or cannot be read.
        ValueError: the content is truncated, changed or of the wrong type.
    """
    return {
        name.removesuffix(".npy"): array_of(content, f"{name} in {file.name}") for name, content in stored_members(file)
    }


def read_one_array(file: Path, name: str) -> NDArray[np.generic]:
    """Read one array of an .npz file, without parsing the others.

    Raises:
        OSError: the file does not exist or cannot be read.
        ValueError: the content is truncated, changed or of the wrong type, or has no array of this name.
    """
    for member, content in stored_members(file):
        if member == f"{name}.npy":
            return array_of(content, f"{name} in {file.name}")
    raise ValueError(f"{file.name} has no array {name}")


def array_of(content: bytes, what: str) -> NDArray[np.generic]:
    """Read the bytes of an .npy file, without pickle.

    Args:
        content: the bytes.
        what: the file, for the message.

    Raises:
        ValueError: the content is not exactly one array of numbers.
    """
    stream = io.BytesIO(content)
    try:
        # NumPy writes version 1.0 of the format for every array of numbers.
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("unsupported version of the .npy format")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    except HEADER_ERRORS as error:
        raise ValueError(f"{what} is not an array: {error}") from None
    length = stream.tell() + math.prod(shape) * dtype.itemsize
    # Checked before NumPy allocates memory, because a damaged shape may ask for terabytes. For arrays of objects the
    # length is not known from the header; they are refused below.
    if length != len(content) and not dtype.hasobject:
        raise ValueError(f"{what} has {len(content)} bytes, but its header implies {length}")
    stream.seek(0)
    array: NDArray[np.generic] = np.lib.format.read_array(stream, allow_pickle=False)
    return array
