"""From the points' folders to MLflow, beside the training and never in its way.

A thread sends what is on disk already: metrics that a checkpoint counts on, and the folders of points that are
complete. Beside NumPy it is one of another process (mirror_process.py). What MLflow does not take is sent at the next
try; what it has not taken in the end is pending, and `pipeline.rebuild` sends it another day. Everything carries the
timestamps of the journal, so that sending twice changes nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from pipeline.config.schema import Tracking
from pipeline.points.job import Job
from pipeline.points.point import POINTS, Point
from pipeline.points.sweep_record import SweepRecord
from pipeline.system.errors import LabError
from pipeline.system.files import explained
from pipeline.system.processes import HEARTBEAT_SECONDS, owner
from pipeline.system.terminal import notice
from pipeline.tracking.pages.presentation import point_tags, present_study, present_sweep
from pipeline.tracking.pages.views import NEWEST
from pipeline.tracking.runs import Link, find_sweep, kill_orphans, open_point, open_sweep, send_point, send_sweep
from pipeline.tracking.tracker import Status, Tracker
from pipeline.tracking.transfer import CheckpointSender, drop_checkpoints

MIRROR_SECONDS = 2.0
RETRY_SECONDS = 20.0
LOCK_SECONDS = 60.0
PATIENCE_SECONDS = 120.0
"""How long a worker that shares no disk waits in the end for a server that is away."""
SWEEP_SECONDS = 30.0
"""How long a worker waits in the end for the run of its sweep, which the command makes that has sent it."""


@dataclass(frozen=True)
class Branch:
    """That a mirror is a worker's: the sweep as a whole is another process's to track.

    Attributes:
        apart: whether it shares no disk with that process, so that checkpoints go through MLflow too.
    """

    apart: bool


class Mirror:
    """Keeps MLflow up to date with a sweep and its jobs.

    Args:
        root: folder that holds .points/ and mlruns/.
        sweep: what the command is; its `status` is set before `close`.
        folder: the sweep's own files.
        jobs: may grow while the mirror runs.
        newest: whether no later command has asked for points of its study and backend; the views show such points.
        branch: what a worker's mirror is; None: that of a whole command.

    Attributes:
        owner: the process that trains, whose life means that the command lives.
        error: why the last try failed.
        completed: how many points were completed in MLflow.
    """

    def __init__(
        self,
        root: Path,
        sweep: SweepRecord,
        folder: Path,
        jobs: Collection[Job],
        newest: bool = True,
        branch: Branch | None = None,
    ) -> None:
        self.root, self.sweep, self.folder, self.jobs, self.newest = root, sweep, folder, jobs, newest
        self.branch = branch
        self._checkpoints = CheckpointSender()
        self.owner = owner()
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
        if self._thread.ident is not None:
            self._thread.join()
        last = threading.Thread(target=self._end, name="mirror end", daemon=True)  # of the priority of this one
        last.start()
        last.join()

    def pending(self) -> list[str]:
        """Names of the points that MLflow has not got."""
        return [job.name for job in self.jobs if job.run and not self._is_settled(job)]

    def unsent(self) -> LabError | None:
        """After `close`: what MLflow has not got, and how to send it; None where it has everything."""
        names, uri = self.pending(), self.sweep.tracking["uri"]
        if not names and self.error is None and self._ended:
            return None
        return LabError(
            f"MLflow has not got everything: {len(names)} of {len(self.jobs)} points are pending.",
            received=self.error.received if self.error else "" if self._ended else "an error of this program, above",
            fix=rebuilding(uri),
        )

    def _is_settled(self, job: Job) -> bool:
        return self._has_run(job) and self._links[job.signature].settled

    def _run(self) -> None:
        wait = 0.0
        while not self._closing.wait(wait):
            completed = self.completed
            if not self._try(closing=False):
                wait = RETRY_SECONDS
            elif self.completed > completed:  # which took a while: others may be complete
                wait = 0.0
            else:
                wait = MIRROR_SECONDS

    def _end(self) -> None:
        patience = PATIENCE_SECONDS if self.branch is not None and self.branch.apart else 0.0
        give_up = time.monotonic() + patience  # there is no other way home
        while not self._try(closing=True) and time.monotonic() < give_up:
            time.sleep(MIRROR_SECONDS)
        self._ended = True  # not reached where the thread ends by an error of our own

    def _try(self, closing: bool) -> bool:
        """Send what there is; returns whether MLflow took it."""
        try:
            self._send(closing)
            self.error = None
        except LabError as error:
            self.error = error
            if not closing and not self._told:
                self._told = True
                self._tell(f"training goes on without MLflow for now. {error}")
        return self.error is None

    def _tell(self, text: str) -> None:
        """Show a message while training goes on."""
        notice(text)

    def _point(self, job: Job) -> Point | None:
        """A job's trained point, if it has one."""
        return job.point

    def _send(self, closing: bool) -> None:
        if self._tracker is None:
            tracker = Tracker(Tracking(**self.sweep.tracking), self.sweep.study, self.root)
            if self.branch is None:
                kill_orphans(tracker)
            self._tracker = tracker
        tracker = self._tracker
        if self.branch is not None and self.sweep.parent and not self._found_sweep(tracker, closing):
            return
        self._open_runs(tracker)
        if time.monotonic() - self._beat > HEARTBEAT_SECONDS:
            self._show_life(tracker)
        for job in list(self.jobs):
            if self._closing.is_set() and not closing:
                return  # `close` goes on with the rest
            if job.run and self._has_run(job) and not self._is_settled(job):
                self._send_job(tracker, job, self._links[job.signature])
        if closing and self.branch is None:
            self._sum_up(tracker)

    def _found_sweep(self, tracker: Tracker, closing: bool) -> bool:
        """Whether the sweep has its run, which a worker waits for only in the end."""
        give_up = time.monotonic() + SWEEP_SECONDS
        while self._parent is None:
            self._parent = find_sweep(tracker, self.sweep)
            if self._parent is None and not closing:
                return False
            if self._parent is None:
                if time.monotonic() > give_up:
                    raise LabError("MLflow has no run of the sweep.", received=f"none after {SWEEP_SECONDS:.0f} s")
                time.sleep(MIRROR_SECONDS)
        return True

    def _open_runs(self, tracker: Tracker) -> None:
        """Find or make the runs that are needed now; a lock keeps two commands from making the same one."""
        needed = [job for job in list(self.jobs) if job.run and not self._has_run(job)]
        if not needed and self._presented and (self._parent or not self.sweep.parent):
            return
        self._presented = False
        lock = self.root / POINTS / ".locks" / f"mlflow-{self.sweep.study}"
        with explained(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock, timeout=LOCK_SECONDS):
                if self.sweep.parent and self._parent is None:
                    self._parent = open_sweep(tracker, self.sweep, self.owner)
                few = len(needed) == 1 or self.branch is not None
                runs = [] if few else tracker.runs()
                for job in needed:
                    runs = tracker.runs(job.signature) if few else runs
                    own = [run for run in runs if run.tags.get("signature") == job.signature]
                    belongs = point_tags(job.config, self.newest)
                    if self._parent:
                        belongs |= {"mlflow.parentRunId": self._parent.run_id, "lab.sweep": self.sweep.key}
                    self._links[job.signature] = open_point(tracker, own, job, belongs, self.owner)
                configs = [job.config for job in list(self.jobs) if job.run]
                if configs and self.newest and self.branch is None:
                    present_study(tracker, self.root, self.sweep, configs)
                    self._pass_over_earlier(tracker, {config.backend.name for config in configs})
                self._presented = bool(configs)

    def _has_run(self, job: Job) -> bool:
        """Whether the run of a job's attempt is known; a point whose worker was lost may have begun another one."""
        return job.signature in self._links and self._links[job.signature].attempt == job.run["attempt"]

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
        complete = [job for job in list(self.jobs) if job.state in ("done", "complete")]
        points = [point for job in complete if (point := self._point(job)) is not None]
        if points:
            parent = self._parent.run_id if self._parent else None
            present_sweep(tracker, parent, self.sweep, points, self.newest)
        if self._parent:
            send_sweep(tracker, self._parent, self.sweep, self.folder)

    def _show_life(self, tracker: Tracker) -> None:
        """Tag the sweep, or the point that is alone, with the time: on another machine that is what tells of us."""
        self._beat = time.monotonic()
        now = str(time.time_ns() // 1_000_000)
        whole = self._parent if self.branch is None else None
        for link in [whole] if whole else self._links.values():
            if not link.settled:
                tracker.tag(link.run_id, {"lab.heartbeat": now})

    def _send_job(self, tracker: Tracker, job: Job, link: Link) -> None:
        state, rows = job.state, job.folder.kept  # in this order: what a state says of the folder holds for the rows
        point = self._point(job) if state in ("done", "complete") else None
        if point is not None:
            send_point(tracker, link, job, point, self._parent.run_id if self._parent else None)
            if self.branch is not None and self.branch.apart:
                drop_checkpoints(tracker, link.run_id)
            self.completed += 1
            return
        if self.branch is not None and self.branch.apart:
            rows = min(rows, self._checkpoints.send(tracker, link.run_id, job.folder))
        if link.sent < rows:
            tracker.log_metrics(link.run_id, job.history.metrics[link.sent : rows])
            link.sent = rows
        if state in ("failed", "killed"):
            status: Status = "KILLED" if state == "killed" else "FAILED"
            if job.error is not None:
                tracker.tag(link.run_id, {"error": str(job.error)})
            tracker.end_run(link.run_id, status)
            link.settled = True


def rebuilding(uri: str | None) -> str:
    """How to send what a store has not got.

    Args:
        uri: of the server; None: the local store.
    """
    where = "" if uri is None else f" tracking=server tracking.uri={uri}"
    return f"they are kept in .points/; mend that, then python -m pipeline.rebuild{where}"
