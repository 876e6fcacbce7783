"""A thread that keeps MLflow up to date while points train, without holding up their training."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from pipeline.points.sweep_record import SweepRecord
from pipeline.system.errors import LabError
from pipeline.tracking.internals import list_packages
from pipeline.tracking.sync.points import Attempt
from pipeline.tracking.sync.process import incomplete
from pipeline.tracking.sync.sweep import Sync

log = logging.getLogger(__name__)

# How long between two looks at the disk, and how long until the next try after MLflow has failed.
SYNC_SECONDS = 2.0
RETRY_SECONDS = 20.0
# How long a worker that does not share a disk waits at its end for a server that does not answer.
PATIENCE_SECONDS = 120.0


class SyncThread:
    """Calls a sync again and again.

    Args:
        sync: the sync to call.
        notify: shows a message while training continues.

    Attributes:
        error: why the last try failed; None where it succeeded.
    """

    def __init__(self, sync: Sync, notify: Callable[[str], None] = log.warning) -> None:
        self.sync = sync
        self.notify = notify
        self.error: LabError | None = None
        self._warned = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)

    def add(self, attempts: Iterable[Attempt]) -> None:
        """Keep up with more attempts; see `Sync.add`."""
        self.sync.add(attempts)

    def start(self) -> None:
        """Begin to send; a second call does nothing."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self, ended: SweepRecord) -> None:
        """Send everything that is left and how the sweep ended, and stop."""
        self.sync.stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        # A new thread has the priority of this one. The other thread's may be lower, and cannot be raised again.
        last = threading.Thread(target=self._end, args=[ended], name="sync end", daemon=True)
        last.start()
        last.join()

    def unsent(self) -> LabError | None:
        """Return, after `close`, what MLflow lacks and how to send it; None where it has everything."""
        pending = len(self.sync.pending())
        if not pending and self.error is None and self._ended:
            return None
        received = ""
        if self.error is not None:
            received = self.error.received
        elif not self._ended:
            received = "an error in this program, see above"
        problem = f"{pending} of {len(self.sync.points)} points are pending"
        return incomplete(problem, received, self.sync.sweep.tracking)

    def _run(self) -> None:
        """Send until `close` is called."""
        wait = 0.0
        listed = False
        while not self.sync.stop.wait(wait):
            completed = self.sync.completed
            if not self._try():
                wait = RETRY_SECONDS
                continue
            # Now rather than with the first model, while no complete point waits to be sent.
            if not listed:
                listed = True
                list_packages()
            wait = SYNC_SECONDS
            # Sending a complete point takes a while, in which others may have become complete.
            if self.sync.completed > completed:
                wait = 0.0

    def _end(self, ended: SweepRecord) -> None:
        """Send for the last time."""
        patience = 0.0
        # The points of such a worker reach the command only through MLflow.
        if self.sync.worker == "own":
            patience = PATIENCE_SECONDS
        give_up = time.monotonic() + patience
        while not self._try(ended) and time.monotonic() < give_up:
            time.sleep(SYNC_SECONDS)
        # Stays False if an error of our own ends the thread, which `unsent` reports.
        self._ended = True

    def _try(self, ended: SweepRecord | None = None) -> bool:
        """Send what there is; returns whether MLflow accepted it."""
        try:
            self.sync.send(ended)
            self.error = None
        except LabError as error:
            self.error = error
            # One warning is enough while training continues; `unsent` reports how it ended.
            if ended is None and not self._warned:
                self._warned = True
                self.notify(f"training continues without MLflow for now. {error}")
        return self.error is None
