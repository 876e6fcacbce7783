"""The record of points in training, the same on both backends: metrics, snapshots, seconds, checkpoints."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.contract import Checkpoints, Report, State, Train
from pipeline.backends.shared.history import History, record_epochs, snapshot_epochs, weight_metrics
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays


class Standing(NamedTuple):
    """A point at the end of an epoch.

    Attributes:
        measures: by name; those of a point that has diverged are not recorded.
        weights: its arrays by name.
        diverged_step: how many updates had been made when the loss first was inf or NaN; -1: it never was.
        last_finite_loss: the training loss just before that, or the last one; NaN: there was none.
    """

    measures: Mapping[str, float]
    weights: Mapping[str, NDArray[np.floating]]
    diverged_step: int
    last_finite_loss: float


class Recorder:
    """Fills the histories of points that train together, and keeps their checkpoints.

    A training loop goes from stop to stop, and leaves to the recorder what becomes of it:

        for before, epoch in recorder.stops():
            ...  # train from the end of epoch `before` to the end of `epoch`
            if recorder.due(epoch):
                for place in recorder.under_way():
                    recorder.record(epoch, place, standing)
            recorder.keep(epoch, states)
        recorder.note_seconds()

    Args:
        points: their configs; what is recorded when is the same for all of them.
        histories: one for each point; those of a checkpoint hold what was recorded before it.
        report: called by the loop where it has recorded.
        checkpoints: where to begin, and what keeps the states.

    Attributes:
        begun: how many epochs the points have trained already.
        states: their states after it, in the order of the points.
    """

    def __init__(
        self,
        points: Sequence[Config],
        histories: Sequence[History],
        report: Report,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.points, self.histories, self.report = points, histories, report
        self.begun = checkpoints.epoch if checkpoints else 0
        self.states: Sequence[State] = checkpoints.states if checkpoints else ()
        self._checkpoints = checkpoints
        training, recording = points[0].training, points[0].recording
        self._recorded = record_epochs(training.epochs, recording.metrics_every)
        self._due = frozenset(self._recorded)
        self._snapshots = snapshot_epochs(self._recorded, recording.snapshots)
        self._seconds_before = [history.seconds for history in histories]
        self._started = time.perf_counter()

    def stops(self, stride: int = 1) -> Iterator[tuple[int, int]]:
        """The epochs after which training looks up, each with the stop before it.

        They are those that are recorded and, between them, one in `stride`. There are no more when all points have
        ended.
        """
        before = self.begun
        for recorded in self._recorded:
            if self.ended:
                return
            while before < recorded:
                epoch = min(before + stride, recorded)
                yield before, epoch
                before = epoch

    @property
    def ended(self) -> bool:
        """Whether all points have ended: at their last epoch, or before it where they have diverged."""
        return all(history.epochs for history in self.histories)

    def under_way(self) -> Iterator[int]:
        """The places of the points that have not ended."""
        for place, history in enumerate(self.histories):
            if not history.epochs:
                yield place

    def due(self, epoch: int) -> bool:
        """Whether an epoch is recorded."""
        return epoch in self._due

    def record(self, epoch: int, place: int, standing: Standing, last: bool = False) -> bool:
        """Record a point under way.

        Args:
            epoch: how many it has trained; metrics that an epoch has already are not recorded again.
            place: of the point.
            standing: how it stands.
            last: whether it ends here though epochs are left; a point that has diverged after epoch 0 ends anyway.

        Returns:
            Whether it has ended, and its history with it.
        """
        point, history = self.points[place], self.histories[place]
        diverged = standing.diverged_step >= 0
        if diverged or last or epoch in self._snapshots:
            history.snapshot(epoch, standing.weights)
        if not diverged and not (history.metrics and history.metrics[-1].step == epoch):
            single = weight_metrics(standing.weights) if point.recording.weight_metrics else {}
            history.record(epoch, {**standing.measures, **single})
        if not epoch or not (diverged or last or epoch == point.training.epochs):
            return False
        history.diverged_step = standing.diverged_step if diverged else None
        history.last_finite_loss = standing.last_finite_loss if math.isfinite(standing.last_finite_loss) else None
        history.epochs = epoch
        return True

    def keep(self, epoch: int, states: Callable[[], Sequence[State]]) -> None:
        """Keep a checkpoint after an epoch where one is due; the states are asked for only then.

        Raises:
            KeyboardInterrupt: the command was asked to stop; the states are kept.
        """
        if self._checkpoints and self._checkpoints.due() and not self.ended:
            self.note_seconds()
            self._checkpoints.keep(epoch, states())

    def note_seconds(self) -> None:
        """Note the training time, on top of what a checkpoint brought; the points share it evenly."""
        seconds = (time.perf_counter() - self._started) / len(self.histories)
        for history, before in zip(self.histories, self._seconds_before, strict=True):
            history.seconds = before + seconds
            history.points_in_stack = len(self.histories)


def of_one_point(train_one: Callable[[Config, Arrays, Recorder], None]) -> Train:
    """Make a `Train` of a function that trains a single point, on data, and shows a recorder how it goes.

    Begun again where a checkpoint ends, it must come to the same numbers, bit for bit.

    Returns:
        What raises a ValueError when it is given several points.
    """

    @functools.wraps(train_one)
    def train(
        points: Sequence[Config],
        arrays: Arrays,
        histories: Sequence[History],
        report: Report,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        if len(points) != 1:
            raise ValueError(f"expected one point, which trains alone; received {len(points)}")
        recorder = Recorder(points, histories, report, checkpoints)
        train_one(points[0], arrays, recorder)
        recorder.note_seconds()

    return train
