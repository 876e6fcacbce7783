"""Find the best rate for each value of a knob, and how it moves along the knob.

Networks are compared by the training loss of the last epoch, as in Yang et al. 2022 (arXiv:2203.03466, figure 3). In an
epoch in which every row is new, that is a mean over minibatches of rows that the network has not seen before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.drawing.plot_data import Floats
from pipeline.points.point import Point
from pipeline.studies.knobs import RATE, SEED, differ_in
from pipeline.studies.statistics.intervals import Estimate, estimate
from pipeline.studies.transfer.rows import Transfer

# With fewer rates none lies between two others.
LEAST_RATES = 3


class Best(NamedTuple):
    """The losses at one value of the knob over the rates, and the best rate.

    Attributes:
        value: the value of the knob.
        rates: (rates,) ascending.
        losses: (rates,) training loss of the last epoch, the mean over the seeds; inf if one of them diverged.
        rate: the best rate: the vertex of the parabola through the smallest loss and its two neighbours, over log(rate)
            and log(loss); the rate of the smallest loss if it does not have two finite neighbours; NaN if all rates
            diverged.
        by_seed: the best rate of each seed alone, of those that were trained at every rate; NaN for one that diverged
            at all of them.
        seeds: (rates,) number of seeds.
    """

    value: int
    rates: Floats
    losses: Floats
    rate: float
    by_seed: Mapping[int, float]
    seeds: Sequence[int]

    @property
    def at_the_edge(self) -> bool:
        """Whether the best rate is the smallest or the largest of the grid, so that one beyond may be better."""
        return bool(self.rate in (self.rates[0], self.rates[-1]))


def is_transfer(row: Transfer, points: Sequence[Point]) -> bool:
    """Whether points differ in the knob and the group of a row, with several of each, and else in rate and seed."""
    values = {row.value(point.config) for point in points} - {None}
    several = len(values) > 1 and bool(best_rates(row, points))
    return several and differ_in(points, RATE, SEED, row.key, row.group_key)


def best_rates(row: Transfer, points: Sequence[Point]) -> dict[str, list[Best]]:
    """Find the best rate at each value of the knob for each group.

    Returns:
        By name of the group, in ascending order of the knob; empty if there is only one group or there are fewer than
        three rates.
    """
    found: dict[str, dict[int, dict[float, dict[int, float]]]] = {}
    for point in points:
        value = row.value(point.config)
        if value is not None:
            rates = found.setdefault(row.group(point.config), {}).setdefault(value, {})
            rates.setdefault(point.learning_rate, {})[point.config.seed] = _training_loss(point)
    if len(found) < 2 or len({point.learning_rate for point in points}) < LEAST_RATES:
        return {}
    return {name: [_best(value, values[value]) for value in sorted(values)] for name, values in found.items()}


def _training_loss(point: Point) -> float:
    loss = point.outcome.final.get("train/loss", math.inf)
    if point.diverged or math.isnan(loss):
        return math.inf
    return loss


def _best(value: int, losses: Mapping[float, Mapping[int, float]]) -> Best:
    """Find the best rate at one value of the knob, given its losses by rate and seed."""
    rates = np.array(sorted(losses))
    means = np.array([np.mean(list(losses[rate].values())) for rate in rates])
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in losses.values())))
    alone = {seed: np.array([losses[rate][seed] for rate in rates]) for seed in seeds}
    by_seed = {seed: _best_rate(rates, own) for seed, own in alone.items()}
    counts = [len(losses[rate]) for rate in rates]
    return Best(value, rates, means, _best_rate(rates, means), by_seed, counts)


def _best_rate(rates: Floats, losses: Floats) -> float:
    """Return the rate at which the losses are lowest, as `Best.rate` says."""
    if not np.isfinite(losses).any():
        return math.nan
    lowest = int(np.argmin(losses))
    near = slice(lowest - 1, lowest + 2)
    # The parabola needs three points, and the logarithm of a loss of 0 does not exist.
    if 0 < lowest < len(rates) - 1 and np.isfinite(losses[near]).all() and losses[lowest] > 0:
        # log(loss) = bend * log(rate)^2 + slope * log(rate) + constant
        logs = np.log(rates[near])
        bend, slope, _ = np.polyfit(logs, np.log(losses[near]), 2)
        # Three equal losses make a straight line, which has no vertex. If they are almost equal, rounding decides where
        # it is, but it cannot be beyond the neighbours.
        if bend > 0:
            return float(np.exp(np.clip(-slope / (2 * bend), logs[0], logs[-1])))
    return float(rates[lowest])


def shift_in_decades(along: Sequence[Best]) -> float:
    """Return the shift of the best rate from the smallest to the largest value, in decades; NaN if either has none."""
    return math.log10(along[-1].rate) - math.log10(along[0].rate)


def shift_over_seeds(along: Sequence[Best]) -> Estimate:
    """Return the mean of that shift over the seeds, each with its own best rates."""
    first = along[0].by_seed
    last = along[-1].by_seed
    shifts = [math.log10(last[seed]) - math.log10(first[seed]) for seed in first if seed in last]
    return estimate(shifts, "")
