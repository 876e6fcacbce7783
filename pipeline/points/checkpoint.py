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

from pipeline.backends.contract import State
from pipeline.backends.shared.history import History
from pipeline.system.files import read_arrays, write_file


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


def write_checkpoint(file: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in the place of the one before.

    Raises:
        OSError: there is no room, or no permission.
    """
    history = checkpoint.history
    record = {
        "epoch": checkpoint.epoch,
        "epochs": history.epochs,
        "diverged_step": history.diverged_step,
        "last_finite_loss": history.last_finite_loss,
        "seconds": history.seconds,
        "points_in_pass": history.points_in_pass,
        "tables": history.tables,
        "journal_rows": checkpoint.journal_rows,
        "journal_bytes": checkpoint.journal_bytes,
        "journal_sha256": checkpoint.journal_sha256,
    }
    arrays = {"record": np.frombuffer(json.dumps(record).encode(), np.uint8)}
    arrays |= {f"state/{name}": array for name, array in checkpoint.state.items()}
    arrays |= {f"snapshots/{name}": array for name, array in stack_snapshots(history).items()}
    arrays |= {f"map/{name}": array for name, array in history.map_arrays.items()}
    write_file(file, lambda path: np.savez(path, allow_pickle=False, **arrays), durable=True)


def read_checkpoint(file: Path) -> Checkpoint:
    """Read a checkpoint; the metrics of its history are left to be read from the journal.

    Raises:
        OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile: it is not there, cut short or changed.
    """
    arrays = read_arrays(file)
    record = json.loads(arrays.pop("record").tobytes())
    history = History(
        tables=record["tables"],
        diverged_step=record["diverged_step"],
        last_finite_loss=record["last_finite_loss"],
        seconds=record["seconds"],
        epochs=record["epochs"],
        points_in_pass=record["points_in_pass"],
    )
    sections: dict[str, State] = {"state": {}, "snapshots": {}, "map": {}}
    for name, array in arrays.items():
        section, _, key = name.partition("/")
        sections[section][key] = array
    unstack_snapshots(sections["snapshots"], history)
    history.map_arrays = sections["map"]
    journal = record["journal_rows"], record["journal_bytes"], record["journal_sha256"]
    return Checkpoint(record["epoch"], sections["state"], history, *journal)


def stack_snapshots(history: History) -> State:
    """A history's snapshots as `steps` (snapshots,) and, for each array of the network, (snapshots, ...)."""
    steps = sorted(history.snapshots)
    names = history.snapshots[steps[0]] if steps else {}
    return {"steps": np.array(steps, dtype=np.int64)} | {
        name: np.stack([history.snapshots[step][name] for step in steps]) for name in names
    }


def unstack_snapshots(arrays: Mapping[str, NDArray[Any]], history: History) -> None:
    """Put stacked snapshots back into a history.

    Raises:
        KeyError, IndexError: there are no steps, or more of them than snapshots.
    """
    for place, step in enumerate(arrays["steps"].tolist()):
        history.snapshots[step] = {name: array[place] for name, array in arrays.items() if name != "steps"}
