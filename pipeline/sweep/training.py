"""Points of a command, trained in this process: locked, trained in stacks, moved into the store."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from pipeline.backends.choose import trainer
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, load
from pipeline.drawing.layout import write_png
from pipeline.points.folder import PointFolder
from pipeline.points.identity import signature, signed_text
from pipeline.points.job import Job
from pipeline.points.point import Point, knobs, name_of
from pipeline.points.reading import read_run
from pipeline.studies.kinds import point_figures
from pipeline.sweep.grouping import check_memory, stacks, steps
from pipeline.sweep.pacing import StackCheckpoints
from pipeline.system.errors import LabError
from pipeline.system.files import explained
from pipeline.system.processes import owner
from pipeline.system.signals import put_off
from pipeline.system.terminal import TrainingProgress
from pipeline.system.wording import some

POLL_SECONDS = 0.5
SOME = 3
"""How many points are named that are waited for."""


class StackTraining:
    """Trains points that nobody else trains, those of one shape as one stack.

    Args:
        project: folder that holds data/.
        root: folder that holds .points/.
        first: config of the first point; backend and `force` are its.
        tags: of every point: git commit, command.
        label: what a stack is called while it trains.
        start: called before the first stack, when what trains has been imported.
        bar: whether a bar may show how far a stack is; else lines do.

    Raises:
        LabError: the data is not there.
    """

    def __init__(
        self,
        project: Path,
        root: Path,
        first: Config,
        tags: Mapping[str, str],
        label: Callable[[Sequence[Job]], str],
        start: Callable[[], None],
        bar: bool = True,
    ) -> None:
        self.project, self.root, self.first, self.tags = project, root, first, tags
        self.owner = owner()
        self._label, self._start, self._bar = label, start, bar
        self._arrays: dict[str, Arrays] = {}
        self.load(first)  # data that is not there is told before anything is begun

    def job(self, config: Config, overrides: list[str]) -> Job:
        """A point that is asked for."""
        arrays = self.load(config)
        told = knobs(config, overrides)
        if config.backend.name != self.first.backend.name:
            told["backend"] = config.backend.name
        sign = signature(config, arrays.checksums)
        return Job(config, overrides, name_of(told), sign, PointFolder(self.root, sign), told)

    def load(self, config: Config) -> Arrays:
        """The data of a point."""
        key = config.data.model_dump_json() + config.dtype
        if key not in self._arrays:
            self._arrays = {key: load(config.data, config.dtype, self.project)}
        return self._arrays[key].first(config.training.rows)

    def train(self, jobs: Sequence[Job]) -> None:
        """Train what nobody else is training; wait for the rest, and train what is left of it then.

        What goes wrong with a point is kept in its job.
        """
        left, told = list(jobs), False
        while left:
            mine: list[Job] = []
            try:
                for job in left:
                    _attempt(job, partial(_lock, into=mine))
                self._train_mine(mine)
            finally:  # also where locking a later point was interrupted
                for job in mine:
                    job.folder.unlock()
            left = [job for job in left if job not in mine and job.state != "failed"]
            if left and not mine:
                if not told:
                    told = True
                    names = some([job.name for job in left], SOME)
                    print(f"waiting for {len(left)} points that another command trains: {names}", file=sys.stderr)
                time.sleep(POLL_SECONDS)

    def _train_mine(self, jobs: Sequence[Job]) -> None:
        """Train points that this process has locked; another may have finished some of them in the meantime."""
        left = []
        for job in jobs:
            if not self.first.force:
                _attempt(job, Job.adopt)
            if job.state == "done":
                take_over(job)
            elif job.state != "failed":
                left.append(job)
        for members in stacks([(job.config, self.load(job.config)) for job in left]):
            opened = [left[place] for place in members if _attempt(left[place], self._open)]
            for job in opened:
                if job.history.epochs:  # trained, but killed before it was complete
                    _attempt(job, _complete)
            under_way = [job for job in opened if job.state == "training"]
            for epoch in sorted({job.begun for job in under_way}, reverse=True):
                self._train_stack([job for job in under_way if job.begun == epoch])

    def _open(self, job: Job) -> None:
        """Go on with the point's folder, or begin it."""
        arrays = self.load(job.config)
        check_memory(job.config, arrays)
        tags = dict(self.tags)
        tags |= {f"data.{name}": checksum for name, checksum in arrays.checksums.items()}
        job.open(signed_text(job.config, arrays.checksums), tags, self.owner, anew=self.first.force and not job.goes_on)

    def _train_stack(self, jobs: Sequence[Job]) -> None:
        config, begun = jobs[0].config, [job.checkpoint for job in jobs if job.checkpoint is not None]
        total, unit = steps(config, self.load(config))
        progress = TrainingProgress(self._label(jobs), total, jobs[0].begun, unit, self._bar)
        try:
            train = trainer(config)
            self._start()  # in this process it imports mlflow, best not beside the import of TensorFlow
            configs, histories = [job.config for job in jobs], [job.history for job in jobs]
            with put_off() as stop:
                checkpoints = StackCheckpoints([job.folder for job in jobs], histories, begun, stop)
                train(configs, self.load(config), histories, progress, checkpoints)
            progress.close()
            for job in jobs:  # from here on nothing has to be trained again
                _attempt(job, lambda job: job.folder.keep(job.history.epochs, {}, job.history))
            for job in jobs:
                if job.state == "training":
                    _attempt(job, _complete)
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


def take_over(job: Job) -> None:
    """A point that is there: what its folder says of how it was trained. A rerun that was given up is dropped."""
    job.run = read_run(job.folder.final)
    with suppress(LabError):  # a rerun that cannot be locked stays, and keeps nothing from being done
        if job.folder.path.exists() and job.folder.lock():
            job.folder.discard()
            job.folder.unlock()


def _attempt(job: Job, step: Callable[[Job], None]) -> bool:
    """Do one step for a point; what goes wrong is kept in it. Returns whether it went well."""
    try:
        step(job)
    except LabError as error:
        job.fail(error)
        return False
    return True


def _lock(job: Job, into: list[Job]) -> None:
    """Add a point to `into` if nobody else holds it, and hold it."""
    if job.folder.lock():
        into.append(job)


def _complete(job: Job) -> None:
    """Write the rest of the point's folder and put it in its place."""
    outcome = job.folder.write_history(job.history)
    point = Point(job.name, job.folder.final, job.config, job.history, outcome)
    with explained(job.folder.path):
        for name, figure in point_figures(point):
            write_png(job.folder.path / "plots" / f"{name}.png", figure)
    job.folder.complete()
    job.point = point
    job.state = "complete"
