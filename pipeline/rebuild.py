"""Write to MLflow what is on disk and not there.

    python -m pipeline.rebuild [tracking=server tracking.uri=http://127.0.0.1:5000]

That is what a server did not take while points were trained, and points that DVC restored from its cache, or pulled,
without training them. Points that MLflow has are left alone; runs of processes that are gone read KILLED afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig

from pipeline.config.reading import read_tracking
from pipeline.config.schema import Tracking
from pipeline.points.point import POINTS
from pipeline.points.reading import read_attempt, read_own_point
from pipeline.points.results import restore, warn_about_missing
from pipeline.points.sweep_record import SweepPoint, all_sweeps
from pipeline.system import cli
from pipeline.system.errors import LabError
from pipeline.system.processes import owner
from pipeline.system.project import PROJECT, store_root
from pipeline.system.wording import some
from pipeline.tracking.sync.points import Attempt
from pipeline.tracking.sync.sweep import Sync

SOME = 10
"""How many points that cannot be read are named."""


def rebuild(tracking: Tracking, project: Path, results: Path) -> list[tuple[str, int, int]]:
    """Bring an MLflow store up to date with .points/ and the results folders.

    Points of .points/ that cannot be read are told, and left out: an earlier version wrote them, or a disk lost them.

    Args:
        tracking: the store.
        project: folder that holds .points/.
        results: folder whose STUDY/BACKEND folders are taken in first.

    Returns:
        For each sweep its name, how many points it has, and how many of them MLflow got now.

    Raises:
        LabError: a results folder cannot be read, or MLflow does not take what there is.
    """
    root = store_root(project)
    for file in sorted(results.glob("*/*/sweep.json")):
        if not file.parent.name.startswith("."):
            restore(file.parent, root, tracking)
    sweeps = [sweep for _, sweep in all_sweeps(root) if sweep.tracking == tracking]
    sweeps.sort(key=lambda sweep: sweep.when)
    found = _complete_points(root, {point.signature: point for sweep in sweeps for point in sweep.points})
    newest = {(sweep.study, point.signature): sweep.key for sweep in sweeps for point in sweep.points}
    latest = {
        (sweep.study, found[point.signature].backend): sweep.when
        for sweep in sweeps
        if sweep.parent
        for point in sweep.points
        if point.signature in found
    }
    sent = []
    for sweep in sweeps:
        complete = [point for point in sweep.points if point.signature in found]
        backends = {found[point.signature].backend for point in complete}
        own = [point for point in complete if newest[sweep.study, point.signature] == sweep.key]
        if not own:
            continue
        shown = any(sweep.when >= latest.get((sweep.study, backend), 0) for backend in backends)
        sync = Sync(root, sweep, owner(), newest=shown)
        sync.add(Attempt(point.name, point.signature, found[point.signature].attempt) for point in own)
        sync.send(ended=replace(sweep, status="KILLED") if sweep.status == "RUNNING" else sweep)
        sent.append((sweep.name, len(own), sync.completed))
    return sent


@dataclass(frozen=True)
class _Found:
    """A complete point: which attempt it is, and which backend has trained it."""

    attempt: str
    backend: str


def _complete_points(root: Path, points: Mapping[str, SweepPoint]) -> dict[str, _Found]:
    """The points that are complete, by signature; those that cannot be read are told."""
    found: dict[str, _Found] = {}
    unread: dict[str, LabError] = {}
    for signature, point in points.items():
        folder = root / POINTS / signature
        if not folder.exists():
            continue
        try:
            backend = read_own_point(folder, point.name, signature).config.backend.name
        except LabError as error:
            unread[signature] = error
            continue
        attempt = read_attempt(folder)
        if attempt is not None:
            found[signature] = _Found(attempt, backend)
    if unread:
        names = some([*unread], SOME)
        print(f"left out: {len(unread)} points of .points/ that cannot be read: {names}", file=sys.stderr)
        print(f"the first: {next(iter(unread.values()))}", file=sys.stderr, flush=True)
    return found


def task(composed: DictConfig) -> None:
    """What Hydra calls."""
    results = PROJECT / str(composed["results"])
    told = rebuild(read_tracking(composed), PROJECT, results)
    for name, points, sent in told:
        print(f"{name}: {points} points, {f'{sent} written' if sent else 'all there'}")
    if not told:
        print("there is nothing to write: no points for this store that can be read")
    warn_about_missing(PROJECT, results)


if __name__ == "__main__":
    sys.exit(cli.run(task, "rebuild"))
