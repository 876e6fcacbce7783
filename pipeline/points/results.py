"""Results folders: copies of all points of a command in one folder, which DVC stores and restores.

sweep.json, plots/      as in .points/.sweeps/ID/
POINT/                  as in .points/SIGNATURE/

DVC records in dvc.lock which results belong to a commit, and restores them from its cache or from a remote. A pull that
was cut short, or that named only some of the stages, leaves the other results out.
"""

from __future__ import annotations

import json
import logging
import shutil
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

log = logging.getLogger(__name__)

LOCK = "dvc.lock"
# How many missing folders a message names.
SOME = 5
# The C loader is ten times as fast, but not every build of PyYAML has it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class _Out:
    path: str


@dataclass
class _Stage:
    outs: list[_Out] = field(default_factory=list)


@dataclass
class _Lock:
    """The part of dvc.lock that is read here: the outputs of each stage."""

    stages: dict[str, _Stage]


LOCKED = TypeAdapter(_Lock)


def gather(destination: Path, jobs: Sequence[Job], sweep: SweepRecord, folder: Path) -> None:
    """Copy the complete points of a command to a results folder, replacing the results of an earlier command.

    Args:
        destination: the results folder.
        jobs: the points of the command, in the order of `sweep.points`.
        sweep: the record of the command.
        folder: the folder of the sweep's own files, with its plots.

    Raises:
        LabError: the destination holds something other than results, or cannot be written.
    """
    # The destination is replaced as a whole, so a mistyped path must not delete a folder of the user's.
    if destination.exists() and any(destination.iterdir()) and not (destination / "sweep.json").exists():
        raise LabError(
            f"{destination} is not a results folder.",
            expected="a folder that an earlier sweep wrote, or one that does not exist",
            received="a folder with other files in it",
            fix="name another folder: results=results/STUDY/BACKEND",
        )
    with explained(destination), written_whole(destination) as new:
        for job, member in zip(jobs, sweep.points, strict=True):
            copy = new / member.folder
            shutil.copytree(job.folder.final, copy)
            # The point may have been trained for another study with the same numbers: it gets the config of this study.
            if job.point is not None and job.point.config != job.config:
                (copy / "config.json").write_text(json.dumps(job.config.model_dump(mode="json"), indent=2) + "\n")
                write_sums(copy)
        # Without the time of the request: DVC would take each repetition of the command for a change of the results.
        write_sweep(new, replace(sweep, asked=0))
        shutil.copytree(folder / "plots", new / "plots", dirs_exist_ok=True)


def restore(results: Path, root: Path, tracking: Tracking) -> None:
    """Copy a results folder into .points/, as if its points had been trained here.

    Args:
        results: the results folder.
        root: folder that holds .points/.
        tracking: the MLflow store that the points are for now; they may have been trained for another one.

    Raises:
        LabError: a file is damaged or cannot be read, or .points/ cannot be written.
    """
    with _or_pulled():
        sweep = read_sweep(results)
    for member in sweep.points:
        with _or_pulled():
            point = read_own_point(results / member.folder, member.name, member.signature)
        _copy(point, root / POINTS / member.signature)
    # The key first: `_key` compares it with what the store that the sweep was trained for gives.
    sweep.key = _key(sweep, tracking)
    sweep.tracking = tracking
    folder = sweep_folder(root, sweep.key)
    if not (folder / "sweep.json").exists():
        # A single point and a map have no plots over all points, and DVC does not store the empty folder.
        if (results / "plots").exists():
            with explained(folder):
                shutil.copytree(results / "plots", folder / "plots", dirs_exist_ok=True)
        write_sweep(folder, sweep)


def _key(sweep: SweepRecord, tracking: Tracking) -> str:
    """Return the key that the same command has for another store."""
    # A key is made from the signatures of the points, or from the command where they were not known yet. Whichever of
    # the two gives the present key is also used for the new one.
    for members in ([point.signature for point in sweep.points], [sweep.command]):
        if sweep_key(sweep.study, sweep.backend, sweep.tracking, members) == sweep.key:
            return sweep_key(sweep.study, sweep.backend, tracking, members)
    # An earlier version of the pipeline made the key in another way; such a key stays as it is.
    return sweep.key


def _copy(point: Point, destination: Path) -> None:
    target = PointFolder(destination.parent.parent, destination.name)
    # A point that exists, or that another process trains at the moment, is left alone.
    if destination.exists() or not target.lock():
        return
    try:
        with explained(destination), written_whole(destination) as new:
            shutil.copytree(point.folder, new, dirs_exist_ok=True)
    finally:
        target.unlock()


def read_results(results: Path) -> dict[str, dict[str, list[Point]]]:
    """Read every results/STUDY/BACKEND that a sweep wrote.

    Returns:
        Points by study and backend.

    Raises:
        LabError: there are no results, or some of them cannot be read.
    """
    found: dict[str, dict[str, list[Point]]] = {}
    for folder in _folders(results):
        points = read_study(folder)
        if points:
            found.setdefault(folder.parent.name, {})[folder.name] = points
    if not found:
        received = "a folder without a sweep.json"
        if not results.exists():
            received = "no such folder"
        raise LabError(
            f"There are no results in {results}.",
            expected="results/STUDY/BACKEND folders with trained points",
            received=received,
            fix="`dvc pull` fetches results that a remote has; `make reproduce` trains everything; "
            "`python -m pipeline.train experiment=three_bits results=results/three_bits/numpy` trains one study",
        )
    return found


def read_study(folder: Path) -> list[Point]:
    """Read the points of one results folder, in the order of its sweep.json.

    Raises:
        LabError: sweep.json, or one of the points, cannot be read.
    """
    with _or_pulled():
        return [read_point(folder / member.folder, member.name) for member in read_sweep(folder).points]


def read_commands(results: Path) -> dict[tuple[str, str], str]:
    """Read the command that trained each study on each backend, by study and backend.

    Raises:
        LabError: a sweep.json cannot be read.
    """
    return {(folder.parent.name, folder.name): read_sweep(folder).command for folder in _folders(results)}


def _folders(results: Path) -> list[Path]:
    """List the folders STUDY/BACKEND, sorted by study, with NumPy before the other backends."""
    # A copy that a killed process has not finished is a folder whose name begins with a dot.
    folders = [file.parent for file in results.glob("*/*/sweep.json") if not file.parent.name.startswith(".")]
    return sorted(folders, key=lambda folder: (folder.parent.name, folder.name != "numpy"))


def locked_results(project: Path, results: Path) -> list[Path]:
    """List the folders STUDY/BACKEND that dvc.lock names.

    Args:
        project: folder that holds dvc.lock.
        results: the folder that the listed ones must lie in.

    Returns:
        An empty list if dvc.lock is missing, or damaged, as during a merge: DVC itself reports that.

    Raises:
        LabError: dvc.lock cannot be read for another reason.
    """
    try:
        with readable(str(project / LOCK), expected="a lock file that DVC wrote", fix=f"restore {LOCK} from git"):
            stages = _read_lock(project / LOCK).stages.values()
    except DamagedError:
        return []
    outs = {project / out.path for stage in stages for out in stage.outs}
    return sorted(out for out in outs if out.parent.parent == results)


def _read_lock(file: Path) -> _Lock:
    content = file.read_bytes()
    try:
        lock = yaml.load(content, LOADER)  # noqa: S506 - both loaders are safe ones
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return LOCKED.validate_python(lock)


def warn_about_missing(project: Path, results: Path) -> None:
    """Print which of the results that dvc.lock names are missing from the results folder, if any are."""
    locked = locked_results(project, results)
    missing = [folder.relative_to(project).as_posix() for folder in locked if not (folder / "sweep.json").exists()]
    if missing:
        names = some(missing, SOME)
        # Printed, not raised: a report on part of the results is useful too.
        warning = LabError(
            f"left out: {len(missing)} of {len(locked)} results folders that {LOCK} names are missing: {names}",
            fix="dvc pull fetches those that a remote has; dvc repro trains the others",
        )
        log.warning(warning)


@contextmanager
def _or_pulled() -> Iterator[None]:
    """Add `dvc pull` to the message about damaged results, whose last line says what to do."""
    try:
        yield
    except DamagedError as error:
        raise DamagedError(f"{error}, or bring it back with dvc pull (deploy/remote.md)") from None
