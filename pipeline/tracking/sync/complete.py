"""Sends a complete point to its MLflow run, each part on its own, and closes the run."""

from __future__ import annotations

from pipeline.points.point import Point
from pipeline.points.reading import RunRecord
from pipeline.system.failures import Parts
from pipeline.tracking.pages.presentation import IMAGES, LOGGED_IMAGES, present_point
from pipeline.tracking.tracker import Status, Tracker

# The parts that make a run complete, so that another machine can fetch the point. The others are for readers.
ESSENTIAL = {"metrics", "outcome", "files"}
# The last parts: the tags that make the run complete, and its status; and deleting the runs of abandoned attempts.
STATUS = "status"
EARLIER = "earlier attempts"
# The tag that says which parts of a run are missing and why, and its value if none are.
MISSING_PARTS = "lab.missing"
NOTHING = "nothing"


def send_complete(
    tracker: Tracker, run_id: str, parent: str | None, point: Point, run: RunRecord, parts: Parts
) -> None:
    """Send everything about a complete point except its metrics, and close its run, whatever is missing.

    The arguments are those of `present_point`.
    """
    ended = run.ended(point.history)
    parts.do("outcome", lambda: tracker.log_outcome(run_id, point.config, point.outcome, ended))
    parts.do("files", lambda: tracker.log_folder(run_id, point.folder))
    with parts.apart("presentation"):
        present_point(tracker, run_id, parent, point, run, parts)
    missing = [
        f"{part}: {error.received or error.happened}"
        for part, error in parts.errors.items()
        # Those of an earlier try, which come after this tag.
        if part not in (STATUS, EARLIER)
    ]
    tags = {"outcome": point.outcome.outcome, MISSING_PARTS: "; ".join(missing) or NOTHING}
    if IMAGES not in parts.errors:
        tags |= LOGGED_IMAGES
    # Half a record must not read as a whole one.
    status: Status = "FAILED"
    if not parts.errors.keys() & ESSENTIAL:
        status = "FINISHED"
        # After all of the above, because for `open` and `fetch_point` this tag marks the run as complete.
        tags["lab.complete"] = "true"
    with parts.apart(STATUS):
        tracker.tag(run_id, tags)
        tracker.end_run(run_id, status, ended)
