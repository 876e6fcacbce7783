"""Run the points of one command: skip finished points, resume interrupted ones, and train the others."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.backends.numpy.array_modules import array_module
from pipeline.config.schema import Config
from pipeline.points.destination import results_folder
from pipeline.points.job import Job
from pipeline.points.point import Outcome, Point
from pipeline.points.sweep_record import SweepRecord
from pipeline.studies.reach import judged_in_study
from pipeline.sweep.budget import BudgetSpent, Deadline
from pipeline.sweep.closing import closing_lines
from pipeline.sweep.command_record import CommandRecord, new_record
from pipeline.sweep.finished import code_files, write_finished
from pipeline.sweep.jobs import JobMaker
from pipeline.sweep.notification import post_end
from pipeline.sweep.plan import Plan, columns
from pipeline.sweep.tables import points_table
from pipeline.sweep.training import StackTraining, take_over
from pipeline.sweep.workers.distribution import Distribution
from pipeline.sweep.workers.unit import Engine
from pipeline.system.errors import LabError, UnavailableError, explain
from pipeline.system.last_line import doing
from pipeline.system.processes import command, owner
from pipeline.system.project import code_state
from pipeline.system.wording import counted, some
from pipeline.tracking.sync.attempts import attempts
from pipeline.tracking.sync.process import SyncProcess
from pipeline.tracking.sync.sweep import Sync
from pipeline.tracking.sync.thread import SyncThread

log = logging.getLogger(__name__)

# Maximum number of points to name with each error.
MOST_NAMED = 3
COMPLETE = ("done", "complete")


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
        maker: makes the jobs, where it has read the data already.

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
        maker: JobMaker | None = None,
    ) -> None:
        self.project = project
        self.first = first
        self.total = total
        self.code = code_state(project)
        # Taken now: the files may change while the command trains.
        self._code_files = code_files()
        # Checked now, and not only when it is written: training may take hours.
        self._results: Path | None = None
        if first.results is not None:
            self._results = results_folder(first.results, project)
        # What ended the command early: an interruption, an error that affects all points, or a bug of ours.
        self._stopped: BaseException | None = None
        tags = self.code | {"command": command()}
        self._maker = maker or JobMaker(project, first)
        self.root = self._maker.root
        self._plan = Plan(self._maker, read=True)
        # All points requested so far, by signature, in the order of the requests.
        self.jobs = self._plan.jobs
        self._training = StackTraining(self._maker, tags, self._label, self._start_sync)
        self._process = process
        self._engine = engine
        self._shown = ""
        self._record: CommandRecord | None = None
        self._sync: SyncThread | SyncProcess | None = None

    @property
    def name(self) -> str:
        """Study and backend, for instance `three_bits numpy`, as a name for messages and the parent run."""
        return self._plan.name

    def end_at(self, deadline: float) -> None:
        """End training at a time, in seconds since 1970, as the budget of the command asks."""
        self._training.deadline = Deadline(deadline)

    def train_all(
        self, requests: Sequence[tuple[Config, list[str]]], batch_size: int | None = None
    ) -> list[Outcome | None]:
        """Train points, those of one shape as one stack. Points with the same signature are trained once.

        Args:
            requests: the config of each point, and the overrides typed for it.
            batch_size: maximum number of points to train at the same time; None: no limit.

        Returns:
            Outcomes in the order of the requests; None for a point that failed, for which `finish` reports why, and for
            one that the budget left out.

        Raises:
            KeyboardInterrupt: the command was interrupted; finished work is kept.
        """
        requested, new = self._plan.request(requests)
        self._plan.announce(requested, new)
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
        except BudgetSpent as spent:
            self._stopped = spent
        except BaseException as error:
            self._stopped = error
            raise
        points = [self.jobs[job.signature].point for job in requested]
        return [None if point is None else point.outcome for point in points]

    def finish(self) -> None:
        """Gather the results, let MLflow catch up, and print the table of points.

        Raises:
            LabError: some points failed, or figures could not be drawn, or MLflow rejected something; the message names
            each cause with its points.
        """
        # The command failed before anything was recorded, for instance because a GPU is missing.
        if self._record is None or self._sync is None:
            return
        try:
            self._finish_record(self._record, self._sync)
        finally:
            self._record.release()
            self._plan.keep()

    def _finish_record(self, record: CommandRecord, sync: SyncThread | SyncProcess) -> None:
        jobs = list(self.jobs.values())
        self._end_jobs()
        points = [_as_asked(job.point, job) for job in jobs if job.point is not None and job.state in COMPLETE]
        problems = _failure_messages([job for job in jobs if job.state == "failed"])
        try:
            try:
                points = judged_in_study(self.root, record.sweep, points)
            except Exception as error:  # noqa: BLE001 - each point is then judged alone: results and runs need no more
                problems.append(str(explain(error)))
            problems += record.end(jobs, points, self._stopped, self._results)
        finally:
            # Also after a bug of ours: no run must keep the status RUNNING.
            sync.add(attempts(jobs))
            with doing("writing to MLflow", len(jobs)) as step:
                sync.close(record.sweep, step.count)
        if points:
            problems += self._show(jobs, points)
        if isinstance(self._stopped, BudgetSpent):
            print(_left_by_budget(jobs, len(points), self.first.force), flush=True)
        for job in jobs:
            record.undrawn.errors.update(job.undrawn.errors)
        problems += record.undrawn.messages("could not be drawn")
        unsent = sync.unsent()
        if isinstance(unsent, UnavailableError):
            # Only a notice: every point is on disk, and the next command sends what is missing.
            log.warning(unsent)
        elif unsent is not None:
            problems.append(str(unsent))
        post_end(self.name, jobs, self._stopped, problems)
        if problems:
            raise LabError("\n".join(dict.fromkeys(problems)))
        if unsent is None and len(points) == len(jobs) and self.total is not None:
            scores = {job.signature: job.point.outcome.score for job in jobs if job.point is not None}
            write_finished(self._maker, jobs, self._shown, scores, self._code_files)

    def _show(self, jobs: Sequence[Job], points: Sequence[Point]) -> list[str]:
        """Print the table of points and the answer, and return messages about what could not be printed."""
        width = columns()
        try:
            table = points_table(jobs, points, self.name, width)
            self._shown = f"{table}\n\n{closing_lines(points, width)}"
        except Exception as error:  # noqa: BLE001 - an error of our own must not replace those of the points
            return [str(explain(error))]
        print(self._shown, flush=True)
        return []

    def _end_jobs(self) -> None:
        """Set the final state of points whose training has not ended normally."""
        for job in self.jobs.values():
            if job.state != "training":
                continue
            if self._stopped is None or isinstance(self._stopped, (KeyboardInterrupt, LabError)):
                job.state = "killed"
            else:
                job.fail(explain(self._stopped))

    def _new_sync(self, record: SweepRecord) -> SyncThread | SyncProcess:
        if self._process is None:
            return SyncThread(Sync(self.root, record, owner()))
        return SyncProcess(self._process, self.root, record)

    def _start_sync(self) -> None:
        if self._sync is not None:
            self._sync.add(attempts(self.jobs.values()))
            self._sync.start()

    def _train(self, jobs: Sequence[Job]) -> None:
        if self._engine is None:
            self._training.train(jobs)
        # The record is always open by now; only its type allows for None.
        elif self._record is not None:
            # The sync creates the parent run, below which the workers put theirs.
            self._start_sync()
            Distribution(self._engine, self._record.sweep, self._training).train(jobs)

    def _open_record(self, new: Sequence[Job]) -> None:
        """Record the command on disk, and take over points that earlier commands have completed, for MLflow."""
        jobs = list(self.jobs.values())
        if self._record is None:
            sweep = new_record(self.first, self.code, self.total, jobs)
            self._record = CommandRecord(self.root, sweep)
            self._sync = self._new_sync(sweep)
        # The points of a later batch belong to the same record.
        self._record.begin(jobs)
        for job in new:
            if job.state == "done":
                take_over(job)

    def _label(self, jobs: Sequence[Job]) -> str:
        """Return the progress label of a stack, for instance `three_bits numpy: points 1-7 of 14`."""
        if len(self.jobs) == 1 and self.total == 1:
            return f"{self.name}: {jobs[0].name}"
        numbers = [number for number, job in enumerate(self.jobs.values(), 1) if job in jobs]
        total = f" of {len(self.jobs)}" if self.total else ""
        if len(jobs) == 1:
            return f"{self.name}: point {numbers[0]}{total} ({jobs[0].name})"
        if numbers == list(range(numbers[0], numbers[-1] + 1)):
            return f"{self.name}: points {numbers[0]}-{numbers[-1]}{total}"
        return f"{self.name}: {len(jobs)}{total} points"


def _left_by_budget(jobs: Sequence[Job], complete: int, force: bool) -> str:
    """Return the line of a command whose budget is spent."""
    if complete == len(jobs):
        return "The budget is spent, and all points are trained."
    same = "The same command goes on."
    if force:
        same = "The same command without force=true goes on."
    begun = sum(job.state in ("killed", "to continue") for job in jobs)
    left = len(jobs) - complete - begun
    return (
        f"The budget is spent: of {counted(len(jobs), 'point')} {complete} are trained, {begun} to continue from a "
        f"checkpoint, {left} not begun. {same}"
    )


def _as_asked(point: Point, job: Job) -> Point:
    """Return a point with the study, question and report that this command asks for.

    None of them changes the training, so that another study, or this one with other words, may have trained the point.
    """
    asked = {key: getattr(job.config, key) for key in ("study", "question", "report")}
    return replace(point, config=point.config.model_copy(update=asked))


def _failure_messages(failed: Sequence[Job]) -> list[str]:
    """Return each error once, with the points that it affects."""
    names: dict[str, list[str]] = {}
    errors: dict[str, LabError | None] = {}
    for job in failed:
        cause = "" if job.error is None else job.error.cause
        names.setdefault(cause, []).append(job.name)
        errors.setdefault(cause, job.error)
    return [f"{some(points, MOST_NAMED)} failed. {errors[cause]}" for cause, points in names.items()]
