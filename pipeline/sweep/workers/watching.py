"""Tasks of the command while workers train: lock the points, count the complete ones, and wait for their folders."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pipeline.points.job import Job
from pipeline.points.reading import read_run
from pipeline.sweep.training import POLL_SECONDS
from pipeline.system.errors import LabError, explain
from pipeline.system.files import modified_ns
from pipeline.system.terminal import TrainingProgress

# This module imports MLflow, which only nodes without a shared disk need.
if TYPE_CHECKING:
    from pipeline.tracking.tracker import Tracker

log = logging.getLogger(__name__)


@contextmanager
def locked(jobs: Sequence[Job]) -> Iterator[None]:
    """Lock points while workers train them. Those that another command completes in the meantime are marked done."""
    held: list[Job] = []
    waiting = False
    try:
        # All commands lock in the same order, so that two of them cannot deadlock, whatever points they have.
        for job in sorted(jobs, key=lambda job: job.signature):
            try:
                while not job.folder.lock():
                    if not waiting:
                        waiting = True
                        log.info(f"waiting for points that another command is training: {job.name} ...")
                    time.sleep(POLL_SECONDS)
                held.append(job)
                # The state of the job was read before it was locked, and may be out of date.
                if not job.config.force:
                    job.adopt()
                    if job.state == "done":
                        job.run = read_run(job.folder.final)
            except Exception as error:  # noqa: BLE001 - an error of our own must not stop the other points either
                job.fail(explain(error))
        yield
    finally:
        for job in held:
            job.folder.unlock()


@contextmanager
def counting(label: str, number: int, complete: Callable[[], int], every: float) -> Iterator[None]:
    """Show how many points are complete while workers train.

    Args:
        label: the name of what trains.
        number: number of points.
        complete: returns how many of them are complete.
        every: how often to ask, in seconds.
    """
    progress = TrainingProgress(label, number, unit="point")
    progress(0)
    over = threading.Event()

    def count() -> None:
        while not over.wait(every):
            progress(complete())

    # A thread, because `run` of an engine returns only when all units are done.
    watcher = threading.Thread(target=count, name="points", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        # A tracking server may take minutes to answer, for which nothing has to wait.
        watcher.join(timeout=every)
        progress.close()


def complete_here(jobs: Sequence[Job]) -> Callable[[], int]:
    """Return a function that counts the points that were completed on this disk since now."""
    files = [job.folder.final / "run.json" for job in jobs]
    # With `force` the files exist already, so a point is complete when its file has changed.
    before = [modified_ns(file) for file in files]

    def complete() -> int:
        return sum(modified_ns(file) != earlier for file, earlier in zip(files, before, strict=True))

    return complete


def complete_in_mlflow(
    jobs: Sequence[Job], tracker: Callable[[], Tracker], replaced: Mapping[str, Sequence[str | None]]
) -> Callable[[], int]:
    """Return a function that counts the points that workers have sent to MLflow for this command.

    Args:
        jobs: the points.
        tracker: connects to the tracking server.
        replaced: by signature, the attempts that existed before this command and are to be replaced.
    """
    known = 0

    def complete() -> int:
        nonlocal known
        # While the server does not answer, the last number stays.
        with suppress(LabError):
            runs = [run.tags for run in tracker().runs() if "lab.complete" in run.tags]
            sent = {(tags.get("signature"), tags.get("lab.attempt")) for tags in runs}
            new = {name for name, attempt in sent if attempt not in replaced.get(name or "", [])}
            known = sum(job.signature in new for job in jobs)
        return known

    return complete


def await_folder(job: Job, give_up: float) -> None:
    """Wait until a folder that a worker has written is visible here, or until `give_up`, a time of time.monotonic()."""
    while not job.folder.final.exists() and time.monotonic() < give_up:
        # Listing the parent folder makes NFS refresh its cache of it.
        list(job.folder.final.parent.iterdir())
        time.sleep(POLL_SECONDS)
