"""Train a sweep's points on workers: cut them into units, hand these to an engine, and collect what becomes of them.

The engine is a Hydra launcher: joblib, Ray or SLURM distributes the units, and a worker (worker.py) trains each of
them. Workers write points to a disk that all machines share, or return them through MLflow.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.points.job import Job
from pipeline.points.reading import read_attempt, read_run
from pipeline.points.sweep_record import SweepRecord
from pipeline.sweep.grouping import units
from pipeline.sweep.training import StackTraining
from pipeline.sweep.workers.unit import Engine, Unit, UnitPoint, pack
from pipeline.sweep.workers.watching import await_folder, counting, locked
from pipeline.sweep.workers.worker import identity_of, train_unit
from pipeline.system.errors import EngineError, LabError

# It imports MLflow, which is needed here only for nodes without a shared disk.
if TYPE_CHECKING:
    from pipeline.tracking.tracker import Tracker

log = logging.getLogger(__name__)

# How often units are handed out in all, where the engine loses some of them.
ATTEMPTS = 3
# How long to wait for a folder that a worker has written: a network disk shows it to other machines some time later.
NETWORK_SECONDS = 60.0


class Distribution:
    """Trains one sweep's points on the workers of an engine. How each point ends is kept in its job.

    Args:
        engine: distributes the units.
        sweep: the record of the command.
        training: the training of this process, which has loaded the data.
    """

    def __init__(self, engine: Engine, sweep: SweepRecord, training: StackTraining) -> None:
        self._engine = engine
        self._sweep = sweep
        self._training = training
        # For points that are to be trained again, by signature: the attempts that existed before.
        self._replaced: dict[str, list[str | None]] = {}

    def train(self, jobs: Sequence[Job]) -> None:
        """Let the workers train points that are not done yet.

        Raises:
            LabError: the nodes share no disk, and there is no tracking server through which they could return points.
        """
        if self._engine.shared_disk:
            self._note_replaced(jobs)
            self._hand_out(jobs)
            return
        self._check_server()
        # With a shared disk the workers lock the points. Without one, this process has to.
        with locked(jobs):
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
        """Fetch what workers have sent to MLflow whose command was killed."""
        for error in self._fetch([job for job in jobs if not job.config.force]).values():
            log.warning(error)
        for job in jobs:
            self._settle(job, {})

    def _hand_out(self, jobs: Sequence[Job]) -> None:
        """Hand out points in units, and hand out again those that the engine lost."""
        left = list(jobs)
        problem = None
        for attempt in range(ATTEMPTS):
            if not left:
                return
            problem = self._run(left)
            left = [job for job in left if job.state not in ("complete", "failed")]
            if left and attempt + 1 < ATTEMPTS:
                why = problem or "Their workers were stopped."
                log.warning(f"{len(left)} points are handed out again. {why}")
        for job in left:
            job.fail(problem or _lost(job, self._engine))

    def _run(self, jobs: Sequence[Job]) -> EngineError | None:
        """Cut points into units, and let the engine run each of them once.

        Returns:
            The engine's error, if it lost some units.
        """
        packed = self._pack(jobs)
        plural = "s" if len(packed) > 1 else ""
        which = f"{len(packed)} unit{plural} for {self._engine.workers} workers"
        log.info(f"{self._sweep.name}: {len(jobs)} points in {which}, by {self._engine.name}")
        reports: dict[str, dict[str, Any]] = {}
        problem = None
        try:
            with counting(f"{self._sweep.name}, {self._engine.name}", jobs):
                for report in self._engine.run(train_unit, packed):
                    reports |= {point["signature"]: point for point in report}
        except EngineError as error:
            problem = error
        finally:
            # After an interruption too: what workers have completed by then counts.
            self._collect(jobs, reports, lost=problem is not None)
        return problem

    def _pack(self, jobs: Sequence[Job]) -> list[str]:
        """Cut points into units, and pack these."""
        numbers = {point.signature: number for number, point in enumerate(self._sweep.points, 1)}
        unit = Unit(
            # A unit is part of a command line, and a sweep may have many points: each unit names only its own.
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
        """Find out how points ended that were handed out.

        Args:
            jobs: all of these points.
            reports: what the workers report of them, by signature.
            lost: whether the engine lost some units.
        """
        ready = [job for job in jobs if reports.get(job.signature, {}).get("state") in ("done", "complete")]
        if self._engine.shared_disk:
            give_up = time.monotonic() + NETWORK_SECONDS
            for job in ready:
                await_folder(job, give_up)
        else:
            # Points of lost units may be in MLflow without a report of their worker.
            wanted = ready
            if lost:
                wanted = list(jobs)
            for signature, reason in self._fetch(wanted).items():
                reports.setdefault(signature, {})["error"] = str(reason)
        for job in jobs:
            self._settle(job, reports.get(job.signature, {}))

    def _settle(self, job: Job, report: dict[str, Any]) -> None:
        """Set the state of a point from what is on disk and what its worker reports."""
        error = report.get("error")
        job.look()
        # The folder is there and cannot be read, which the job says itself.
        if job.state == "failed":
            return
        if job.state == "done" and _attempts(job)[0] in self._replaced.get(job.signature, []):
            # This is still the point that the command is to replace.
            job.state = "to run"
            job.point = None
        if error is None and job.state == "done":
            job.run = read_run(job.folder.final)
            job.state = "complete"
            return
        # MLflow has to hear how an attempt ended that was begun.
        job.run = read_run(job.folder.path)
        if error is not None:
            job.error = LabError(error)
            job.state = "failed"
        elif report.get("state") == "killed" or job.run:
            # The end of the command turns this into killed or failed.
            job.state = "training"

    def _tracker(self) -> Tracker:
        """Connect to the tracking server of the sweep.

        Raises:
            LabError: the server does not answer.
        """
        from pipeline.tracking.tracker import Tracker

        return Tracker(self._sweep.tracking, self._sweep.study, self._training.root)

    def _fetch(self, jobs: Sequence[Job]) -> dict[str, LabError]:
        """Fetch points from MLflow as far as it has them; return by signature why some could not be fetched."""
        from pipeline.tracking.transfer import fetch_point

        errors: dict[str, LabError] = {}
        if jobs:
            try:
                tracker = self._tracker()
            except LabError as error:
                return {job.signature: error for job in jobs}
            for job in jobs:
                # With `force`, the complete attempt from before must not come back from the server.
                try:
                    fetch_point(tracker, job, excluded_attempt=self._replaced.get(job.signature, [None])[0])
                except LabError as error:
                    errors[job.signature] = error
        return errors

    def _close_runs(self, jobs: Sequence[Job]) -> None:
        """Set runs to KILLED whose workers were lost."""
        # This machine has no folder of these points, so the sync of the command does not know their runs. If MLflow
        # does not answer, they stay as they are.
        if jobs:
            with suppress(LabError):
                tracker = self._tracker()
                for run in [run for job in jobs for run in tracker.runs(job.signature) if run.status == "RUNNING"]:
                    tracker.end_run(run.run_id, "KILLED")


def _attempts(job: Job) -> list[str | None]:
    """Return the ids of the attempts at a point: the complete one, and the one that was begun; None where missing."""
    return [read_attempt(folder) for folder in (job.folder.final, job.folder.path)]


def _lost(job: Job, engine: Engine) -> LabError:
    received = "none"
    if engine.shared_disk:
        received = "none, though the worker is done"
    return LabError(
        f"{job.name} was not brought back.",
        expected=f"its folder {job.folder.final}, which a worker of {engine.name} writes",
        received=received,
        fix="run the same command again; where nodes have disks of their own, hydra.launcher.shared_disk=false",
    )
