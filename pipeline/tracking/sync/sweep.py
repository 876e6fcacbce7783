"""From the points' folders to MLflow: one call, made again and again while points train, and once to rebuild a store.

Metrics that a checkpoint counts on and folders of complete points are sent as they lie on the disk, with the
timestamps of the journal, so that sending twice changes nothing. What MLflow does not take is sent by the next call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal

from filelock import FileLock

from pipeline.points.folder import PointFolder
from pipeline.points.point import POINTS
from pipeline.points.sweep_record import SweepRecord, sweep_folder
from pipeline.system.errors import LabError
from pipeline.system.files import explained
from pipeline.system.processes import HEARTBEAT_SECONDS
from pipeline.tracking.pages.presentation import point_tags, present_study, present_sweep
from pipeline.tracking.pages.views import NEWEST
from pipeline.tracking.runs import SweepRun, find_sweep, kill_orphans, open_sweep, send_sweep
from pipeline.tracking.sync.points import Attempt, PointSync
from pipeline.tracking.tracker import Status, Tracker
from pipeline.tracking.transfer import CheckpointSender

LOCK_SECONDS = 60.0
SWEEP_SECONDS, SWEEP_PAUSE = 30.0, 2.0
"""How long a worker waits in the end for the run of its sweep, which the command makes that has sent it, and how long
between two looks."""
WorkerDisk = Literal["shared", "own"]


class Sync:
    """Brings MLflow up to date with a sweep.

    Args:
        root: folder that holds .points/ and mlruns/.
        sweep: what the command is.
        owner: the process that trains, as `provenance.owner` gives it: while it lives, runs that read RUNNING are its.
        newest: whether no later command has asked for points of its study and backend; the views show such points.
        worker: that this is a worker's: points only, for the sweep as a whole is the sync of the command that has sent
            it. Whether their disk is shared: else checkpoints go through MLflow too. None: a command's.

    Attributes:
        points: what is kept up with, by signature.
        completed: how many points were completed in MLflow.
        stop: set it, and a `send` that is not the last one ends after the point at hand.
    """

    def __init__(
        self, root: Path, sweep: SweepRecord, owner: str, newest: bool = True, worker: WorkerDisk | None = None
    ) -> None:
        self.root, self.sweep, self.owner, self.newest, self.worker = root, sweep, owner, newest, worker
        self.points: dict[str, PointSync] = {}
        self.completed = 0
        self.stop = threading.Event()
        self._checkpoints = CheckpointSender() if worker == "own" else None
        self._tracker: Tracker | None = None
        self._parent: SweepRun | None = None
        self._beat = 0.0
        self._presented = False

    def add(self, attempts: Iterable[Attempt]) -> None:
        """Keep up with attempts too; one that is known already is left, another at the same point gives it up."""
        for attempt in attempts:
            known = self.points.get(attempt.signature)
            if known is None or known.attempt != attempt:
                folder = PointFolder(self.root, attempt.signature)
                self.points[attempt.signature] = PointSync(folder, attempt, self.sweep, self._checkpoints)

    def pending(self) -> list[str]:
        """Names of the points that MLflow has not got."""
        return [point.attempt.name for point in self.points.values() if not point.settled]

    def send(self, ended: SweepRecord | None = None) -> None:
        """Send what is on disk and not in MLflow.

        Args:
            ended: what the sweep came to; then points that are not complete are closed, and the sweep is summed up.
                None: it goes on.

        Raises:
            LabError: MLflow does not take it, or a complete point cannot be read.
        """
        if self._tracker is None:
            tracker = Tracker(self.sweep.tracking, self.sweep.study, self.root)
            if self.worker is None:
                kill_orphans(tracker)
            self._tracker = tracker
        tracker = self._tracker
        if self.worker is not None and self.sweep.parent and not self._found_parent(tracker, ended is not None):
            return
        self._open_runs(tracker)
        if time.monotonic() - self._beat > HEARTBEAT_SECONDS:
            self._show_life(tracker)
        self._send_points(tracker, ended)
        if ended is not None and self.worker is None:
            self._sum_up(tracker, ended)

    def _send_points(self, tracker: Tracker, ended: SweepRecord | None) -> None:
        parent = self._parent.run_id if self._parent else None
        status: Status | None = None
        if ended is not None:
            status = "FAILED" if ended.status == "FAILED" else "KILLED"
        for point in list(self.points.values()):
            if self.stop.is_set() and ended is None:
                return
            if point.run_id is None:
                point.settled = ended is not None  # its folder is gone, and there never was a run: nothing to send
            elif not point.settled:
                self.completed += point.send(tracker, parent, status)

    def _found_parent(self, tracker: Tracker, last: bool) -> bool:
        """Whether the sweep has its run, which a worker waits for only in the end."""
        give_up = time.monotonic() + SWEEP_SECONDS
        while self._parent is None:
            self._parent = find_sweep(tracker, self.sweep)
            if self._parent is None and not last:
                return False
            if self._parent is None:
                if time.monotonic() > give_up:
                    raise LabError("MLflow has no run of the sweep.", received=f"none after {SWEEP_SECONDS:.0f} s")
                time.sleep(SWEEP_PAUSE)
        return True

    def _open_runs(self, tracker: Tracker) -> None:
        """Find or make the runs that are needed now; a lock keeps two commands from making the same one."""
        needed = [point for point in list(self.points.values()) if point.run_id is None and point.look()]
        if not needed and self._presented and (self._parent or not self.sweep.parent):
            return
        self._presented = False
        lock = self.root / POINTS / ".locks" / f"mlflow-{self.sweep.study}"
        with explained(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock, timeout=LOCK_SECONDS):
                if self.sweep.parent and self._parent is None:
                    self._parent = open_sweep(tracker, self.sweep, self.owner)
                self._open_points(tracker, needed)
                self._present(tracker)

    def _open_points(self, tracker: Tracker, needed: Collection[PointSync]) -> None:
        """Find or make the runs of points."""
        few = len(needed) == 1 or self.worker is not None
        runs = [] if few else tracker.runs()
        for point in needed:
            if point.config is None:
                continue
            signature = point.attempt.signature
            runs = tracker.runs(signature) if few else runs
            own = [run for run in runs if run.tags.get("signature") == signature]
            belongs = point_tags(point.config, self.newest)
            if self._parent:
                belongs |= {"mlflow.parentRunId": self._parent.run_id, "lab.sweep": self.sweep.key}
            point.open(tracker, own, belongs, self.owner)

    def _present(self, tracker: Tracker) -> None:
        """Write the saved views of the study."""
        configs = [point.config for point in list(self.points.values()) if point.config is not None]
        if configs and self.newest and self.worker is None:
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

    def _sum_up(self, tracker: Tracker, sweep: SweepRecord) -> None:
        """Write what the sweep came to, unless MLflow has it."""
        if self._parent and self._parent.settled:
            return
        points = [point.read() for point in self.points.values() if point.is_complete()]
        if points:
            parent = self._parent.run_id if self._parent else None
            present_sweep(tracker, parent, sweep, points, self.newest)
        if self._parent:
            send_sweep(tracker, self._parent, sweep, sweep_folder(self.root, sweep.key))

    def _show_life(self, tracker: Tracker) -> None:
        """Tag the sweep, or the points of a worker or alone, with the time: all that another machine sees of us."""
        self._beat = time.monotonic()
        now = {"lab.heartbeat": str(time.time_ns() // 1_000_000)}
        if self.worker is None and self._parent is not None:
            if not self._parent.settled:
                tracker.tag(self._parent.run_id, now)
            return
        for point in list(self.points.values()):
            if point.run_id is not None and not point.settled:
                tracker.tag(point.run_id, now)
