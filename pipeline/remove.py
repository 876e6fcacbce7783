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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from pipeline.config.reading import read_tracking
from pipeline.config.schema import Tracking
from pipeline.points.clone import clone_id
from pipeline.points.folder import PointFolder
from pipeline.points.point import POINTS
from pipeline.points.reading import read_attempt
from pipeline.points.sweep_record import all_sweeps, referenced
from pipeline.system import cli
from pipeline.system.errors import LabError
from pipeline.system.files import explained
from pipeline.system.project import PROJECT, store_root
from pipeline.system.wording import aligned, counted
from pipeline.tracking.ownership import is_ours
from pipeline.tracking.tracker import Tracker


@dataclass(frozen=True)
class Removal:
    """Everything that will be deleted: the folders of sweeps, points and results, and the ids of MLflow runs.

    `kept` is the number of runs that stay, because other clones of a shared server have written them.
    """

    sweeps: list[Path]
    points: list[Path]
    results: list[Path]
    runs: list[str]
    kept: int

    def rows(self) -> list[list[str]]:
        """Return a table with the number and the size of each."""
        folders = (("sweeps", self.sweeps), ("points", self.points), ("results", self.results))
        rows = [["what", "number", "MiB"]]
        rows += [[name, str(len(paths)), f"{sum(map(_bytes, paths)) / 2**20:.1f}"] for name, paths in folders]
        return [*rows, ["MLflow runs", str(len(self.runs)), ""]]


def find(study: str, backend: str | None, project: Path, tracker: Tracker) -> Removal:
    """Find everything that belongs to a study, on one backend or on all.

    Args:
        study: name of the study.
        backend: name of a backend; None for all of them.
        project: folder that holds .points/ and results/.
        tracker: the tracker of the study.

    Raises:
        LabError: one of its points is being trained.
    """
    root = store_root(project)
    sweeps = list(all_sweeps(root))
    chosen = [(f, sweep) for f, sweep in sweeps if sweep.study == study and backend in (None, sweep.backend)]
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
    runs = [run for run in tracker.runs(deleted=True) if backend in (None, run.tags.get("backend"))]
    clone = clone_id(root)
    attempts = {read_attempt(path) for path in points}
    ours = []
    for run in runs:
        attempt = run.tags.get("lab.attempt")
        if is_ours(tracker, run, clone, attempt if attempt in attempts else None):
            ours.append(run.run_id)
    return Removal([folder for folder, _ in chosen], points, results, ours, len(runs) - len(ours))


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
            shutil.rmtree(path)
    return gone


def _bytes(folder: Path) -> int:
    """Return the size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _studies(root: Path) -> Sequence[str]:
    """Return the names of all studies that were trained."""
    return sorted({sweep.study for _, sweep in all_sweeps(root)})


def task(composed: DictConfig) -> None:
    """List or delete the points of a study. Hydra calls this with the composed config."""
    study = str(composed["study"])
    root = store_root(PROJECT)
    # Checked first, because opening the store would create an MLflow experiment with this name.
    if not (root / POINTS).exists() or study not in _studies(root):
        expected = "a study that was trained"
        if _studies(root):
            expected = f"one of {', '.join(_studies(root))}"
        raise LabError(
            f"There is no study {study}.",
            expected=expected,
            received=study,
            fix="study=NAME",
        )
    tracking: Tracking = read_tracking(composed)
    tracker = Tracker(tracking, study, root)
    removal = find(study, composed["backend"], PROJECT, tracker)
    print(aligned(removal.rows()))
    if removal.kept:
        print(f"kept: {counted(removal.kept, 'MLflow run')} of other clones of this project")
    if composed["confirm"] is not True:
        print("\nnothing deleted yet; add confirm=true to delete all of this")
        return
    gone = carry_out(removal, tracker)
    print("\ndeleted; `dvc repro` may restore results from DVC's cache, and `dvc gc -w` empties the cache")
    if not gone:
        print("the runs are only soft-deleted; run `mlflow gc` on the server's host to delete them permanently")


if __name__ == "__main__":
    sys.exit(cli.run(task, "remove"))
