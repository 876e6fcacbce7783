"""A sweep's points on workers: cut into units, handed to an engine, and looked at when they are back.

The engine is a launcher of Hydra's: joblib, Ray or SLURM distributes the units, and a worker trains each of them
(worker.py). What a worker leaves is in the points' folders, on a disk that all share, or is returned through MLflow.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.points.job import Job
from pipeline.points.reading import read_attempt, read_run
from pipeline.points.sweep_record import SweepRecord
from pipeline.sweep.grouping import units
from pipeline.sweep.training import POLL_SECONDS, StackTraining
from pipeline.sweep.workers.unit import Engine, Unit, UnitPoint, pack
from pipeline.sweep.workers.worker import identity_of, train_unit
from pipeline.system.errors import EngineError, LabError
from pipeline.system.files import written
from pipeline.system.terminal import TrainingProgress

if TYPE_CHECKING:  # it imports MLflow, which only nodes without a shared disk need here
    from pipeline.tracking.tracker import Tracker

ATTEMPTS = 3
"""How often units are handed out, where an engine loses some of them."""
NETWORK_SECONDS = 60.0
"""How long a folder is waited for that a worker has written: a network disk shows it to others a while later."""


class Distribution:
    """One sweep's points on the workers of an engine; what becomes of each point is kept in its job.

    Args:
        engine: see there.
        sweep: what the command is.
        training: that of this process, which has the data.
    """

    def __init__(self, engine: Engine, sweep: SweepRecord, training: StackTraining) -> None:
        self._engine, self._sweep, self._training = engine, sweep, training
        self._replaced: dict[str, list[str | None]] = {}  # by signature, of points trained again: attempts before this

    def train(self, jobs: Sequence[Job]) -> None:
        """Let workers train points that are not done yet.

        Raises:
            LabError: without a shared disk, no server is there through which points could be returned.
        """
        if self._engine.shared_disk:
            self._note_replaced(jobs)
            self._hand_out(jobs)
            return
        self._check_server()
        with _locked(jobs):
            left = [job for job in jobs if job.state not in ("done", "failed")]
            self._note_replaced(left)
            self._fetch_earlier(left)
            left = [job for job in left if job.state not in ("complete", "failed")]
            try:
                self._hand_out(left)
            finally:
                self._close_runs([job for job in left if job.state != "complete"])

    def _check_server(self) -> None:
        tracking = self._sweep.tracking.name
        if tracking != "server":
            raise LabError(
                "Points cannot be returned.",
                expected="tracking=server, through which nodes without a shared disk send what they have trained",
                received=f"hydra.launcher.shared_disk=false with tracking={tracking}",
                fix="add tracking=server tracking.uri=ADDRESS, or hydra.launcher.shared_disk=true",
            )

    def _note_replaced(self, jobs: Sequence[Job]) -> None:
        self._replaced = {job.signature: _attempts(job) for job in jobs if job.config.force}

    def _fetch_earlier(self, jobs: Sequence[Job]) -> None:
        """Fetch what the workers of a command that was killed have sent to MLflow."""
        for error in self._fetch([job for job in jobs if not job.config.force]).values():
            print(error, file=sys.stderr, flush=True)
        for job in jobs:
            self._settle(job, {})

    def _hand_out(self, jobs: Sequence[Job]) -> None:
        """Hand out units, and again what the engine lost of them."""
        left, problem = list(jobs), None
        for attempt in range(ATTEMPTS):
            if not left:
                return
            problem = self._run(left)
            left = [job for job in left if job.state not in ("complete", "failed")]
            if left and attempt + 1 < ATTEMPTS:
                why = problem or "Their workers were stopped."
                print(f"{len(left)} points are handed out again. {why}", file=sys.stderr, flush=True)
        for job in left:
            job.fail(problem or _lost(job, self._engine))

    def _run(self, jobs: Sequence[Job]) -> EngineError | None:
        """Cut points into units and run these once.

        Returns:
            What the engine had to say, if it lost some.
        """
        packed = self._pack(jobs)
        which = f"{len(packed)} unit{'s' if len(packed) > 1 else ''} for {self._engine.workers} workers"
        print(f"{self._sweep.name}: {len(jobs)} points in {which}, by {self._engine.name}", file=sys.stderr, flush=True)
        reports: dict[str, dict[str, Any]] = {}
        problem = None
        try:
            with _counting(f"{self._sweep.name}, {self._engine.name}", jobs):
                for report in self._engine.run(train_unit, packed):
                    reports |= {point["signature"]: point for point in report}
        except EngineError as error:
            problem = error
        finally:  # after an interruption too: what is trained by then counts
            self._collect(jobs, reports, lost=problem is not None)
        return problem

    def _pack(self, jobs: Sequence[Job]) -> list[str]:
        """Points as units."""
        numbers = {point.signature: number for number, point in enumerate(self._sweep.points, 1)}
        unit = Unit(
            sweep=replace(self._sweep, points=[]),
            total=len(self._sweep.points),
            project=str(self._training.project) if self._engine.shared_disk else None,
            sender=identity_of(self._training.root),
            tags=dict(self._training.tags),
            points=[],
        )
        packed = []
        for members in units([(job.config, self._training.load(job.config)) for job in jobs], self._engine.workers):
            points = [
                UnitPoint(
                    number=numbers[job.signature],
                    config=job.config.model_dump(mode="json"),
                    overrides=list(job.overrides),
                    signature=job.signature,
                    replaced=self._replaced.get(job.signature, []),
                )
                for job in (jobs[index] for index in members)
            ]
            packed.append(pack(replace(unit, points=points)))
        return packed

    def _collect(self, jobs: Sequence[Job], reports: dict[str, dict[str, Any]], lost: bool) -> None:
        """See what has become of points that were handed out.

        Args:
            jobs: all of them.
            reports: what workers say of them, by signature.
            lost: whether the engine lost some units, whose points may have been trained for all that.
        """
        ready = [job for job in jobs if reports.get(job.signature, {}).get("state") in ("done", "complete")]
        if self._engine.shared_disk:
            give_up = time.monotonic() + NETWORK_SECONDS
            for job in ready:
                _await_folder(job, give_up)
        else:
            for signature, reason in self._fetch(jobs if lost else ready).items():
                reports.setdefault(signature, {})["error"] = str(reason)
        for job in jobs:
            self._settle(job, reports.get(job.signature, {}))

    def _settle(self, job: Job, report: dict[str, Any]) -> None:
        """See what has become of a point."""
        error = report.get("error")
        job.look()
        if job.state == "failed":  # it is there, and cannot be read
            return
        new = _attempts(job)[0] not in self._replaced.get(job.signature, [])
        if job.state == "done" and not new:  # that it was trained before is not what was asked for
            job.state, job.point = "to run", None
        if error is None and job.state == "done":
            job.run, job.state = read_run(job.folder.final), "complete"
            return
        job.run = read_run(job.folder.path)  # so that MLflow hears how it ended, if it has begun
        if error is not None:
            job.error, job.state = LabError(error), "failed"
        elif report.get("state") == "killed" or job.run:
            job.state = "training"  # which the end of the command makes killed, or failed

    def _tracker(self) -> Tracker:
        """The store of the sweep.

        Raises:
            LabError: it does not answer.
        """
        from pipeline.tracking.tracker import Tracker

        return Tracker(self._sweep.tracking, self._sweep.study, self._training.root)

    def _fetch(self, jobs: Sequence[Job]) -> dict[str, LabError]:
        """Fetch points that MLflow has; returns by signature why some could not be fetched."""
        from pipeline.tracking.transfer import fetch_point

        errors: dict[str, LabError] = {}
        if jobs:
            try:
                tracker = self._tracker()
            except LabError as error:
                return {job.signature: error for job in jobs}
            for job in jobs:
                try:
                    fetch_point(tracker, job, but=self._replaced.get(job.signature, [None])[0])
                except LabError as error:
                    errors[job.signature] = error
        return errors

    def _close_runs(self, jobs: Sequence[Job]) -> None:
        """Let runs read KILLED whose workers are lost: nothing here tells of them. What MLflow does not take stays."""
        if jobs:
            with suppress(LabError):
                tracker = self._tracker()
                for run in [run for job in jobs for run in tracker.runs(job.signature) if run.status == "RUNNING"]:
                    tracker.end_run(run.run_id, "KILLED")


def _attempts(job: Job) -> list[str | None]:
    """Which attempts at a point are there: the complete one, and the one that was begun."""
    return [read_attempt(folder) for folder in (job.folder.final, job.folder.path)]


def _await_folder(job: Job, give_up: float) -> None:
    """Wait until a folder that a worker has written is seen here, or until `give_up`, of time.monotonic()."""
    while not job.folder.final.exists() and time.monotonic() < give_up:
        list(job.folder.final.parent.iterdir())  # NFS looks anew
        time.sleep(POLL_SECONDS)


def _lost(job: Job, engine: Engine) -> LabError:
    return LabError(
        f"{job.name} was not brought back.",
        expected=f"its folder {job.folder.final}, which a worker of {engine.name} writes",
        received="none" + (", though the worker is done" if engine.shared_disk else ""),
        fix="run the same command again; where nodes have disks of their own, hydra.launcher.shared_disk=false",
    )


@contextmanager
def _locked(jobs: Sequence[Job]) -> Iterator[None]:
    """Hold points for this command while workers train them; those that another command finishes meanwhile are done."""
    held: list[Job] = []
    waiting = False
    try:
        # All commands lock in one order, so that no two of them wait for each other.
        for job in sorted(jobs, key=lambda job: job.signature):
            try:
                while not job.folder.lock():
                    if not waiting:
                        waiting = True
                        print(f"waiting for points that another command trains: {job.name} ...", file=sys.stderr)
                    time.sleep(POLL_SECONDS)
                held.append(job)
                if not job.config.force:
                    job.adopt()
                    job.run = read_run(job.folder.final) if job.state == "done" else job.run
            except LabError as error:
                job.fail(error)
        yield
    finally:
        for job in held:
            job.folder.unlock()


@contextmanager
def _counting(label: str, jobs: Sequence[Job]) -> Iterator[None]:
    """Show how many points are complete on this disk, while workers train."""
    progress = TrainingProgress(label, len(jobs), unit="point")
    files = [job.folder.final / "run.json" for job in jobs]
    before = [written(file) for file in files]
    over = threading.Event()

    def count() -> None:
        while not over.wait(1.0):
            progress(sum(written(file) != time for file, time in zip(files, before, strict=True)))

    watcher = threading.Thread(target=count, name="points", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        progress.close()
