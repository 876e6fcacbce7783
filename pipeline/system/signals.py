"""Signals: they end a command at once, or at the next checkpoint while a network trains, or are only noted."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SERVER_SIGNALS = (*SIGNALS, signal.SIGHUP)
"""What ends a server, which has nothing to finish: the end of its terminal too."""


def end_at_once(number: int, frame: FrameType | None) -> None:
    """Signal handler: raise KeyboardInterrupt."""
    raise KeyboardInterrupt


@contextmanager
def handled(handler: Callable[[int, FrameType | None], object], numbers: Sequence[int] = SIGNALS) -> Iterator[None]:
    """Let `handler` take signals within the block; in another thread than the main one they keep their handlers."""
    if threading.current_thread() is not threading.main_thread():  # only there can handlers be set
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

    with handled(note):
        yield asked


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Within the block a signal is only noted, so that none falls between a server's start and its care."""
    noted: list[int] = []
    # nohup ignores SIGHUP, and what is ignored stays so
    numbers = [number for number in SERVER_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    with handled(lambda number, frame: noted.append(number), numbers):
        yield noted
