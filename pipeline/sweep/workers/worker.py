"""Train a unit on a worker, as a single machine would train its points, and write their runs to MLflow.

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
from pipeline.sweep.training import StackTraining, take_over
from pipeline.sweep.workers.unit import Unit, unpack
from pipeline.system.errors import LabError
from pipeline.system.processes import owner
from pipeline.system.project import PROJECT, store_root
from pipeline.system.signals import end_at_once, handled
from pipeline.tracking.sync.points import attempts
from pipeline.tracking.sync.sweep import Sync
from pipeline.tracking.sync.thread import SyncThread
from pipeline.tracking.tracker import Tracker
from pipeline.tracking.transfer import fetch_checkpoint

log = logging.getLogger(__name__)

# How often a worker looks whether the process that started it still runs.
PARENT_SECONDS = 1.0
Report = list[dict[str, Any]]


def train_unit(composed: DictConfig) -> Report:
    """Train one unit: the Hydra task of a worker.

    Args:
        composed: its key `unit` is what `distribution` has packed. Each point in it has a config of its own.

    Returns:
        For each point its `signature`, its `state` as in `Job`, and `error`: what went wrong in words, or None.
    """
    unit = unpack(composed["unit"])
    _end_with_parent()
    # TensorFlow does not read the variable that the engines set to limit threads.
    if "OMP_NUM_THREADS" in os.environ:
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", os.environ["OMP_NUM_THREADS"])
        os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    # Both are reported and not raised: for an engine an exception is a lost unit, which would be handed out again.
    try:
        with handled(end_at_once):
            return _Worker(unit).run()
    except KeyboardInterrupt:
        return [{"signature": point.signature, "state": "killed", "error": None} for point in unit.points]
    except LabError as error:
        return [{"signature": point.signature, "state": "failed", "error": str(error)} for point in unit.points]


class _Worker:
    """One unit, from unpacking it to the report."""

    def __init__(self, unit: Unit) -> None:
        # Apart from the sender's disk, in a folder of its own.
        self.apart = unit.project is None
        project = Path(unit.project or PROJECT)
        self.root = store_root(project)
        self.sweep = unit.sweep
        self.points = [(read_config(point.config), point) for point in unit.points]
        first = self.points[0][0]
        # A missing GPU is reported before anything is written.
        array_module(first)
        if self.apart and identity_of(self.root) == unit.sender:
            raise _in_the_senders_folder(self.root)
        self.jobs: list[Job] = []
        # A thread of this process writes to MLflow. An engine uses the process again and again, so MLflow is imported
        # once, while a process for each unit would import it every time.
        self.sync = SyncThread(Sync(self.root, self.sweep, owner(), worker="own" if self.apart else "shared"))
        self.training = StackTraining(project, first, unit.tags, self._label, self._start, bar=False)
        self._total = unit.total
        self._numbers = {point.signature: point.number for _, point in self.points}
        self._replaced = {point.signature: point.replaced for _, point in self.points}

    def run(self) -> Report:
        """Train the points, send their runs to MLflow, and report how each point ended.

        Raises:
            LabError: this machine has other code or data, or the data is missing.
        """
        for config, point in self.points:
            job = self.training.job(config, point.overrides)
            # Equal signatures mean that code, packages and data agree with those of the sender.
            if job.signature != point.signature:
                raise _different_point(job, point.signature)
            self.jobs.append(job)
        try:
            # After an interruption the report is still sent: it says which points were killed.
            with suppress(KeyboardInterrupt):
                if self.apart:
                    self._fetch_checkpoints()
                self.training.train([job for job in self.jobs if not self._is_replaced(job)])
        finally:
            # After a bug of ours too: the engine uses this process again, and the thread must not go on.
            for job in self.jobs:
                if job.state == "training":
                    job.state = "killed"
            self.sync.add(attempts(self.jobs))
            self.sync.close(self.sweep)
        return self._report(self.sync.unsent())

    def _is_replaced(self, job: Job) -> bool:
        """Whether this command has already trained a point again, before the unit was handed out once more.

        If the command has only begun the point, the job is marked to go on from there.
        """
        # A folder on another disk says nothing about this command, which does not know what was there before.
        if not job.config.force or self.apart:
            return False
        complete = read_attempt(job.folder.final)
        begun = read_attempt(job.folder.path)
        before = self._replaced[job.signature]
        # Attempts that did not exist before the command are attempts of the command.
        job.begun_by_command = begun not in (None, *before)
        if complete not in (None, *before):
            job.look()
            if job.state == "done":
                take_over(job)
        return job.state == "done"

    def _report(self, unsent: LabError | None) -> Report:
        """Describe how each point ended."""
        report = []
        for job in self.jobs:
            error = job.error
            # Without a shared disk a point returns only through MLflow.
            if self.apart and unsent is not None and error is None:
                error = LabError(f"It is trained on {platform.node()} and cannot be returned. {unsent}")
            message = None
            if error is not None and job.state != "killed":
                message = str(error)
            report.append({"signature": job.signature, "state": job.state, "error": message})
        return report

    def _fetch_checkpoints(self) -> None:
        """Fetch from MLflow the checkpoints that other nodes have sent of these points."""
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
            log.warning(f"the checkpoints of other nodes cannot be fetched. {error}")

    def _start(self) -> None:
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
        f"A worker on {platform.node()} works in the folder of the command itself.",
        expected="with hydra.launcher.shared_disk=false, nodes with a folder of their own",
        received=str(root),
        fix="start Ray there with --num-cpus 0, or use hydra.launcher.shared_disk=true",
    )


def _different_point(job: Job, expected: str) -> LabError:
    return LabError(
        f"{job.name} is a different point on {platform.node()}.",
        expected=f"the signature {expected}: the code, the packages and the data of the machine that sent it",
        received=job.signature,
        fix="bring code and data up to date there (git pull; dvc pull, or fetch and prepare), then the same command",
    )


@functools.cache
def _end_with_parent() -> None:
    """End this process when the one that started it has ended, because its results would be lost."""
    parent = os.getppid()

    def watch() -> None:
        # The system gives a process whose parent has ended another parent.
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        # sys.exit would end only this thread.
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
