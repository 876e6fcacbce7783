"""Data sets that a library brings: those installed with scikit-learn, and those that Keras names.

Keras itself unpickles what it downloads for CIFAR. `raw/keras_files.py` gets the same images in a format that runs no
code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.data import LibraryData
from pipeline.data.checks import Rows
from pipeline.data.description import DataDescription
from pipeline.data.keras_sets import Images, read_images, read_table
from pipeline.data.prepared import Prepared
from pipeline.data.raw.keras_files import downloaded_files
from pipeline.data.raw_files import RawFile, joint_sha256, raw_file
from pipeline.data.selection import Selection
from pipeline.data.tables import Plan, kinds_of, parts_of, prepare_rows, split_of
from pipeline.data.validation import validation_rows

TARGET = "target"
# Shapes of rows whose columns are the pixels of an image.
ROW_SHAPES = {"sklearn:digits": (8, 8, 1)}


def prepare_library(data: LibraryData, project: Path) -> Prepared:
    """Make the arrays of a data set of a library.

    Images that Keras names keep their published test rows; all else is split by the config.

    Args:
        data: the data set.
        project: the folder that contains data/raw, where the downloads of Keras's data sets are.

    Raises:
        LabError: the data set has not been fetched yet, or a downloaded file is damaged.
    """
    if data.source.startswith("sklearn:"):
        frame = _installed(data.source)
        digest = hashlib.sha256()
        for column in frame:
            digest.update(f"{column}\n".encode() + np.ascontiguousarray(frame[column].to_numpy(dtype="U32")).tobytes())
        return _prepare_frame(data, frame, digest.hexdigest(), ())
    paths = downloaded_files(data, project)
    files = [raw_file(path, project) for path in paths]
    if data.task == "regression":
        return _prepare_frame(data, read_table(paths[0]), joint_sha256(files), files)
    return _prepare_images(data, read_images(data.source, paths), joint_sha256(files), files)


def _installed(source: str) -> Any:
    """Return a data set of scikit-learn as a DataFrame, whose last column is the target; classes by their names."""
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{source.removeprefix('sklearn:')}")(as_frame=True)
    frame = bunch.data.copy()
    frame[TARGET] = bunch.target
    names = bunch.get("target_names")
    if names is not None:
        frame[TARGET] = np.asarray(names).astype(str)[bunch.target]
    return frame


def _prepare_frame(data: LibraryData, frame: Any, sha256: str, files: Sequence[RawFile]) -> Prepared:
    """Split, learn from and convert the rows of a DataFrame whose last column is the target."""
    selection = Selection(tuple(frame.columns[:-1]), (TARGET,))
    plan = Plan(selection, data, data.task)
    rows = Rows(frame, data.source, lambda index: index + 1)
    sides = split_of(plan, rows)
    head: dict[str, Any] = {"name": data.name, "source": data.source, "sha256": sha256}
    if data.source in ROW_SHAPES:
        head["row_shape"] = ROW_SHAPES[data.source]
    arrays, description = prepare_rows(plan, parts_of(rows, sides), kinds_of(plan, rows, sides.train), head)
    return Prepared(arrays, description, files)


def _prepare_images(data: LibraryData, images: Images, sha256: str, files: Sequence[RawFile]) -> Prepared:
    """Flatten images, whose published test rows stay, and draw validation rows from the others."""
    arrays: dict[str, Any] = {}
    pixels, labels = images.splits["train"]
    drawn = validation_rows(data, len(labels), labels)
    parts = {"train": (pixels[~drawn], labels[~drawn]), "validation": (pixels[drawn], labels[drawn])}
    for split, (inputs, targets) in (parts | {"test": images.splits["test"]}).items():
        if len(targets):
            arrays[f"{split}_inputs"] = inputs.reshape(len(inputs), -1)
            arrays[f"{split}_targets"] = targets
    description = DataDescription(
        name=data.name,
        task=data.task,
        source=data.source,
        sha256=sha256,
        train_rows=len(arrays["train_inputs"]),
        validation_rows=int(drawn.sum()),
        test_rows=len(arrays["test_inputs"]),
        row_shape=images.row_shape,
        targets=("label",),
        classes=images.classes,
    )
    return Prepared(arrays, description, files)
