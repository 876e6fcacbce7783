"""What a command leaves behind beside its points: `.points/.sweeps/ID/`, from which its MLflow run can be written.

sweep.json      study, backend, command, tracking, tags, when, how it ended, and the points by name
plots/          figures over all points
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline.config.schema import Tracking
from pipeline.points.point import POINTS, Point, folder_name
from pipeline.system.errors import DamagedError
from pipeline.system.files import explained, readable, short_hash, write_file

SWEEPS = POINTS / ".sweeps"
PLAIN = r"(?!\.{1,2}$)[A-Za-z0-9=_.,-]{1,100}"
"""What may name a folder below another one: nothing that leads out of it."""


@dataclass(frozen=True)
class SweepPoint:
    """One of a sweep's points: its name, its signature, and what its folder is called in a results folder."""

    name: str
    signature: str
    folder: str


@dataclass
class SweepRecord:
    """One command's points as a whole.

    Attributes:
        key: equal for commands that ask for the same points in the same store.
        study, backend: names.
        parent: whether the points hang below an MLflow run of the sweep's own; a point alone does not.
        command: what was typed.
        tracking: which store it is for.
        tags: git commit and the like.
        started, ended: milliseconds since 1970.
        asked: when it was last asked for, trained or not; 0 in a results folder, which does not change by that.
        status: how it ended, in MLflow's words, or RUNNING.
        values: metrics of the whole: how many points, the best values among them.
        points: in the order asked for.
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
        return f"{self.study} {self.backend}"

    @property
    def when(self) -> int:
        """When it was last asked for, as far as that is known."""
        return self.asked or self.started

    def plain(self) -> dict[str, Any]:
        """What sweep.json holds, and what processes tell each other of a sweep; `RECORD` makes a record of it."""
        content: dict[str, Any] = RECORD.dump_python(self)
        return content


RECORD = TypeAdapter(SweepRecord)


def sweep_key(study: str, backend: str, tracking: Tracking, members: Iterable[str]) -> str:
    """Short hash that commands share which ask for the same points in the same store.

    Args:
        study, backend: names.
        tracking: the store.
        members: signatures of the points, in any order; where they are not known yet, the command.
    """
    store = tracking.model_dump(mode="json")
    text = json.dumps([study, backend, store, sorted(set(members))], sort_keys=True)
    return short_hash(text.encode())


def list_points(named: Iterable[tuple[str, str]]) -> list[SweepPoint]:
    """`SweepRecord.points` from names and signatures; two studies in one grid may have points of the same name."""
    points: list[SweepPoint] = []
    taken: set[str] = set()
    for name, signature in named:
        folder = folder_name(name)
        if folder in taken:
            folder = f"{folder[:83]}-{signature}"
        taken.add(folder)
        points.append(SweepPoint(name, signature, folder))
    return points


def extremes(points: Sequence[Point]) -> dict[str, float]:
    """The best final value of every loss, error and accuracy among the points that did not diverge."""
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
    """Where a sweep's own files are."""
    return root / SWEEPS / key


def write_sweep(folder: Path, sweep: SweepRecord) -> None:
    """Write sweep.json.

    Raises:
        LabError: it cannot be written.
    """
    text = json.dumps(sweep.plain(), indent=2) + "\n"
    with explained(folder):
        (folder / "plots").mkdir(parents=True, exist_ok=True)
        write_file(folder / "sweep.json", lambda file: file.write_text(text, encoding="utf-8"))


def read_sweep(folder: Path) -> SweepRecord:
    """Read sweep.json.

    Raises:
        DamagedError: it is not there, or not what `write_sweep` writes.
        LabError: it cannot be read for another reason.
    """
    file = folder / "sweep.json"
    expected, fix = "the sweep.json that training writes", f"delete {folder} and train it again"
    with readable(f"The list of points {file}", expected=expected, fix=fix):
        sweep = RECORD.validate_json(file.read_bytes(), strict=True)
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
    """What an earlier command left; None where there is nothing, or it is told that it is damaged.

    Raises:
        LabError: it cannot be read for another reason.
    """
    if not (folder / "sweep.json").exists():
        return None
    try:
        return read_sweep(folder)
    except DamagedError as error:
        print(f"left out: {error}", file=sys.stderr, flush=True)
        return None


def all_sweeps(root: Path) -> Iterator[tuple[Path, SweepRecord]]:
    """Every sweep that is recorded, with its folder; one that is damaged is left out, and told."""
    for file in sorted((root / SWEEPS).glob("*/sweep.json")):
        sweep = earlier_sweep(file.parent)
        if sweep is not None:
            yield file.parent, sweep


def referenced(sweeps: Sequence[SweepRecord]) -> set[str]:
    """Signatures of all points that some sweep has."""
    return {point.signature for sweep in sweeps for point in sweep.points}
