"""Write to MLflow what is on disk and not there.

    python -m pipeline.rebuild [tracking=server tracking.uri=http://127.0.0.1:5000]

That is what a server did not take while points were trained, and points that DVC restored from its cache, or pulled,
without training them. Points that MLflow has are left alone; runs of processes that are gone read KILLED afterwards.
"""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from pipeline.config.reading import read_tracking
from pipeline.config.schema import Tracking
from pipeline.mirror import Mirror
from pipeline.points.folder import PointFolder
from pipeline.points.job import Job
from pipeline.points.reading import read_own_point, read_run
from pipeline.points.results import restore, tell_missing
from pipeline.points.sweep_record import SweepRecord, all_sweeps
from pipeline.system import cli
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT, store_root
from pipeline.system.wording import some

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
    wanted = tracking.model_dump(mode="json")
    sweeps = [(folder, sweep) for folder, sweep in all_sweeps(root) if sweep.tracking == wanted]
    sweeps.sort(key=lambda pair: pair[1].when)
    newest = {(sweep.study, point["signature"]): sweep.key for _, sweep in sweeps for point in sweep.points}
    complete, unread = [], dict[str, LabError]()
    for folder, sweep in sweeps:
        found = []
        for member in sweep.points:
            try:
                found.append(_job(root, sweep, member))
            except LabError as error:
                unread[member["signature"]] = error
        complete.append((folder, sweep, [job for job in found if job is not None]))
    if unread:
        names = some([*unread], SOME)
        print(f"left out: {len(unread)} points of .points/ that cannot be read: {names}", file=sys.stderr)
        print(f"the first: {next(iter(unread.values()))}", file=sys.stderr, flush=True)
    latest = {(sweep.study, job.config.backend.name): sweep.when for _, sweep, jobs in complete for job in jobs
              if sweep.parent}  # fmt: skip
    told = []
    for folder, sweep, everything in complete:
        shown = any(sweep.when >= latest.get((sweep.study, job.config.backend.name), 0) for job in everything)
        jobs = [job for job in everything if newest[sweep.study, job.signature] == sweep.key]
        if not jobs:
            continue
        sweep.status = "KILLED" if sweep.status == "RUNNING" else sweep.status
        mirror = Mirror(root, sweep, folder, jobs, newest=shown)
        mirror.close()
        unsent = mirror.error or mirror.unsent()
        if unsent is not None:
            raise unsent
        told.append((sweep.name, len(jobs), mirror.completed))
    return told


def _job(root: Path, sweep: SweepRecord, member: dict[str, str]) -> Job | None:
    """A point of a sweep, if it is complete."""
    folder = PointFolder(root, member["signature"])
    if not folder.final.exists():
        return None
    point = read_own_point(folder.final, member["name"], member["signature"])
    config = point.config.model_copy(update={"study": sweep.study, "tracking": Tracking(**sweep.tracking)})
    run = read_run(folder.final)
    return Job(config, run["overrides"], point.name, member["signature"], folder, state="done", run=run, point=point)


def task(composed: DictConfig) -> None:
    """What Hydra calls."""
    results = PROJECT / str(composed["results"])
    told = rebuild(read_tracking(composed), PROJECT, results)
    for name, points, sent in told:
        print(f"{name}: {points} points, {f'{sent} written' if sent else 'all there'}")
    if not told:
        print("there is nothing to write: no points for this store that can be read")
    tell_missing(PROJECT, results)


if __name__ == "__main__":
    sys.exit(cli.run(task, "rebuild"))
