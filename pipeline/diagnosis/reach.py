"""What the points of a group reached: a point is judged against it, and not against a fixed loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.backends.shared.history import History
from pipeline.config.metrics import larger_is_better
from pipeline.diagnosis.thresholds import GOAL, NOISE

LOSS = "train/loss"


class SmallerRate(NamedTuple):
    """A point with a smaller learning rate, and otherwise the same settings, that ended better.

    Attributes:
        rate: its learning rate.
        metric: the name of the metric by which it is better.
        value: its final value.
        loss: its final training loss; NaN if it has none.
    """

    rate: float
    metric: str
    value: float
    loss: float


@dataclass(frozen=True)
class Reach:
    """What the points of a group reached.

    Attributes:
        loss: the lowest training loss that was recorded.
        metric: the name of the metric that judges, for instance `test/accuracy`; empty for a point alone.
        best: the best value of that metric that was recorded; NaN if it was not.
        untrained: its value before training, or as early as it was recorded; NaN if it was not.
        noise: standard deviation by metric: over seeds of points that differ in nothing else, but at least that of
            the sample of test rows; a metric whose noise is unknown is missing.
        points: number of points of the group.
        smaller_rate: of the point that is judged, the best with a smaller rate; None if none is better than it by more
            than the tolerance.
    """

    loss: float
    metric: str = ""
    best: float = math.nan
    untrained: float = math.nan
    noise: Mapping[str, float] = field(default_factory=dict)
    points: int = 1
    smaller_rate: SmallerRate | None = None

    def loss_tolerance(self, baseline: float) -> float:
        """Return how far above the best a training loss counts as near it."""
        gap = GOAL * max(baseline - self.loss, 0.0)
        return max(gap, NOISE * self.noise.get(LOSS, 0.0))

    def metric_tolerance(self) -> float:
        """Return how far from the best a value of the metric that judges counts as near it; NaN if it is unknown."""
        gap = GOAL * abs(self.best - self.untrained)
        return max(gap, NOISE * self.noise.get(self.metric, 0.0))

    def behind(self, value: float) -> float:
        """Return by how much a value of the metric that judges is worse than the best; NaN if that is unknown."""
        if larger_is_better(self.metric):
            return self.best - value
        return value - self.best


def alone(history: History) -> Reach:
    """Return what a point reached by itself: a group of one."""
    _, losses = history.series(LOSS)
    return Reach(min(losses.tolist(), default=math.inf))
