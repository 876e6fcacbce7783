"""From the points' folders to MLflow, beside the training and never in its way.

A thread of its own sends what is on disk already: metrics that a checkpoint counts on, and the folders of points that
are complete. What MLflow does not take is sent at the next try; what it has not taken in the end is pending, and
`pipeline.rebuild` sends it another day. Everything carries the timestamps of the journal, so that sending twice
changes nothing.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from pipeline.config import Tracking
from pipeline.errors import LabError
from pipeline.files import explained
from pipeline.jobs import Job
from pipeline.points import POINTS, Point
from pipeline.presentation import point_tags, present_point, present_study, present_sweep
from pipeline.provenance import HEARTBEAT_SECONDS, is_gone
from pipeline.provenance import owner as this_process
from pipeline.sweep_record import SweepRecord
from pipeline.tracking import Status, TrackedRun, Tracker
from pipeline.views import NEWEST

MIRROR_SECONDS = 2.0
RETRY_SECONDS = 20.0
LOCK_SECONDS = 60.0


@dataclass
class Link:
    """How far a point has got in MLflow: its run, how many of its metrics were sent, whether all is said."""

    run_id: str
    sent: int = 0
    settled: bool = False


class Mirror:
    """Keeps MLflow up to date with a sweep and its jobs.

    Args:
        root: folder that holds .points/ and mlruns/.
        sweep: what the command is; its `status` is set before `close`.
        folder: the sweep's own files.
        jobs: may grow while the mirror runs.
        newest: whether no later command has asked for points of its study and backend; the views show such points.

    Attributes:
        error: why the last try failed.
        completed: how many points were completed in MLflow.
    """

    def __init__(
        self, root: Path, sweep: SweepRecord, folder: Path, jobs: Collection[Job], newest: bool = True
    ) -> None:
        self.root, self.sweep, self.folder, self.jobs, self.newest = root, sweep, folder, jobs, newest
        self.error: LabError | None = None
        self.completed = 0
        self._tracker: Tracker | None = None
        self._parent: Link | None = None
        self._links: dict[str, Link] = {}
        self._beat = 0.0
        self._told = self._presented = self._ended = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """Send what is left, and stop."""
        self._closing.set()
        self.start()
        self._thread.join()

    def pending(self) -> list[str]:
        """Names of the points that MLflow has not got."""
        return [job.name for job in self.jobs if job.run and not self._is_settled(job)]

    def unsent(self) -> LabError | None:
        """After `close`: what MLflow has not got, and how to send it; None where it has everything."""
        names, uri = self.pending(), self.sweep.tracking["uri"]
        if not names and self.error is None and self._ended:
            return None
        where = "" if uri is None else f" tracking=server tracking.uri={uri}"
        return LabError(
            f"MLflow has not got everything: {len(names)} of {len(self.jobs)} points are pending.",
            received=self.error.received if self.error else "" if self._ended else "an error of this program, above",
            fix=f"they are kept in .points/; mend that, then python -m pipeline.rebuild{where}",
        )

    def _is_settled(self, job: Job) -> bool:
        return job.signature in self._links and self._links[job.signature].settled

    def _run(self) -> None:
        wait = 0.0
        while True:
            closing = self._closing.wait(wait)
            try:
                self._send(closing)
                self.error, wait = None, MIRROR_SECONDS
            except LabError as error:
                self.error, wait = error, RETRY_SECONDS
                if not closing and not self._told:
                    self._told = True
                    print(f"training goes on without MLflow for now. {error}", file=sys.stderr, flush=True)
            if closing:
                self._ended = True  # not reached where the thread ends by an error of our own
                return

    def _send(self, closing: bool) -> None:
        if self._tracker is None:
            tracker = Tracker(Tracking(**self.sweep.tracking), self.sweep.study, self.root)
            kill_orphans(tracker)
            self._tracker = tracker
        tracker = self._tracker
        self._open_runs(tracker)
        if time.monotonic() - self._beat > HEARTBEAT_SECONDS:
            self._show_life(tracker)
        for job in list(self.jobs):
            if job.signature in self._links and not self._is_settled(job):
                self._send_job(tracker, job, self._links[job.signature])
        if closing:
            self._sum_up(tracker)

    def _open_runs(self, tracker: Tracker) -> None:
        """Find or make the runs that are needed now; a lock keeps two commands from making the same one."""
        needed = [job for job in list(self.jobs) if job.run and job.signature not in self._links]
        if not needed and self._presented and (self._parent or not self.sweep.parent):
            return
        self._presented = False
        lock = self.root / POINTS / ".locks" / f"mlflow-{self.sweep.study}"
        with explained(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock, timeout=LOCK_SECONDS):
                if self.sweep.parent and self._parent is None:
                    self._parent = open_sweep(tracker, self.sweep)
                runs = tracker.runs(needed[0].signature if len(needed) == 1 else None)
                for job in needed:
                    own = [run for run in runs if run.tags.get("signature") == job.signature]
                    belongs = point_tags(job.config, self.newest)
                    if self._parent:
                        belongs |= {"mlflow.parentRunId": self._parent.run_id, "lab.sweep": self.sweep.key}
                    self._links[job.signature] = open_point(tracker, own, job, belongs)
                configs = [job.config for job in list(self.jobs) if job.run]
                if configs and self.newest:
                    present_study(tracker, self.root, self.sweep, configs)
                    self._pass_over_earlier(tracker, {config.backend.name for config in configs})
                self._presented = bool(configs)

    def _pass_over_earlier(self, tracker: Tracker, backends: Collection[str]) -> None:
        """Let the views leave out what earlier sweeps of the same backends asked for, and this one did not."""
        if self._parent is None:
            return
        for run in tracker.runs():
            earlier = run.tags.get(NEWEST) == "true" and run.tags.get("lab.sweep") != self.sweep.key
            if earlier and run.tags.get("backend") in backends:
                tracker.tag(run.run_id, {NEWEST: "false"})

    def _sum_up(self, tracker: Tracker) -> None:
        """Write what the sweep came to, unless MLflow has it."""
        if self._parent and self._parent.settled:
            return
        points = [job.point for job in list(self.jobs) if job.point is not None and job.state in ("done", "complete")]
        if points:
            parent = self._parent.run_id if self._parent else None
            present_sweep(tracker, parent, self.sweep, points, self.newest)
        if self._parent:
            send_sweep(tracker, self._parent, self.sweep, self.folder)

    def _show_life(self, tracker: Tracker) -> None:
        """Tag the sweep, or the point that is alone, with the time: on another machine that is what tells of us."""
        self._beat = time.monotonic()
        now = str(time.time_ns() // 1_000_000)
        for link in [self._parent] if self._parent else self._links.values():
            if not link.settled:
                tracker.tag(link.run_id, {"lab.heartbeat": now})

    def _send_job(self, tracker: Tracker, job: Job, link: Link) -> None:
        state, rows = job.state, job.folder.kept  # in this order: what a state says of the folder holds for the rows
        if state in ("done", "complete") and job.point is not None:
            send_point(tracker, link, job, job.point, self._parent.run_id if self._parent else None)
            self.completed += 1
            return
        if link.sent < rows:
            tracker.log_metrics(link.run_id, job.history.metrics[link.sent : rows])
            link.sent = rows
        if state in ("failed", "killed"):
            status: Status = "KILLED" if state == "killed" else "FAILED"
            if job.error is not None:
                tracker.tag(link.run_id, {"error": str(job.error)})
            tracker.end_run(link.run_id, status)
            link.settled = True


def kill_orphans(tracker: Tracker) -> None:
    """Let runs of an experiment read KILLED that read RUNNING though their process has ended."""
    runs = tracker.runs()
    beats = {run.run_id: run.tags.get("lab.heartbeat") for run in runs}
    for run in runs:
        beat = beats.get(run.tags.get("mlflow.parentRunId", run.run_id))
        if run.status == "RUNNING" and is_gone(run.tags.get("lab.owner", ""), beat):
            tracker.end_run(run.run_id, "KILLED")


def open_sweep(tracker: Tracker, sweep: SweepRecord) -> Link:
    """The MLflow run of a sweep: the one it has, made to read RUNNING, or a new one."""
    tags = sweep.tags | {
        "lab.role": "sweep",
        "lab.sweep": sweep.key,
        "lab.owner": this_process(),
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


def open_point(tracker: Tracker, runs: Sequence[TrackedRun], job: Job, belongs: Mapping[str, str]) -> Link:
    """The MLflow run of a point: the one of its attempt, or a new one.

    Args:
        tracker: of its experiment.
        runs: what there is with its signature.
        job: the point.
        belongs: tags that say where the run belongs: its sweep, whose child it is, colour, views.
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
            return Link(run.run_id, settled=True)
        tracker.reopen_run(run.run_id, {**belongs, "lab.owner": this_process()})
        tracker.log_config(run.run_id, job.config, run.params)
        return Link(run.run_id)
    tags = job.run["tags"] | dict(belongs) | {
        "lab.role": "point",
        "lab.attempt": job.run["attempt"],
        "lab.owner": this_process(),
        "signature": job.signature,
        "study": job.config.study,
        "backend": job.config.backend.name,
        "overrides": " ".join(job.run["overrides"]),
    }  # fmt: skip
    run_id = tracker.start_run(job.name, tags, job.run["started"])
    tracker.log_config(run_id, job.config)
    return Link(run_id)


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
