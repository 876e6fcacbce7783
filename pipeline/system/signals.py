"""Handle signals: end a command at once, stop training at the next checkpoint, or only collect them."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from pipeline.system.streams import reader_is_ready

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Signals that announce an end: a terminal was closed, or a limit of time is near (`sbatch --signal`, `ulimit -S -t`).
# Each may arrive several times: when a terminal is closed, the system and the shell both send SIGHUP.
NOTICES = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
STOPPING = "stopping after this epoch (for a map: this block) to save progress; press Ctrl-C again to stop at once"
# A server has nothing to finish, so closing its terminal ends it too.
SERVER_SIGNALS = (*SIGNALS, signal.SIGHUP)


_interruptions = 0


def interruptions() -> int:
    """Return how many signals have asked this process to end at once.

    A library may replace the KeyboardInterrupt by an error of its own: a signal to all processes of a terminal ends its
    workers too.
    """
    return _interruptions


def raise_interrupt(number: int, _frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, and count it; a signal handler."""
    global _interruptions
    _interruptions += 1
    if number in NOTICES:
        # The same notice again must not interrupt what follows an interruption.
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def interrupt_on_signals() -> None:
    """Let SIGINT, SIGTERM and the notices raise KeyboardInterrupt from now on."""
    numbers = [signal.SIGTERM, *_heeded_notices()]
    # A shell ignores it in commands that it starts in the background.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    for number in numbers:
        signal.signal(number, raise_interrupt)


def ignore_notices() -> None:
    """Ignore the notices from now on."""
    for number in _heeded_notices():
        signal.signal(number, signal.SIG_IGN)


def _heeded_notices() -> list[int]:
    """Return the notices that would end this process or interrupt it."""
    # Under nohup SIGHUP is ignored, and it has to stay ignored. submitit handles SIGUSR2 in the jobs that it starts.
    return [number for number in NOTICES if signal.getsignal(number) in (signal.SIG_DFL, raise_interrupt)]


@contextmanager
def handle_signals(
    handler: Callable[[int, FrameType | None], object], numbers: Sequence[int] | None = None
) -> Iterator[None]:
    """Handle signals with `handler` within the block, and restore the earlier handlers after it.

    Outside the main thread, handlers are left unchanged.

    Args:
        handler: called with the number of the signal and the current frame.
        numbers: the signals; None: SIGINT, SIGTERM and the notices that are not ignored.
    """
    # Python allows only the main thread to set handlers.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if numbers is None:
        numbers = [*SIGNALS, *_heeded_notices()]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def postpone_signals() -> Iterator[threading.Event]:
    """Postpone signals within the block: they only set the event that is yielded.

    Raises:
        KeyboardInterrupt: a second SIGINT or SIGTERM arrived within the block.
    """
    asked = threading.Event()
    pressed = False

    def note(number: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        # A user who presses Ctrl-C again does not want to wait for the checkpoint.
        if pressed and number in SIGNALS:
            raise KeyboardInterrupt
        pressed = pressed or number in SIGNALS
        if asked.is_set():
            return
        asked.set()
        if reader_is_ready():
            print(STOPPING, file=sys.stderr)

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
