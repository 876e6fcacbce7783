"""Prepared data: its arrays and its description, written to data/prepared/NAME."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.data import DescribedData
from pipeline.data.description import DataDescription
from pipeline.data.raw_files import RawFile
from pipeline.data.summary import summary
from pipeline.system.files import atomic_folder, explained, file_sha256


@dataclass(frozen=True)
class Prepared:
    """A data set that is ready to be written.

    Attributes:
        arrays: train_inputs, train_targets, and the same of the validation and of the test rows if there are any.
        description: what they are.
        raw: the files that they were made from.
    """

    arrays: Mapping[str, NDArray[Any]]
    description: DataDescription
    raw: Sequence[RawFile] = ()


def write_prepared(data: DescribedData, prepared: Prepared, folder: Path) -> dict[str, str]:
    """Write the arrays (.npy) and data.json to a folder, replacing an existing one.

    Returns:
        The SHA-256 of each array, by the name of its file.

    Raises:
        LabError: the folder cannot be written.
    """
    described = {
        # Other settings are other data: training compares them with its own.
        "config": data.model_dump(mode="json"),
        "raw": [file.as_json() for file in prepared.raw],
        "description": prepared.description.model_dump(mode="json"),
    }
    checksums = write_arrays(folder, {"name": data.name}, prepared.arrays, described)
    for line in summary(prepared.description, prepared.arrays):
        print(f"  {line}")
    print_notes(prepared.description.notes)
    return checksums


def write_arrays(
    folder: Path, head: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], more: Mapping[str, Any]
) -> dict[str, str]:
    """Write arrays with their shapes, dtypes and SHA-256 in data.json, and print them.

    Args:
        folder: the folder, which is replaced.
        head: the first entries of data.json.
        arrays: by name.
        more: the last entries of data.json.

    Returns:
        The SHA-256 of each array, by the name of its file.

    Raises:
        LabError: the folder cannot be written.
    """
    content: dict[str, Any] = {**head, "shapes": {}, "dtypes": {}, "sha256": {}}
    with explained(folder), atomic_folder(folder) as new:
        for name, array in arrays.items():
            file = new / f"{name}.npy"
            # Numbers need no pickle, and a file without it cannot run code when it is read.
            np.save(file, array, allow_pickle=False)
            content["shapes"][name] = list(array.shape)
            content["dtypes"][name] = str(array.dtype)
            content["sha256"][file.name] = file_sha256(file)
        text = json.dumps({**content, **more}, indent=2, allow_nan=False)
        (new / "data.json").write_text(text + "\n", encoding="utf-8")
    for name, shape in content["shapes"].items():
        print(f"  {name}: {' x '.join(f'{size:,}' for size in shape)} {content['dtypes'][name]}")
    checksums: dict[str, str] = content["sha256"]
    return checksums


def print_notes(notes: Sequence[str]) -> None:
    """Print what a person should know of prepared data."""
    for note in notes:
        print(f"  note: {note}")
