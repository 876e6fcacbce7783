"""A unit of work: points that train as one stack, packed as a text for a worker, and the engine that runs them."""

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
        number: its place in the sweep, from 1.
        config: the typed config as JSON.
        overrides: as typed.
        signature: the one that it has on the machine that sent it.
        replaced: of a point that is to be trained again, the attempts that were there before.
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
        sweep: its record, without the points.
        total: how many points the sweep has.
        project: the folder of the project, where the worker shares the disk; None: it has a folder of its own.
        sender: which folder sent it: machine, device and inode.
        tags: command, git commit.
        points: those to train.
    """

    sweep: SweepRecord
    total: int
    project: str | None
    sender: tuple[str, int, int]
    tags: dict[str, str]
    points: list[UnitPoint]


class Engine(Protocol):
    """What runs units: see hydra_plugins/cluster_launcher.py.

    Attributes:
        name: joblib, ray or slurm.
        workers: how many units it runs at the same time.
        shared_disk: whether the workers see this project's folder.
    """

    name: str
    workers: int
    shared_disk: bool

    def run(self, task: Callable[[DictConfig], Any], units: Sequence[str]) -> list[Any]:
        """Call a task on workers, each time with another unit as the key `unit` of its config; returns the returns.

        Raises:
            EngineError: some of the calls did not come back.
        """


UNIT = TypeAdapter(Unit)


def pack(unit: Unit) -> str:
    """A unit as JSON, compressed, and in letters."""
    text = json.dumps(UNIT.dump_python(unit))
    return base64.b64encode(zlib.compress(text.encode())).decode()


def unpack(packed: str) -> Unit:
    """The unit that `pack` has packed."""
    return UNIT.validate_python(json.loads(zlib.decompress(base64.b64decode(packed))))
