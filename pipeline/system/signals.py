"""Handle signals: end a command at once, stop training at the next checkpoint, or only collect them."""

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


def raise_interrupt(_number: int, _frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; a signal handler."""
    raise KeyboardInterrupt


@contextmanager
def handle_signals(
    handler: Callable[[int, FrameType | None], object], numbers: Sequence[int] = SIGNALS
) -> Iterator[None]:
    """Handle signals with `handler` within the block, and restore the earlier handlers after it.

    Outside the main thread, handlers are left unchanged.
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
def postpone_signals() -> Iterator[threading.Event]:
    """Postpone the first signal within the block: it only sets the event that is yielded.

    Raises:
        KeyboardInterrupt: a second signal arrived within the block.
    """
    asked = threading.Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        # A user who presses Ctrl-C again does not want to wait for the checkpoint.
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        print(
            "stopping after this epoch (for a map: this block) to save progress; press Ctrl-C again to stop at once",
            file=sys.stderr,
        )

    with handle_signals(note):
        yield asked


@contextmanager
def collect_signals() -> Iterator[list[int]]:
    """Collect the signals that arrive within the block in the list that is yielded, instead of acting on them.

    So no signal is lost between the start of a server and the loop that watches it.
    """
    noted: list[int] = []
    # Under nohup SIGHUP is ignored, and it has to stay ignored.
    numbers = [number for number in SERVER_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    with handle_signals(lambda number, _frame: noted.append(number), numbers):
        yield noted
