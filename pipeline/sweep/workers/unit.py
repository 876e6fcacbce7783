"""Units of work for workers, serialized to text, and the interface of the engine that runs them."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from omegaconf import DictConfig
from pydantic import TypeAdapter

from pipeline.points.sweep_record import SweepRecord


@dataclass(frozen=True)
class UnitPoint:
    """One point of a unit, from which a worker makes the point's `Job` again.

    Attributes:
        number: its position in the sweep, from 1.
        name: its name in the sweep, which the other points decide as well.
        config: the typed config as JSON.
        overrides: the overrides as typed.
        signature: its signature on the machine that sent it.
        replaced: ids of the earlier attempts that a retrained point replaces; empty without `force`.
    """

    number: int
    name: str
    config: dict[str, Any]
    overrides: list[str]
    signature: str
    replaced: list[str | None]


@dataclass(frozen=True)
class Unit:
    """Points for one worker, and the settings that they share.

    Attributes:
        sweep: the record of the sweep, without its points.
        total: number of points of the sweep.
        project: the project folder, if the worker shares the disk; None: the worker uses its own project folder.
        sender: machine, device and inode of the sender's folder, which identify it.
        clone: the id of the sender's clone (points/clone.py), whose runs in MLflow the points get.
        tags: command and git commit.
        engine: what Keras runs on.
        deadline: when training ends, seconds since 1970; None: when it is done.
        points: the points to train.
    """

    sweep: SweepRecord
    total: int
    project: str | None
    sender: tuple[str, int, int]
    clone: str
    tags: dict[str, str]
    engine: str
    deadline: float | None
    points: list[UnitPoint]


class Engine(Protocol):
    """Runs units on workers; implemented in hydra_plugins/cluster_launcher.py.

    Attributes:
        name: joblib, ray or slurm.
        workers: number of units that run at the same time.
        shared_disk: whether the workers see this project's folder under the same path.
    """

    name: str
    workers: int
    shared_disk: bool

    def run(self, task: Callable[[DictConfig], Any], units: Sequence[str]) -> list[Any]:
        """Call a task on the workers, once for each unit, and return the results in the order of the units.

        Args:
            task: gets a config with the unit under the key `unit`.
            units: the packed units.

        Raises:
            EngineError: some of the calls did not return.
        """


UNIT = TypeAdapter(Unit)


def pack(unit: Unit) -> str:
    """Serialize a unit to compressed JSON in base64."""
    # The text travels as a Hydra override on a command line, so it has to be short and without special characters.
    text = json.dumps(UNIT.dump_python(unit))
    return base64.b64encode(zlib.compress(text.encode())).decode()


def unpack(packed: str) -> Unit:
    """Restore a unit that `pack` has serialized."""
    return UNIT.validate_python(json.loads(zlib.decompress(base64.b64decode(packed))))
