"""The MLflow runs of sweeps: found or created, filled, and closed. For the runs of points, see sync/points.py."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.points.point import POINTS
from pipeline.points.sweep_record import SweepRecord
from pipeline.system.errors import LabError
from pipeline.system.failures import Parts
from pipeline.system.files import explained
from pipeline.tracking.ownership import CLONE, OWNER, heartbeat, is_ours
from pipeline.tracking.tracked_run import TrackedRun, has_values
from pipeline.tracking.tracker import Status, Tracker

LOCK_SECONDS = 60.0
# How long to wait for the run of a sweep, which is created by the command that started a worker, and how often to look.
PARENT_SECONDS = 30.0
PARENT_PAUSE = 2.0
# The tag of a sweep with the ids of the runs whose models were sent because they are of the best point.
BEST = "lab.best"
# The MLflow status for each status of a sweep; FAILED for any other.
ENDED: dict[str, Status] = {"FINISHED": "FINISHED", "KILLED": "KILLED"}


@dataclass
class SweepRun:
    """The MLflow run of a sweep.

    Attributes:
        settled: whether it is complete.
        best: the runs whose models were sent because they are of the best point, by their ids; None if none were.
    """

    run_id: str
    settled: bool = False
    best: tuple[str, ...] | None = None


def _sweep_run(run: TrackedRun, settled: bool) -> SweepRun:
    best = None
    if BEST in run.tags:
        best = tuple(run.tags[BEST].split())
    return SweepRun(run.run_id, settled, best)


@contextmanager
def study_lock(root: Path, study: str) -> Iterator[None]:
    """Hold the lock for the runs of a study for the block.

    Raises:
        LabError: another command holds it for too long, or the file cannot be written.
    """
    lock = root / POINTS / ".locks" / f"mlflow-{study}"
    with explained(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock, timeout=LOCK_SECONDS)
        try:
            held.acquire()
        except Timeout:
            raise LabError(
                f"Another command is writing the runs of {study}.",
                expected=f"{lock} to be free within {LOCK_SECONDS:.0f} s",
                received="a lock that another process holds",
                fix="wait until that command has ended",
            ) from None
    try:
        yield
    finally:
        held.release()


def find_sweep(tracker: Tracker, sweep: SweepRecord, clone: str) -> SweepRun | None:
    """Return the run that a clone has for a sweep, or None if it does not exist yet.

    It is settled if it has ended as recorded.
    """
    for run in tracker.runs(sweep=sweep.key):
        # An earlier version recorded no clone. A run without one that is RUNNING may be of another clone.
        unknown = CLONE not in run.tags and run.status != "RUNNING"
        if unknown or is_ours(tracker, run, clone):
            return _sweep_run(run, settled=_has_ended(run, sweep))
    return None


def _has_ended(run: TrackedRun, sweep: SweepRecord) -> bool:
    """Whether a run has ended as its sweep did.

    `send_sweep` tags a run with the end time of its command. If the sweep has run again since, the end time differs.
    """
    status = ENDED.get(sweep.status, "FAILED")
    ended = run.status == status and run.tags.get("lab.complete") == str(sweep.ended)
    return ended and sweep.status != "RUNNING"


def await_sweep(tracker: Tracker, sweep: SweepRecord, clone: str) -> SweepRun:
    """Return the run that a clone has for a sweep, which another process creates.

    Raises:
        LabError: it is not there after a while.
    """
    give_up = time.monotonic() + PARENT_SECONDS
    while True:
        found = find_sweep(tracker, sweep, clone)
        if found is not None:
            return found
        if time.monotonic() > give_up:
            raise LabError("MLflow has no run for the sweep.", received=f"none within {PARENT_SECONDS:.0f} s")
        time.sleep(PARENT_PAUSE)


def open_sweep(tracker: Tracker, sweep: SweepRecord, process: str, clone: str, folder: Path) -> SweepRun:
    """Return the run of a sweep: the existing one, set back to RUNNING unless it is complete, or a new one.

    Args:
        tracker: the tracker of the experiment.
        sweep: the record of the command.
        process: the process that trains the sweep, from `processes.owner`.
        clone: the id of this clone.
        folder: the folder of the sweep, which holds its figures.
    """
    for run in tracker.runs(sweep=sweep.key):
        # Otherwise the run is rewritten. With the same end time another clone's run is of this command too: its results
        # were restored here.
        if (
            _has_ended(run, sweep)
            and has_values(run, sweep.values)
            and tracker.has_artifacts(run, _names(sweep, folder))
        ):
            return _sweep_run(run, settled=True)
    tags = sweep.tags | heartbeat()
    tags |= {
        "lab.role": "sweep",
        "lab.sweep": sweep.key,
        CLONE: clone,
        OWNER: process,
        "study": sweep.study,
        "backend": sweep.backend,
        "command": sweep.command,
    }
    found = find_sweep(tracker, sweep, clone)
    if found is None:
        return SweepRun(tracker.start_run(sweep.name, tags, sweep.started))
    tracker.reopen_run(found.run_id, tags)
    return SweepRun(found.run_id)


def send_sweep(tracker: Tracker, run: SweepRun, sweep: SweepRecord, folder: Path, parts: Parts) -> None:
    """Write the metrics and figures of a sweep to its run, and close the run, whatever is missing.

    Args:
        tracker: the tracker of the experiment.
        run: the run of the sweep.
        sweep: the final record of the command.
        folder: the folder of the sweep, which holds its figures.
        parts: does each part on its own, and keeps the errors of those that failed.
    """
    # A sweep without a complete point has neither metrics nor figures.
    if sweep.values:
        parts.do("metrics", lambda: tracker.log_values(run.run_id, sweep.values, sweep.ended or sweep.started))
        parts.do("figures", lambda: tracker.log_folder(run.run_id, folder))
    with parts.apart("status"):
        tags = {key: sweep.tags[key] for key in ("error",) if key in sweep.tags}
        # Without this tag, the next command or `rebuild` sends the missing parts.
        if not parts.errors:
            tags["lab.complete"] = str(sweep.ended)
        if tags:
            tracker.tag(run.run_id, tags)
        tracker.end_run(run.run_id, ENDED.get(sweep.status, "FAILED"), sweep.ended)
    run.settled = not parts.errors


def _names(sweep: SweepRecord, folder: Path) -> list[str]:
    """Return the names of the files that `send_sweep` uploads."""
    if not sweep.values:
        return []
    # Hidden files are skipped: a killed process may have left one.
    return [path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*") if path.is_file()]
