"""Show the progress of training: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import logging
import sys
import time

from tqdm import tqdm

from pipeline.system.streams import reader_is_ready

log = logging.getLogger(__name__)

# Short enough to show progress in a short training, and long enough to keep the log of a long one readable.
SECONDS_BETWEEN_LINES = 5.0


class TrainingProgress:
    """Shows the epoch and the loss of one stack.

    Args:
        label: name of the stack, for instance `three_bits numpy: points 1-7 of 14`.
        total: number of epochs, or of the units that are counted instead.
        begun: number of these that an earlier command trained.
        unit: name of what is counted, in the singular.
        bar: whether a terminal gets a bar; otherwise lines are printed.
    """

    def __init__(self, label: str, total: int, begun: int = 0, unit: str = "epoch", bar: bool = True) -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self.started = time.monotonic()
        self.last_line = self.started
        self.closed = False
        self.bar = None
        if bar and sys.stderr.isatty():
            self.bar = tqdm(total=total, initial=begun, desc=label, unit=unit, dynamic_ncols=True)
            return
        start = f"{label}: {total} {unit}s"
        if begun:
            start += f", resuming after {begun}"
        log.info(start)

    def __call__(self, epoch: int, loss: float | None = None) -> None:
        """Show that `epoch` is done, with the smallest training loss of the points if it is known."""
        if self.bar is not None:
            if loss is not None:
                # Without refresh=False the bar would be drawn twice per epoch: here and in `update`.
                self.bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
            # tqdm counts increments, while training reports the epoch it has reached.
            self.bar.update(epoch - self.bar.n)
            return
        now = time.monotonic()
        if now - self.last_line < SECONDS_BETWEEN_LINES:
            return
        self.last_line = now
        line = f"{self.label}: {self.unit} {epoch}/{self.total}"
        if loss is not None:
            line += f" loss {loss:.4g}"
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
            self.bar.close()
        else:
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
        tqdm.write(self.format(record), file=sys.stderr)
        sys.stderr.flush()
