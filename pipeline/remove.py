"""Take a study's trained points away, with all that hangs on them.

    python -m pipeline.remove study=NAME [backend=numpy] [confirm=true]

Without `confirm=true` it only says what would go: point folders, results, and in MLflow the sweeps' runs with their
children, models and artifacts. Points that another study has too stay.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from pipeline.config.reading import read_tracking
from pipeline.config.schema import Tracking
from pipeline.points.folder import PointFolder
from pipeline.points.point import POINTS
from pipeline.points.sweep_record import all_sweeps, referenced
from pipeline.system import cli
from pipeline.system.errors import LabError
from pipeline.system.files import explained
from pipeline.system.project import PROJECT, store_root
from pipeline.system.wording import aligned
from pipeline.tracking.tracker import Tracker


@dataclass(frozen=True)
class Removal:
    """What is to go: sweeps' own folders, point folders, results folders, MLflow run ids."""

    sweeps: list[Path]
    points: list[Path]
    results: list[Path]
    runs: list[str]

    def rows(self) -> list[list[str]]:
        """A table of it."""
        folders = (("sweeps", self.sweeps), ("points", self.points), ("results", self.results))
        rows = [["what", "number", "MiB"]]
        rows += [[name, str(len(paths)), f"{sum(map(_bytes, paths)) / 2**20:.1f}"] for name, paths in folders]
        return [*rows, ["MLflow runs", str(len(self.runs)), ""]]


def find(study: str, backend: str | None, project: Path, tracker: Tracker) -> Removal:
    """What belongs to a study, on one backend or on all.

    Raises:
        LabError: one of its points is being trained.
    """
    root = store_root(project)
    sweeps = list(all_sweeps(root))
    chosen = [(f, sweep) for f, sweep in sweeps if sweep.study == study and backend in (None, sweep.backend)]
    kept = referenced([sweep for folder, sweep in sweeps if (folder, sweep) not in chosen])
    points = []
    for signature in sorted(referenced([sweep for _, sweep in chosen]) - kept):
        folder = PointFolder(root, signature)
        if not folder.lock():
            raise LabError(
                f"{study} is being trained.", received=f"point {signature} is in use", fix="stop that command first"
            )
        folder.unlock()
        points += [path for path in (folder.final, folder.path) if path.exists()]
    results = [path for path in sorted((project / "results" / study).glob("*")) if backend in (None, path.name)]
    runs = [run.run_id for run in tracker.runs(deleted=True) if backend in (None, run.tags.get("backend"))]
    return Removal([folder for folder, _ in chosen], points, results, runs)


def carry_out(removal: Removal, tracker: Tracker) -> bool:
    """Remove MLflow's part first, so that what is left after a failure is found again by the same command.

    Returns:
        Whether the MLflow runs are gone for good; those on a server are in its bin.

    Raises:
        LabError: MLflow does not answer, or a folder cannot be removed.
    """
    gone = tracker.remove_runs(removal.runs)
    for path in [*removal.results, *removal.points, *removal.sweeps]:
        with explained(path):
            shutil.rmtree(path)
    return gone


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _studies(root: Path) -> Sequence[str]:
    return sorted({sweep.study for _, sweep in all_sweeps(root)})


def task(composed: DictConfig) -> None:
    """What Hydra calls."""
    study, backend = str(composed["study"]), composed["backend"]
    root = store_root(PROJECT)
    if not (root / POINTS).exists() or study not in _studies(root):
        raise LabError(
            f"There is no study {study}.",
            expected=f"one of {', '.join(_studies(root))}" if _studies(root) else "a study that was trained",
            received=study,
            fix="study=NAME",
        )
    tracking: Tracking = read_tracking(composed)
    tracker = Tracker(tracking, study, root)
    removal = find(study, backend, PROJECT, tracker)
    print(aligned(removal.rows()))
    if composed["confirm"] is not True:
        print("\nnothing is removed yet; to remove all this, add confirm=true")
        return
    gone = carry_out(removal, tracker)
    print("\nremoved; DVC restores results that it has in its cache (`dvc repro`), which `dvc gc -w` empties")
    if not gone:
        print("the runs are in the server's bin; `mlflow gc` on its host empties it")


if __name__ == "__main__":
    sys.exit(cli.run(task, "remove"))
