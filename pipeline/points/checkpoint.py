"""Checkpoints: everything that training needs on disk to resume after its process has ended.

A checkpoint is one .npz file that is replaced by a rename, so it is always complete. It holds the state of the backend
(weights, optimizer, counters), the snapshots and map results so far and, as JSON, the epoch, the rest of the history
and the length of the journal that the checkpoint covers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from pipeline.backends.contract import State
from pipeline.backends.shared.history import History
from pipeline.backends.shared.initial_weights import Weights
from pipeline.system.files import write_file
from pipeline.system.formats import read_arrays, read_one_array


@dataclass
class Checkpoint:
    """The state of one point after an epoch.

    Attributes:
        epoch: number of epochs that the point has trained; for a map, the number of blocks.
        state: arrays of the backend, by name, from which only this backend can resume.
        history: everything recorded so far; its metrics are in the journal, not in the checkpoint.
        journal_rows, journal_bytes, journal_sha256: number of metrics, length and checksum of the part of the journal
            that the checkpoint covers. Later rows are written again when training resumes.
    """

    epoch: int
    state: State
    history: History
    journal_rows: int
    journal_bytes: int
    journal_sha256: str


@dataclass(frozen=True)
class _Record:
    """The JSON part of a checkpoint: the fields of `Checkpoint` and `History` that are not arrays.

    `epoch` is the epoch of the checkpoint; `epochs` is `History.epochs`, which stays 0 until the point has ended.
    """

    epoch: int
    epochs: int
    diverged_step: int | None
    last_finite_loss: float | None
    seconds: float
    points_in_stack: int
    tables: dict[str, list[dict[str, int | float]]]
    journal_rows: int
    journal_bytes: int
    journal_sha256: str
    architecture: str = ""


_RECORD = TypeAdapter(_Record)


def write_checkpoint(file: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, replacing the previous one.

    Raises:
        OSError: the file cannot be written, for instance because the disk is full.
    """
    history = checkpoint.history
    record = _Record(
        epoch=checkpoint.epoch,
        epochs=history.epochs,
        diverged_step=history.diverged_step,
        last_finite_loss=history.last_finite_loss,
        seconds=history.seconds,
        points_in_stack=history.points_in_stack,
        tables=history.tables,
        journal_rows=checkpoint.journal_rows,
        journal_bytes=checkpoint.journal_bytes,
        journal_sha256=checkpoint.journal_sha256,
        architecture=history.architecture,
    )
    # JSON inside the .npz, as bytes: a second file could be from a different epoch than the arrays.
    arrays = {"record": np.frombuffer(json.dumps(vars(record)).encode(), np.uint8)}
    arrays |= {f"state/{name}": array for name, array in checkpoint.state.items()}
    arrays |= {f"snapshots/{name}": array for name, array in stack_snapshots(history.snapshots).items()}
    arrays |= {f"map/{name}": array for name, array in history.map_arrays.items()}
    # `durable`: otherwise a power cut after the rename could leave an empty file instead of the previous checkpoint.
    write_file(file, lambda path: np.savez(path, allow_pickle=False, **arrays), durable=True)


def covered_rows(file: Path) -> int:
    """Return the number of journal rows that a checkpoint covers, without reading its other arrays.

    Raises:
        OSError: the file is missing, or cannot be read.
        ValueError: the file is truncated, was changed, or is not a checkpoint.
    """
    return _RECORD.validate_json(read_one_array(file, "record").tobytes(), strict=True).journal_rows


def read_checkpoint(file: Path) -> Checkpoint:
    """Read a checkpoint. The metrics of its history stay empty; they are read from the journal.

    Raises:
        OSError: the file is missing, or cannot be read.
        ValueError: the file is truncated, was changed, or is not a checkpoint.
    """
    # Names are SECTION/NAME. The array `record` has no second part, so its key in its section is "".
    sections: dict[str, State] = {"record": {}, "state": {}, "snapshots": {}, "map": {}}
    for name, array in read_arrays(file).items():
        section, _, key = name.partition("/")
        if section not in sections:
            raise ValueError(f"{file.name} holds {name}")
        sections[section][key] = array
    if list(sections["record"]) != [""]:
        raise ValueError(f"{file.name} has no record")
    record = _RECORD.validate_json(sections["record"][""].tobytes(), strict=True)
    history = History(
        tables=record.tables,
        diverged_step=record.diverged_step,
        last_finite_loss=record.last_finite_loss,
        seconds=record.seconds,
        epochs=record.epochs,
        points_in_stack=record.points_in_stack,
        architecture=record.architecture,
        map_arrays=sections["map"],
    )
    unstack_snapshots(sections["snapshots"], history)
    return Checkpoint(
        epoch=record.epoch,
        state=sections["state"],
        history=history,
        journal_rows=record.journal_rows,
        journal_bytes=record.journal_bytes,
        journal_sha256=record.journal_sha256,
    )


def stack_snapshots(snapshots: Mapping[int, Weights]) -> State:
    """Stack snapshots by epoch into one array for each array of the network.

    Returns:
        `steps` (snapshots,), the epochs in rising order, and, by name, arrays of shape (snapshots, ...).
    """
    steps = sorted(snapshots)
    stacked: State = {"steps": np.array(steps, dtype=np.int64)}
    if steps:
        # All snapshots are of one network, so all have the arrays of the first one.
        for name in snapshots[steps[0]]:
            stacked[name] = np.stack([snapshots[step][name] for step in steps])
    return stacked


def unstack_snapshots(arrays: Mapping[str, NDArray[Any]], history: History) -> None:
    """Put stacked snapshots back into a history.

    Raises:
        ValueError: `steps` is missing or not a list of integers, or another array has a different number of snapshots.
    """
    # A missing array is replaced by one without dimensions, which the next check rejects.
    steps = arrays.get("steps", np.empty(()))
    if steps.ndim != 1 or steps.dtype.kind != "i":
        raise ValueError("the snapshots have no array of integers `steps` (snapshots,)")
    for name, array in arrays.items():
        if array.shape[:1] != steps.shape:
            raise ValueError(f"{name} has the shape {array.shape}, but there are {len(steps)} snapshots")
    for index, step in enumerate(steps.tolist()):
        history.snapshots[step] = {name: array[index] for name, array in arrays.items() if name != "steps"}
