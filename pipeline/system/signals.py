"""Ctrl-C and SIGTERM: at once where nothing is lost by it, at the next checkpoint while a network trains."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def end_at_once(number: int, frame: FrameType | None) -> None:
    """Signal handler: raise KeyboardInterrupt."""
    raise KeyboardInterrupt


@contextmanager
def put_off() -> Iterator[threading.Event]:
    """Within the block the first signal only sets the event that is given; a second one ends the block at once."""
    asked = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        print(
            "stopping after this epoch (of a map: this block), to keep what is trained; once more stops at once",
            file=sys.stderr,
        )

    if threading.current_thread() is not threading.main_thread():  # only there can handlers be set
        yield asked
        return
    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
