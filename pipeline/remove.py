"""Delete a study's trained points and everything that depends on them.

    python -m pipeline.remove study=NAME [backend=numpy] [confirm=true]

These are the folders of its sweeps, points and results, and its MLflow runs with their models and artifacts. Without
`confirm=true` the command only lists them. Points shared with another study are kept, and so are runs on a shared
server that other clones of this project have written.
"""

from __future__ import annotations

if not __package__:
    raise SystemExit("error: this is a module; in the project's folder, type: python -m pipeline.remove")

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from pipeline.config.reading import read_tracking
from pipeline.config.schema import Tracking
from pipeline.points.breaking_rates import file_by_hand
from pipeline.points.clone import clone_id
from pipeline.points.folder import PointFolder
from pipeline.points.point import POINTS
from pipeline.points.reading import read_attempt
from pipeline.points.sweep_lock import SweepLock
from pipeline.points.sweep_record import all_sweeps, referenced
from pipeline.points.weights import drop_unused
from pipeline.sweep.finished import SUFFIX
from pipeline.system import cli
from pipeline.system.errors import LabError
from pipeline.system.failures import Failures
from pipeline.system.files import explained
from pipeline.system.project import PROJECT, store_root
from pipeline.system.wording import aligned, counted
from pipeline.tracking.ownership import is_ours
from pipeline.tracking.tracker import Tracker


@dataclass(frozen=True)
class Removal:
    """Everything that will be deleted: the folders of sweeps, points and results, and the ids of MLflow runs.

    `kept` is the number of runs that stay, because other clones of a shared server have written them. `unread` has the
    records of sweeps that cannot be read. They may need any point, so all points stay, and the sweeps with them.
    """

    sweeps: list[Path]
    points: list[Path]
    results: list[Path]
    runs: list[str]
    kept: int
    unread: Failures

    def rows(self) -> list[list[str]]:
        """Return a table with the number of each, and the size of their files; a file of several names counts once."""
        folders = (("sweeps", self.sweeps), ("points", self.points), ("results", self.results))
        rows = [["what", "number", "MiB"]]
        counted_files: set[tuple[int, int]] = set()
        for name, paths in folders:
            size = sum(_bytes(path, counted_files) for path in paths)
            rows.append([name, str(len(paths)), f"{size / 2**20:.1f}"])
        return [*rows, ["MLflow runs", str(len(self.runs)), ""]]


def find(study: str, backend: str | None, project: Path, tracker: Tracker) -> Removal:
    """Find everything that belongs to a study, on one backend or on all.

    Args:
        study: name of the study.
        backend: name of a backend; None for all of them.
        project: folder that holds .points/ and results/.
        tracker: the tracker of the study.

    Raises:
        LabError: a command is training it, or is sending it to MLflow.
    """
    root = store_root(project)
    unread = Failures()
    sweeps = list(all_sweeps(root, unread))
    chosen = [(f, sweep) for f, sweep in sweeps if sweep.study == study and backend in (None, sweep.backend)]
    for _, sweep in chosen:
        # No point is locked between two batches, or while the command gathers results or waits for MLflow.
        if SweepLock(root, sweep.key).is_held():
            raise LabError(
                f"{study} is being trained.",
                received=f"a running command uses the sweep {sweep.name}",
                fix="wait until the command has ended, or stop it first",
            )
    # A signature does not include the study, so sweeps of other studies may need the same points.
    kept = referenced([sweep for folder, sweep in sweeps if (folder, sweep) not in chosen])
    points = []
    for signature in sorted(referenced([sweep for _, sweep in chosen]) - kept):
        folder = PointFolder(root, signature)
        # A point in training is locked.
        if not folder.lock():
            raise LabError(
                f"{study} is being trained.",
                received=f"point {signature} is in use",
                fix="stop the command that is training it first",
            )
        folder.unlock()
        points += [path for path in (folder.final, folder.path) if path.exists()]
    results = [path for path in sorted((project / "results" / study).glob("*")) if backend in (None, path.name)]
    predicted = file_by_hand(study, root / POINTS)
    if backend is None and predicted.exists():
        results.append(predicted)
    runs = [run for run in tracker.runs(deleted=True) if backend in (None, run.tags.get("backend"))]
    clone = clone_id(root)
    attempts = {read_attempt(path) for path in points}
    ours = []
    for run in runs:
        attempt = run.tags.get("lab.attempt")
        if attempt not in attempts:
            attempt = None
        if is_ours(tracker, run, clone, attempt):
            ours.append(run.run_id)
    folders = [folder for folder, _ in chosen]
    if unread.errors:
        # Without its sweeps, the same command could not find the points later.
        folders = []
        points = []
    return Removal(folders, points, results, ours, len(runs) - len(ours), unread)


def carry_out(removal: Removal, tracker: Tracker) -> bool:
    """Delete everything that `find` has found.

    Returns:
        Whether the MLflow runs were deleted permanently; on a server they are only soft-deleted.

    Raises:
        LabError: MLflow does not answer, or a folder cannot be deleted.
    """
    # MLflow runs first and sweeps last: after a failure, the same command finds the rest through the sweeps.
    gone = tracker.remove_runs(removal.runs)
    for path in [*removal.results, *removal.points, *removal.sweeps]:
        with explained(path):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                # What was predicted for the study.
                path.unlink()
            # What a sweep said at its end is beside its folder.
            path.with_name(f"{path.name}{SUFFIX}").unlink(missing_ok=True)
    return gone


def _bytes(folder: Path, counted_files: set[tuple[int, int]]) -> int:
    """Return the size of all files in a folder that have not been counted yet, and add them to those that have."""
    size = 0
    for path in folder.rglob("*"):
        if path.is_file():
            status = path.stat()
            if (status.st_dev, status.st_ino) not in counted_files:
                counted_files.add((status.st_dev, status.st_ino))
                size += status.st_size
    return size


def _check_study(study: str, root: Path) -> None:
    """Check that a study was trained.

    Raises:
        LabError: it was not, or that is not known, because the record of a sweep cannot be read.
    """
    unread = Failures()
    studies = sorted({sweep.study for _, sweep in all_sweeps(root, unread)})
    if study in studies:
        return
    if unread.errors:
        raise LabError("\n".join(unread.messages(f"may be a sweep of {study}, which no other record names")))
    expected = "a study that was trained"
    if studies:
        expected = f"one of {', '.join(studies)}"
    raise LabError(f"Unknown study: {study}.", expected=expected, received=study, fix="study=NAME")


def task(composed: DictConfig) -> None:
    """List or delete the points of a study. Hydra calls this with the composed config."""
    study = str(composed["study"])
    root = store_root(PROJECT)
    # Checked first, because opening the store would create an MLflow experiment with this name.
    _check_study(study, root)
    tracking: Tracking = read_tracking(composed)
    tracker = Tracker(tracking, study, root)
    removal = find(study, composed["backend"], PROJECT, tracker)
    print(aligned(removal.rows()))
    if removal.kept:
        print(f"kept: {counted(removal.kept, 'MLflow run')} of other clones of this project")
    if composed["confirm"] is not True:
        print("\nnothing deleted yet; add confirm=true to delete all of this")
    else:
        gone = carry_out(removal, tracker)
        with explained(root):
            drop_unused(root)
        print("\ndeleted; `dvc repro` may restore results from DVC's cache, and `dvc gc -w` empties the cache")
        if not gone:
            print("the runs are only soft-deleted; run `mlflow gc` on the server's host to delete them permanently")
    problems = removal.unread.messages(f"may need points of {study}, so its points and sweeps are kept")
    if problems:
        raise LabError("\n".join(problems))


if __name__ == "__main__":
    sys.exit(cli.run(task, "remove"))
