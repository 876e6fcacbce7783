"""A bar of progress as a line of text, in which the bar keeps its share of the terminal whatever else there is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tqdm import tqdm

from pipeline.system.wording import shortened

# The share of the terminal's width that a bar has: 30 columns of 80.
BAR_SHARE = 3 / 8
LONGEST_BAR = 40
# A narrower line has no bar: the counts say the same in less room.
NARROWEST = 45
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

        A line below `NARROWEST` has the counts instead of the bar, and then as much of the label as there is room for.

        Args:
            width: number of columns.
            full: the character that the bar consists of.
        """
        if width < NARROWEST:
            return self._without_bar(width)
        columns = min(LONGEST_BAR, round(width * BAR_SHARE))
        # What is left for the label and for the text after the bar, between which there are the ends of the bar.
        room = width - columns - len(" || ")
        behind = self._longest(room)
        label = shortened(self.label, max(0, room - len(behind)))
        # tqdm's own layout lets the bar shrink for the text. A width of the bar's own is part of its format.
        form = f"{_literal(label)} |{{bar:{columns}}}| {_literal(behind)}"
        done = min(self.done, self.total)
        # A total of 0 has no bar.
        total = max(self.total, 1)
        return str(tqdm.format_meter(done, total, 0, ncols=width, ascii=f" {full}", bar_format=form))

    def _without_bar(self, width: int) -> str:
        """Return the text of a line that is too narrow for a bar."""
        text = self._longest(width - 1)
        room = width - len(text) - 1
        if room < SHORTEST_LABEL and room < len(self.label):
            return text[:width]
        return f"{shortened(self.label, room)} {text}"

    def _longest(self, room: int) -> str:
        """Return the longest text that leaves room for a short label, or else the counts alone, which come first."""
        least = min(len(self.label), SHORTEST_LABEL)
        counts = f"{self.done}/{self.total}"
        return next((text for text in self._texts(room) if len(text) + least <= room), counts)

    def _texts(self, room: int) -> Iterator[str]:
        """Yield texts for behind the bar, each shorter than the one before; the last one has only the counts."""
        counts = f"{self.done}/{self.total}"
        note = self.note
        seconds = time.monotonic() - self.began
        time_left = ""
        if self.done >= self.total:
            time_left = tqdm.format_interval(seconds)
        elif self.done > self.begun:
            left = seconds * (self.total - self.done) / (self.done - self.begun)
            time_left = f"{tqdm.format_interval(left)} left"
        elif not note:
            # The first epoch on Keras takes long.
            note = f"{tqdm.format_interval(seconds)} so far"
        for parts in ((counts, time_left, note), (counts, time_left.removesuffix(" left"), note), (counts, note)):
            yield " ".join(part for part in parts if part)
        least = room - len(counts) - 1 - min(len(self.label), SHORTEST_LABEL)
        if least >= SHORTEST_NOTE:
            yield f"{counts} {shortened(note, least)}"
        yield counts


def _literal(text: str) -> str:
    """Return a text as a format has it that prints it."""
    return text.replace("{", "{{").replace("}", "}}")


def block(encoding: str | None) -> str:
    """Return the character of a bar that the terminal can show."""
    try:
        "█".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "#"
    return "█"
