"""End training when the budget of a command is spent, as a signal would: with a checkpoint, from which it can go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class BudgetSpent(KeyboardInterrupt):
    """The budget of the command is spent: points in training have kept a checkpoint, and the others are not begun."""


class Deadline:
    """The time at which training ends.

    Args:
        at: seconds since 1970, as on the clocks of the workers; None: there is no such time.
    """

    def __init__(self, at: float | None) -> None:
        self.at = at

    def check(self) -> None:
        """Raise BudgetSpent if the time has come."""
        if self.at is not None and time.time() >= self.at:
            raise BudgetSpent

    @contextmanager
    def stopping(self, stop: threading.Event) -> Iterator[threading.Event]:
        """Set an event at that time, unless the block ends before.

        Yields:
            an event that is set at that time too, and by nothing else.
        """
        spent = threading.Event()
        if self.at is None:
            yield spent
            return

        def end() -> None:
            # A signal that came before is the reason.
            if not stop.is_set():
                spent.set()
                stop.set()

        timer = threading.Timer(max(0.0, self.at - time.time()), end)
        timer.daemon = True
        timer.start()
        try:
            yield spent
        finally:
            timer.cancel()
