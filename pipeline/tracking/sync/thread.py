"""A thread that keeps MLflow up to date while points train, and never blocks their training."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from pipeline.points.sweep_record import SweepRecord
from pipeline.system.errors import LabError, UnavailableError, explain
from pipeline.system.last_line import Told, untold
from pipeline.tracking.internals import list_packages
from pipeline.tracking.sync.attempts import Attempt
from pipeline.tracking.sync.process import incomplete
from pipeline.tracking.sync.sweep import Sync

log = logging.getLogger(__name__)

# Interval between disk scans, and retry delay after an MLflow failure.
SYNC_SECONDS = 2.0
RETRY_SECONDS = 20.0
# How long a worker without a shared disk finally waits for an unavailable server.
PATIENCE_SECONDS = 120.0


class SyncThread:
    """Runs a sync repeatedly.

    Args:
        sync: the sync to run.
        notify: shows a message during training.

    Attributes:
        error: why the store could not be used at all by the last try; None if it could.
    """

    def __init__(self, sync: Sync, notify: Callable[[str], None] = log.warning) -> None:
        self.sync = sync
        self.notify = notify
        self.error: LabError | None = None
        self._warned = False
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)

    def add(self, attempts: Iterable[Attempt]) -> None:
        """Add attempts to send; see `SyncedPoints.add`."""
        self.sync.points.add(attempts)

    def start(self) -> None:
        """Start sending; a second call does nothing."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self, ended: SweepRecord, told: Told = untold) -> None:
        """Send everything that remains, including the sweep's outcome, and stop.

        Args:
            ended: the final record of the sweep.
            told: is told how many points MLflow has, and of how many.
        """
        self.sync.told = told
        self.sync.stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        # A new thread inherits this thread's priority. The old thread's may be lower (see service.set_priority), and
        # cannot be raised.
        last = threading.Thread(target=self._end, args=[ended], name="sync end", daemon=True)
        last.start()
        last.join()

    def unsent(self) -> LabError | None:
        """Return, after `close`, an error if results are missing from MLflow, with instructions for sending them.

        An UnavailableError, if the store could not be used; nothing was wrong with the results.
        """
        pending = len(self.sync.points.pending())
        refused = self.sync.failed().messages("could not be sent to MLflow")
        if not pending and self.error is None and not refused:
            return None
        problem = f"{pending} of {len(self.sync.points)} points are pending"
        if not pending:
            problem = "all points are complete, but not the rest"
        received = ""
        if self.error is not None:
            received = self.error.received
        missing = incomplete(problem, received, self.sync.sweep.tracking)
        if isinstance(self.error, UnavailableError):
            # The store has failed, which may be why it rejected the rest too.
            return missing
        if self.error is not None:
            refused.append(str(self.error))
        if refused:
            return LabError("\n".join([*refused, str(missing)]))
        return missing

    def _run(self) -> None:
        """Send until `close` is called."""
        wait = 0.0
        listed = False
        while not self.sync.stop.wait(wait):
            completed = self.sync.completed
            if not self._try():
                wait = RETRY_SECONDS
                continue
            # MLflow would otherwise do this while it writes the first model. Do it now, while nothing is waiting.
            if not listed:
                listed = True
                list_packages()
            wait = SYNC_SECONDS
            # Sending a complete point takes a while; more points may have been completed in the meantime.
            if self.sync.completed > completed:
                wait = 0.0

    def _end(self, ended: SweepRecord) -> None:
        """Send for the last time."""
        patience = 0.0
        # There is no other way to return the points of such a worker.
        if self.sync.worker == "own":
            patience = PATIENCE_SECONDS
        give_up = time.monotonic() + patience
        self._try(ended)
        while self.error is not None and time.monotonic() < give_up:
            time.sleep(SYNC_SECONDS)
            self._try(ended)

    def _try(self, ended: SweepRecord | None = None) -> bool:
        """Send everything available, and return whether MLflow accepted it."""
        try:
            self.sync.send(ended)
            self.error = None
        except Exception as error:  # noqa: BLE001 - after an error of our own too, the last try may still succeed
            self.error = explain(error)
            # One warning during training is enough; `unsent` reports whether everything was sent in the end.
            if ended is None and not self._warned:
                self._warned = True
                happened = "Sending to MLflow failed"
                if isinstance(self.error, UnavailableError):
                    happened = "MLflow is unavailable"
                self.notify(f"{happened}; training continues and will sync later. {self.error}")
        return self.error is None and not self.sync.failed().errors
