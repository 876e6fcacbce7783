"""The weights of a complete point: its snapshots in weights.npz, and the first one, if it is large, in initial.npz.

Points of one seed and one size begin with the same weights, whatever their learning rate. Their initial.npz is on disk
once, with a name in the folder of each and another one in `.points/.initial/`, by which the next point finds it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.shared.history import History
from pipeline.backends.shared.initial_weights import Weights
from pipeline.points.checkpoint import stack_snapshots, unstack_snapshots
from pipeline.points.point import POINTS
from pipeline.system.files import file_sha256, write_file
from pipeline.system.formats import read_arrays
from pipeline.system.sharing import link_file

WEIGHTS = "weights.npz"
INITIAL = "initial.npz"
# The size from which a first snapshot has a file of its own, in bytes; below it, a file costs more than it saves.
LARGE = 2**16


def write_weights(folder: Path, snapshots: Mapping[int, Weights]) -> None:
    """Write the snapshots of a point.

    Args:
        folder: the folder of the point in training, in .points/.
        snapshots: the arrays of the network by epoch.

    Raises:
        OSError: a file cannot be written.
    """
    first = min(snapshots, default=0)
    later = {epoch: arrays for epoch, arrays in snapshots.items() if epoch != first}
    if not later or sum(array.nbytes for array in snapshots[first].values()) < LARGE:
        _write(folder / WEIGHTS, snapshots)
        return
    _write(folder / WEIGHTS, later)
    _write(folder / INITIAL, {first: snapshots[first]})
    # Sharing only saves space. Without links, or if another process deletes the file just then, the point has its own.
    with suppress(OSError):
        _share_initial(folder / INITIAL)


def _write(file: Path, snapshots: Mapping[int, Weights]) -> None:
    arrays = stack_snapshots(snapshots)
    write_file(file, lambda path: np.savez(path, allow_pickle=False, **arrays))


def _share_initial(file: Path) -> None:
    """Share the file with all points that begin with the same weights."""
    stored = _stored_in(file.parent.parent) / f"{file_sha256(file)}.npz"
    # Not by its name alone: a damaged file must not reach further points.
    if stored.exists() and file_sha256(stored) == stored.stem:
        link_file(stored, file)
        return
    stored.parent.mkdir(exist_ok=True)
    link_file(file, stored)


def drop_unused(root: Path) -> None:
    """Delete the first snapshots that no point has any more.

    Args:
        root: folder that holds .points/.

    Raises:
        OSError: a file cannot be deleted.
    """
    for stored in _stored_in(root / POINTS).glob("*.npz"):
        # Another process may do the same.
        with suppress(FileNotFoundError):
            if stored.stat().st_nlink == 1:
                stored.unlink()


def _stored_in(points: Path) -> Path:
    return points / ".initial"


def read_weights(folder: Path, files: Collection[str], history: History, names: Collection[str] | None) -> None:
    """Read the snapshots of a point into its history.

    Args:
        folder: the folder of the point.
        files: the names of its files.
        history: the history to fill.
        names: the names that the arrays must have; None: any.

    Raises:
        OSError: a file is missing, or cannot be read.
        ValueError: a file is truncated, was changed, or holds other arrays.
    """
    for name in (INITIAL, WEIGHTS):
        if name in files:
            arrays = read_arrays(folder / name)
            if names is not None:
                _check(name, arrays, ["steps", *names])
            unstack_snapshots(arrays, history)


def _check(name: str, arrays: Mapping[str, NDArray[Any]], expected: Collection[str]) -> None:
    if set(arrays) != set(expected):
        raise ValueError(f"{name} holds {', '.join(arrays)} instead of {', '.join(expected)}")
