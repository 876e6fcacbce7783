"""Whose runs are in MLflow: no run of another clone is changed or deleted, and none whose process may live.

Each run has tags with the id of its clone (`points/clone.py`), with its process (`processes.owner`), and with the time
of its last heartbeat. A local store belongs to its project with everything in it, wherever that has been copied.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable

from pipeline.system.errors import LabError, UnavailableError
from pipeline.system.failures import Failures
from pipeline.system.processes import HEARTBEAT_SECONDS, is_gone
from pipeline.tracking.pages.views import NEWEST
from pipeline.tracking.tracked_run import TrackedRun
from pipeline.tracking.tracker import Tracker

log = logging.getLogger(__name__)

CLONE = "lab.clone"
OWNER = "lab.owner"
HEARTBEAT = "lab.heartbeat"
ABANDONED = "lab.abandoned"


def heartbeat() -> dict[str, str]:
    """Return the tag of a run that shows other machines that its process lives now."""
    # In milliseconds since 1970.
    return {HEARTBEAT: str(time.time_ns() // 1_000_000)}


class SignsOfLife:
    """Shows other machines, twice a minute, that the process of some runs lives.

    Args:
        check: called after a failure; raises UnavailableError if no call succeeds.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._last = 0.0

    def show(self, tracker: Tracker, run_ids: Iterable[str]) -> None:
        """Tag runs with the current time, if that is due.

        The status is set again too: if MLflow was out of reach for long, another command may have set it to KILLED.

        Raises:
            UnavailableError: no call succeeds.
        """
        if time.monotonic() - self._last < HEARTBEAT_SECONDS:
            return
        self._last = time.monotonic()
        # The failures are not kept: if this fails for good, so does something that is sent.
        failures = Failures(self._check)
        for run_id in run_ids:
            with failures.apart(run_id):
                tracker.reopen_run(run_id, heartbeat())


def is_ours(tracker: Tracker, run: TrackedRun, clone: str, attempt: str | None = None) -> bool:
    """Whether a run belongs to a clone.

    Args:
        tracker: the tracker of the experiment.
        run: the run.
        clone: the id of the clone.
        attempt: an attempt of this clone. An earlier version recorded no clone; then the attempt shows whose run it is.
    """
    if tracker.root is not None or run.tags.get(CLONE) == clone:
        return True
    return CLONE not in run.tags and attempt is not None and run.tags.get("lab.attempt") == attempt


def kill_orphans(tracker: Tracker) -> None:
    """Set the status of runs to KILLED that are still RUNNING but whose process has exited."""
    runs = tracker.runs()
    beats = {run.run_id: run.tags.get(HEARTBEAT, "") for run in runs}
    for run in runs:
        # Runs of workers have their own heartbeat. Other points use the heartbeat of their sweep, after their first.
        # All have 13 digits, so that the later one is also the greater text.
        beat = max(beats[run.run_id], beats.get(run.tags.get("mlflow.parentRunId", ""), ""))
        if run.status == "RUNNING" and is_gone(run.tags.get(OWNER, ""), beat or None):
            # A run that somebody deletes meanwhile, or that this user may not change, must not stop the others.
            try:
                tracker.end_run(run.run_id, "KILLED")
            except UnavailableError:
                raise
            except LabError:
                continue


def drop_abandoned(tracker: Tracker, kept: str, runs: Iterable[TrackedRun], clone: str, attempt: str) -> None:
    """Delete a clone's runs of abandoned attempts at a point.

    Args:
        tracker: the tracker of the experiment.
        kept: the id of the run to keep.
        runs: all runs of the point.
        clone: the id of the clone.
        attempt: the attempt of the run to keep.

    Raises:
        LabError: MLflow does not answer.
    """
    for run in runs:
        if run.run_id == kept or run.tags.get("lab.role") != "point" or not is_ours(tracker, run, clone, attempt):
            continue
        # Another command may be training the point again. Without its sweep's heartbeat, only a process that this one
        # can see is known to have exited.
        if run.status != "RUNNING" or is_gone(run.tags.get(OWNER, ""), heartbeat()[HEARTBEAT]):
            drop(tracker, run)


def drop(tracker: Tracker, run: TrackedRun) -> None:
    """Delete a run; a run that the server does not let us delete is hidden from the views instead, and reported."""
    if ABANDONED in run.tags:
        return
    try:
        tracker.delete_run(run.run_id)
    except LabError as error:
        # Many users of a server may change runs but not delete them. If it does not answer at all, this fails too.
        tracker.tag(run.run_id, {NEWEST: "false", ABANDONED: "true"})
        name = run.tags.get("mlflow.runName", run.run_id)
        log.warning(f"{name}: the run of an earlier attempt cannot be deleted; the views hide it. {error.received}")


def hide_earlier(tracker: Tracker, sweep: str, clone: str, backends: Collection[str]) -> None:
    """Hide the points of earlier sweeps of a clone from the views.

    Args:
        tracker: the tracker of the experiment.
        sweep: the key of the sweep whose points stay.
        clone: the id of the clone.
        backends: the backends of that sweep; points on others stay too.
    """
    for run in tracker.runs():
        earlier = run.tags.get(NEWEST, "false") != "false" and run.tags.get("lab.sweep") != sweep
        # What other clones have trained stays in the views. An earlier version has recorded no clone.
        ours = is_ours(tracker, run, clone) or CLONE not in run.tags
        if earlier and ours and run.tags.get("backend") in backends:
            tracker.tag(run.run_id, {NEWEST: "false"})
