"""The last line of a terminal: a bar while points train, and otherwise what a command is busy with.

A command is never silent for long: after `QUIET_SECONDS` without output it names its current step. On a terminal this
is one line, drawn again every half second with the time it takes, and gone when the step is over. In a log there is a
line every 3 seconds in the first minute of a step or a training, and then fewer and fewer, see `pause`.
"""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline.system.bar import Bar, block
from pipeline.system.streams import reader_is_ready
from pipeline.system.wording import shortened

log = logging.getLogger(__name__)

# How long a command may be silent. Most steps of most commands are shorter, and are never named.
QUIET_SECONDS = 2.0
TICK_SECONDS = 0.5
SECONDS_BETWEEN_LINES = 3.0
# The share of the time so far that may pass without a line in a log: 3 seconds after a minute, 3 minutes after an hour.
PAUSE_SHARE = 0.05


def pause(elapsed: float) -> float:
    """Return how many seconds a log waits for its next line about something that has taken `elapsed` seconds.

    A training of an hour has about 100 lines, and one of a day 165.
    """
    return max(SECONDS_BETWEEN_LINES, PAUSE_SHARE * elapsed)


@dataclass(eq=False)
class Step:
    """Something that a command is busy with.

    Attributes:
        what: as it is shown, for instance `writing to MLflow`.
        total: number of things to do; None: they are not counted, and neither is one.
        done: number of these that are done.
        long: whether it is named at once, because it is known to take long, and may keep threads from running.
        began: when it began, by `time.monotonic`.
        logged: when it was last written to a log; None: not yet.
        told: what was written then.
    """

    what: str
    total: int | None = None
    done: int = 0
    long: bool = False
    began: float = field(default_factory=time.monotonic)
    logged: float | None = None
    told: str = ""

    @property
    def text(self) -> str:
        """What is done, with the count, for instance `writing to MLflow 12 of 48`."""
        if self.total is None or self.total == 1:
            return self.what
        return f"{self.what} {self.done:,} of {self.total:,}"

    def count(self, done: int, total: int) -> None:
        """Say how much of it is done."""
        self.done = done
        self.total = total


class LastLine:
    """Draws the last line of stderr, and writes lines above it. The stream is looked up each time: it may be replaced.

    A reader that takes nothing, such as a terminal stopped by Ctrl-S, gets no progress: training must not wait.
    """

    def __init__(self) -> None:
        # A signal handler may write while the same thread draws.
        self._lock = threading.RLock()
        self._drawn = ""
        self._steps: list[Step] = []
        self._bar: Bar | None = None
        # The number of steps when the bar began: these are not its own.
        self._outer = 0
        self._spoke = time.monotonic()
        self._busy = threading.Event()
        self._ticker: threading.Thread | None = None

    def write(self, text: str) -> None:
        """Write a line, above the last one if something is drawn there."""
        with self._lock:
            again = bool(self._drawn)
            self._erase()
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
            self._spoke = time.monotonic()
            if again:
                self._draw()

    def begin(self, step: Step) -> None:
        """Add a step; the newest is the one that is shown."""
        with self._lock:
            self._steps.append(step)
            self._tick()
            due = step.long or self._drawn
        if due:
            self.refresh()

    def end(self, step: Step) -> None:
        """Remove a step."""
        with self._lock:
            self._steps.remove(step)
            self._settle()
            if self._drawn:
                self._draw()

    def open(self, bar: Bar) -> None:
        """Show a bar until `close`."""
        with self._lock:
            self._bar = bar
            self._outer = len(self._steps)
            self._draw()
            self._tick()

    def close(self) -> None:
        """Leave the bar as it is, and go on below it."""
        with self._lock:
            self._draw()
            self._bar = None
            if self._drawn:
                self._drawn = ""
                sys.stderr.write("\n")
                sys.stderr.flush()
            self._settle()

    def refresh(self) -> None:
        """Draw the line as it is now, or write what is due to the log."""
        text = ""
        with self._lock:
            if not _wanted():
                return
            if sys.stderr.isatty():
                self._draw()
            elif self._steps:
                text = self._due(self._steps[-1])
        # Without the lock: a thread that logs holds the lock of the handler, and waits for this one to write.
        if text:
            log.info(text)

    def _tick(self) -> None:
        """Let a thread refresh the line while there is something to show."""
        self._busy.set()
        if self._ticker is None:
            self._ticker = threading.Thread(target=self._run, name="last line", daemon=True)
            self._ticker.start()

    def _settle(self) -> None:
        """Erase what is over."""
        if self._bar is None and self._drawn:
            self._erase()
            # What follows at once is not silence.
            self._spoke = time.monotonic()
        if self._bar is None and not self._steps:
            self._busy.clear()

    def _run(self) -> None:
        while self._busy.wait():
            time.sleep(TICK_SECONDS)
            self.refresh()

    def _due(self, step: Step) -> str:
        """Return what is to be written to the log about a step; empty: nothing yet."""
        now = time.monotonic()
        due = step.long or now - self._spoke >= QUIET_SECONDS
        if step.logged is not None:
            due = now - step.logged >= pause(now - step.began)
        if not due:
            return ""
        text = step.text
        if text == step.told:
            # Nothing new, but it goes on.
            text = f"{text} ({now - step.began:.0f} s)"
        step.logged = now
        step.told = step.text
        return text

    def _draw(self) -> None:
        if not (_wanted() and sys.stderr.isatty() and reader_is_ready()):
            return
        # One column less than there are, because a cursor behind the last one begins another line.
        width = shutil.get_terminal_size().columns - 1
        text = self._text(width)
        if not text:
            return
        # Spaces instead of an escape sequence, which not every terminal knows.
        sys.stderr.write(f"\r{text.ljust(min(len(self._drawn), width))}")
        sys.stderr.flush()
        self._drawn = text

    def _text(self, width: int) -> str:
        """Return what the last line is to be; empty: nothing, or what it is."""
        own = self._steps[self._outer :] if self._bar else self._steps
        if self._bar is not None:
            note = self._bar.note
            if own:
                self._bar.note = own[-1].text
            line = self._bar.line(width, block(sys.stderr.encoding))
            self._bar.note = note
            return line
        now = time.monotonic()
        if not own:
            return ""
        if not (own[-1].long or self._drawn or now - self._spoke >= QUIET_SECONDS):
            return ""
        return shortened(f"{own[-1].text} ({now - own[-1].began:.0f} s)", width)

    def _erase(self) -> None:
        if self._drawn and reader_is_ready():
            sys.stderr.write(f"\r{' ' * len(self._drawn)}\r")
            sys.stderr.flush()
        self._drawn = ""


def _wanted() -> bool:
    """Whether the log shows progress.

    `isEnabledFor` may wait for the lock of all loggers, whose holder may wait for a handler, and so for the last line.
    """
    return not log.disabled and max(log.getEffectiveLevel(), log.manager.disable + 1) <= logging.INFO


LAST_LINE = LastLine()
# Is told how many things are done, of how many.
Told = Callable[[int, int], None]


def untold(done: int, total: int) -> None:
    """Tell nobody; the default of a `Told`."""


@contextmanager
def doing(what: str, total: int | None = None, shown: bool = True, long: bool = False) -> Iterator[Step]:
    """Name a step of a command, should it take long.

    Args:
        what: what the command does, for instance `writing to MLflow`.
        total: number of things to do; None: they are not counted.
        shown: whether this process shows its progress; workers do not.
        long: whether to name it at once, and not only when it has taken a while.

    Example:
        with doing("reading points", len(folders)) as step:
            for number, folder in enumerate(folders, start=1):
                read(folder)
                step.count(number, len(folders))
    """
    step = Step(what, total, long=long)
    if not shown:
        yield step
        return
    LAST_LINE.begin(step)
    try:
        yield step
    finally:
        LAST_LINE.end(step)
