"""The MLflow runs of sweeps: found or made, filled, and closed. Those of points: sync/points.py."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.points.sweep_record import SweepRecord
from pipeline.system.processes import is_gone
from pipeline.tracking.tracker import Status, Tracker


@dataclass
class SweepRun:
    """The MLflow run of a sweep, and whether all is said in it."""

    run_id: str
    settled: bool = False


def kill_orphans(tracker: Tracker) -> None:
    """Let runs of an experiment read KILLED that read RUNNING though their process has ended."""
    runs = tracker.runs()
    beats = {run.run_id: run.tags.get("lab.heartbeat") for run in runs}
    for run in runs:
        beat = beats.get(run.run_id) or beats.get(run.tags.get("mlflow.parentRunId", ""))  # a worker's run has its own
        if run.status == "RUNNING" and is_gone(run.tags.get("lab.owner", ""), beat):
            tracker.end_run(run.run_id, "KILLED")


def find_sweep(tracker: Tracker, sweep: SweepRecord) -> SweepRun | None:
    """The MLflow run of a sweep that another process keeps; None where it has not made it yet."""
    for run in tracker.runs(sweep=sweep.key):
        if run.tags["lab.role"] == "sweep":
            return SweepRun(run.run_id)
    return None


def open_sweep(tracker: Tracker, sweep: SweepRecord, process: str) -> SweepRun:
    """The MLflow run of a sweep: the one it has, made to read RUNNING, or a new one.

    Args:
        tracker: of its experiment.
        sweep: what the command is.
        process: that trains it; see `Sync.owner`.
    """
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
                return SweepRun(run.run_id, settled=True)
            tracker.reopen_run(run.run_id, tags)
            return SweepRun(run.run_id)
    return SweepRun(tracker.start_run(sweep.name, tags, sweep.started))


def send_sweep(tracker: Tracker, run: SweepRun, sweep: SweepRecord, folder: Path) -> None:
    """Write a sweep's own values and figures, and close its run.

    Args:
        tracker: of its experiment.
        run: that of the sweep.
        sweep: what the command came to.
        folder: the sweep's own files.
    """
    if sweep.values:
        tracker.log_values(run.run_id, sweep.values, sweep.ended or sweep.started)
        tracker.log_folder(run.run_id, folder)
    status: Status = sweep.status if sweep.status in ("FINISHED", "KILLED") else "FAILED"  # type: ignore[assignment]
    tracker.tag(run.run_id, {"lab.complete": str(sweep.ended)})
    tracker.end_run(run.run_id, status, sweep.ended)
    run.settled = True
