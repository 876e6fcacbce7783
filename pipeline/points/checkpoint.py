"""Where a training stands, on disk: what it needs to go on after its process is gone.

A checkpoint is one .npz file, so that it is there whole or not at all. It holds the backend's own state (weights,
optimizer, counters), the snapshots so far, what a map has of its points, and as JSON the epoch, the rest of the history
and how much of the journal belongs to it.
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
    """One point after an epoch.

    Attributes:
        epoch: how many epochs it has trained; of a map, how many blocks.
        state: the backend's own.
        history: what is recorded so far; its metrics stand in the journal.
        journal_rows, journal_bytes, journal_sha256: the part of the journal that belongs to it.
    """

    epoch: int
    state: State
    history: History
    journal_rows: int
    journal_bytes: int
    journal_sha256: str


@dataclass(frozen=True)
class _Record:
    """What a checkpoint holds beside its arrays, as JSON; the fields are those of `Checkpoint` and `History`."""

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


RECORD = TypeAdapter(_Record)


def write_checkpoint(file: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in the place of the one before.

    Raises:
        OSError: there is no room, or no permission.
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
    )
    arrays = {"record": np.frombuffer(json.dumps(vars(record)).encode(), np.uint8)}
    arrays |= {f"state/{name}": array for name, array in checkpoint.state.items()}
    arrays |= {f"snapshots/{name}": array for name, array in stack_snapshots(history.snapshots).items()}
    arrays |= {f"map/{name}": array for name, array in history.map_arrays.items()}
    write_file(file, lambda path: np.savez(path, allow_pickle=False, **arrays), durable=True)


def counted_rows(file: Path) -> int:
    """How many rows of the journal a checkpoint counts on; the rest of the file is not read.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: it is cut short, changed or of another kind.
    """
    return RECORD.validate_json(read_one_array(file, "record").tobytes(), strict=True).journal_rows


def read_checkpoint(file: Path) -> Checkpoint:
    """Read a checkpoint; the metrics of its history are left to be read from the journal.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: it is cut short, changed or of another kind.
    """
    sections: dict[str, State] = {"record": {}, "state": {}, "snapshots": {}, "map": {}}
    for name, array in read_arrays(file).items():
        section, _, key = name.partition("/")
        if section not in sections:
            raise ValueError(f"{file.name} holds {name}")
        sections[section][key] = array
    if list(sections["record"]) != [""]:
        raise ValueError(f"{file.name} has no record")
    record = RECORD.validate_json(sections["record"][""].tobytes(), strict=True)
    history = History(
        tables=record.tables,
        diverged_step=record.diverged_step,
        last_finite_loss=record.last_finite_loss,
        seconds=record.seconds,
        epochs=record.epochs,
        points_in_stack=record.points_in_stack,
        map_arrays=sections["map"],
    )
    unstack_snapshots(sections["snapshots"], history)
    journal = record.journal_rows, record.journal_bytes, record.journal_sha256
    return Checkpoint(record.epoch, sections["state"], history, *journal)


def stack_snapshots(snapshots: Mapping[int, Weights]) -> State:
    """Snapshots by epoch as `steps` (snapshots,) and, for each array of the network, (snapshots, ...)."""
    steps = sorted(snapshots)
    names = snapshots[steps[0]] if steps else {}
    return {"steps": np.array(steps, dtype=np.int64)} | {
        name: np.stack([snapshots[step][name] for step in steps]) for name in names
    }


def unstack_snapshots(arrays: Mapping[str, NDArray[Any]], history: History) -> None:
    """Put stacked snapshots back into a history.

    Raises:
        ValueError: there are no steps, or an array has more or fewer snapshots than there are steps.
    """
    steps = arrays.get("steps", np.empty(()))
    if steps.ndim != 1 or steps.dtype.kind != "i":
        raise ValueError("snapshots without the integers `steps` (snapshots,)")
    for name, array in arrays.items():
        if array.shape[:1] != steps.shape:
            raise ValueError(f"{name} has the shape {array.shape}, and there are {len(steps)} snapshots")
    for place, step in enumerate(steps.tolist()):
        history.snapshots[step] = {name: array[place] for name, array in arrays.items() if name != "steps"}
