"""What a worker does with the units it is given: it trains them as one machine alone would, and tracks them itself.

It runs in a process that an engine has started (distribution.py), on this machine or another one.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
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

PARENT_SECONDS = 1.0
Report = list[dict[str, Any]]


def train_unit(composed: DictConfig) -> Report:
    """Hydra's task on a worker: train one unit.

    Args:
        composed: its key `unit` is what `distribution` has packed; every point of it has a config of its own.

    Returns:
        For each point its `signature`, its `state` as in `Job`, and `error`, what went wrong in words or None.
    """
    unit = unpack(composed["unit"])
    _end_with_parent()
    if "OMP_NUM_THREADS" in os.environ:  # TensorFlow has names of its own for it
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", os.environ["OMP_NUM_THREADS"])
        os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    try:
        with handled(end_at_once):
            return _Worker(unit).run()
    except (LabError, KeyboardInterrupt) as error:
        told = str(error) if isinstance(error, LabError) else None
        state = "killed" if told is None else "failed"
        return [{"signature": point.signature, "state": state, "error": told} for point in unit.points]


class _Worker:
    """One unit, from what was sent to the report."""

    def __init__(self, unit: Unit) -> None:
        self.apart = unit.project is None
        project = PROJECT if unit.project is None else Path(unit.project)
        self.root = store_root(project)
        self.sweep = unit.sweep
        self.points = [(read_config(point.config), point) for point in unit.points]
        first = self.points[0][0]
        array_module(first)
        if self.apart and identity_of(self.root) == unit.sender:
            raise _in_the_senders_folder(self.root)
        self.jobs: list[Job] = []
        # In this process, which is used again and then has MLflow already: one of its own would import it each time.
        self.sync = SyncThread(Sync(self.root, self.sweep, owner(), worker="own" if self.apart else "shared"))
        self.training = StackTraining(project, self.root, first, unit.tags, self._label, self._start, bar=False)
        self._total = unit.total
        self._numbers = {point.signature: point.number for _, point in self.points}
        self._replaced = {point.signature: point.replaced for _, point in self.points}

    def run(self) -> Report:
        for config, point in self.points:
            job = self.training.job(config, point.overrides)
            if job.signature != point.signature:
                raise _stranger(job, point.signature)
            self.jobs.append(job)
        try:
            with suppress(KeyboardInterrupt):  # what is not complete was killed, as the report says
                if self.apart:
                    self._fetch_checkpoints()
                self.training.train([job for job in self.jobs if not self._is_replaced(job)])
        finally:  # after an error of our own too: this process is used again
            for job in self.jobs:
                if job.state == "training":
                    job.state = "killed"
            self.sync.add(attempts(self.jobs))
            self.sync.close(self.sweep)
        return self._report(self.sync.unsent())

    def _is_replaced(self, job: Job) -> bool:
        """Whether a point that is to be trained again was, before a worker was lost; if it was begun, it goes on."""
        if not job.config.force or self.apart:  # what another disk has is nothing that this command knows of
            return False
        complete, begun = (read_attempt(folder) for folder in (job.folder.final, job.folder.path))
        before = self._replaced[job.signature]
        job.goes_on = begun not in (None, *before)
        if complete not in (None, *before):
            job.look()
            if job.state == "done":
                take_over(job)
        return job.state == "done"

    def _report(self, unsent: LabError | None) -> Report:
        """What became of each point; where no disk is shared, one that MLflow has not got cannot be returned."""
        report = []
        for job in self.jobs:
            error = job.error
            if self.apart and unsent is not None and error is None:
                error = LabError(f"It is trained on {platform.node()} and cannot be returned. {unsent}")
            told = None if error is None or job.state == "killed" else str(error)
            report.append({"signature": job.signature, "state": job.state, "error": told})
        return report

    def _fetch_checkpoints(self) -> None:
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
            print(f"what other nodes have trained is not known. {error}", file=sys.stderr, flush=True)

    def _start(self) -> None:
        self.sync.add(attempts(self.jobs))
        self.sync.start()

    def _label(self, jobs: Sequence[Job]) -> str:
        places = sorted(self._numbers[job.signature] for job in jobs)
        which = f"point {places[0]}" if len(places) == 1 else f"points {', '.join(map(str, places))}"
        return f"{self.sweep.name}: {which} of {self._total} on {platform.node()}"


def identity_of(root: Path) -> tuple[str, int, int]:
    """What tells a folder from every other: its machine, device and inode."""
    there = root.stat()
    return platform.node(), there.st_dev, there.st_ino


def _in_the_senders_folder(root: Path) -> LabError:
    return LabError(
        f"A worker on {platform.node()} works in the folder of the command itself.",
        expected="with hydra.launcher.shared_disk=false, nodes with a folder of their own",
        received=str(root),
        fix="start Ray there with --num-cpus 0, or use hydra.launcher.shared_disk=true",
    )


def _stranger(job: Job, expected: str) -> LabError:
    return LabError(
        f"{job.name} is a different point on {platform.node()}.",
        expected=f"the signature {expected}: the code, the packages and the data of the machine that sent it",
        received=job.signature,
        fix="bring code and data up to date there (git pull; dvc pull, or fetch and prepare), then the same command",
    )


@functools.cache
def _end_with_parent() -> None:
    """End this process when the one that has started it is gone, so that nobody trains what nobody waits for."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
