"""The MLflow runs of sweeps: found or created, filled, and closed. For the runs of points, see sync/points.py."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.points.sweep_record import SweepRecord
from pipeline.system.processes import is_gone
from pipeline.tracking.tracker import Status, Tracker

# The MLflow status for each status of a sweep; FAILED for any other.
ENDED: dict[str, Status] = {"FINISHED": "FINISHED", "KILLED": "KILLED"}


@dataclass
class SweepRun:
    """The MLflow run of a sweep; `settled` once it is complete."""

    run_id: str
    settled: bool = False


def kill_orphans(tracker: Tracker) -> None:
    """Set the status of runs to KILLED that are still RUNNING but whose process has exited."""
    runs = tracker.runs()
    beats = {run.run_id: run.tags.get("lab.heartbeat") for run in runs}
    for run in runs:
        # Runs of workers have their own heartbeat. Other points use the heartbeat of their sweep.
        beat = beats.get(run.run_id) or beats.get(run.tags.get("mlflow.parentRunId", ""))
        if run.status == "RUNNING" and is_gone(run.tags.get("lab.owner", ""), beat):
            tracker.end_run(run.run_id, "KILLED")


def find_sweep(tracker: Tracker, sweep: SweepRecord) -> SweepRun | None:
    """Return the run of a sweep that belongs to another process, or None if it does not exist yet."""
    for run in tracker.runs(sweep=sweep.key):
        if run.tags["lab.role"] == "sweep":
            return SweepRun(run.run_id)
    return None


def open_sweep(tracker: Tracker, sweep: SweepRecord, process: str, folder: Path) -> SweepRun:
    """Return the run of a sweep: the existing one, set back to RUNNING unless it is complete, or a new one.

    Args:
        tracker: the tracker of the experiment.
        sweep: the record of the command.
        process: the process that trains the sweep, from `processes.owner`.
        folder: the folder of the sweep, which holds its figures.
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
            # `send_sweep` tags a run with the end time of its command. If the sweep has run again since, the end time
            # differs, and the run is rewritten.
            complete = run.status == "FINISHED" and run.tags.get("lab.complete") == str(sweep.ended)
            if complete and run.has_artifacts(_names(sweep, folder)):
                return SweepRun(run.run_id, settled=True)
            tracker.reopen_run(run.run_id, tags)
            return SweepRun(run.run_id)
    return SweepRun(tracker.start_run(sweep.name, tags, sweep.started))


def send_sweep(tracker: Tracker, run: SweepRun, sweep: SweepRecord, folder: Path) -> None:
    """Write the metrics and figures of a sweep to its run, and close the run.

    Args:
        tracker: the tracker of the experiment.
        run: the run of the sweep.
        sweep: the final record of the command.
        folder: the folder of the sweep, which holds its figures.
    """
    # A sweep without a complete point has neither metrics nor figures.
    if sweep.values:
        tracker.log_values(run.run_id, sweep.values, sweep.ended or sweep.started)
        tracker.log_folder(run.run_id, folder)
    tags = {"lab.complete": str(sweep.ended)}
    if "error" in sweep.tags:
        tags["error"] = sweep.tags["error"]
    tracker.tag(run.run_id, tags)
    tracker.end_run(run.run_id, ENDED.get(sweep.status, "FAILED"), sweep.ended)
    run.settled = True


def _names(sweep: SweepRecord, folder: Path) -> list[str]:
    """Return the names of the files that `send_sweep` uploads."""
    if not sweep.values:
        return []
    # Hidden files are skipped: a killed process may have left one.
    return [path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*") if path.is_file()]
