"""Train a unit on a worker, exactly as a single machine would, and write the runs of its points to MLflow.

This runs in a process that an engine has started, on this machine or another one; see distribution.py.
"""

from __future__ import annotations

import functools
import logging
import os
import platform
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pipeline.backends.numpy.array_modules import array_module
from pipeline.config.reading import read_config
from pipeline.points.job import Job
from pipeline.points.reading import read_attempt
from pipeline.sweep.budget import Deadline
from pipeline.sweep.jobs import JobMaker
from pipeline.sweep.training import StackTraining, take_over
from pipeline.sweep.workers.unit import Unit, unpack
from pipeline.system.engines import VARIABLE
from pipeline.system.errors import LabError, explain
from pipeline.system.processes import COMMAND_PROCESS, owner
from pipeline.system.project import PROJECT, store_root
from pipeline.system.signals import handle_signals, raise_interrupt
from pipeline.system.streams import keep_streams
from pipeline.tracking.sync.attempts import attempts
from pipeline.tracking.sync.sweep import Sync, WorkerDisk
from pipeline.tracking.sync.thread import SyncThread
from pipeline.tracking.tracker import Tracker
from pipeline.tracking.transfer import fetch_checkpoint

log = logging.getLogger(__name__)

# How often a worker checks whether the process that started it still runs.
PARENT_SECONDS = 1.0
Report = list[dict[str, Any]]


def train_unit(composed: DictConfig) -> Report:
    """Train one unit: the Hydra task of a worker.

    Args:
        composed: its key `unit` contains the unit that `distribution` has packed. Each point has its own config in it.

    Returns:
        For each point its `signature`, its `state` as in `Job`, and `error`: a message, or None.
    """
    keep_streams()
    unit = unpack(composed["unit"])
    _end_with_parent()
    # Before Keras is imported, which reads it once.
    os.environ[VARIABLE] = unit.engine
    # An interruption and a LabError are reported, not raised: after an exception the engine counts the unit as lost,
    # and it is resubmitted.
    try:
        with handle_signals(raise_interrupt):
            return _Worker(unit).run()
    except KeyboardInterrupt:
        return [{"signature": point.signature, "state": "killed", "error": None} for point in unit.points]
    except LabError as error:
        return [{"signature": point.signature, "state": "failed", "error": str(error)} for point in unit.points]


class _Worker:
    """One unit, from unpacking it to the report."""

    def __init__(self, unit: Unit) -> None:
        # Whether this worker has its own project folder, on a disk that it does not share with the sender.
        self.own_disk = unit.project is None
        project = Path(unit.project or PROJECT)
        self.root = store_root(project)
        self.sweep = unit.sweep
        self.points = [(read_config(point.config), point) for point in unit.points]
        first = self.points[0][0]
        # This reports a missing GPU, before anything is written.
        array_module(first)
        if self.own_disk and identity_of(self.root) == unit.sender:
            raise _in_the_senders_folder(self.root)
        self.jobs: list[Job] = []
        # A thread writes to MLflow, not a process: an engine reuses this process, which then imports MLflow only once,
        # while a new process for each unit would import it every time.
        disk: WorkerDisk = "own" if self.own_disk else "shared"
        self.sync = SyncThread(Sync(self.root, self.sweep, owner(), worker=disk, clone=unit.clone))
        self.training = StackTraining(
            JobMaker(project, first, shown=False), unit.tags, self._label, self._start_sync, bar=False
        )
        self.training.deadline = Deadline(unit.deadline)
        self._total = unit.total
        self._numbers = {point.signature: point.number for _, point in self.points}
        self._replaced = {point.signature: point.replaced for _, point in self.points}

    def run(self) -> Report:
        """Train the points, send their runs to MLflow, and report how each point ended.

        Raises:
            LabError: the code or the data on this machine differs from the sender's, or the data is missing.
        """
        for config, point in self.points:
            job = self.training.job(config, point.overrides)
            job.name = point.name
            # With equal signatures, code, packages and data are the same as on the sender.
            if job.signature != point.signature:
                raise _different_point(job, point.signature)
            self.jobs.append(job)
        try:
            # After an interruption the report is still sent: it says which points were killed.
            with suppress(KeyboardInterrupt):
                if self.own_disk:
                    self._fetch_checkpoints()
                self.training.train(self._jobs_to_train())
        except Exception as error:
            for job in self.jobs:
                if job.state == "training":
                    job.fail(explain(error))
            raise
        finally:
            # Also after a bug of ours: the engine reuses this process, and the thread must not keep running.
            for job in self.jobs:
                if job.state == "training":
                    job.state = "killed"
            self.sync.add(attempts(self.jobs))
            self.sync.close(self.sweep)
        return self._report(self.sync.unsent())

    def _jobs_to_train(self) -> list[Job]:
        """Return the jobs without those that this command has already retrained, on a worker that was lost later."""
        jobs = []
        for job in self.jobs:
            # Only on a shared disk. The command has not seen the attempts on a worker's own disk, so there `force`
            # retrains every point.
            if job.config.force and not self.own_disk:
                self._use_attempts_of_this_command(job)
                if job.state == "done":
                    continue
            jobs.append(job)
        return jobs

    def _use_attempts_of_this_command(self, job: Job) -> None:
        """Use this command's earlier attempts at a point that is to be retrained, after its unit was resubmitted.

        If the command has completed the point, take it over. If it has only begun it, mark the job to continue.
        """
        complete = read_attempt(job.folder.final)
        begun = read_attempt(job.folder.path)
        # Attempts that did not exist before the command are attempts of the command.
        others = (None, *self._replaced[job.signature])
        job.begun_by_command = begun not in others
        if complete not in others:
            job.look()
            if job.state == "done":
                take_over(job)

    def _report(self, unsent: LabError | None) -> Report:
        """Describe how each point ended."""
        report = []
        unreturned = {point.attempt.signature for point in self.sync.sync.points.unreturned()}
        for job in self.jobs:
            error = job.error
            # Without a shared disk a point returns only through MLflow.
            if self.own_disk and unsent is not None and error is None and job.signature in unreturned:
                error = LabError(f"It was trained on {platform.node()} but could not be returned. {unsent}")
            message = None
            if error is not None and job.state != "killed":
                message = str(error)
            undrawn = {item: str(problem) for item, problem in job.undrawn.errors.items()}
            report.append({"signature": job.signature, "state": job.state, "error": message, "undrawn": undrawn})
        return report

    def _fetch_checkpoints(self) -> None:
        """Fetch the checkpoints of these points that other nodes have sent to MLflow."""
        try:
            tracker = Tracker(self.sweep.tracking, self.sweep.study, self.root)
            for job in self.jobs:
                job.look()
                if job.state != "done" and not job.config.force and job.folder.lock():
                    try:
                        fetch_checkpoint(tracker, job)
                    finally:
                        job.folder.unlock()
        except LabError as error:
            # Without a checkpoint a point trains from the beginning, which costs only time.
            log.warning(f"could not fetch the checkpoints of other nodes. {error}")

    def _start_sync(self) -> None:
        self.sync.add(attempts(self.jobs))
        self.sync.start()

    def _label(self, jobs: Sequence[Job]) -> str:
        numbers = sorted(self._numbers[job.signature] for job in jobs)
        which = f"points {', '.join(map(str, numbers))}"
        if len(numbers) == 1:
            which = f"point {numbers[0]}"
        return f"{self.sweep.name}: {which} of {self._total} on {platform.node()}"


def identity_of(root: Path) -> tuple[str, int, int]:
    """Identify a folder by its machine, device and inode."""
    # Not by its path, which may be the same on another machine, and different on this one through a link.
    status = root.stat()
    return platform.node(), status.st_dev, status.st_ino


def _in_the_senders_folder(root: Path) -> LabError:
    return LabError(
        f"A worker on {platform.node()} is running in the command's own folder.",
        expected="with hydra.launcher.shared_disk=false, nodes with their own project folder",
        received=str(root),
        fix="start Ray there with --num-cpus 0, or use hydra.launcher.shared_disk=true",
    )


def _different_point(job: Job, expected: str) -> LabError:
    return LabError(
        f"{job.name} has a different signature on {platform.node()}.",
        expected=f"{expected}, from the code, the packages and the data of the sending machine",
        received=job.signature,
        fix="update code and data there (git pull; dvc pull, or fetch and prepare), then run the same command again",
    )


@functools.cache
def _end_with_parent() -> None:
    """End this process when its parent has ended, because nothing would receive its results."""
    # A parent that was killed while this process was starting is not its parent any more.
    parent = int(os.environ.get(COMMAND_PROCESS, os.getppid()))
    # With one worker, joblib trains in the process of the command itself.
    if parent == os.getpid():
        return

    def watch() -> None:
        # The system gives a process whose parent has ended another parent.
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        # sys.exit would end only this thread.
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
