"""A thread that keeps MLflow up to date while points train, and never holds up their training."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from pipeline.points.sweep_record import SweepRecord
from pipeline.system.errors import LabError
from pipeline.system.terminal import notice
from pipeline.tracking.models import list_packages
from pipeline.tracking.sync.points import Attempt
from pipeline.tracking.sync.process import incomplete
from pipeline.tracking.sync.sweep import Sync

SYNC_SECONDS, RETRY_SECONDS = 2.0, 20.0
"""How long between two looks at the disk, and until MLflow is tried again that has failed."""
PATIENCE_SECONDS = 120.0
"""How long a worker that shares no disk waits in the end for a server that is away."""


class SyncThread:
    """Calls a sync again and again.

    Args:
        sync: what brings MLflow up to date.
        tell: shows a message while training goes on.

    Attributes:
        error: why the last try failed.
    """

    def __init__(self, sync: Sync, tell: Callable[[str], None] = notice) -> None:
        self.sync, self.tell = sync, tell
        self.error: LabError | None = None
        self._warned = self._ended = False
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)

    def add(self, attempts: Iterable[Attempt]) -> None:
        """See `Sync.add`."""
        self.sync.add(attempts)

    def start(self) -> None:
        """Begin to send."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self, ended: SweepRecord) -> None:
        """Send what is left, and what the sweep came to, and stop."""
        self.sync.stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        # A fresh thread has the priority of this one; that of the other may be lower, and cannot be taken back.
        last = threading.Thread(target=self._end, args=[ended], name="sync end", daemon=True)
        last.start()
        last.join()

    def unsent(self) -> LabError | None:
        """After `close`: what MLflow has not got, and how to send it; None where it has everything."""
        pending = len(self.sync.pending())
        if not pending and self.error is None and self._ended:
            return None
        received = "" if self._ended else "an error of this program, above"
        if self.error is not None:
            received = self.error.received
        problem = f"{pending} of {len(self.sync.points)} points are pending"
        return incomplete(problem, received, self.sync.sweep.tracking)

    def _run(self) -> None:
        wait = 0.0
        listed = False
        while not self.sync.stop.wait(wait):
            completed = self.sync.completed
            if not self._try():
                wait = RETRY_SECONDS
                continue
            if not listed:
                listed = True
                list_packages()  # now, for nobody waits yet
            # What took a while to send leaves time for others to become complete.
            wait = 0.0 if self.sync.completed > completed else SYNC_SECONDS

    def _end(self, ended: SweepRecord) -> None:
        patience = PATIENCE_SECONDS if self.sync.worker == "own" else 0.0  # its points have no other way back
        give_up = time.monotonic() + patience
        while not self._try(ended) and time.monotonic() < give_up:
            time.sleep(SYNC_SECONDS)
        self._ended = True  # not reached where the thread ends by an error of our own

    def _try(self, ended: SweepRecord | None = None) -> bool:
        """Send what there is; returns whether MLflow took it."""
        try:
            self.sync.send(ended)
            self.error = None
        except LabError as error:
            self.error = error
            if ended is None and not self._warned:
                self._warned = True
                self.tell(f"training goes on without MLflow for now. {error}")
        return self.error is None
