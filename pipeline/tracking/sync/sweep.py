"""Brings MLflow up to date with the folders of points: again and again while they train, and once to rebuild a store.

Metrics that a checkpoint counts on, and the folders of complete points, are sent as they are on disk, with the
timestamps of the journal, so that sending them twice changes nothing. The next call sends what MLflow did not accept.
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
# How long a worker waits at its end for the run of its sweep, which the command that started the worker creates, and
# how long between two looks.
SWEEP_SECONDS = 30.0
SWEEP_PAUSE = 2.0
WorkerDisk = Literal["shared", "own"]


class Sync:
    """Brings MLflow up to date with a sweep.

    Args:
        root: folder that holds .points/ and mlruns/.
        sweep: the record of the command.
        owner: the process that trains, from `processes.owner`; while it is alive, its runs stay RUNNING.
        newest: whether no later command contains points of its study and backend; the views show such points.
        worker: None for the sync of a command. A worker sends its points only, because the command that started it
            sends the sweep as a whole; `own` means that the worker does not share a disk with the command, so that
            checkpoints go through MLflow too.

    Attributes:
        points: the points to keep up to date, by signature.
        completed: how many points were completed in MLflow.
        stop: once set, a `send` that is not the last one ends after the current point.

    Example:
        >>> sync = Sync(root, sweep, owner())
        >>> sync.add(attempts(jobs))
        >>> sync.send()  # again and again while the points train
        >>> sync.send(ended=sweep)
    """

    def __init__(
        self, root: Path, sweep: SweepRecord, owner: str, newest: bool = True, worker: WorkerDisk | None = None
    ) -> None:
        self.root = root
        self.sweep = sweep
        self.owner = owner
        self.newest = newest
        self.worker = worker
        self.points: dict[str, PointSync] = {}
        self.completed = 0
        self.stop = threading.Event()
        self._checkpoints: CheckpointSender | None = None
        if worker == "own":
            self._checkpoints = CheckpointSender()
        self._tracker: Tracker | None = None
        self._parent: SweepRun | None = None
        self._beat = 0.0
        self._presented = False

    def add(self, attempts: Iterable[Attempt]) -> None:
        """Keep up with more attempts; a new attempt at a point replaces the earlier one, known ones are ignored."""
        for attempt in attempts:
            known = self.points.get(attempt.signature)
            if known is None or known.attempt != attempt:
                folder = PointFolder(self.root, attempt.signature)
                self.points[attempt.signature] = PointSync(folder, attempt, self.sweep, self._checkpoints)

    def pending(self) -> list[str]:
        """Return the names of the points that are not complete in MLflow."""
        return [point.attempt.name for point in self.points.values() if not point.settled]

    def send(self, ended: SweepRecord | None = None) -> None:
        """Send everything that is on disk but not in MLflow.

        Args:
            ended: the record of the sweep after its end, to close the points that are not complete and to send the
                results of the sweep; None while it continues.

        Raises:
            LabError: MLflow does not accept it, or a complete point cannot be read.
        """
        tracker = self._open_tracker()
        if self.worker is not None and self.sweep.parent and not self._found_parent(tracker, ended is not None):
            return
        self._open_runs(tracker)
        if time.monotonic() - self._beat > HEARTBEAT_SECONDS:
            self._show_life(tracker)
        self._send_points(tracker, ended)
        if ended is not None and self.worker is None:
            self._sum_up(tracker, ended)

    def _open_tracker(self) -> Tracker:
        """Return the tracker, which is opened by the first call that succeeds."""
        if self._tracker is None:
            tracker = Tracker(self.sweep.tracking, self.sweep.study, self.root)
            if self.worker is None:
                kill_orphans(tracker)
            self._tracker = tracker
        return self._tracker

    def _send_points(self, tracker: Tracker, ended: SweepRecord | None) -> None:
        status: Status | None = None
        if ended is not None:
            status = "KILLED"
            if ended.status == "FAILED":
                status = "FAILED"
        # A copy, because the thread that trains adds points.
        for point in list(self.points.values()):
            if self.stop.is_set() and ended is None:
                return
            if point.run_id is None:
                # Its folder does not exist, and in the end that means that there is nothing to send.
                point.settled = ended is not None
            elif not point.settled:
                self.completed += point.send(tracker, self._parent_id(), status)

    def _parent_id(self) -> str | None:
        """Return the run of the sweep; None for a single point, and before the run exists."""
        if self._parent is None:
            return None
        return self._parent.run_id

    def _found_parent(self, tracker: Tracker, last: bool) -> bool:
        """Return whether the run of the sweep exists; a worker's last call waits for it."""
        give_up = time.monotonic() + SWEEP_SECONDS
        while self._parent is None:
            self._parent = find_sweep(tracker, self.sweep)
            if self._parent is None and not last:
                return False
            if self._parent is None:
                if time.monotonic() > give_up:
                    raise LabError("MLflow has no run for the sweep.", received=f"none within {SWEEP_SECONDS:.0f} s")
                time.sleep(SWEEP_PAUSE)
        return True

    def _open_runs(self, tracker: Tracker) -> None:
        """Find or create the runs that are needed now."""
        needed = [point for point in list(self.points.values()) if point.run_id is None and point.look()]
        if not needed and self._presented and (self._parent or not self.sweep.parent):
            return
        # Stays False if a call below fails, so that the next `send` writes the views.
        self._presented = False
        # MLflow accepts any number of runs of the same name: without the lock, two commands could create the same run.
        lock = self.root / POINTS / ".locks" / f"mlflow-{self.sweep.study}"
        with explained(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock, timeout=LOCK_SECONDS):
                if self.sweep.parent and self._parent is None:
                    self._parent = open_sweep(tracker, self.sweep, self.owner)
                self._open_points(tracker, needed)
                self._present(tracker)

    def _open_points(self, tracker: Tracker, needed: Collection[PointSync]) -> None:
        """Find or create the runs of points."""
        # One search for all points of a command. A single point, or a worker's few ones, are searched one by one.
        few = len(needed) == 1 or self.worker is not None
        runs = [] if few else tracker.runs()
        for point in needed:
            if point.config is None:
                continue
            signature = point.attempt.signature
            if few:
                runs = tracker.runs(signature)
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
            self._hide_earlier(tracker, {config.backend.name for config in configs})
        self._presented = bool(configs)

    def _hide_earlier(self, tracker: Tracker, backends: Collection[str]) -> None:
        """Hide points from the views that earlier sweeps of the same backends contain and this one does not."""
        # A single point does not replace a sweep in the views.
        if self._parent is None:
            return
        for run in tracker.runs():
            earlier = run.tags.get(NEWEST) == "true" and run.tags.get("lab.sweep") != self.sweep.key
            if earlier and run.tags.get("backend") in backends:
                tracker.tag(run.run_id, {NEWEST: "false"})

    def _sum_up(self, tracker: Tracker, sweep: SweepRecord) -> None:
        """Send the results of the sweep as a whole, unless MLflow has them."""
        if self._parent and self._parent.settled:
            return
        points = [point.read() for point in self.points.values() if point.is_complete()]
        if points:
            present_sweep(tracker, self._parent_id(), sweep, points, self.newest)
        if self._parent:
            send_sweep(tracker, self._parent, sweep, sweep_folder(self.root, sweep.key))

    def _show_life(self, tracker: Tracker) -> None:
        """Tag runs with the current time, the only sign of life that another machine can see.

        A command tags the run of its sweep. Workers and single points tag the runs of their points.
        """
        self._beat = time.monotonic()
        heartbeat = {"lab.heartbeat": str(time.time_ns() // 1_000_000)}
        if self.worker is None and self._parent is not None:
            if not self._parent.settled:
                tracker.tag(self._parent.run_id, heartbeat)
            return
        for point in list(self.points.values()):
            if point.run_id is not None and not point.settled:
                tracker.tag(point.run_id, heartbeat)
