"""How often the points of a stack keep checkpoints: seldom enough that it costs next to nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from pipeline.backends.contract import State
from pipeline.backends.shared.history import History
from pipeline.points.checkpoint import Checkpoint
from pipeline.points.folder import PointFolder

FIRST_SECONDS = 2.0
COST_FACTOR = 60
"""A checkpoint that takes a second comes once in a minute at most, and all of them together take 1.7 % of the time."""


class StackCheckpoints:
    """Checkpoints of the points of one stack, in their folders.

    Args:
        folders, histories: one for each point.
        start: the checkpoints to go on from, all of the same epoch; empty: begin anew.
        stop: set when the command is to stop.
    """

    def __init__(
        self,
        folders: Sequence[PointFolder],
        histories: Sequence[History],
        start: Sequence[Checkpoint],
        stop: threading.Event,
    ) -> None:
        self.epoch = start[0].epoch if start else 0
        self.states: Sequence[State] = [checkpoint.state for checkpoint in start]
        self._folders, self._histories, self._stop = folders, histories, stop
        self._ended: set[int] = set()
        self._started = self._asked = time.monotonic()
        self._next, self._spent = self._asked + FIRST_SECONDS, 0.0

    def due(self) -> bool:
        """See `Checkpoints`."""
        self._asked = time.monotonic()
        return self._asked >= self._next or self._stop.is_set()

    def keep(self, epoch: int, states: Sequence[State]) -> None:
        """See `Checkpoints`. A point that has ended is kept once."""
        for place, (folder, history, state) in enumerate(zip(self._folders, self._histories, states, strict=True)):
            if place not in self._ended:
                folder.keep(epoch, state, history)
            if history.epochs:
                self._ended.add(place)
        now = time.monotonic()
        cost = now - self._asked
        self._spent += cost
        rest = now + max(FIRST_SECONDS, COST_FACTOR * cost)
        self._next = max(rest, self._started + COST_FACTOR * (self._spent + cost))
        if self._stop.is_set():
            raise KeyboardInterrupt
