"""A results folder: a command's points in one place, for DVC to keep, and back from where DVC has restored it.

sweep.json, plots/      as in .points/.sweeps/ID/
POINT/                  as in .points/SIGNATURE/

DVC writes down in dvc.lock which results belong to a commit, and brings them from its cache or from a remote. A pull
that was cut short, or that named some stages only, leaves the others out.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from pipeline.config.schema import Tracking
from pipeline.points.folder import PointFolder
from pipeline.points.job import Job
from pipeline.points.point import POINTS, Point
from pipeline.points.reading import read_own_point, read_point
from pipeline.points.sweep_record import SweepRecord, read_sweep, sweep_folder, sweep_key, write_sweep
from pipeline.system.errors import DamagedError, LabError
from pipeline.system.files import explained, readable, write_sums, written_whole
from pipeline.system.wording import some

LOCK = "dvc.lock"
SOME = 5
"""How many folders that are not here are named."""
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it


@dataclass
class _Out:
    path: str


@dataclass
class _Stage:
    outs: list[_Out] = field(default_factory=list)


@dataclass
class _Lock:
    """What is used of dvc.lock."""

    stages: dict[str, _Stage]


LOCKED = TypeAdapter(_Lock)


def gather(destination: Path, jobs: Sequence[Job], sweep: SweepRecord, folder: Path) -> None:
    """Copy all points of a command, which are complete, to a results folder, in place of what it held.

    Args:
        destination: the results folder.
        jobs: in the order of `sweep.points`.
        sweep: what the command is.
        folder: the sweep's own files.

    Raises:
        LabError: the folder holds other things, or cannot be written.
    """
    if destination.exists() and any(destination.iterdir()) and not (destination / "sweep.json").exists():
        raise LabError(
            f"{destination} is not a results folder.",
            expected="a folder that an earlier sweep wrote, or one that does not exist",
            received="a folder with other things in it",
            fix="name another folder: results=results/STUDY/BACKEND",
        )
    with explained(destination), written_whole(destination) as new:
        for job, member in zip(jobs, sweep.points, strict=True):
            copy = new / member.folder
            shutil.copytree(job.folder.final, copy)
            if job.point is not None and job.point.config != job.config:  # of another study with the same numbers
                (copy / "config.json").write_text(json.dumps(job.config.model_dump(mode="json"), indent=2) + "\n")
                write_sums(copy)
        write_sweep(new, replace(sweep, asked=0))
        shutil.copytree(folder / "plots", new / "plots", dirs_exist_ok=True)


def restore(results: Path, root: Path, tracking: Tracking) -> None:
    """Take a results folder into .points/, as if it had been trained here for a store, whichever it was trained for.

    Raises:
        LabError: it is not what training wrote.
    """
    with _or_pulled():
        sweep = read_sweep(results)
    for member in sweep.points:
        with _or_pulled():
            point = read_own_point(results / member.folder, member.name, member.signature)
        _copy(point, root / POINTS / member.signature)
    sweep.key, sweep.tracking = _key(sweep, tracking), tracking
    folder = sweep_folder(root, sweep.key)
    if not (folder / "sweep.json").exists():
        if (results / "plots").exists():  # of a single point and of maps it was empty, and DVC keeps no empty folder
            with explained(folder):
                shutil.copytree(results / "plots", folder / "plots", dirs_exist_ok=True)
        write_sweep(folder, sweep)


def _key(sweep: SweepRecord, tracking: Tracking) -> str:
    """The key that the same command has for another store."""
    for members in ([point.signature for point in sweep.points], [sweep.command]):
        if sweep_key(sweep.study, sweep.backend, sweep.tracking, members) == sweep.key:
            return sweep_key(sweep.study, sweep.backend, tracking, members)
    return sweep.key  # an earlier version made it in another way


def _copy(point: Point, destination: Path) -> None:
    target = PointFolder(destination.parent.parent, destination.name)
    if destination.exists() or not target.lock():
        return
    try:
        with explained(destination), written_whole(destination) as new:
            shutil.copytree(point.folder, new, dirs_exist_ok=True)
    finally:
        target.unlock()


def read_results(results: Path) -> dict[str, dict[str, list[Point]]]:
    """Read every results/STUDY/BACKEND that a sweep wrote.

    Raises:
        LabError: there is nothing, or something there cannot be read.
    """
    found: dict[str, dict[str, list[Point]]] = {}
    for folder in _folders(results):
        points = read_study(folder)
        if points:
            found.setdefault(folder.parent.name, {})[folder.name] = points
    if not found:
        raise LabError(
            f"There are no results in {results}.",
            expected="results/STUDY/BACKEND folders with trained points",
            received="no such folder" if not results.exists() else "a folder without a sweep.json",
            fix="`dvc pull` brings what a remote has; `make reproduce` trains everything; "
            "`python -m pipeline.train experiment=three_bits results=results/three_bits/numpy` trains one study",
        )
    return found


def read_study(folder: Path) -> list[Point]:
    """The points of one results folder, by its sweep.json.

    Raises:
        LabError: it, or one of them, cannot be read.
    """
    with _or_pulled():
        return [read_point(folder / member.folder, member.name) for member in read_sweep(folder).points]


def read_commands(results: Path) -> dict[tuple[str, str], str]:
    """What was typed to train each study on each backend.

    Raises:
        LabError: a sweep.json cannot be read.
    """
    return {(folder.parent.name, folder.name): read_sweep(folder).command for folder in _folders(results)}


def _folders(results: Path) -> list[Path]:
    """The folders STUDY/BACKEND by study, NumPy's first; not those of unfinished copies."""
    folders = [file.parent for file in results.glob("*/*/sweep.json") if not file.parent.name.startswith(".")]
    return sorted(folders, key=lambda folder: (folder.parent.name, folder.name != "numpy"))


def locked_results(project: Path, results: Path) -> list[Path]:
    """The folders STUDY/BACKEND below a results folder that dvc.lock names.

    Args:
        project: folder that holds dvc.lock.
        results: the results folder.

    Returns:
        Empty where there is no dvc.lock, or a damaged one, as in a merge: DVC says so itself.

    Raises:
        LabError: it cannot be read for another reason.
    """
    try:
        with readable(str(project / LOCK), expected="what DVC writes", fix=f"restore {LOCK} from git"):
            stages = _read_lock(project / LOCK).stages.values()
    except DamagedError:
        return []
    outs = {project / out.path for stage in stages for out in stage.outs}
    return sorted(out for out in outs if out.parent.parent == results)


def _read_lock(file: Path) -> _Lock:
    content = file.read_bytes()
    try:
        lock = yaml.load(content, LOADER)  # noqa: S506 - a safe one
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return LOCKED.validate_python(lock)


def tell_missing(project: Path, results: Path) -> None:
    """Say which results dvc.lock names that are not here, if there are any."""
    locked = locked_results(project, results)
    missing = [folder.relative_to(project).as_posix() for folder in locked if not (folder / "sweep.json").exists()]
    if missing:
        names = some(missing, SOME)
        told = LabError(
            f"left out: {len(missing)} of {len(locked)} results folders that {LOCK} names are not here: {names}",
            fix="dvc pull, where a remote has them; dvc repro trains what none has",
        )
        print(told, file=sys.stderr, flush=True)


@contextmanager
def _or_pulled() -> Iterator[None]:
    """Add to the message about damaged results, which ends in what to do, that a remote may have them."""
    try:
        yield
    except DamagedError as error:
        raise DamagedError(f"{error}, or bring it back with dvc pull (deploy/remote.md)") from None
