"""One command's points: what is done is skipped, what was begun goes on, what is new is trained, here or by workers."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.backends.numpy.array_modules import array_module
from pipeline.config.schema import Config
from pipeline.drawing.layout import write_png
from pipeline.points.job import Job, summary
from pipeline.points.point import Outcome, Point
from pipeline.points.results import gather
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
from pipeline.sweep.tables import plan_table, points_table
from pipeline.sweep.training import StackTraining, take_over
from pipeline.sweep.workers.distribution import Distribution
from pipeline.sweep.workers.unit import Engine
from pipeline.system.errors import LabError
from pipeline.system.files import explained
from pipeline.system.processes import command, owner
from pipeline.system.project import code_state, store_root
from pipeline.system.wording import some
from pipeline.tracking.sync.points import attempts
from pipeline.tracking.sync.process import SyncProcess
from pipeline.tracking.sync.sweep import Sync
from pipeline.tracking.sync.thread import SyncThread

SOME = 3
"""How many points are named that failed alike."""


class Sweep:
    """Trains the points of one command and keeps the books.

    Args:
        project: folder that holds data/ and results/.
        first: config of the first point: study, backend, tracking, results, dry_run and force are its.
        total: how many points the command has, where that is known; one alone gets no parent run.
        process: that writes to MLflow, as `sync.process.launch` starts it; None: a thread of this one does.
        engine: trains the points on workers; None: they are trained here.

    Raises:
        LabError: the data is not there.
    """

    def __init__(
        self,
        project: Path,
        first: Config,
        total: int | None,
        process: subprocess.Popen[bytes] | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.project, self.first, self.total = project, first, total
        self.root, self.code = store_root(project), code_state(project)
        self.jobs: dict[str, Job] = {}
        self.interrupted = False
        tags = self.code | {"command": command()}
        self._training = StackTraining(project, self.root, first, tags, self._label, self._start_sync)
        self._process, self._engine = process, engine
        self._record: SweepRecord | None = None
        self._sync: SyncThread | SyncProcess | None = None

    @property
    def name(self) -> str:
        return f"{self.first.study} {self.first.backend.name}"

    def train_all(self, requests: Sequence[tuple[Config, list[str]]]) -> list[Outcome | None]:
        """Train points; those of one shape as one stack. Points with the same signature train once.

        Returns:
            Outcomes in the order asked for; None for a point that failed, which `finish` tells, and in a dry run.
        """
        asked = [self._training.job(config, overrides) for config, overrides in requests]
        fresh = [job for job in asked if self.jobs.setdefault(job.signature, job) is job]
        for job in fresh:
            job.look()
            if job.error is not None and job.state != "failed":
                print(f"{job.name} is trained again. {job.error}", file=sys.stderr)
            if self.first.force and job.state != "to run":
                job.state = "to run"
        if fresh:
            print(f"{self.name}: {summary(fresh, len(asked) - len(fresh))}", file=sys.stderr, flush=True)
        if not self.first.dry_run:
            left = [job for job in fresh if job.state not in ("done", "failed")]
            if self._engine is None:
                for job in left:
                    array_module(job.config)  # a GPU that is missing is told before anything is begun
            try:
                self._open_books(fresh)
                self._train(left)
            except KeyboardInterrupt:
                self.interrupted = True
                raise
        points = [self.jobs[job.signature].point for job in asked]
        return [None if point is None or self.first.dry_run else point.outcome for point in points]

    def finish(self) -> None:
        """Gather the results, bring MLflow up to date, print the table.

        Raises:
            LabError: naming every point that failed.
        """
        jobs = list(self.jobs.values())
        if self.first.dry_run:
            print(plan_table(jobs), flush=True)
            return
        if self._record is None or self._sync is None:
            return
        for job in jobs:
            if job.state == "training":  # ended by a signal, or by an error of our own
                job.state = "killed" if self.interrupted else "failed"
        points = [job.point for job in jobs if job.point is not None and job.state in ("done", "complete")]
        problems = _told([job for job in jobs if job.state == "failed"])
        complete = len(points) == len(jobs) > 0
        sweep, folder = self._record, sweep_folder(self.root, self._record.key)
        sweep.status = "FINISHED" if complete else "KILLED" if self.interrupted else "FAILED"
        try:
            self._sum_up(sweep, folder, points)
            if complete and self.first.results is not None:
                gather(self.project / self.first.results, jobs, sweep, folder)
        except LabError as error:
            sweep.status = "FAILED"
            problems.append(str(error))
        self._sync.add(attempts(jobs))
        self._sync.close(sweep)
        if points:
            print(points_table(jobs), flush=True)
        unsent = self._sync.unsent()
        if unsent is not None:
            print(unsent, file=sys.stderr, flush=True)
        if problems:
            raise LabError("\n".join(dict.fromkeys(problems)))

    def _new_sync(self, sweep: SweepRecord) -> SyncThread | SyncProcess:
        if self._process is None:
            return SyncThread(Sync(self.root, sweep, owner()))
        return SyncProcess(self._process, self.root, sweep)

    def _start_sync(self) -> None:
        if self._sync is not None:
            self._sync.add(attempts(self.jobs.values()))
            self._sync.start()

    def _train(self, jobs: Sequence[Job]) -> None:
        if self._engine is None or not jobs:
            self._training.train(jobs)
        elif self._record is not None:
            self._start_sync()  # which makes the run of the sweep that the workers' runs will hang below
            Distribution(self._engine, self._record, self._training).train(jobs)

    def _open_books(self, fresh: Sequence[Job]) -> None:
        """Write down what the command is, and let MLflow know what was done before."""
        jobs = list(self.jobs.values())
        members = [job.signature for job in jobs] if self.total is not None else [command()]
        tracking = self.first.tracking
        study, backend, now = self.first.study, self.first.backend.name, time.time_ns() // 1_000_000
        key = sweep_key(study, backend, tracking, members)
        folder = sweep_folder(self.root, key)
        if self._record is None:
            self._record = SweepRecord(key, study, backend, self.total != 1, command(), tracking, self.code, now)
            self._sync = self._new_sync(self._record)
        sweep = self._record
        sweep.asked = now
        sweep.points = list_points((job.name, job.signature) for job in jobs)
        before = earlier_sweep(folder)
        if before is not None and before.status == "FINISHED" and all(job.state == "done" for job in jobs):
            sweep.started, sweep.ended, sweep.values = before.started, before.ended, before.values
            sweep.status = before.status
        write_sweep(folder, sweep)
        for job in fresh:
            if job.state == "done":
                take_over(job)

    def _label(self, jobs: Sequence[Job]) -> str:
        if len(self.jobs) == 1 and self.total == 1:
            return f"{self.name}: {jobs[0].name}"
        places = [place for place, job in enumerate(self.jobs.values(), 1) if job in jobs]
        total = f" of {len(self.jobs)}" if self.total else ""
        if len(jobs) == 1:
            return f"{self.name}: point {places[0]}{total} ({jobs[0].name})"
        run = places == list(range(places[0], places[-1] + 1))
        which = f"{places[0]}-{places[-1]}" if run else ", ".join(map(str, places))
        return f"{self.name}: points {which}{total}"

    def _sum_up(self, sweep: SweepRecord, folder: Path, points: Sequence[Point]) -> None:
        """Write the sweep's own figures and values."""
        if sweep.ended is not None and all(job.state == "done" for job in self.jobs.values()):
            return  # it stands there as an earlier command wrote it
        sweep.ended = time.time_ns() // 1_000_000
        if points and not self.interrupted:
            sweep.values = {"points": float(len(points))} | extremes(points)
            if sweep.parent:
                with explained(folder):
                    for name, figure in sweep_figures(points):
                        write_png(folder / "plots" / f"{name}.png", figure)
        write_sweep(folder, sweep)


def _told(failed: Sequence[Job]) -> list[str]:
    """What went wrong: each error once, with the points that it is of."""
    names: dict[str, list[str]] = {}
    for job in failed:
        names.setdefault(str(job.error), []).append(job.name)
    return [f"{some(points, SOME)} failed. {error}" for error, points in names.items()]
