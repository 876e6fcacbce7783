"""Brings MLflow up to date with the folders of points: repeatedly while they train, and once to rebuild a store.

Metrics covered by a checkpoint and the folders of complete points are sent as stored on disk, with the timestamps of
the journal, so that sending is idempotent. Anything that MLflow does not accept is sent again by the next call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

from pipeline.points.clone import clone_id
from pipeline.points.point import Point
from pipeline.points.sweep_record import SweepPoint, SweepRecord
from pipeline.system.errors import LabError, UnavailableError
from pipeline.system.failures import Failures
from pipeline.system.last_line import Told, untold
from pipeline.tracking.ownership import CLONE, SignsOfLife, hide_earlier
from pipeline.tracking.pages.labels import labels
from pipeline.tracking.pages.presentation import present_study
from pipeline.tracking.pages.views import NEWEST
from pipeline.tracking.runs import study_lock
from pipeline.tracking.sync.connection import Connection
from pipeline.tracking.sync.parent import ParentRun
from pipeline.tracking.sync.placement import PARENT, SWEEP_RUN
from pipeline.tracking.sync.placing import Placing
from pipeline.tracking.sync.points import PointSync
from pipeline.tracking.sync.repeats import RepeatedPoints
from pipeline.tracking.sync.synced_points import SyncedPoints
from pipeline.tracking.tracker import Status, Tracker
from pipeline.tracking.transfer import CheckpointSender

WorkerDisk = Literal["shared", "own"]


class Sync:
    """Brings MLflow up to date with the points of a command, and with the sweep itself.

    Args:
        root: folder that holds .points/ and mlruns/.
        sweep: the record of the command.
        owner: the process that trains, from `processes.owner`; while it is alive, its runs have the status RUNNING.
        newest: True if this is the last command with points of its study and backend, so that the views show its
            points.
        worker: None for the sync of a command. The sync of a worker handles only points, because the command that
            started the worker sends the sweep itself. `shared` or `own` is the disk of the worker: with its own disk,
            checkpoints are sent through MLflow too.
        clone: the id of the clone whose command this is, for a worker with its own disk; None: that of `root`.

    Attributes:
        points: the points to send.
        completed: number of points that this sync has completed in MLflow.
        stop: if set, a `send` that is not the last one returns after the current point.
        told: is told how many points MLflow has, and of how many, while a `send` goes on.

    Example:
        >>> sync = Sync(root, sweep, owner())
        >>> sync.points.add(attempts(jobs))
        >>> sync.send()  # repeatedly while the points train
        >>> sync.send(ended=sweep)
    """

    def __init__(
        self,
        root: Path,
        sweep: SweepRecord,
        owner: str,
        newest: bool = True,
        worker: WorkerDisk | None = None,
        clone: str | None = None,
    ) -> None:
        self.root = root
        self.sweep = sweep
        self.owner = owner
        self.newest = newest
        self.worker = worker
        self.clone = clone
        self.completed = 0
        self.stop = threading.Event()
        self.told: Told = untold
        self._connection = Connection(root, sweep, of_worker=worker is not None)
        check = self._connection.check
        self._parent = ParentRun(root, sweep, owner, check)
        self._repeated = RepeatedPoints(root, owner, check)
        self._life = SignsOfLife(check)
        self._presented = False
        # What failed: runs and views. Each point and the run of the sweep have their own parts.
        self._failures = Failures(check)
        checkpoints = None
        if worker == "own":
            checkpoints = CheckpointSender()
        self.points = SyncedPoints(root, sweep, self._failures, check, checkpoints)

    def failed(self) -> Failures:
        """Return everything that could not be sent although the store works, each with its error."""
        failed = Failures()
        failed.errors.update(self._failures.errors)
        failed.errors.update(self.points.errors())
        failed.errors.update((f"the {part} of {self.sweep.name}", e) for part, e in self._parent.parts.errors.items())
        failed.errors.update(self._repeated.errors())
        return failed

    def send(self, ended: SweepRecord | None = None) -> None:
        """Send everything that is on disk but not in MLflow; what MLflow rejects is in `failed`, and the rest goes on.

        Args:
            ended: the final record of the sweep, for the last call: it also closes the runs of points that are not
                complete, and sends the results of the sweep. None while the command is running.

        Raises:
            LabError: the store or the experiment cannot be used at all.
        """
        try:
            self._send_once(ended)
            # Runs may be deleted in MLflow's user interface at any time. What was deleted is sent again.
            if self.failed().errors and self._forget_deleted():
                self._send_once(ended)
        except UnavailableError:
            raise
        except LabError:
            # From a call that is not about one item: either the whole store has failed, or this is the error.
            self._connection.check()
            raise

    def _send_once(self, ended: SweepRecord | None) -> None:
        tracker = self._connection.tracker()
        # The last call of a worker waits for the run; earlier calls do not, because there will be another one.
        waits = self.worker is not None and self._parent.missing
        if waits and not self._parent.find(tracker, self._own_clone(), wait=ended is not None):
            return
        self._open_runs(tracker)
        self._show_life(tracker)
        self._send_points(tracker, ended)
        if ended is not None and self.worker is None:
            self._sum_up(tracker, ended)

    def end_without_points(self, ended: SweepRecord) -> bool:
        """End the run of a sweep that has no points to send, if MLflow has such a run.

        Args:
            ended: the final record of the sweep.

        Returns:
            Whether there was something to end.

        Raises:
            LabError: MLflow rejects the data.
        """
        return self._parent.end_without_points(self._connection.tracker(), ended, self._own_clone())

    def _forget_deleted(self) -> bool:
        """Forget the runs that were deleted in MLflow since they were opened; return whether there were any."""
        deleted = self._connection.reopen_if_deleted()
        tracker = self._connection.tracker()
        forgotten = self._parent.forget_if_deleted(tracker) or deleted
        forgotten = self._repeated.forget_if_deleted(tracker) or forgotten
        # An error of the repeated points may come from a seed that cannot be moved below the run of its point.
        every = deleted or bool(self._repeated.errors())
        return self.points.forget_if_deleted(tracker, every) or forgotten

    def _send_points(self, tracker: Tracker, ended: SweepRecord | None) -> None:
        status: Status | None = None
        if ended is not None:
            status = "KILLED"
            if ended.status == "FAILED":
                status = "FAILED"
        points = list(self.points)
        sent = sum(point.settled for point in points)
        for point in points:
            if self.stop.is_set() and ended is None:
                return
            self.told(sent, len(points))
            sent -= point.settled
            if point.run_id is None:
                # Its folder does not exist. If that is still so in the last call, there is nothing to send.
                point.settled = ended is not None and not self.points.has_failed(point, "the folder", "the run")
            # What failed is tried again by the last call.
            elif not point.settled and (ended is not None or not point.parts.errors):
                # Sending many points can take longer than a process without a heartbeat counts as alive.
                self._show_life(tracker)
                with self.points.apart("the progress", point):
                    self.completed += point.send(tracker, self._parent.run_id, status)
            sent += point.settled
        self.told(sent, len(points))

    def _open_runs(self, tracker: Tracker) -> None:
        """Find or create the runs that are needed now."""
        needed = self.points.without_run()
        if not needed and self._presented and not self._parent.missing:
            return
        # Stays False if a call below fails, so that the next `send` writes the views.
        self._presented = False
        # The lock prevents two commands from creating the same run; to MLflow these would be two different runs.
        with study_lock(self.root, self.sweep.study):
            if self._parent.missing:
                with self._failures.apart(f"the run of {self.sweep.name}"):
                    self._parent.open(tracker, self._own_clone())
            self._open_points(tracker, needed)
            with self._failures.apart("the saved views"):
                self._present(tracker)

    def _open_points(self, tracker: Tracker, needed: Collection[PointSync]) -> None:
        """Find or create the runs of points, and show those that have one below the run of the sweep."""
        # One search returns all runs of the experiment, which is best for all points of a command. A worker has only a
        # few of them, so it searches for each point, as does a command for a single point.
        one_by_one = len(needed) == 1 or self.worker is not None
        runs = [] if one_by_one else tracker.runs()
        placing = self._placing()
        for point in needed:
            if point.folder.config is None:
                continue
            self._show_life(tracker)
            signature = point.attempt.signature
            with self.points.apart("the run", point):
                if one_by_one:
                    runs = tracker.runs(signature)
                own = [run for run in runs if run.tags.get("signature") == signature]
                point.open(tracker, own, placing.tags(point.attempt.name, point.folder.config), self.owner)
        for point in self.points:
            if point.parent != self._parent.run_id:
                with self.points.apart("the place", point):
                    placing.place(tracker, point)

    def _placing(self) -> Placing:
        """Return where MLflow shows the runs of the points that are known so far."""
        sent = [point.attempt.name for point in self.points]
        shown = labels([*(point.name for point in self.sweep.points), *sent])
        tags = {NEWEST: str(self.newest).lower(), CLONE: self._own_clone()}
        if self._parent.run_id is not None:
            tags |= {PARENT: self._parent.run_id, SWEEP_RUN: self._parent.run_id, "lab.sweep": self.sweep.key}
        return Placing(shown, tags)

    def _present(self, tracker: Tracker) -> None:
        """Write the saved views of the study, if the configs of points are known."""
        configs = self.points.configs()
        if configs and self.newest and self.worker is None:
            known = {point.signature: point for point in self.sweep.points}
            sent = [point.attempt for point in self.points]
            known |= {one.signature: SweepPoint(one.name, one.signature, one.signature) for one in sent}
            if not present_study(tracker, self.root, replace(self.sweep, points=[*known.values()]), configs):
                backends = {config.backend.name for config in configs}
                hide_earlier(tracker, self.sweep.key, self._own_clone(), backends)
        self._presented = bool(configs)

    def _sum_up(self, tracker: Tracker, sweep: SweepRecord) -> None:
        """Send what is about several points: the seeds of a point, and the sweep unless MLflow already has it."""
        judged = cache(self.points.judged)
        self._gather(tracker, sweep, judged)
        runs = {point.attempt.signature: point.run_id for point in self.points if point.run_id is not None}
        if self._parent.settled and not self._parent.lacks_models(tracker, sweep, runs.values()):
            return
        points = list(judged().values())
        # There is a view of points that diverged only if some did, which is known now.
        if any(point.diverged for point in points):
            with self._failures.apart("the saved views"):
                self._present(tracker)
        self._parent.send(tracker, sweep, points, runs, self.newest)

    def _gather(self, tracker: Tracker, sweep: SweepRecord, judged: Callable[[], Mapping[str, Point]]) -> None:
        """Show the seeds of each point below a run of their own, and name the points by what has varied in the end."""
        if self._parent.run_id is None:
            return
        self.sweep.points = sweep.points
        placing = self._placing()
        points = list(self.points)
        for point in points:
            with self.points.apart("the place", point):
                placing.place(tracker, point)
        self._repeated.judged = judged
        with self._failures.apart(f"the seeds of {self.sweep.name}"), study_lock(self.root, self.sweep.study):
            self._repeated.send(tracker, sweep, points, placing.shown, placing.sweep_tags)

    def _show_life(self, tracker: Tracker) -> None:
        """Show other machines that the process lives, if that is due.

        A command tags the run of its sweep. Workers and single points tag the runs of their points.
        """
        alive = [point.run_id for point in self.points.unreturned() if point.run_id is not None]
        if self.worker is None and self._parent.run_id is not None:
            alive = []
            if not self._parent.settled:
                alive = [self._parent.run_id]
        self._life.show(tracker, alive)

    def _own_clone(self) -> str:
        """Return the id of the clone whose command this is, reading it on the first call."""
        if self.clone is None:
            self.clone = clone_id(self.root)
        return self.clone
