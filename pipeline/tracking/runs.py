"""The MLflow runs of sweeps and points: found or made, filled from what is on disk, and closed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.points.job import Job
from pipeline.points.point import Point
from pipeline.points.sweep_record import SweepRecord
from pipeline.system.processes import is_gone
from pipeline.tracking.pages.presentation import present_point
from pipeline.tracking.tracker import Status, TrackedRun, Tracker


@dataclass
class Link:
    """How far an attempt at a point has got in MLflow: its run, how many metrics were sent, whether all is said."""

    run_id: str
    sent: int = 0
    settled: bool = False
    attempt: str = ""


def kill_orphans(tracker: Tracker) -> None:
    """Let runs of an experiment read KILLED that read RUNNING though their process has ended."""
    runs = tracker.runs()
    beats = {run.run_id: run.tags.get("lab.heartbeat") for run in runs}
    for run in runs:
        beat = beats.get(run.run_id) or beats.get(run.tags.get("mlflow.parentRunId", ""))  # a worker's run has its own
        if run.status == "RUNNING" and is_gone(run.tags.get("lab.owner", ""), beat):
            tracker.end_run(run.run_id, "KILLED")


def find_sweep(tracker: Tracker, sweep: SweepRecord) -> Link | None:
    """The MLflow run of a sweep that another process keeps; None where it has not made it yet."""
    for run in tracker.runs(sweep=sweep.key):
        if run.tags["lab.role"] == "sweep":
            return Link(run.run_id)
    return None


def open_sweep(tracker: Tracker, sweep: SweepRecord, process: str) -> Link:
    """The MLflow run of a sweep: the one it has, made to read RUNNING, or a new one."""
    tags = sweep.tags | {
        "lab.role": "sweep",
        "lab.sweep": sweep.key,
        "lab.owner": process,
        "lab.heartbeat": str(time.time_ns() // 1_000_000),
        "study": sweep.study,
        "backend": sweep.backend,
        "command": sweep.command,
    }
    for run in tracker.runs():
        if run.tags["lab.role"] == "sweep" and run.tags.get("lab.sweep") == sweep.key:
            if run.status == "FINISHED" and run.tags.get("lab.complete") == str(sweep.ended):
                return Link(run.run_id, settled=True)
            tracker.reopen_run(run.run_id, tags)
            return Link(run.run_id)
    return Link(tracker.start_run(sweep.name, tags, sweep.started))


def send_sweep(tracker: Tracker, link: Link, sweep: SweepRecord, folder: Path) -> None:
    """Write a sweep's own values and figures, and close its run."""
    if sweep.values:
        tracker.log_values(link.run_id, sweep.values, sweep.ended or sweep.started)
        tracker.log_folder(link.run_id, folder)
    status: Status = sweep.status if sweep.status in ("FINISHED", "KILLED") else "FAILED"  # type: ignore[assignment]
    tracker.tag(link.run_id, {"lab.complete": str(sweep.ended)})
    tracker.end_run(link.run_id, status, sweep.ended)
    link.settled = True


def open_point(
    tracker: Tracker, runs: Sequence[TrackedRun], job: Job, belongs: Mapping[str, str], process: str
) -> Link:
    """The MLflow run of a point: the one of its attempt, or a new one.

    Args:
        tracker: of its experiment.
        runs: what there is with its signature.
        job: the point.
        belongs: tags that say where the run belongs: its sweep, whose child it is, colour, views.
        process: that trains it; see `Mirror.owner`.
    """
    for run in runs:
        if run.tags.get("lab.attempt") != job.run["attempt"]:
            continue
        if "lab.complete" in run.tags and run.status == "FINISHED":
            if any(run.tags.get(key) != value for key, value in belongs.items()):
                tracker.tag(run.run_id, belongs)
            for other in runs:
                if other.run_id != run.run_id and other.status != "RUNNING":  # of a rerun that was given up
                    tracker.delete_run(other.run_id)
            return Link(run.run_id, settled=True, attempt=job.run["attempt"])
        tracker.reopen_run(run.run_id, {**belongs, "lab.owner": process})
        tracker.log_config(run.run_id, job.config, run.params)
        return Link(run.run_id, attempt=job.run["attempt"])
    tags = job.run["tags"] | dict(belongs) | {
        "lab.role": "point",
        "lab.attempt": job.run["attempt"],
        "lab.owner": process,
        "signature": job.signature,
        "study": job.config.study,
        "backend": job.config.backend.name,
        "overrides": " ".join(job.run["overrides"]),
    }  # fmt: skip
    run_id = tracker.start_run(job.name, tags, job.run["started"])
    tracker.log_config(run_id, job.config)
    return Link(run_id, attempt=job.run["attempt"])


def send_point(tracker: Tracker, link: Link, job: Job, point: Point, parent: str | None) -> None:
    """Write the rest of a complete point, close its run, and drop the runs of attempts that it replaces."""
    history = point.history
    tracker.log_metrics(link.run_id, history.metrics[link.sent :])
    link.sent = len(history.metrics)
    ended = history.metrics[-1].timestamp if history.metrics else job.run["started"]
    tracker.log_outcome(link.run_id, job.config, point.outcome, ended)
    tracker.log_folder(link.run_id, point.folder)
    present_point(tracker, link.run_id, parent, point, job.run)
    tracker.tag(link.run_id, {"outcome": point.outcome.outcome, "lab.complete": "true"})
    tracker.end_run(link.run_id, "FINISHED", ended)
    for run in tracker.runs(job.signature):
        if run.run_id != link.run_id and run.tags.get("lab.role") == "point":
            tracker.delete_run(run.run_id)
    link.settled = True
