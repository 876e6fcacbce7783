"""Sends a complete point to its MLflow run, each part on its own, closes the run, and tells whether it has all."""

from __future__ import annotations

import math
from pathlib import Path

from pipeline.config.schema import Config
from pipeline.points.folder import JOURNAL
from pipeline.points.point import Outcome, Point
from pipeline.points.reading import RunRecord, read_journal
from pipeline.system.failures import Parts
from pipeline.system.files import MISSING, SUMS, named_files
from pipeline.tracking.pages.presentation import IMAGES, LOGGED_IMAGES, present_point
from pipeline.tracking.pages.sections import LEAST_LOSS, LOG_LOSS
from pipeline.tracking.tracked_run import TrackedRun, has_values
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
    # After the metrics of its training: MLflow's comparison page opens with the metric that was logged first.
    parts.do("outcome", lambda: tracker.log_values(run_id, outcome_values(point.config, point.outcome), ended))
    parts.do("files", lambda: tracker.log_folder(run_id, point.folder))
    with parts.apart("presentation"):
        present_point(tracker, run_id, parent, point, run, parts)
    tags = {"outcome": point.outcome.outcome, **missing_tag(parts)}
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


def outcome_values(config: Config, outcome: Outcome) -> dict[str, float]:
    """Return the outcome of a point: best/..., final/..., time, divergence, and its learning rate and size as numbers.

    Args:
        config: the config of the point.
        outcome: its outcome; `diverged` is 1 or 0.
    """
    values = {f"best/{name}": value for name, value in outcome.best.items()}
    values |= {f"final/{name}": value for name, value in outcome.final.items()}
    values |= {"time/seconds": outcome.seconds, "time/seconds_per_epoch": outcome.seconds_per_epoch}
    values["diverged"] = float(outcome.outcome == "diverged")
    if outcome.diverged_step is not None:
        values["diverged_step"] = float(outcome.diverged_step)
    if outcome.last_finite_loss is not None:
        values["last_finite_loss"] = outcome.last_finite_loss
    if outcome.outcome == "finished" and "train/loss" in outcome.final:
        # A loss of 0 has no logarithm; it is drawn at the bottom of the chart.
        values[LOG_LOSS] = math.log10(max(outcome.final["train/loss"], LEAST_LOSS))
    # A map has many rates or sizes.
    if config.grid is None:
        values["hp/learning_rate"] = config.optimizer.learning_rate
    if config.grid is None and config.model.hidden_size is not None:
        values["hp/hidden_size"] = float(config.model.hidden_size)
    return values


def missing_tag(parts: Parts) -> dict[str, str]:
    """Return the tag that says which parts of a run are missing, and why."""
    missing = [
        f"{part}: {error.received or error.happened}"
        for part, error in parts.errors.items()
        # Those of an earlier try, which come after this tag.
        if part not in (STATUS, EARLIER)
    ]
    return {MISSING_PARTS: "; ".join(missing) or NOTHING}


def is_marked_complete(run: TrackedRun) -> bool:
    """Whether the tags of a run say that it is complete, apart from missing parts that are only for readers."""
    return "lab.complete" in run.tags and run.status == "FINISHED"


def has_missing_parts(run: TrackedRun) -> bool:
    """Whether the tags of a complete run name parts that are missing."""
    return run.tags.get(MISSING_PARTS, NOTHING) != NOTHING


def has_all(tracker: Tracker, run: TrackedRun, folder: Path) -> bool:
    """Whether MLflow still has the metrics and files of a run that is marked as complete.

    They are compared although its tags say so: MLflow may have accepted them and lost them later.

    Args:
        tracker: the tracker of its experiment.
        run: the run.
        folder: the folder of the complete point.
    """
    try:
        metrics = read_journal((folder / JOURNAL).read_bytes())
    except (OSError, ValueError):
        # Whoever reads the point reports it; the run has been complete.
        return True
    # Metrics in the order in which MLflow decides which value is the last.
    last = {metric.name: metric.value for metric in sorted(metrics, key=lambda m: (m.step, m.timestamp, m.value))}
    # `diverged` is part of the outcome, which is sent in one batch after all metrics.
    if not has_values(run, last) or "diverged" not in run.metrics:
        return False
    # Artifacts can be lost as well, for instance in a copy of the project.
    return tracker.has_artifacts(run, _names(folder))


def _names(folder: Path) -> list[str]:
    """Return the names of the files of a complete point; none if its checksums are damaged."""
    try:
        return [SUMS, *named_files((folder / SUMS).read_bytes())]
    except (*MISSING, ValueError):
        return []
