"""Tasks of the command while workers train: lock the points, count the complete ones, and wait for their folders."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pipeline.points.job import Job
from pipeline.points.reading import read_run
from pipeline.sweep.training import POLL_SECONDS
from pipeline.system.errors import explain
from pipeline.system.files import modified_ns
from pipeline.system.terminal import TrainingProgress

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
def counting(label: str, jobs: Sequence[Job]) -> Iterator[None]:
    """Show how many points are complete on this disk while workers train."""
    progress = TrainingProgress(label, len(jobs), unit="point")
    files = [job.folder.final / "run.json" for job in jobs]
    # With `force` the files exist already, so a point is complete when its file has changed.
    before = [modified_ns(file) for file in files]
    over = threading.Event()

    def count() -> None:
        while not over.wait(1.0):
            progress(sum(modified_ns(file) != earlier for file, earlier in zip(files, before, strict=True)))

    # A thread, because `run` of an engine returns only when all units are done.
    watcher = threading.Thread(target=count, name="points", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        progress.close()


def await_folder(job: Job, give_up: float) -> None:
    """Wait until a folder that a worker has written is visible here, or until `give_up`, a time of time.monotonic()."""
    while not job.folder.final.exists() and time.monotonic() < give_up:
        # Listing the parent folder makes NFS refresh its cache of it.
        list(job.folder.final.parent.iterdir())
        time.sleep(POLL_SECONDS)
