"""Convert a data set to the arrays that training reads, in data/prepared/NAME.

    python -m pipeline.prepare [data=NAME] [repeats=5 repeats_split=true]

The raw rows are IDX files, a file or images of one's own, or what a library brings. The output depends only on them and
on the config. IDX files keep their published split into training and test rows; their validation rows are drawn when
they are loaded. With `repeats_split=true` other data is prepared once for each repeat, with the next split seed each.
"""

from __future__ import annotations

if not __package__:
    raise SystemExit("error: this is a module; in the project's folder, type: python -m pipeline.prepare")

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from numpy.typing import NDArray
from omegaconf import DictConfig

from pipeline.config.data import DescribedData, FileData, IdxData, ImageData
from pipeline.config.own_code import code_folders
from pipeline.config.own_folder import data_located
from pipeline.config.reading import read_data, read_splits
from pipeline.data.images import prepare_images
from pipeline.data.library import prepare_library
from pipeline.data.own_file import prepare_file
from pipeline.data.prepared import write_arrays, write_prepared
from pipeline.data.prepared_folder import PREPARED, folder_of_split
from pipeline.data.raw import idx
from pipeline.data.raw.checks import RAW, mismatch
from pipeline.system import cli
from pipeline.system.errors import LabError
from pipeline.system.files import explained, readable
from pipeline.system.project import PROJECT, search_path

Split = tuple[NDArray[np.uint8], NDArray[np.int64]]


def prepare(data: IdxData | DescribedData, project: Path, splits: int = 1) -> Path:
    """Write the inputs and targets of each split, such as train_inputs.npy, and data.json, replacing existing ones.

    Of described data further splits, with the next split seeds, go to folders of their own (`folder_of_split`).

    Inputs are (rows, features): grey values as uint8, all others float64. Targets are class labels, int64 (rows,), or
    float64 (rows, outputs).

    Args:
        data: the config of the data set.
        project: folder that contains data/.
        splits: how many splits of described data are written.

    Returns:
        The folder data/prepared/NAME.

    Raises:
        LabError: raw files are missing or damaged, nothing can be learned from their rows, all splits are the same, or
            a folder cannot be written.
    """
    folder = project / PREPARED / data.name
    if isinstance(data, IdxData):
        _prepare_idx(data, project, folder)
        print(f"{data.name}: prepared in {folder}")
        return folder
    first = _prepare_split(data, project, folder)
    # This split has one place.
    _remove(folder_of_split(data, project))
    for number in range(1, splits):
        one = data.further_split(number)
        print(f"{one.name}, data.split_seed={one.split_seed}:")
        further = folder_of_split(one, project)
        if _prepare_split(one, project, further) == first:
            _remove(further)
            raise LabError(
                f"All splits of {data.name} are the same.",
                expected="rows that are drawn",
                received="a file that marks the validation rows and the test rows",
                fix="leave out repeats_split=true, or the mark of the validation rows",
            )
    return folder


def _prepare_split(data: DescribedData, project: Path, folder: Path) -> dict[str, str]:
    """Write one split of described data, and return the SHA-256 of each array."""
    if isinstance(data, FileData):
        prepared = prepare_file(data, project)
    elif isinstance(data, ImageData):
        prepared = prepare_images(data, project)
    else:
        prepared = prepare_library(data, project)
    checksums = write_prepared(data, prepared, folder)
    print(f"{data.name}: prepared in {folder}")
    return checksums


def _remove(folder: Path) -> None:
    with explained(folder):
        if folder.exists():
            shutil.rmtree(folder)


def _prepare_idx(data: IdxData, project: Path, folder: Path) -> None:
    """Write the arrays of IDX files: grey values, uint8 (rows, height * width), and labels, int64 (rows,)."""
    # All raw files are checked before anything is written.
    raw = {role: _read_raw(data, role, project) for role in data.files}
    arrays: dict[str, NDArray[Any]] = {}
    for split in ("train", "test"):
        inputs, targets = flatten(data, split, raw[f"{split}_images"], raw[f"{split}_labels"])
        arrays[f"{split}_inputs"] = inputs
        arrays[f"{split}_targets"] = targets
    _check_features(data, arrays["train_inputs"].shape[1], arrays["test_inputs"].shape[1])
    # A Keras model may want images instead of rows.
    shape = [*raw["train_images"].shape[1:], 1]
    write_arrays(folder, {"name": data.name, "classes": data.classes}, arrays, {"row_shape": shape})


def _read_raw(data: IdxData, role: str, project: Path) -> NDArray[np.uint8]:
    """Read and verify one raw file.

    Raises:
        LabError: the file is missing, cannot be read, has another checksum, or is not an IDX file.
    """
    file = data.files[role]
    path = project / RAW / data.name / file.name
    fetch = f"python -m pipeline.fetch data={data.name}"
    if not path.exists():
        fix = fetch
        # Only mnist has stages in dvc.yaml.
        if data.name == "mnist":
            fix += ", or `dvc repro prepare@mnist`"
        raise LabError(
            f"The data set {data.name} has not been fetched yet.",
            expected=f"{file.name} in {path.parent}",
            received="no such file",
            fix=fix,
        )
    with readable(str(path), expected=f"SHA-256 {file.sha256}", fix=f"delete it and fetch again: {fetch}"):
        content = path.read_bytes()
    problem = mismatch(content, file)
    if problem:
        raise LabError(
            f"{path} is not the file that conf/data/{data.name}.yaml names.",
            expected=f"SHA-256 {file.sha256}",
            received=problem.removeprefix(f"{file.name}: "),
            fix=f"delete it and fetch again: {fetch}",
        )
    try:
        return idx.decode(content)
    except ValueError as error:
        raise _inconsistent(data, f"{file.name}: {error}") from None


def flatten(data: IdxData, split: str, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Split:
    """Convert images and labels of one split to inputs (rows, height * width) and targets (rows,).

    Args:
        data: gives the number of classes.
        split: "train" or "test", for messages.
        images: (rows, height, width), grey values 0 to 255.
        labels: (rows,), 0 to classes - 1.

    Raises:
        LabError: images, labels and the number of classes are inconsistent.
    """
    if images.ndim != 3 or labels.ndim != 1:
        received = f"{split}: images of {images.ndim} and labels of {labels.ndim} dimensions, expected 3 and 1"
        raise _inconsistent(data, received)
    if len(images) != len(labels) or images.size == 0:
        raise _inconsistent(data, f"{split}: images of shape {images.shape} with {len(labels)} labels")
    if int(labels.max()) >= data.classes:
        raise _inconsistent(data, f"{split}: label {labels.max()}, expected 0 to {data.classes - 1}")
    # Inputs stay bytes, an eighth of their size as float64. `Arrays.scaled` converts them when they are used.
    return images.reshape(len(images), -1), labels.astype(np.int64)


def _check_features(data: IdxData, train: int, test: int) -> None:
    if train != test:
        raise _inconsistent(data, f"train images of {train} pixels, test images of {test}")


def _inconsistent(data: IdxData, received: str) -> LabError:
    return LabError(
        f"The files of {data.name} are inconsistent.",
        received=received,
        fix=f"correct names, checksums or classes in conf/data/{data.name}.yaml",
    )


def task(config: DictConfig) -> None:
    """Prepare the selected data set in the project folder: the task that Hydra calls."""
    data = read_data(config, "prepare")
    splits = read_splits(config, data)
    prepare(data_located(data, code_folders(search_path(HydraConfig.get()))), PROJECT, splits)


if __name__ == "__main__":
    sys.exit(cli.run(task, "data_stages"))
