"""Results folders: all points of a command in one place for DVC to track. Points can also be restored from them.

sweep.json, plots/      as in .points/.sweeps/ID/
POINT/                  as in .points/SIGNATURE/

dvc.lock lists the results that belong to a commit; DVC restores them from its cache or a remote. After an interrupted
pull, or a pull of only some stages, the other results are missing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from pipeline.config.schema import Tracking
from pipeline.points.breaking_rates import BESIDE_RESULTS
from pipeline.points.destination import check_replaceable
from pipeline.points.folder import PointFolder
from pipeline.points.job import Job
from pipeline.points.point import Point
from pipeline.points.reading import read_own_point, read_point
from pipeline.points.sweep_record import SweepRecord, read_sweep, sweep_folder, sweep_key, write_sweep
from pipeline.system.errors import DamagedError, LabError
from pipeline.system.files import atomic_folder, explained, readable, write_file, write_sums
from pipeline.system.sharing import share_folder
from pipeline.system.wording import some

log = logging.getLogger(__name__)

LOCK = "dvc.lock"
# Maximum number of missing folders to list in a message.
SOME = 5
# The C loader is ten times as fast, but some builds of PyYAML lack it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class _Out:
    path: str


@dataclass
class _Stage:
    outs: list[_Out] = field(default_factory=list)


@dataclass
class _Lock:
    """The part of dvc.lock that we use: the outputs of each stage."""

    stages: dict[str, _Stage]


LOCKED = TypeAdapter(_Lock)


def gather(destination: Path, jobs: Sequence[Job], sweep: SweepRecord, folder: Path) -> None:
    """Share the complete points of a command with a results folder, replacing the results of an earlier command.

    Args:
        destination: the results folder.
        jobs: the points of the command, in the order of `sweep.points`.
        sweep: the record of the command.
        folder: the folder of the sweep (sweep_record.py), with its plots.

    Raises:
        LabError: the destination is not a results folder, or cannot be written.
    """
    # Again: training may have taken hours.
    check_replaceable(destination)
    with explained(destination), atomic_folder(destination) as new:
        for job, member in zip(jobs, sweep.points, strict=True):
            copy = new / member.folder
            share_folder(job.folder.final, copy)
            # A signature does not include the study, so one point can belong to several studies. Its config names the
            # study that it was trained for; the copy gets the config of this study.
            if job.point is not None and job.point.config != job.config:
                text = json.dumps(job.config.model_dump(mode="json"), indent=2) + "\n"
                # Not in place: the file is also that of the point.
                write_file(copy / "config.json", partial(_write_text, text=text))
                write_sums(copy)
        # Without the time of the request: otherwise repeating a command would change DVC's output.
        write_sweep(new, replace(sweep, asked=0))
        share_folder(folder / "plots", new / "plots")


def _write_text(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


def restore(results: Path, root: Path, tracking: Tracking) -> None:
    """Copy the points of a results folder to .points/, as if they had been trained here for the given store.

    Args:
        results: the results folder.
        root: folder that holds .points/.
        tracking: the MLflow store, which may differ from the one that the points were trained for.

    Raises:
        LabError: a file is damaged or cannot be read, or .points/ cannot be written.
    """
    with _suggesting_dvc_pull():
        sweep = read_sweep(results)
    for member in sweep.points:
        with _suggesting_dvc_pull():
            point = read_own_point(results / member.folder, member.name, member.signature)
        _copy(point, PointFolder(root, member.signature))
    # The key before the store, because `_key_for` needs the store that the sweep was trained for.
    sweep.key = _key_for(sweep, tracking)
    sweep.tracking = tracking
    folder = sweep_folder(root, sweep.key)
    if not (folder / "sweep.json").exists():
        # Single points and maps have no plots of the sweep, and DVC does not track empty folders.
        if (results / "plots").exists():
            with explained(folder):
                share_folder(results / "plots", folder / "plots")
        write_sweep(folder, sweep)


def _key_for(sweep: SweepRecord, tracking: Tracking) -> str:
    """Return the key that the same command has with a different store."""
    # A key is computed from the signatures of the points or, if these were not known yet, from the command. The new
    # key is computed from whichever results in the present key.
    for members in ([point.signature for point in sweep.points], [sweep.command]):
        if sweep_key(sweep.study, sweep.backend, sweep.tracking, members) == sweep.key:
            return sweep_key(sweep.study, sweep.backend, tracking, members)
    # An earlier version of this program computed the key in another way; such a key is not changed.
    return sweep.key


def _copy(point: Point, target: PointFolder) -> None:
    # A point that exists already, or that another process is training, is skipped.
    if target.final.exists() or not target.lock():
        return
    try:
        with explained(target.final), atomic_folder(target.final) as new:
            share_folder(point.folder, new)
    finally:
        target.unlock()


def read_results(results: Path) -> dict[str, dict[str, list[Point]]]:
    """Read all results folders STUDY/BACKEND.

    Returns:
        Points by study and backend.

    Raises:
        LabError: there are no results, or some of them cannot be read.
    """
    found = find_results(results)
    if not found:
        raise no_results(results)
    return found


def find_results(results: Path, study: str | None = None) -> dict[str, dict[str, list[Point]]]:
    """Read the results folders STUDY/BACKEND of one study, or of all; empty if there are none.

    Returns:
        Points by study and backend.

    Raises:
        LabError: some of them cannot be read.
    """
    found: dict[str, dict[str, list[Point]]] = {}
    for folder in _folders(results):
        if study not in (None, folder.parent.name):
            continue
        points = read_study(folder)
        if points:
            found.setdefault(folder.parent.name, {})[folder.name] = points
    return found


def no_results(results: Path) -> LabError:
    """Return the message about a folder without results."""
    received = "a folder without a sweep.json"
    if not results.exists():
        received = "no such folder"
    return LabError(
        f"There are no results in {results}.",
        expected="results/STUDY/BACKEND folders with trained points",
        received=received,
        fix="`dvc pull` fetches results that a remote has; `make reproduce` trains everything; "
        "`python -m pipeline.train experiment=three_bits results=results/three_bits/numpy` trains one study",
    )


def read_study(folder: Path) -> list[Point]:
    """Read the points of one results folder, in the order of its sweep.json.

    Raises:
        LabError: sweep.json, or one of the points, cannot be read.
    """
    with _suggesting_dvc_pull():
        return [read_point(folder / member.folder, member.name) for member in read_sweep(folder).points]


def read_commands(results: Path) -> dict[tuple[str, str], str]:
    """Read the command that trained each study on each backend, by study and backend.

    Raises:
        LabError: a sweep.json cannot be read.
    """
    return {(folder.parent.name, folder.name): read_sweep(folder).command for folder in _folders(results)}


def _folders(results: Path) -> list[Path]:
    """List the results folders STUDY/BACKEND, sorted by study, with NumPy before the other backends."""
    # If the name of a folder begins with a dot, a process was killed while it was writing the folder.
    folders = [file.parent for file in results.glob("*/*/sweep.json") if not file.parent.name.startswith(".")]
    return sorted(folders, key=lambda folder: (folder.parent.name, folder.name != "numpy"))


def locked_results(project: Path, results: Path) -> list[Path]:
    """List the results folders STUDY/BACKEND that are in dvc.lock.

    Args:
        project: folder that holds dvc.lock.
        results: the parent folder of the studies.

    Returns:
        Their paths; empty if dvc.lock is missing or damaged, e.g. during a merge conflict, which DVC itself reports.

    Raises:
        LabError: dvc.lock cannot be read for another reason.
    """
    try:
        with readable(str(project / LOCK), expected="a lock file that DVC wrote", fix=f"restore {LOCK} from git"):
            stages = _read_lock(project / LOCK).stages.values()
    except DamagedError:
        return []
    outs = {project / out.path for stage in stages for out in stage.outs}
    # What was predicted lies beside the results folders.
    return sorted(out for out in outs if out.parent.parent == results and out.name != BESIDE_RESULTS)


def _read_lock(file: Path) -> _Lock:
    content = file.read_bytes()
    try:
        lock = yaml.load(content, LOADER)  # noqa: S506 - both loaders are safe
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return LOCKED.validate_python(lock)


def warn_about_missing(project: Path, results: Path) -> None:
    """Warn about results that are listed in dvc.lock but missing from the results folder, if there are any."""
    locked = locked_results(project, results)
    missing = [folder.relative_to(project).as_posix() for folder in locked if not (folder / "sweep.json").exists()]
    if missing:
        names = some(missing, SOME)
        # Not raised, because a report on part of the results is useful too.
        warning = LabError(
            f"skipped: {len(missing)} of {len(locked)} results folders listed in {LOCK} are missing: {names}",
            fix="run dvc pull if a remote has them, or dvc repro to train them",
        )
        log.warning(warning)


@contextmanager
def _suggesting_dvc_pull() -> Iterator[None]:
    """Add to the message about damaged results, which ends with the fix, that a remote may have a good copy."""
    try:
        yield
    except DamagedError as error:
        raise DamagedError(f"{error}, or restore it with dvc pull (deploy/remote.md)") from None
