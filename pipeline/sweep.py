"""One command's points: what is done is skipped, what was begun goes on, what is new is trained, in passes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.backends.numpy.array_modules import array_module
from pipeline.checkpoints import PassCheckpoints
from pipeline.config import Config
from pipeline.data import Arrays, load
from pipeline.errors import LabError
from pipeline.files import explained
from pipeline.identity import signature, signed_text
from pipeline.interruption import put_off
from pipeline.jobs import Job, summary
from pipeline.margins import write_png
from pipeline.mirror import Mirror
from pipeline.mirror_process import MirrorProcess
from pipeline.plots import point_figures, sweep_figures
from pipeline.point_folder import PointFolder, read_run
from pipeline.points import Outcome, Point, knobs, name_of
from pipeline.progress import TrainingProgress
from pipeline.provenance import code_state, command, owner, store_root
from pipeline.results import gather
from pipeline.stacking import check_memory, passes, steps
from pipeline.sweep_record import (
    SweepRecord,
    earlier_sweep,
    extremes,
    list_points,
    sweep_folder,
    sweep_key,
    write_sweep,
)
from pipeline.tables import plan_table, points_table
from pipeline.trainers import trainer

POLL_SECONDS = 0.5


class Sweep:
    """Trains the points of one command and keeps the books.

    Args:
        project: folder that holds data/ and results/.
        first: config of the first point: study, backend, tracking, results, dry_run and force are its.
        total: how many points the command has, where that is known; one alone gets no parent run.
        process: of the mirror, as `mirror_process.launch` starts it; None: it runs in this one.

    Raises:
        LabError: the data is not there.
    """

    def __init__(
        self, project: Path, first: Config, total: int | None, process: subprocess.Popen[bytes] | None = None
    ) -> None:
        self.project, self.first, self.total = project, first, total
        self.root, self.owner, self.code = store_root(project), owner(), code_state(project)
        self.jobs: dict[str, Job] = {}
        self.interrupted = False
        self._arrays: dict[str, Arrays] = {}
        self._load(first)  # data that is not there is told before anything is begun
        self._process = process
        self._mirror: Mirror | MirrorProcess | None = None

    @property
    def name(self) -> str:
        return f"{self.first.study} {self.first.backend.name}"

    def train_all(self, requests: Sequence[tuple[Config, list[str]]]) -> list[Outcome | None]:
        """Train points; those of one shape in one pass. Points with the same signature train once.

        Returns:
            Outcomes in the order asked for; None for a point that failed, which `finish` tells, and in a dry run.
        """
        asked = [self._job(config, overrides) for config, overrides in requests]
        fresh = [job for job in asked if self.jobs.setdefault(job.signature, job) is job]
        for job in fresh:
            job.look()
            if job.error is not None:
                print(f"{job.name} is trained again. {job.error}", file=sys.stderr)
            if self.first.force and job.state != "to run":
                job.state = "to run"
        if fresh:
            print(f"{self.name}: {summary(fresh, len(asked) - len(fresh))}", file=sys.stderr, flush=True)
        if not self.first.dry_run:
            for job in fresh:
                if job.state != "done":
                    array_module(job.config)  # a GPU that is missing is told before anything is begun
            try:
                self._open_books(fresh)
                self._train_claimed([job for job in fresh if job.state != "done"])
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
        if self._mirror is None:
            return
        for job in jobs:
            if job.state == "training":  # ended by a signal, or by an error of our own
                job.state = "killed" if self.interrupted else "failed"
        points = [job.point for job in jobs if job.point is not None and job.state in ("done", "complete")]
        problems = [f"{job.name} failed. {job.error}" for job in jobs if job.state == "failed"]
        complete = len(points) == len(jobs) > 0
        sweep = self._mirror.sweep
        sweep.status = "FINISHED" if complete else "KILLED" if self.interrupted else "FAILED"
        try:
            self._sum_up(sweep, self._mirror.folder, points)
            if complete and self.first.results is not None:
                gather(self.project / self.first.results, jobs, sweep, self._mirror.folder)
        except LabError as error:
            sweep.status = "FAILED"
            problems.append(str(error))
        self._mirror.close()
        if points:
            print(points_table(jobs), flush=True)
        unsent = self._mirror.unsent()
        if unsent is not None:
            print(unsent, file=sys.stderr, flush=True)
        if problems:
            raise LabError("\n".join(dict.fromkeys(problems)))

    def _job(self, config: Config, overrides: list[str]) -> Job:
        arrays = self._load(config)
        told = knobs(config, overrides)
        if config.backend.name != self.first.backend.name:
            told["backend"] = config.backend.name
        sign = signature(config, arrays.checksums)
        return Job(config, overrides, name_of(told), sign, PointFolder(self.root, sign), told)

    def _load(self, config: Config) -> Arrays:
        key = config.data.model_dump_json() + config.dtype
        if key not in self._arrays:
            self._arrays = {key: load(config.data, config.dtype, self.project)}
        return self._arrays[key].first(config.training.rows)

    def _open_books(self, fresh: Sequence[Job]) -> None:
        """Write down what the command is, and let MLflow know what was done before."""
        jobs = list(self.jobs.values())
        members = [job.signature for job in jobs] if self.total is not None else [command()]
        tracking = self.first.tracking.model_dump(mode="json")
        study, backend, now = self.first.study, self.first.backend.name, time.time_ns() // 1_000_000
        key = sweep_key(study, backend, tracking, members)
        folder = sweep_folder(self.root, key)
        if self._mirror is None:
            sweep = SweepRecord(key, study, backend, self.total != 1, command(), tracking, self.code, now)
            kept = self.root, sweep, folder, self.jobs.values()
            self._mirror = Mirror(*kept) if self._process is None else MirrorProcess(self._process, *kept)
        sweep = self._mirror.sweep
        sweep.asked = now
        sweep.points = list_points((job.name, job.signature) for job in jobs)
        before = earlier_sweep(folder)
        if before is not None and before.status == "FINISHED" and all(job.state == "done" for job in jobs):
            sweep.started, sweep.ended, sweep.values = before.started, before.ended, before.values
            sweep.status = before.status
        write_sweep(folder, sweep)
        for job in fresh:
            if job.state == "done":
                self._take_over(job)

    def _take_over(self, job: Job) -> None:
        """A point that is there: what its folder says of how it was trained. A rerun that was given up is dropped."""
        job.run = read_run(job.folder.final)
        if job.folder.path.exists() and job.folder.claim():
            job.folder.discard()
            job.folder.release()

    def _train_claimed(self, jobs: list[Job]) -> None:
        """Train what nobody else is training; wait for the rest, and train what is left of it then."""
        told = False
        while jobs:
            mine = [job for job in jobs if job.folder.claim()]
            try:
                self._train_mine(mine)
            finally:
                for job in mine:
                    job.folder.release()
            jobs = [job for job in jobs if job not in mine]
            if jobs and not mine:
                if not told:
                    told = True
                    names = ", ".join(job.name for job in jobs[:3]) + (" ..." if len(jobs) > 3 else "")
                    print(f"waiting for {len(jobs)} points that another command trains: {names}", file=sys.stderr)
                time.sleep(POLL_SECONDS)

    def _train_mine(self, jobs: Sequence[Job]) -> None:
        """Train points that this process has claimed; another may have finished some of them in the meantime."""
        left = []
        for job in jobs:
            if not self.first.force:
                job.adopt()
            if job.state == "done":
                self._take_over(job)
            else:
                left.append(job)
        for members in passes([(job.config, self._load(job.config)) for job in left]):
            opened = [left[place] for place in members if self._attempt(left[place], self._open)]
            for job in opened:
                if job.history.epochs:  # trained, but killed before it was complete
                    self._attempt(job, self._complete)
            under_way = [job for job in opened if job.state == "training"]
            for epoch in sorted({job.begun for job in under_way}, reverse=True):
                self._train_pass([job for job in under_way if job.begun == epoch])

    def _attempt(self, job: Job, step: Callable[[Job], None]) -> bool:
        """Do one step for a point; what goes wrong is kept for `finish`. Returns whether it went well."""
        try:
            step(job)
        except LabError as error:
            job.fail(error)
            return False
        return True

    def _open(self, job: Job) -> None:
        """Go on with the point's folder, or begin it."""
        arrays = self._load(job.config)
        check_memory(job.config, arrays)
        tags = self.code | {"command": command()}
        tags |= {f"data.{name}": checksum for name, checksum in arrays.checksums.items()}
        job.open(signed_text(job.config, arrays.checksums), tags, self.owner, anew=self.first.force)

    def _train_pass(self, jobs: Sequence[Job]) -> None:
        config, begun = jobs[0].config, [job.checkpoint for job in jobs if job.checkpoint is not None]
        total, unit = steps(config, self._load(config))
        progress = TrainingProgress(self._label(jobs), total, jobs[0].begun, unit)
        try:
            train = trainer(config)
            if self._mirror is not None:
                self._mirror.start()  # in this process it imports mlflow, best not beside the import of TensorFlow
            configs, histories = [job.config for job in jobs], [job.history for job in jobs]
            with put_off() as stop:
                checkpoints = PassCheckpoints([job.folder for job in jobs], histories, begun, stop)
                train(configs, self._load(config), histories, progress, checkpoints)
            progress.close()
            for job in jobs:  # from here on nothing has to be trained again
                self._attempt(job, lambda job: job.folder.keep(job.history.epochs, {}, job.history))
            for job in jobs:
                if job.state == "training":
                    self._attempt(job, self._complete)
            if stop.is_set():
                raise KeyboardInterrupt
        except LabError as error:
            for job in jobs:
                job.fail(error)
        except MemoryError as error:
            fix = "choose a smaller model.hidden_size, training.batch_size or grid"
            for job in jobs:
                job.fail(LabError("The memory was not enough.", received=str(error), fix=fix))
        finally:
            progress.close()

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

    def _complete(self, job: Job) -> None:
        """Write the rest of the point's folder and put it in its place."""
        outcome = job.folder.write_history(job.history)
        with explained(job.folder.path):
            for name, figure in point_figures(job.config, job.history):
                write_png(job.folder.path / "plots" / f"{name}.png", figure)
        job.folder.complete()
        job.point = Point(job.name, job.folder.final, job.config, job.history, outcome)
        job.state = "complete"

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
