"""Run the points of one command: skip finished points, resume interrupted ones, and train the others."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pipeline.backends.numpy.array_modules import array_module
from pipeline.config.schema import Config
from pipeline.points.destination import results_folder
from pipeline.points.job import Job, summary
from pipeline.points.point import Outcome, Point
from pipeline.points.results import gather
from pipeline.points.sweep_lock import SweepLock
from pipeline.points.sweep_record import (
    SweepRecord,
    earlier_sweep,
    extremes,
    list_points,
    sweep_folder,
    sweep_key,
    write_sweep,
)
from pipeline.studies.kinds import sweep_figures
from pipeline.sweep.figures import write_figures
from pipeline.sweep.tables import plan_table, points_table
from pipeline.sweep.training import StackTraining, take_over
from pipeline.sweep.workers.distribution import Distribution
from pipeline.sweep.workers.unit import Engine
from pipeline.system.environment import ASKED_ENGINE
from pipeline.system.errors import LabError, UnavailableError, explain
from pipeline.system.failures import Failures
from pipeline.system.processes import command, owner
from pipeline.system.project import code_state, store_root
from pipeline.system.wording import some
from pipeline.tracking.sync.points import attempts
from pipeline.tracking.sync.process import SyncProcess
from pipeline.tracking.sync.sweep import Sync
from pipeline.tracking.sync.thread import SyncThread

log = logging.getLogger(__name__)

# Maximum number of points to name with each error.
MOST_NAMED = 3


class Sweep:
    """Trains the points of one command, records the command on disk, and sends both to MLflow.

    Args:
        project: folder that holds data/ and results/.
        first: config of the first point. All points have its study, tracking, results, dry_run and force; its backend
            names the sweep.
        total: number of points of the command; None: unknown, because they come one by one. A single point has no
            parent run in MLflow.
        process: the process that writes to MLflow, from `sync.process.launch`; None: a thread of this process writes.
        engine: trains the points on workers; None: they are trained in this process.

    Raises:
        LabError: the data of the first point is missing, or the results folder cannot be used.

    Example:
        sweep = Sweep(project, config, total=1)
        try:
            (outcome,) = sweep.train_all([(config, ["optimizer.learning_rate=0.1"])])
        finally:
            sweep.finish()
    """

    def __init__(
        self,
        project: Path,
        first: Config,
        total: int | None,
        process: subprocess.Popen[bytes] | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.project = project
        self.first = first
        self.total = total
        self.root = store_root(project)
        self.code = code_state(project)
        # All points requested so far, by signature, in the order of the requests.
        self.jobs: dict[str, Job] = {}
        self.interrupted = False
        # Checked now, and not only when it is written: training may take hours.
        self._results: Path | None = None
        if first.results is not None:
            self._results = results_folder(first.results, project)
        # What ended the command early, other than an interruption or an error that has a message: a bug of ours.
        self._bug: BaseException | None = None
        tags = self.code | {"command": command()}
        self._training = StackTraining(project, first, tags, self._label, self._start_sync)
        self._process = process
        self._engine = engine
        self._record: SweepRecord | None = None
        self._lock: SweepLock | None = None
        self._sync: SyncThread | SyncProcess | None = None
        # Figures of the sweep that could not be drawn.
        self._undrawn = Failures()

    @property
    def name(self) -> str:
        """Study and backend, for instance `three_bits numpy`, as a name for messages and the parent run."""
        return f"{self.first.study} {self.first.backend.name}"

    def train_all(
        self, requests: Sequence[tuple[Config, list[str]]], batch_size: int | None = None
    ) -> list[Outcome | None]:
        """Train points, those of one shape as one stack. Points with the same signature are trained once.

        Args:
            requests: the config of each point, and the overrides typed for it.
            batch_size: maximum number of points to train at the same time; None: no limit.

        Returns:
            Outcomes in the order of the requests. None in a dry run, and for a point that failed; `finish` reports why.

        Raises:
            KeyboardInterrupt: the command was interrupted; finished work is kept.
        """
        requested = [self._training.job(config, overrides) for config, overrides in requests]
        # `setdefault` returns the first job with a signature, so a repeated point is not new.
        new = [job for job in requested if self.jobs.setdefault(job.signature, job) is job]
        for job in new:
            self._read_state(job)
        if new:
            log.info(f"{self.name}: {summary(new, len(requested) - len(new))}")
            if ASKED_ENGINE != "tensorflow" and any(job.config.backend.name == "keras" for job in new):
                log.warning(f"KERAS_BACKEND={ASKED_ENGINE} has no effect: Keras runs on TensorFlow here")
        if not self.first.dry_run:
            left = [job for job in new if job.state not in ("done", "failed")]
            if self._engine is None:
                # This reports a missing GPU, before anything is written. Workers look for their own.
                for job in left:
                    array_module(job.config)
            try:
                self._open_record(new)
                size = batch_size or max(1, len(left))
                for start in range(0, len(left), size):
                    self._train(left[start : start + size])
            except (KeyboardInterrupt, LabError) as error:
                self.interrupted = isinstance(error, KeyboardInterrupt)
                raise
            except BaseException as error:
                self._bug = error
                raise
        points = [self.jobs[job.signature].point for job in requested]
        return [None if point is None or self.first.dry_run else point.outcome for point in points]

    def finish(self) -> None:
        """Gather the results, let MLflow catch up, and print the table of points.

        Raises:
            LabError: some points failed, or figures could not be drawn, or MLflow rejected something; the message names
            each cause with its points.
        """
        jobs = list(self.jobs.values())
        if self.first.dry_run:
            print(plan_table(jobs), flush=True)
            return
        # The command failed before anything was recorded, for instance because a GPU is missing.
        if self._record is None or self._sync is None:
            return
        try:
            self._finish_record(self._record, self._sync)
        finally:
            if self._lock is not None:
                self._lock.release()

    def _finish_record(self, record: SweepRecord, sync: SyncThread | SyncProcess) -> None:
        jobs = list(self.jobs.values())
        self._end_jobs()
        points = [job.point for job in jobs if job.point is not None and job.state in ("done", "complete")]
        problems = _failure_messages([job for job in jobs if job.state == "failed"])
        try:
            problems += self._end_record(record, points)
        finally:
            # Also after a bug of ours: no run must keep the status RUNNING.
            sync.add(attempts(jobs))
            sync.close(record)
        if points:
            print(points_table(jobs), flush=True)
        for job in jobs:
            self._undrawn.errors.update(job.undrawn.errors)
        problems += self._undrawn.messages("could not be drawn")
        unsent = sync.unsent()
        if isinstance(unsent, UnavailableError):
            # Only a notice: every point is on disk, and the next command sends what is missing.
            log.warning(unsent)
        elif unsent is not None:
            problems.append(str(unsent))
        if problems:
            raise LabError("\n".join(dict.fromkeys(problems)))

    def _read_state(self, job: Job) -> None:
        """Read from disk what an earlier command has done for a point, and report a result that cannot be used."""
        job.look()
        if job.error is not None and job.state != "failed":
            log.warning(f"{job.name} is retrained. {job.error}")
        # With `force` no earlier result counts, not even one that this machine cannot read.
        if self.first.force and job.state != "to run":
            job.state = "to run"

    def _end_jobs(self) -> None:
        """Set the final state of points whose training has not ended normally."""
        for job in self.jobs.values():
            if job.state == "training" and self._bug is not None:
                job.fail(explain(self._bug))
            elif job.state == "training":
                job.state = "killed"

    def _end_record(self, record: SweepRecord, points: Sequence[Point]) -> list[str]:
        """Record the status of the sweep, and gather its results if all points are complete; return error messages."""
        folder = sweep_folder(self.root, record.key)
        complete = bool(points) and len(points) == len(self.jobs)
        record.status = "FAILED"
        if complete:
            record.status = "FINISHED"
        elif self.interrupted:
            record.status = "KILLED"
        if self._bug is not None:
            record.tags = {**record.tags, "error": str(explain(self._bug))}
        try:
            self._sum_up(record, folder, points)
            if complete and self._results is not None:
                gather(self._results, list(self.jobs.values()), record, folder)
        except Exception as error:  # noqa: BLE001 - an error of our own must not keep the points from MLflow either
            # The status has to reach MLflow first, so `finish` raises this only afterwards.
            record.status = "FAILED"
            if not isinstance(error, LabError):
                record.tags = {**record.tags, "error": str(explain(error))}
                write_sweep(folder, record)
            return [str(explain(error))]
        return []

    def _new_sync(self, record: SweepRecord) -> SyncThread | SyncProcess:
        if self._process is None:
            return SyncThread(Sync(self.root, record, owner()))
        return SyncProcess(self._process, self.root, record)

    def _start_sync(self) -> None:
        if self._sync is not None:
            self._sync.add(attempts(self.jobs.values()))
            self._sync.start()

    def _train(self, jobs: Sequence[Job]) -> None:
        if self._engine is None or not jobs:
            self._training.train(jobs)
        # The record is always open by now; only its type allows for None.
        elif self._record is not None:
            # The sync creates the parent run, below which the workers put theirs.
            self._start_sync()
            Distribution(self._engine, self._record, self._training).train(jobs)

    def _open_record(self, new: Sequence[Job]) -> None:
        """Record the command on disk, and take over points that earlier commands have completed, for MLflow."""
        jobs = list(self.jobs.values())
        now = time.time_ns() // 1_000_000
        if self._record is None:
            self._record = self._new_record(jobs, now)
            self._sync = self._new_sync(self._record)
            self._lock = SweepLock(self.root, self._record.key)
            self._lock.hold()
        record = self._record
        record.asked = now
        record.points = list_points((job.name, job.signature) for job in jobs)
        # The points of a later batch belong to the same record.
        folder = sweep_folder(self.root, record.key)
        before = earlier_sweep(folder)
        if before is not None and before.status == "FINISHED" and all(job.state == "done" for job in jobs):
            # A repeated command with nothing left to do changes neither times nor values.
            record.started = before.started
            record.ended = before.ended
            record.values = before.values
            record.status = before.status
        else:
            # The earlier batches of this command may have had nothing left to do.
            record.ended = None
            record.status = "RUNNING"
        write_sweep(folder, record)
        for job in new:
            if job.state == "done":
                take_over(job)

    def _new_record(self, jobs: Sequence[Job], now: int) -> SweepRecord:
        # If the points come one by one, the others are not known yet, and the command line identifies the sweep.
        members = [command()]
        if self.total is not None:
            members = [job.signature for job in jobs]
        study = self.first.study
        backend = self.first.backend.name
        tracking = self.first.tracking
        return SweepRecord(
            key=sweep_key(study, backend, tracking, members),
            study=study,
            backend=backend,
            parent=self.total != 1,
            command=command(),
            tracking=tracking,
            tags=self.code,
            started=now,
        )

    def _label(self, jobs: Sequence[Job]) -> str:
        """Return the progress label of a stack, for instance `three_bits numpy: points 1-7 of 14`."""
        if len(self.jobs) == 1 and self.total == 1:
            return f"{self.name}: {jobs[0].name}"
        numbers = [number for number, job in enumerate(self.jobs.values(), 1) if job in jobs]
        total = f" of {len(self.jobs)}" if self.total else ""
        if len(jobs) == 1:
            return f"{self.name}: point {numbers[0]}{total} ({jobs[0].name})"
        which = ", ".join(map(str, numbers))
        if numbers == list(range(numbers[0], numbers[-1] + 1)):
            which = f"{numbers[0]}-{numbers[-1]}"
        return f"{self.name}: points {which}{total}"

    def _sum_up(self, record: SweepRecord, folder: Path, points: Sequence[Point]) -> None:
        """Write the figures and the values of the sweep as a whole."""
        # An earlier command has written them if it ended this sweep and this one had nothing to do.
        if record.ended is not None and all(job.state == "done" for job in self.jobs.values()):
            return
        record.ended = time.time_ns() // 1_000_000
        if points and not self.interrupted:
            record.values = {"points": float(len(points))} | extremes(points)
            if record.parent:
                write_figures(folder, partial(sweep_figures, points), self.name, self._undrawn)
        write_sweep(folder, record)


def _failure_messages(failed: Sequence[Job]) -> list[str]:
    """Return each error once, with the points that it affects."""
    names: dict[str, list[str]] = {}
    errors: dict[str, LabError | None] = {}
    for job in failed:
        cause = "" if job.error is None else job.error.cause
        names.setdefault(cause, []).append(job.name)
        errors.setdefault(cause, job.error)
    return [f"{some(points, MOST_NAMED)} failed. {errors[cause]}" for cause, points in names.items()]
