"""Handle signals: end a command at once, stop training at the next checkpoint, or only record that a signal came."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A server has nothing to finish, so closing its terminal ends it too.
SERVER_SIGNALS = (*SIGNALS, signal.SIGHUP)


def end_at_once(_number: int, _frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; a signal handler."""
    raise KeyboardInterrupt


@contextmanager
def handled(handler: Callable[[int, FrameType | None], object], numbers: Sequence[int] = SIGNALS) -> Iterator[None]:
    """Let `handler` receive signals within the block, and restore the earlier handlers after it.

    Outside the main thread nothing changes.
    """
    # Python allows only the main thread to set handlers.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def put_off() -> Iterator[threading.Event]:
    """Postpone the first signal within the block: it only sets the event that the block gets.

    Raises:
        KeyboardInterrupt: a second signal came within the block.
    """
    asked = threading.Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        # A user who presses Ctrl-C again does not want to wait for the checkpoint.
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        print(
            "stopping after this epoch (of a map: this block), to keep what is trained; once more stops at once",
            file=sys.stderr,
        )

    with handled(note):
        yield asked


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Collect the signals that come within the block in the list that it gets, instead of acting on them.

    So no signal is lost between the start of a server process and the code that watches it.
    """
    noted: list[int] = []
    # Under nohup SIGHUP is ignored, and it has to stay ignored.
    numbers = [number for number in SERVER_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    with handled(lambda number, _frame: noted.append(number), numbers):
        yield noted
