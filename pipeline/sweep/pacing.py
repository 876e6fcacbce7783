"""Decide how often the points of a stack keep checkpoints: at most every 2 s, using at most 1.7 % of the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from pipeline.backends.contract import State
from pipeline.backends.shared.history import History
from pipeline.points.checkpoint import Checkpoint
from pipeline.points.folder import PointFolder

# A shorter training than this is not worth a checkpoint.
FIRST_SECONDS = 2.0
# After a checkpoint that takes c seconds, at least 60 c pass before the next one. So checkpoints take at most
# 1 / (1 + 60) of the time, 1.7 %, and one that takes a second is written at most once a minute.
COST_FACTOR = 60


class StackCheckpoints:
    """Checkpoints of the points of one stack, in their folders; implements `pipeline.backends.contract.Checkpoints`.

    Args:
        folders: one for each point.
        histories: one for each point.
        start: the checkpoints to resume from, all of the same epoch; empty: train from the beginning.
        stop: set when the command is to stop.
        failed: called with the index of a point whose folder cannot be written, and the error.
    """

    def __init__(
        self,
        folders: Sequence[PointFolder],
        histories: Sequence[History],
        start: Sequence[Checkpoint],
        stop: threading.Event,
        failed: Callable[[int, Exception], None],
    ) -> None:
        self.epoch = 0
        if start:
            self.epoch = start[0].epoch
        self.states: Sequence[State] = [checkpoint.state for checkpoint in start]
        self._folders = folders
        self._histories = histories
        self._stop = stop
        self._failed = failed
        # The points that get no more checkpoints, and those of them whose folders cannot be written.
        self._ended: set[int] = set()
        self._lost: set[int] = set()
        # Times of time.monotonic(): when training started, when `due` was last called, and when a checkpoint is due.
        self._started = time.monotonic()
        self._asked = self._started
        self._next = self._started + FIRST_SECONDS
        # Seconds that all checkpoints have taken so far.
        self._spent = 0.0

    def due(self) -> bool:
        """Whether it is time for a checkpoint, or the command is to stop."""
        # A checkpoint costs from here on: before `keep` is called, the backend copies its arrays.
        self._asked = time.monotonic()
        return self._asked >= self._next or self._stop.is_set()

    def keep(self, epoch: int, states: Sequence[State]) -> None:
        """Write a checkpoint for each point. A point that has ended, for instance by diverging, gets only one more.

        A folder that cannot be written ends its point; the others of the stack go on.

        Raises:
            KeyboardInterrupt: the command is to stop; the checkpoints are written.
            Exception: no folder can be written; the error of the last one.
        """
        for index, (folder, history, state) in enumerate(zip(self._folders, self._histories, states, strict=True)):
            if index in self._ended:
                continue
            try:
                folder.keep(epoch, state, history)
            except Exception as error:
                self._ended.add(index)
                self._lost.add(index)
                self._failed(index, error)
                # Nothing is left to train for, for instance because the disk is full.
                if len(self._lost) == len(self._folders) and not self._stop.is_set():
                    raise
            # The history has no number of epochs until its point has ended.
            if history.epochs:
                self._ended.add(index)
        now = time.monotonic()
        cost = now - self._asked
        self._spent += cost
        # Wait at least COST_FACTOR times as long as this checkpoint took.
        rest = now + max(FIRST_SECONDS, COST_FACTOR * cost)
        # Costs may grow. So also wait until all checkpoints so far, and one more as expensive as this one, have that
        # share of the time since the start.
        self._next = max(rest, self._started + COST_FACTOR * (self._spent + cost))
        if self._stop.is_set():
            raise KeyboardInterrupt
