"""Train the points of a sweep on workers: split them into units, submit these to an engine, and collect the results.

The engine is a Hydra launcher: joblib, Ray or SLURM distributes the units, and a worker (worker.py) trains each of
them. Workers write points to a disk that all machines share, or return them through MLflow.

With `force=true`, points are retrained. If the engine loses a worker, its units are submitted again, and then results
of this command must be told from those of earlier ones: the ids of all attempts that existed before are remembered. An
attempt that is not among them is one of this command.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline.points.clone import clone_id
from pipeline.points.job import Job
from pipeline.points.reading import read_attempt, read_run
from pipeline.points.sweep_record import SweepRecord
from pipeline.sweep.grouping import units
from pipeline.sweep.training import RESERVED_FILES, StackTraining
from pipeline.sweep.workers.server_points import ServerPoints
from pipeline.sweep.workers.unit import Engine, Unit, UnitPoint, pack
from pipeline.sweep.workers.watching import await_folder, complete_here, complete_in_mlflow, counting, locked
from pipeline.sweep.workers.worker import identity_of, train_unit
from pipeline.system.engines import DEFAULT, VARIABLE
from pipeline.system.errors import EngineError, LabError
from pipeline.system.limits import open_files
from pipeline.system.wording import counted

log = logging.getLogger(__name__)

# Maximum number of times to submit a unit, if the engine loses it.
ATTEMPTS = 3
# How long to wait for a folder that a worker has written: a network disk shows it to other machines with a delay.
NETWORK_SECONDS = 60.0
# How often complete points are counted while workers train: in the folders on this disk, or on the tracking server.
DISK_SECONDS = 1.0
SERVER_SECONDS = 15.0


class Distribution:
    """Trains the points of one sweep on the workers of an engine. The outcome of each point is stored in its job.

    Args:
        engine: runs the units; see `Engine`.
        sweep: the record of the command.
        training: the `StackTraining` of this process, which has loaded the data.
    """

    def __init__(self, engine: Engine, sweep: SweepRecord, training: StackTraining) -> None:
        self._engine = engine
        self._sweep = sweep
        self._training = training
        self._server = ServerPoints(sweep, training.root)
        # For points to retrain, by signature: the ids of the attempts that existed before this command.
        self._replaced: dict[str, list[str | None]] = {}

    def train(self, jobs: Sequence[Job]) -> None:
        """Train points that are not done yet on the workers.

        Raises:
            LabError: there is neither a shared disk nor a tracking server through which workers could return points.
        """
        if self._engine.shared_disk:
            self._remember_earlier_attempts(jobs)
            self._submit(jobs)
            return
        self._server.check()
        # Each point that is locked has a file open.
        most = max(1, open_files() - RESERVED_FILES)
        for start in range(0, len(jobs), most):
            self._train_locked(jobs[start : start + most])

    def _train_locked(self, jobs: Sequence[Job]) -> None:
        """Lock points that are not done yet, and train them on workers that share no disk."""
        # With a shared disk the workers lock the points. Without one, this process has to.
        with locked(jobs):
            left = [job for job in jobs if job.state not in ("done", "failed")]
            self._remember_earlier_attempts(left)
            self._fetch_earlier(left)
            left = [job for job in left if job.state not in ("complete", "failed")]
            try:
                self._submit(left)
            finally:
                self._server.close_runs([job for job in left if job.state != "complete"])

    def _remember_earlier_attempts(self, jobs: Sequence[Job]) -> None:
        self._replaced = {job.signature: list(_attempts(job)) for job in jobs if job.config.force}

    def _fetch_earlier(self, jobs: Sequence[Job]) -> None:
        """Fetch points that workers have sent to MLflow for an earlier command, which was killed before it got them."""
        for error in self._server.fetch([job for job in jobs if not job.config.force], self._replaced).values():
            log.warning(error)
        for job in jobs:
            self._update_state(job, {})

    def _submit(self, jobs: Sequence[Job]) -> None:
        """Submit points to the engine in units, and resubmit those that it loses.

        Raises:
            BudgetSpent: the budget of the command is spent before all points are trained.
        """
        left = list(jobs)
        problem = None
        for attempt in range(ATTEMPTS):
            if not left:
                return
            self._training.deadline.check()
            problem = self._run(left)
            left = [job for job in left if job.state not in ("complete", "failed")]
            if left:
                self._training.deadline.check()
            if left and attempt + 1 < ATTEMPTS:
                why = problem or "The workers were stopped."
                log.warning(f"resubmitting {counted(len(left), 'point')}. {why}")
        for job in left:
            job.fail(problem or _lost(job, self._engine))

    def _run(self, jobs: Sequence[Job]) -> EngineError | None:
        """Split points into units, and let the engine run each of them once.

        Returns:
            The error of the engine, if it lost some units.
        """
        packed = self._pack(jobs)
        points = counted(len(jobs), "point")
        units = counted(len(packed), "unit")
        workers = counted(self._engine.workers, "worker")
        log.info(f"{self._sweep.name}: {points} in {units} for {workers}, by {self._engine.name}")
        reports: dict[str, dict[str, Any]] = {}
        problem = None
        try:
            complete = complete_here(jobs)
            every = DISK_SECONDS
            if not self._engine.shared_disk:
                complete = complete_in_mlflow(jobs, self._server.tracker, self._replaced)
                every = SERVER_SECONDS
            with counting(f"{self._sweep.name}, {self._engine.name}", len(jobs), complete, every):
                for report in self._engine.run(train_unit, packed):
                    reports |= {point["signature"]: point for point in report}
        except EngineError as error:
            problem = error
        finally:
            # Also after an interruption, because points that workers have completed by then still count.
            self._collect(jobs, reports, lost=problem is not None)
        return problem

    def _pack(self, jobs: Sequence[Job]) -> list[str]:
        """Split points into units, and serialize these."""
        numbers = {point.signature: number for number, point in enumerate(self._sweep.points, 1)}
        unit = Unit(
            # A unit is part of a command line, which must not contain all points of a long sweep.
            sweep=replace(self._sweep, points=[]),
            total=len(self._sweep.points),
            project=str(self._training.project) if self._engine.shared_disk else None,
            sender=identity_of(self._training.root),
            clone=clone_id(self._training.root),
            tags=dict(self._training.tags),
            engine=os.environ.get(VARIABLE, DEFAULT),
            deadline=self._training.deadline.at,
            points=[],
        )
        packed = []
        points_and_data = [(job.config, self._training.data.outline(job.config)) for job in jobs]
        for members in units(points_and_data, self._engine.workers):
            points = [
                UnitPoint(
                    number=numbers[job.signature],
                    name=job.name,
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
        """Set the state of points that were submitted.

        Args:
            jobs: the submitted points.
            reports: the reports of the workers, by signature.
            lost: whether the engine lost some units.
        """
        ready = [job for job in jobs if reports.get(job.signature, {}).get("state") in ("done", "complete")]
        if self._engine.shared_disk:
            give_up = time.monotonic() + NETWORK_SECONDS
            for job in ready:
                await_folder(job, give_up)
        else:
            # Points of lost units may be in MLflow although their worker has sent no report.
            wanted = ready
            if lost:
                wanted = list(jobs)
            for signature, reason in self._server.fetch(wanted, self._replaced).items():
                reports.setdefault(signature, {})["error"] = str(reason)
        for job in jobs:
            self._update_state(job, reports.get(job.signature, {}))

    def _update_state(self, job: Job, report: dict[str, Any]) -> None:
        """Set the state of a point from its folders on disk and the report of its worker, which may be empty.

        - `failed`: its complete folder is not readable, or the worker reports an error.
        - `complete`: its complete folder is there, and not from an attempt that this command is to replace.
        - `training`: the worker was killed or lost after it began the point. When the command ends, `Sweep` turns this
          into `killed` or `failed`.
        - `to run` or `to continue`: no worker has begun the point, or not for this command.
        """
        error = report.get("error")
        job.undrawn.errors.update((item, LabError(text)) for item, text in report.get("undrawn", {}).items())
        job.look()
        if job.state == "failed":
            return
        complete, _ = _attempts(job)
        if job.state == "done" and complete in self._replaced.get(job.signature, []):
            job.state = "to run"
            job.point = None
        if error is None and job.state == "done":
            job.run = read_run(job.folder.final)
            job.state = "complete"
            return
        # An attempt that was begun has a run in MLflow, which has to get a final status.
        job.run = read_run(job.folder.path)
        if error is not None:
            job.error = LabError(error)
            job.state = "failed"
        elif report.get("state") == "killed" or job.run:
            job.state = "training"


def _attempts(job: Job) -> tuple[str | None, str | None]:
    """Return the ids of two attempts at a point: the complete one, and the one under way; None if there is none."""
    return read_attempt(job.folder.final), read_attempt(job.folder.path)


def _lost(job: Job, engine: Engine) -> LabError:
    received = "none"
    if engine.shared_disk:
        received = "none, although the worker has finished"
    return LabError(
        f"{job.name} was not returned.",
        expected=f"its folder {job.folder.final}, which a worker of {engine.name} writes",
        received=received,
        fix="run the same command again; if the nodes have no shared disk, set hydra.launcher.shared_disk=false",
    )
