"""Units of work: points that train as one stack, packed as a text for a worker; and the interface of an engine."""

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
    """One point of a unit.

    Attributes:
        number: its position in the sweep, from 1.
        config: the typed config as JSON.
        overrides: the overrides as typed.
        signature: the signature that it has on the machine that sent it.
        replaced: the earlier attempts at a point that is to be trained again; otherwise empty.
    """

    number: int
    config: dict[str, Any]
    overrides: list[str]
    signature: str
    replaced: list[str | None]


@dataclass(frozen=True)
class Unit:
    """Points for one worker, and what they have in common.

    Attributes:
        sweep: the record of the sweep, without its points.
        total: how many points the sweep has.
        project: the folder of the project, where the worker shares the disk; None: the worker has a folder of its own.
        sender: identifies the folder that sent the unit: machine, device and inode.
        tags: command and git commit.
        points: the points to train.
    """

    sweep: SweepRecord
    total: int
    project: str | None
    sender: tuple[str, int, int]
    tags: dict[str, str]
    points: list[UnitPoint]


class Engine(Protocol):
    """What runs units on workers; see hydra_plugins/cluster_launcher.py.

    Attributes:
        name: joblib, ray or slurm.
        workers: how many units it runs at the same time.
        shared_disk: whether the workers see this project's folder under the same path.
    """

    name: str
    workers: int
    shared_disk: bool

    def run(self, task: Callable[[DictConfig], Any], units: Sequence[str]) -> list[Any]:
        """Call a task on the workers once for each unit, and return what the calls return, in the order of the units.

        Args:
            task: gets a config with the unit under the key `unit`.
            units: the packed units.

        Raises:
            EngineError: some of the calls did not return.
        """


UNIT = TypeAdapter(Unit)


def pack(unit: Unit) -> str:
    """Pack a unit as a text of plain letters: compressed JSON in base64."""
    # The text travels as a Hydra override on a command line, so it has to be short and without special characters.
    text = json.dumps(UNIT.dump_python(unit))
    return base64.b64encode(zlib.compress(text.encode())).decode()


def unpack(packed: str) -> Unit:
    """Unpack what `pack` has packed."""
    return UNIT.validate_python(json.loads(zlib.decompress(base64.b64decode(packed))))
