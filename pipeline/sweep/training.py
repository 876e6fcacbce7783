"""Train the points of a command in this process: lock them, train them in stacks, move them to their final folders."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain

from pipeline.backends.choose import trainer
from pipeline.points.identity import signed_text, signed_threads
from pipeline.points.job import Job
from pipeline.points.point import Point
from pipeline.points.reading import read_run
from pipeline.studies.kinds import kind_of, point_figures
from pipeline.sweep.budget import BudgetSpent, Deadline
from pipeline.sweep.figures import write_figures
from pipeline.sweep.grouping import check_memory, stacks, steps
from pipeline.sweep.jobs import JobMaker
from pipeline.sweep.notification import Divergence
from pipeline.sweep.pacing import StackCheckpoints
from pipeline.sweep.shared_arrays import RowsKey, rows_key
from pipeline.system.engines import keras_engine
from pipeline.system.errors import LabError, explain
from pipeline.system.last_line import doing
from pipeline.system.limits import open_files
from pipeline.system.processes import cores, owner
from pipeline.system.signals import postpone_signals
from pipeline.system.terminal import TrainingProgress
from pipeline.system.wording import counted, some

log = logging.getLogger(__name__)

# How long to wait before trying again to lock a point that another command holds.
POLL_SECONDS = 0.5
# Files that this process has open besides the locks of a stack: libraries, pipes, the database, what is being written.
RESERVED_FILES = 40
# Maximum number of points to name in the message about waiting.
MOST_NAMED = 3


class StackTraining:
    """Trains points that no other process is training, those of one shape as one stack.

    Args:
        maker: makes the jobs, and holds the data. The `force` of its first point applies to all.
        tags: tags of every point: git commit, command.
        label: returns the progress label of a stack.
        before_stack: called before each stack trains, after its backend has been imported.
        bar: whether a bar may show progress; otherwise lines are printed.

    Attributes:
        deadline: when training ends, because the budget of the command is spent.

    Example:
        maker = JobMaker(project, config)
        training = StackTraining(maker, {}, label=lambda jobs: "a stack", before_stack=lambda: None)
        training.train([maker.job(config, ["optimizer.learning_rate=0.1"])])
    """

    def __init__(
        self,
        maker: JobMaker,
        tags: Mapping[str, str],
        label: Callable[[Sequence[Job]], str],
        before_stack: Callable[[], None],
        bar: bool = True,
    ) -> None:
        self.project = maker.project
        self.root = maker.root
        self.first = maker.first
        self.data = maker.data
        self.job = maker.job
        self.tags = tags
        self.owner = owner()
        self.deadline = Deadline(None)
        self._divergence = Divergence()
        self._label = label
        self._before_stack = before_stack
        self._bar = bar
        # Each point that is locked has a file open.
        self._most = max(1, open_files() - RESERVED_FILES)

    def train(self, jobs: Sequence[Job]) -> None:
        """Lock and train the points that no other process holds; wait for the others, and train those left incomplete.

        The error of a point is stored in its job.

        Raises:
            KeyboardInterrupt: the command was interrupted, or its budget is spent; finished work is kept.
        """
        left = list(jobs)
        reported = False
        self._tell_idle_cores(len(left))
        while left:
            taken: set[Job] = set()
            for stack in self._stacks(left):
                self.deadline.check()
                taken.update(self._train_unlocked(stack))
            left = [job for job in left if job not in taken and job.state != "failed"]
            if left and not taken:
                self.deadline.check()
                if not reported:
                    reported = True
                    names = some([job.name for job in left], MOST_NAMED)
                    log.info(f"waiting for {counted(len(left), 'point')} that another command is training: {names}")
                time.sleep(POLL_SECONDS)

    def _tell_idle_cores(self, points: int) -> None:
        """Log how to use all cores where Keras would use one: each point has one thread, and they train in turn."""
        if self.first.backend.name != "keras" or keras_engine() == "jax":  # JAX chooses its threads itself
            return
        at_once = min(points, cores())
        if signed_threads(self.first) is None and at_once > 1:
            log.info(f"Keras trains on one core, a point at a time; hydra/launcher=joblib trains {at_once} at a time")

    def _stacks(self, jobs: Sequence[Job]) -> list[list[Job]]:
        """Group points into stacks; those on the same rows follow each other, so that these are read once."""
        groups = stacks([(job.config, self.data.outline(job.config)) for job in jobs], self._most)
        # A dictionary keeps the order, in which the data of the first point comes first.
        by_rows: dict[RowsKey, list[list[Job]]] = {}
        for members in groups:
            by_rows.setdefault(rows_key(jobs[members[0]].config), []).append([jobs[index] for index in members])
        return list(chain.from_iterable(by_rows.values()))

    def _train_unlocked(self, stack: Sequence[Job]) -> list[Job]:
        """Lock the points of a stack that no other process holds, train them, and return them."""
        mine: list[Job] = []
        try:
            for job in stack:
                _try(partial(_lock, into=mine), job)
            self._train_mine(mine)
        finally:
            # This also covers an interruption between two locks.
            for job in mine:
                job.folder.unlock()
        return mine

    def _train_mine(self, jobs: Sequence[Job]) -> None:
        """Train points of one shape that this process has locked, except those that another one has completed."""
        left = []
        for job in jobs:
            # The state of a job was read before it was locked, and may be out of date.
            if not self.first.force:
                _try(Job.adopt, job)
            if job.state == "done":
                take_over(job)
            elif job.state != "failed":
                left.append(job)
        # A point whose folder cannot be opened fails; the others train without it.
        opened = [job for job in left if _try(self._open, job)]
        for job in opened:
            # The history has a number of epochs once training has ended. Then an earlier command trained this
            # point, and was killed before it had completed the folder.
            if job.history.epochs:
                _try(_complete, job)
        unfinished = [job for job in opened if job.state == "training"]
        # The points of a stack are always at the same epoch, so those with different checkpoints train one after
        # the other, the most advanced first.
        for epoch in sorted({job.begun for job in unfinished}, reverse=True):
            self._train_stack([job for job in unfinished if job.begun == epoch])

    def _open(self, job: Job) -> None:
        """Continue in the folder of a point, or begin a new one."""
        arrays = self.data.outline(job.config)
        check_memory(job.config, arrays)
        tags = dict(self.tags)
        tags |= {f"data.{name}": checksum for name, checksum in arrays.checksums.items()}
        # `force` ignores the checkpoint of an earlier command, but not one of this command's own attempts.
        restart = self.first.force and not job.begun_by_command
        signed = signed_text(job.config, arrays.checksums, arrays.row_shape)
        job.open(signed, tags, self.owner, restart, arrays.description)

    def _train_stack(self, jobs: Sequence[Job]) -> None:
        """Train points of one shape that are at the same epoch, and complete their folders."""
        config = jobs[0].config
        total, unit = steps(config, self.data.outline(config))
        progress = TrainingProgress(self._label(jobs), total, jobs[0].begun, unit, self._bar)
        try:
            stop = self._train_to_the_end(jobs, progress)
            progress.close()
            # All histories are saved before the first folder is completed: after this, nothing has to be retrained. The
            # state in these checkpoints is empty, because no training continues from it.
            trained = _in_training(jobs)
            with doing("writing checkpoints", len(trained), self._bar) as step:
                for number, job in enumerate(trained, start=1):
                    _try(lambda job: job.folder.keep(job.history.epochs, {}, job.history), job)
                    step.count(number, len(trained))
            kept = _in_training(jobs)
            with doing("drawing and saving points", len(kept), self._bar) as step:
                for number, job in enumerate(kept, start=1):
                    _try(_complete, job)
                    step.count(number, len(kept))
            if stop:
                raise KeyboardInterrupt
        except MemoryError as error:
            progress.close("failed after ")
            fix = "choose a smaller model.hidden_size, training.batch_size or grid"
            for job in _in_training(jobs):
                job.fail(LabError("Out of memory.", received=str(error), fix=fix))
        except Exception as error:  # noqa: BLE001 - an error of our own must not stop the other stacks
            progress.close("failed after ")
            for job in _in_training(jobs):
                job.fail(explain(error))
        finally:
            # For any other exception, such as an interruption.
            progress.close("stopped after ")

    def _train_to_the_end(self, jobs: Sequence[Job], progress: TrainingProgress) -> bool:
        """Train a stack and fill its histories; return whether the command is to stop now.

        Raises:
            KeyboardInterrupt: the command was interrupted, or its budget is spent; the stack has kept checkpoints.
        """
        config = jobs[0].config
        slow = config.backend.name == "keras" and "keras" not in sys.modules
        with doing(f"importing {config.backend.name}", shown=self._bar, long=slow):
            train = trainer(config)
        # After `trainer`, which may import TensorFlow: `before_stack` may import MLflow in a thread, and the two
        # imports should not overlap.
        self._before_stack()
        configs = [job.config for job in jobs]
        folders = [job.folder for job in jobs]
        histories = [job.history for job in jobs]
        begun = [job.checkpoint for job in jobs if job.checkpoint is not None]

        def failed(index: int, error: Exception) -> None:
            jobs[index].fail(explain(error))

        name = f"{self.first.study} {self.first.backend.name}"
        report = self._divergence.watched(name, jobs, progress)
        with postpone_signals() as stop, self.deadline.stopping(stop) as spent:
            checkpoints = StackCheckpoints(folders, histories, begun, stop, failed)
            with doing(f"reading {config.data.name}", shown=self._bar):
                data = self.data.load(config)
            try:
                train(configs, data, histories, report, checkpoints)
            except KeyboardInterrupt:
                if spent.is_set():
                    raise BudgetSpent from None
                raise
            # The points have ended. Where others follow, the deadline is checked before them.
            return stop.is_set() and not spent.is_set()


def take_over(job: Job) -> None:
    """Take over a point that is already complete: read its run, and delete an abandoned rerun of it."""
    job.run = read_run(job.folder.final)
    # A rerun that cannot be locked or deleted stays. It does no harm, so it is not an error.
    with suppress(LabError):
        if job.folder.path.exists() and job.folder.lock():
            job.folder.discard()
            job.folder.unlock()


def _in_training(jobs: Sequence[Job]) -> list[Job]:
    """Return the points of a stack that have neither failed nor been completed."""
    return [job for job in jobs if job.state == "training"]


def _try(step: Callable[[Job], None], job: Job) -> bool:
    """Do one step for a point, store its error in the job, and return whether it succeeded."""
    try:
        step(job)
    except Exception as error:  # noqa: BLE001 - an error of our own must not stop the other points either
        job.fail(explain(error))
        return False
    return True


def _lock(job: Job, into: list[Job]) -> None:
    """Lock a point and add it to `into`, unless another process holds it."""
    # A list, because `_try` does not return the result of the step.
    if job.folder.lock():
        into.append(job)


def _complete(job: Job) -> None:
    """Write the rest of a point's folder, and move it to its final path."""
    outcome = job.folder.write_history(job.history)
    point = Point(job.name, job.folder.final, job.config, job.history, outcome, job.description)
    # MLflow shows the figure of a map in the place of images.
    if job.config.recording.figures in ("auto", "point") or kind_of(job.config).figure is not None:
        write_figures(job.folder.path, partial(point_figures, point), job.name, job.undrawn)
    job.folder.complete()
    job.point = point
    job.state = "complete"
