"""Read the downloaded data sets that Keras names: without Keras, which would unpickle those of CIFAR."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.files.arrays import read_npz
from pipeline.data.raw import idx
from pipeline.data.raw.download import MAX_BYTES, SourceError
from pipeline.data.raw.sources import read_file
from pipeline.system.files import readable

# Bytes before the pixels of each image of CIFAR: labels, of which the last one is the class.
CIFAR_LABELS = {"keras:cifar10": 1, "keras:cifar100": 2}
CIFAR_FILES = {
    "keras:cifar10": ([f"data_batch_{number}.bin" for number in range(1, 6)], "test_batch.bin", "batches.meta.txt"),
    "keras:cifar100": (["train.bin"], "test.bin", "fine_label_names.txt"),
}
CIFAR_SHAPE = (32, 32, 3)

Split = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True)
class Images:
    """Images with their published split: for `train` and `test` pixels (rows, ...) and class numbers (rows,)."""

    splits: Mapping[str, Split]
    row_shape: tuple[int, ...]
    classes: tuple[str, ...]


def read_table(path: Path) -> Any:
    """Return rows of numbers as a DataFrame, whose last column is the target."""
    import pandas as pd

    arrays = read_npz(path)
    inputs = arrays["x"].astype(np.float64)
    frame = pd.DataFrame({f"x_{number}": column for number, column in enumerate(inputs.T)})
    frame["target"] = arrays["y"].astype(np.float64)
    return frame


def read_images(source: str, paths: Sequence[Path]) -> Images:
    """Return images from the files of a data set.

    Raises:
        LabError: the content is damaged.
    """
    with readable(str(paths[0]), expected=f"the images of {source}", fix="delete it and fetch again"):
        if source in CIFAR_FILES:
            return _cifar(source, paths[0])
        if source == "keras:mnist":
            arrays = read_npz(paths[0])
            splits = {name: (arrays[f"x_{name}"], arrays[f"y_{name}"].astype(np.int64)) for name in ("train", "test")}
        else:
            decoded = [_decoded(path) for path in paths]
            splits = {
                "train": (decoded[0], decoded[1].astype(np.int64)),
                "test": (decoded[2], decoded[3].astype(np.int64)),
            }
    return Images(splits, (28, 28, 1), tuple(map(str, range(10))))


def _decoded(path: Path) -> NDArray[np.uint8]:
    try:
        return idx.decode(read_file(path))
    except SourceError as error:
        raise ValueError(str(error)) from None


def _cifar(source: str, path: Path) -> Images:
    """Read an archive of CIFAR in its binary version: for each image its labels, then red, green and blue pixels."""
    train, test, names = CIFAR_FILES[source]
    members: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = Path(member.name).name
                if not member.isreg() or name not in (*train, test, names):
                    continue
                stream = archive.extractfile(member)
                # None for what is not a regular file, which was skipped.
                if stream is not None:
                    members[name] = stream.read(MAX_BYTES)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"not a tar archive: {error}") from None
    splits = {
        "train": _cifar_rows(b"".join(members[name] for name in train), CIFAR_LABELS[source]),
        "test": _cifar_rows(members[test], CIFAR_LABELS[source]),
    }
    return Images(splits, CIFAR_SHAPE, tuple(members[names].decode().split()))


def _cifar_rows(content: bytes, labels: int) -> Split:
    rows = np.frombuffer(content, np.uint8).reshape(-1, labels + int(np.prod(CIFAR_SHAPE)))
    pixels = rows[:, labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pixels), rows[:, labels - 1].astype(np.int64)
