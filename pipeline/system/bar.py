"""A bar of progress as a line of text, in which the bar keeps its share of the terminal whatever else there is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from pipeline.system.wording import shortened

# The share of the terminal's width that a bar has: 30 columns of 80.
BAR_SHARE = 3 / 8
LONGEST_BAR = 40
# The label of a bar is not shortened below this if something else can be left out.
SHORTEST_LABEL = 14
SHORTEST_NOTE = 8


@dataclass(eq=False)
class Bar:
    """The progress of a training, in the units of its total.

    Attributes:
        label: the name of what trains.
        total: number of epochs, or of the units that are counted instead.
        begun: number of these that an earlier command trained.
        done: number of these that are done.
        note: what is shown after the counts, such as the loss.
        began: when it began, by `time.monotonic`.
    """

    label: str
    total: int
    begun: int
    done: int
    note: str = ""
    began: float = field(default_factory=time.monotonic)

    def line(self, width: int, full: str) -> str:
        """Return the bar as a line of at most this width; its own share of it is never given up.

        Args:
            width: number of columns.
            full: the character that the bar consists of.
        """
        columns = min(LONGEST_BAR, round(width * BAR_SHARE))
        filled = columns
        if self.total:
            filled = columns * min(self.done, self.total) // self.total
        drawn = f"|{(full * filled).ljust(columns)}|"
        counts = f"{self.done}/{self.total}"
        note = self.note
        if self.done == self.begun and not note:
            # The first epoch on Keras takes long.
            note = f"{_clock(time.monotonic() - self.began)} so far"
        time_left = self._time()
        parts = [counts, time_left, note]
        # What is left for the label and for the text after the bar.
        room = width - len(drawn) - 2
        if _needed(parts, self.label) > room:
            parts = [counts, time_left.removesuffix(" left"), note]
        if _needed(parts, self.label) > room:
            parts = [counts, note]
        if _needed(parts, self.label) > room:
            left = room - _needed([counts], self.label) - 1
            parts = [counts]
            if left >= SHORTEST_NOTE:
                parts.append(shortened(note, left))
        behind = " ".join(part for part in parts if part)
        label = shortened(self.label, max(0, room - len(behind)))
        return f"{label} {drawn} {behind}"

    def _time(self) -> str:
        """Return the time that is left at the pace so far, or at the end the time that it took; empty if unknown."""
        seconds = time.monotonic() - self.began
        if self.done >= self.total:
            return _clock(seconds)
        if self.done == self.begun:
            return ""
        return f"{_clock(seconds * (self.total - self.done) / (self.done - self.begun))} left"


def _clock(seconds: float) -> str:
    """Format a time as `0:17`, `12:00` or `1:00:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}"


def _needed(parts: list[str], label: str) -> int:
    """Return the columns that these parts need beside a label that is as short as it may be."""
    return sum(len(part) + 1 for part in parts if part) - 1 + min(len(label), SHORTEST_LABEL)


def block(encoding: str | None) -> str:
    """Return the character of a bar that the terminal can show."""
    try:
        "█".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "#"
    return "█"
