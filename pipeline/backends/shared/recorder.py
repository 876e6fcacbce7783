"""Record points in training, the same way on both backends: metrics, snapshots, seconds, checkpoints."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pipeline.backends.contract import Checkpoints, Report, State, Train
from pipeline.backends.shared.history import History, record_epochs, snapshot_epochs, weight_metrics
from pipeline.backends.shared.measures import baseline_measures
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays


class Standing(NamedTuple):
    """The state of a point at the end of an epoch, as a training loop passes it to the recorder.

    Attributes:
        measures: metrics by name; those of a point that has diverged are not recorded.
        weights: arrays by name.
        diverged_step: number of updates made when the loss was inf or NaN for the first time; -1 if it never was.
        last_finite_loss: the training loss just before that, or the last one; NaN if there was none.
    """

    measures: Mapping[str, float]
    weights: Mapping[str, NDArray[np.floating]]
    diverged_step: int
    last_finite_loss: float


class Recorder:
    """Fills the histories of points that train together, and keeps their checkpoints.

    A training loop advances from stop to stop, and leaves the records and the end of training to the recorder. A stop
    is an epoch after which training pauses: to record, to keep a checkpoint, or because the command must end.

    Example:
        >>> for before, epoch in recorder.stops():
        ...     # Train from the end of epoch `before` to the end of `epoch` here.
        ...     if recorder.due(epoch):
        ...         for index in recorder.under_way():
        ...             recorder.record(epoch, index, standing)
        ...     recorder.keep(epoch, states)
        >>> recorder.note_seconds()

    Args:
        points: their configs; all of them are recorded at the same epochs.
        histories: one for each point; when resuming, they already contain the records up to the checkpoint.
        report: called by the training loop after each recorded epoch.
        checkpoints: the checkpoint to resume from, and where to keep new ones.
        baseline: metrics of the data alone, which every point records once, at epoch 0.

    Attributes:
        begun: number of epochs that the points have already been trained for.
        states: their states after that epoch, in the order of the points.
    """

    def __init__(
        self,
        points: Sequence[Config],
        histories: Sequence[History],
        report: Report,
        checkpoints: Checkpoints | None = None,
        baseline: Mapping[str, float] | None = None,
    ) -> None:
        self.points = points
        self.histories = histories
        self.report = report
        self.begun = 0
        self.states: Sequence[State] = ()
        if checkpoints:
            self.begun = checkpoints.epoch
            self.states = checkpoints.states
        self._checkpoints = checkpoints
        self._baseline = baseline or {}
        training = points[0].training
        recording = points[0].recording
        self._recorded = record_epochs(training.epochs, recording.metrics_every)
        self._due = frozenset(self._recorded)
        self._snapshots = snapshot_epochs(self._recorded, recording.snapshots)
        self._seconds_before = [history.seconds for history in histories]
        self._started = time.perf_counter()

    def stops(self, stride: int = 1) -> Iterator[tuple[int, int]]:
        """Yield the epochs after which training pauses, each as a pair (previous stop, this stop).

        Training pauses at every recorded epoch and, between two of them, after every `stride` epochs. There are no
        further stops once all points have ended.

        Args:
            stride: the largest number of epochs from one stop to the next.
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
        """Whether all points have ended: at their last epoch, or earlier if they have diverged."""
        # `History.epochs` is 0 until `record` ends the point.
        return all(history.epochs for history in self.histories)

    def under_way(self) -> Iterator[int]:
        """Yield the indices of the points that have not ended."""
        for index, history in enumerate(self.histories):
            if not history.epochs:
                yield index

    def due(self, epoch: int) -> bool:
        """Return whether an epoch is recorded."""
        return epoch in self._due

    def last(self, epoch: int) -> bool:
        """Return whether the points end after an epoch, if they have not ended before."""
        return epoch == self._recorded[-1]

    def record(self, epoch: int, index: int, standing: Standing, last: bool = False) -> bool:
        """Record a point that has not ended.

        Args:
            epoch: number of epochs that it has been trained for. A second call for an epoch records only the metrics
                that the first one did not have.
            index: index of the point.
            standing: state of the point at the end of the epoch.
            last: whether the point ends here although epochs are left. A point that has diverged ends in any case, but
                not before its first update.

        Returns:
            Whether the point has ended, so that its history is complete.
        """
        point = self.points[index]
        history = self.histories[index]
        diverged = standing.diverged_step >= 0
        if diverged or last or epoch in self._snapshots:
            history.snapshot(epoch, standing.weights)
        # A search that stops early records its last epoch a second time, to end the point: with its test rows.
        recorded_already = _names_at(history, epoch)
        if not epoch and not recorded_already:
            # Also for a point that diverges: its diagnosis needs no data.
            history.record(epoch, self._baseline)
        if not diverged:
            measures = dict(standing.measures)
            if point.recording.weight_metrics:
                measures |= weight_metrics(standing.weights)
            history.record(epoch, {name: value for name, value in measures.items() if name not in recorded_already})
        # Epoch 0 cannot end a point: 0 epochs in a history mean that it has not ended.
        if not epoch or not (diverged or last or epoch == point.training.epochs):
            return False
        if diverged:
            history.diverged_step = standing.diverged_step
        if math.isfinite(standing.last_finite_loss):
            history.last_finite_loss = standing.last_finite_loss
        history.epochs = epoch
        return True

    def keep(self, epoch: int, states: Callable[[], Sequence[State]]) -> None:
        """Keep a checkpoint after an epoch if one is due.

        Args:
            epoch: number of epochs that the points have been trained for.
            states: returns the points' states. It is called only if a checkpoint is due, because copying takes time.

        Raises:
            KeyboardInterrupt: the command was asked to stop; the states have been kept.
        """
        # After the last epoch the results are written, and a checkpoint would not be used.
        if self._checkpoints and self._checkpoints.due() and not self.ended:
            self.note_seconds()
            self._checkpoints.keep(epoch, states())

    def note_seconds(self) -> None:
        """Note the training time, including the time before the checkpoint; the points share it evenly."""
        seconds = (time.perf_counter() - self._started) / len(self.histories)
        for history, before in zip(self.histories, self._seconds_before, strict=True):
            history.seconds = before + seconds
            history.points_in_stack = len(self.histories)


def _names_at(history: History, epoch: int) -> set[str]:
    """Return the names of the metrics at the last recorded epoch, if it is this one."""
    newest = itertools.takewhile(lambda metric: metric.step == epoch, reversed(history.metrics))
    return {metric.name for metric in newest}


def of_one_point(train_one: Callable[[Config, Arrays, Recorder], None]) -> Train:
    """Decorate a function that trains a single point and records it, so that it becomes a `Train`.

    Resumed from a checkpoint, the function must give bit-identical results.

    Returns:
        A `Train` that raises a ValueError if it is given more than one point.
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
        baseline = baseline_measures(points[0].loss, arrays)
        recorder = Recorder(points, histories, report, checkpoints, baseline)
        # With more threads of BLAS the last bits would depend on their number.
        with threadpool_limits(1, user_api="blas"):
            train_one(points[0], arrays, recorder)
        recorder.note_seconds()

    return train
