"""What a person sees while and after training: a bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 5.0


class TrainingProgress:
    """Shows epoch and loss of one stack.

    Args:
        label: what is trained, for instance `three_bits numpy, points 1-7 of 14`.
        epochs: how many epochs the stack trains.
        begun: how many of them were trained before.
        unit: what is counted in the place of epochs.
        bar: whether a terminal gets a bar.
    """

    def __init__(self, label: str, epochs: int, begun: int = 0, unit: str = "epoch", bar: bool = True) -> None:
        self.label, self.epochs, self.unit, self.started = label, epochs, unit, time.monotonic()
        self.last_line, self.closed = self.started, False
        self.bar = None
        if bar and sys.stderr.isatty():
            self.bar = tqdm(total=epochs, initial=begun, desc=label, unit=unit, dynamic_ncols=True)
        else:
            rest = f", going on after {begun}" if begun else ""
            print(f"{label}: {epochs} {unit}s{rest}", file=sys.stderr, flush=True)

    def __call__(self, epoch: int, loss: float | None = None) -> None:
        """Show that `epoch` is done, with the smallest training loss of the points, where one is known."""
        if self.bar is not None:
            if loss is not None:
                self.bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
            self.bar.update(epoch - self.bar.n)
            return
        now = time.monotonic()
        if now - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = now
            told = "" if loss is None else f" loss {loss:.4g}"
            print(f"{self.label}: {self.unit} {epoch}/{self.epochs}{told}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the bar, or print the time the stack took; once."""
        if self.closed:
            return
        self.closed = True
        if self.bar is not None:
            self.bar.close()
        else:
            seconds = time.monotonic() - self.started
            print(f"{self.label}: {seconds:.1f} s", file=sys.stderr, flush=True)


def notice(text: str) -> None:
    """Show a message on stderr, above the bar if there is one."""
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()
