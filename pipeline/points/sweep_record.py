"""The record of a command and its points, in `.points/.sweeps/ID/`, from which its MLflow run can be written.

sweep.json      study, backend, command, tracking, tags, times, status, and the points by name
plots/          figures over all points
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline.config.schema import Tracking
from pipeline.points.point import POINTS, Point, folder_name
from pipeline.system.errors import DamagedError
from pipeline.system.files import explained, readable, short_hash, write_file

log = logging.getLogger(__name__)

SWEEPS = POINTS / ".sweeps"
# A name that is safe to join to a path: it cannot lead out of the parent folder, which `pipeline.remove` relies on.
PLAIN = r"(?!\.{1,2}$)[A-Za-z0-9=_.,-]{1,100}"


@dataclass(frozen=True)
class SweepPoint:
    """One of a sweep's points: its name, its signature, and the name of its folder in a results folder."""

    name: str
    signature: str
    folder: str


@dataclass
class SweepRecord:
    """A command and its points.

    Attributes:
        key: the same for commands that ask for the same points in the same store.
        study: the name of the study.
        backend: the name of the backend.
        parent: whether the runs of the points are below an MLflow run of the sweep; that of a single point is not.
        command: the command line.
        tracking: the MLflow store that the sweep is for.
        tags: git commit and others.
        started, ended: milliseconds since 1970.
        status: MLflow's word for how the sweep ended, or RUNNING.
        values: metrics of the sweep: the number of points and the best values among them.
        asked: when the command was last given, whether or not that trained anything, in milliseconds since 1970; 0 in
            a results folder, which must not change with every repetition.
        points: in the order in which the command names them.
    """

    key: str
    study: str
    backend: str
    parent: bool
    command: str
    tracking: Tracking
    tags: dict[str, str]
    started: int
    ended: int | None = None
    status: str = "RUNNING"
    values: dict[str, float] = field(default_factory=dict)
    asked: int = 0
    points: list[SweepPoint] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Study and backend, as the sweep is called in messages and in MLflow."""
        return f"{self.study} {self.backend}"

    @property
    def when(self) -> int:
        """When the command was last given, as far as is known, in milliseconds since 1970."""
        # A results folder, and a record of an earlier version, have no `asked`.
        return self.asked or self.started

    def plain(self) -> dict[str, Any]:
        """Return the record as plain values, as in sweep.json and in messages between processes.

        `RECORD.validate_python` turns them into a record again.
        """
        content: dict[str, Any] = RECORD.dump_python(self)
        return content


RECORD = TypeAdapter(SweepRecord)


def sweep_key(study: str, backend: str, tracking: Tracking, members: Iterable[str]) -> str:
    """Return a short hash that is the same for all commands that ask for the same points in the same store.

    Args:
        study: the name of the study.
        backend: the name of the backend.
        tracking: the MLflow store.
        members: the signatures of the points, in any order, or the command line while they are not known yet.
    """
    store = tracking.model_dump(mode="json")
    # As a sorted set: a sweep that names its points in another order, or one of them twice, is the same sweep.
    text = json.dumps([study, backend, store, sorted(set(members))], sort_keys=True)
    return short_hash(text.encode())


def list_points(named: Iterable[tuple[str, str]]) -> list[SweepPoint]:
    """Turn names and signatures into `SweepRecord.points`, each with a folder of its own.

    Points of two studies in one grid may have the same name; the later one gets its signature in its folder name.
    """
    points: list[SweepPoint] = []
    taken: set[str] = set()
    for name, signature in named:
        folder = folder_name(name)
        if folder in taken:
            # 83 characters, a hyphen and 16 digits make 100, the longest name that `PLAIN` allows.
            folder = f"{folder[:83]}-{signature}"
        taken.add(folder)
        points.append(SweepPoint(name, signature, folder))
    return points


def extremes(points: Sequence[Point]) -> dict[str, float]:
    """Return the best final value of every loss, error and accuracy among the points that did not diverge."""
    finals = [point.outcome.final for point in points if not point.diverged]
    best = {}
    for name in sorted({name for final in finals for name in final}):
        values = [final[name] for final in finals if name in final]
        if name.endswith(("/loss", "/mean_absolute_error")):
            best[f"best/{name}"] = min(values)
        elif name.endswith("/accuracy"):
            best[f"best/{name}"] = max(values)
    return best


def sweep_folder(root: Path, key: str) -> Path:
    """Return the folder of a sweep's own files: its record and its plots."""
    return root / SWEEPS / key


def write_sweep(folder: Path, sweep: SweepRecord) -> None:
    """Write sweep.json, and create the folder of the plots beside it.

    Raises:
        LabError: the folder cannot be written.
    """
    text = json.dumps(sweep.plain(), indent=2) + "\n"
    with explained(folder):
        (folder / "plots").mkdir(parents=True, exist_ok=True)
        write_file(folder / "sweep.json", lambda file: file.write_text(text, encoding="utf-8"))


def read_sweep(folder: Path) -> SweepRecord:
    """Read sweep.json.

    Raises:
        DamagedError: the file is missing, or not as `write_sweep` writes it.
        LabError: the file cannot be read for another reason.
    """
    file = folder / "sweep.json"
    with readable(
        f"The list of points {file}",
        expected="the sweep.json that training writes",
        fix=f"delete {folder} and train it again",
    ):
        sweep = RECORD.validate_json(file.read_bytes(), strict=True)
        # All of these are joined to paths, some of which are deleted: none may lead out of its folder.
        for point in sweep.points:
            if not re.fullmatch(PLAIN, point.folder):
                raise ValueError(f"not a plain name for the folder of a point: {point.folder}")
        for key in (sweep.key, *(point.signature for point in sweep.points)):
            if not re.fullmatch("[0-9a-f]{16}", key):
                raise ValueError(f"not 16 hexadecimal digits: {key}")
        for name in (sweep.study, sweep.backend):
            if not re.fullmatch(PLAIN, name):
                raise ValueError(f"not a plain name: {name}")
    return sweep


def earlier_sweep(folder: Path) -> SweepRecord | None:
    """Read the record that an earlier command left, if any.

    Returns:
        None if there is no record, or if it is damaged, which is printed.

    Raises:
        LabError: the record cannot be read for another reason.
    """
    if not (folder / "sweep.json").exists():
        return None
    try:
        return read_sweep(folder)
    except DamagedError as error:
        log.warning(f"left out: {error}")
        return None


def all_sweeps(root: Path) -> Iterator[tuple[Path, SweepRecord]]:
    """Yield the folder and the record of every sweep; a damaged record is left out, which is printed."""
    for file in sorted((root / SWEEPS).glob("*/sweep.json")):
        sweep = earlier_sweep(file.parent)
        if sweep is not None:
            yield file.parent, sweep


def referenced(sweeps: Sequence[SweepRecord]) -> set[str]:
    """Return the signatures of all points that at least one of the sweeps has."""
    return {point.signature for sweep in sweeps for point in sweep.points}
