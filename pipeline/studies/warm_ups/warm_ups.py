"""Find the shortest warm-up with which each rate trains, and how it changes the curvature of the loss.

A warm-up raises the rate linearly from 0 over the first updates. The recipe of the Deep Learning Tuning Playbook
(Godbole et al. 2023, https://github.com/google-research/tuning_playbook) is to find the rate at which training breaks,
to take multiples of it with a warm-up, and to choose the shortest one that trains.

A warm-up *trains* at a rate if every seed ends at or below `TARGET` times the baseline loss. The steps along the most
curved direction grow where the rate is above the breaking rate, 2 / L for gradient descent with L the largest curvature
of the loss. Gilmer et al. 2021 (arXiv:2110.04369) explain a warm-up by it: while the rate rises through the breaking
rate, the weights move to where the loss is flatter, so that L falls and the breaking rate rises. The table has both at
the start and after the warm-up.

L and the breaking rate are those of the first record, and of the first one after the warm-up has ended.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.config.optimizer import Cosine
from pipeline.points.point import Point
from pipeline.studies.knobs import RATE, SEED, differ_in
from pipeline.studies.statistics.intervals import Estimate, estimate
from pipeline.studies.variants.variants import final_loss, target

WARM_UP = "schedule.warm_up"
CURVATURE = "curvature/largest"
BREAKING = "curvature/breaking_rate"


@dataclass(frozen=True)
class WarmUp:
    """The seeds of one rate with one warm-up.

    Attributes:
        rate: the rate after the warm-up.
        share: the length of the warm-up, as a share of all updates.
        points: one for each seed.
    """

    rate: float
    share: float
    points: Sequence[Point]

    @property
    def trained(self) -> int:
        """The number of seeds that end at or below the target."""
        return sum(final_loss(point) <= target(point) for point in self.points)

    @property
    def trains(self) -> bool:
        """Whether every seed ends at or below the target."""
        return self.trained == len(self.points)

    @property
    def loss(self) -> Estimate:
        """The final loss of the seeds that did not diverge."""
        return estimate([final_loss(point) for point in self.points], "loss")

    def at_the_start(self, metric: str) -> Estimate:
        """Return a metric at the first record, over the seeds that have one."""
        return estimate([_first(point, metric, 0) for point in self.points], "")

    def afterwards(self, metric: str) -> Estimate:
        """Return a metric at the first record after the warm-up, over the seeds that have one."""
        return estimate([_first(point, metric, max(self._ends(point), 1)) for point in self.points], "")

    def _ends(self, point: Point) -> float:
        """Return the epoch at which the warm-up ends."""
        return self.share * point.config.training.epochs


def _first(point: Point, metric: str, epoch: float) -> float:
    """Return a metric at its first record that is not before an epoch; NaN if there is none."""
    steps, values = point.history.series(metric)
    later = values[steps >= epoch]
    if not len(later):
        return math.nan
    return float(later[0])


def are_warm_ups(points: Sequence[Point]) -> bool:
    """Whether points differ in the warm-up, and else only in rate and seed, and record the curvature."""
    configs = [point.config for point in points]
    shares = {config.schedule.warm_up for config in configs if isinstance(config.schedule, Cosine)}
    recorded = all(isinstance(config.schedule, Cosine) and config.recording.curvature for config in configs)
    return recorded and len(shares) > 1 and differ_in(points, RATE, SEED, WARM_UP)


def warm_ups(points: Sequence[Point]) -> dict[float, list[WarmUp]]:
    """Return the warm-ups of each rate; rates and warm-ups are in ascending order."""
    found: dict[float, dict[float, list[Point]]] = {}
    for point in points:
        share = float(point.settings[WARM_UP])
        found.setdefault(point.learning_rate, {}).setdefault(share, []).append(point)
    return {rate: [WarmUp(rate, share, own[share]) for share in sorted(own)] for rate, own in sorted(found.items())}


def shortest(along: Sequence[WarmUp]) -> WarmUp | None:
    """Return the shortest warm-up of a rate that trains; None if no warm-up does."""
    return next((warm_up for warm_up in along if warm_up.trains), None)


def told(along: Sequence[WarmUp]) -> WarmUp:
    """Return the warm-up of a rate that is told of: the shortest that trains, otherwise the longest of all."""
    return shortest(along) or along[-1]


def breaking_rate(points: Sequence[Point]) -> Estimate:
    """Return the breaking rate at the first record, over seeds; the warm-up has changed nothing there."""
    by_seed = {point.config.seed: _first(point, BREAKING, 0) for point in points}
    return estimate(list(by_seed.values()), "")


def may_fail(seeds: int) -> float:
    """Return the largest share of seeds that may fail, although all of some seeds train.

    If each seed fails with probability p, n of them train with probability (1 - p)^n. That is above 5 % for all p below
    1 - 0.05^(1 / n), the end of the one-sided 95 % interval of Clopper and Pearson (1934).
    """
    return float(1 - np.power(0.05, 1 / seeds))
