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
    """A smaller learning rate that ended better, with otherwise the same settings.

    Attributes:
        rate: the learning rate.
        metric: the name of the metric by which it is better.
        value: the final value, the mean over the seeds that trained.
        loss: the final training loss, likewise; NaN if it has none.
        seeds: the number of these seeds.
        error: the standard error of that mean; 0 with one seed.
    """

    rate: float
    metric: str
    value: float
    loss: float
    seeds: int = 1
    error: float = 0.0


@dataclass(frozen=True)
class Reach:
    """What the points of a group reached.

    Attributes:
        loss: the lowest training loss that was recorded.
        metric: the name of the metric that judges, for instance `test/accuracy`; empty for a point alone.
        best: the best value of that metric that was recorded; NaN if it was not.
        untrained: its value before training, or as early as it was recorded; NaN if it was not.
        noise: standard deviation by metric: over seeds of points that differ in nothing else, but at least that of
            the sample of rows that it is measured on; a metric whose noise is unknown is missing.
        points: number of points of the group, each seed counted.
        own_noise: standard deviation by metric over the seeds of the point that is judged; only if their mean cannot be
            told from that of the best rate by tests over the seeds.
        smaller_rate: the best rate that is smaller than that of the point that is judged; None if none is better, seeds
            averaged, by more than the tolerance and the noise, or if the point cannot be told from the best rate.
    """

    loss: float
    metric: str = ""
    best: float = math.nan
    untrained: float = math.nan
    noise: Mapping[str, float] = field(default_factory=dict)
    points: int = 1
    own_noise: Mapping[str, float] = field(default_factory=dict)
    smaller_rate: SmallerRate | None = None

    def loss_tolerance(self, baseline: float) -> float:
        """Return how far above the best a training loss counts as near it."""
        gap = GOAL * max(baseline - self.loss, 0.0)
        return max(gap, NOISE * self.noise.get(LOSS, 0.0))

    def metric_tolerance(self) -> float:
        """Return how far from the best a value of the metric that judges counts as near it; NaN if it is unknown."""
        gap = GOAL * abs(self.best - self.untrained)
        return max(gap, NOISE * self.noise.get(self.metric, 0.0))

    def is_within_own_noise(self, value: float) -> bool:
        """Whether a value of the metric that judges is as far from the best as the seeds of its point are apart."""
        return self.behind(value) <= NOISE * self.own_noise.get(self.metric, 0.0)

    def behind(self, value: float) -> float:
        """Return by how much a value of the metric that judges is worse than the best; NaN if that is unknown."""
        if larger_is_better(self.metric):
            return self.best - value
        return value - self.best


def alone(history: History) -> Reach:
    """Return what a point reached by itself: a group of one."""
    _, losses = history.series(LOSS)
    return Reach(min(losses.tolist(), default=math.inf))
