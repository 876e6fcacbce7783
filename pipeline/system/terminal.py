"""Show the progress of training: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import logging
import sys
import time

from pipeline.system.bar import Bar
from pipeline.system.last_line import LAST_LINE, Step, pause
from pipeline.system.streams import reader_is_ready

log = logging.getLogger(__name__)

# How often a bar is drawn while epochs are counted.
SECONDS_BETWEEN_DRAWINGS = 0.1


class TrainingProgress:
    """Shows the epoch and the loss of one stack.

    Args:
        label: name of the stack, for instance `three_bits numpy: points 1-7 of 14`.
        total: number of epochs, or of the units that are counted instead.
        begun: number of these that an earlier command trained.
        unit: name of what is counted, in the singular.
        bar: whether this process shows its progress, with a bar on a terminal; workers only log lines.
    """

    def __init__(self, label: str, total: int, begun: int = 0, unit: str = "epoch", bar: bool = True) -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self.started = time.monotonic()
        self.last_shown = self.started
        self.closed = False
        self.bar: Bar | None = None
        self.step: Step | None = None
        if bar and sys.stderr.isatty():
            self.bar = Bar(label, total, begun, begun)
            LAST_LINE.open(self.bar)
            return
        start = f"{label}: {total} {unit}s"
        if begun:
            start += f", resuming after {begun}"
        log.info(start)
        if bar:
            # Lines come while an epoch lasts, too.
            self.step = Step(start, logged=self.started, told=start)
            LAST_LINE.begin(self.step)

    def __call__(self, epoch: int, loss: float | None = None) -> None:
        """Show that `epoch` is done, with the smallest training loss of the points if it is known."""
        now = time.monotonic()
        if self.bar is not None:
            self.bar.done = epoch
            if loss is not None:
                self.bar.note = f"loss {loss:.3g}"
            if now - self.last_shown >= SECONDS_BETWEEN_DRAWINGS:
                self.last_shown = now
                LAST_LINE.refresh()
            return
        line = f"{self.label}: {self.unit} {epoch}/{self.total}"
        if loss is not None:
            line += f" loss {loss:.4g}"
        if self.step is not None:
            self.step.what = line
        elif now - self.last_shown >= pause(now - self.started):
            self.last_shown = now
            log.info(line)

    def close(self, ended: str = "") -> None:
        """End the bar, or print the elapsed time. Only the first call has an effect.

        Args:
            ended: how training ended, for instance `failed after `, if it did not reach its end.
        """
        if self.closed:
            return
        self.closed = True
        if self.bar is not None:
            LAST_LINE.close()
        else:
            if self.step is not None:
                LAST_LINE.end(self.step)
            seconds = time.monotonic() - self.started
            log.info(f"{self.label}: {ended}{seconds:.1f} s")


class TerminalHandler(logging.Handler):
    """Writes log records to stderr, above the bar if there is one. conf/hydra/job_logging/terminal.yaml uses it.

    The stream is looked up for each record, so that a redirected stderr is followed.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. Progress is dropped while the reader of stderr takes nothing: training must not wait."""
        if record.levelno < logging.WARNING and not reader_is_ready():
            return
        # A plain print would write into the line of the bar.
        LAST_LINE.write(self.format(record))
