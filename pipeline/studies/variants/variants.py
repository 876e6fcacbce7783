"""Measure how methods and features affect the range of usable rates, the final loss and the steps to a target.

The points of a study differ in their rate and in one more setting: the optimizer, the schedule or the feature. Each of
its values is a variant. The target is a loss of `TARGET` times the baseline. A rate is *usable* for a variant if the
final loss is at or below the target. Losses are compared without the penalties that the features L1 and L2 add.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.config.metrics import METRIC_NAMES
from pipeline.diagnosis.baseline import baseline_loss
from pipeline.diagnosis.trends import first_below
from pipeline.drawing.plot_data import Floats
from pipeline.points.point import Point
from pipeline.studies.grids import recorded
from pipeline.studies.knobs import differ_in
from pipeline.studies.statistics.best import BySeed, best_set
from pipeline.studies.statistics.intervals import Estimate, estimate

# The setting that defines the variants is the first of these that differs between points.
KNOBS = ("optimizer.name", "schedule.name", "feature")
# Target loss as a share of the baseline: a loss of 0.46 on MNIST, 0.1 on three_bits.
TARGET = 0.2
# Number of minibatches whose losses are averaged before comparing them with the target; a single one is too noisy.
SMOOTHED = 20


@dataclass(frozen=True)
class Variant:
    """One method or feature over the rates.

    Attributes:
        name: name of the optimizer, schedule or feature.
        rates: (rates,) ascending.
        by_seed: for each rate the final losses by seed, without penalties, on the test rows if there are any; a loss
            that is not finite is a seed that diverged.
        usable: (rates,) whether every seed trained and the mean loss is at most the target.
        steps: (rates,) updates until the training loss first reached the target, the median over the seeds; NaN if
            it never did.
    """

    name: str
    rates: Floats
    by_seed: tuple[BySeed, ...]
    usable: NDArray[np.bool_]
    steps: Floats

    @cached_property
    def estimates(self) -> tuple[Estimate, ...]:
        """The mean loss at each rate, over the seeds that trained."""
        return tuple(estimate(list(losses.values()), "loss") for losses in self.by_seed)

    @cached_property
    def losses(self) -> Floats:
        """(rates,) the mean losses; inf if no seed trained."""
        return np.nan_to_num([one.mean for one in self.estimates], nan=math.inf)

    @property
    def best(self) -> int | None:
        """Index of the rate with the lowest mean loss; None if training diverged at all rates."""
        return best_set(self.by_seed, larger_is_better=False).best

    @property
    def better_where_trained(self) -> tuple[int, ...]:
        """Indices of rates of which a seed diverged, and whose other seeds have a lower mean than the best rate."""
        return best_set(self.by_seed, larger_is_better=False).better_where_trained

    @property
    def range(self) -> tuple[float, float] | None:
        """The ends of the widest range of usable rates without a gap; None if no rate is usable.

        If several ranges have the same width, to a tenth of a decade, it is the one with the lowest loss.
        """
        # A run of usable rates starts where the padded flags rise, and ends before they fall.
        edges = np.diff(self.usable.astype(np.int8), prepend=0, append=0)
        runs = zip(np.flatnonzero(edges > 0), np.flatnonzero(edges < 0) - 1, strict=True)
        # Grids such as 0.1, 0.3, 1 have steps of roughly half a decade, so widths are compared after rounding.
        found = [
            (
                round(math.log10(float(self.rates[high]) / float(self.rates[low])), 1),
                -float(self.losses[low : high + 1].min()),
                low,
                high,
            )
            for low, high in runs
        ]
        if not found:
            return None
        _, _, low, high = max(found)
        return float(self.rates[low]), float(self.rates[high])

    @property
    def decades(self) -> float | None:
        """Width of the range, log10(highest / lowest), to a tenth: 0.5 for 1 to 3; None if no rate is usable."""
        if self.range is None:
            return None
        return round(math.log10(self.range[1] / self.range[0]), 1)

    @property
    def at_the_edge(self) -> bool:
        """Whether the range reaches the edge of the grid, so that it may be wider."""
        return self.range is not None and bool(self.range[0] == self.rates[0] or self.range[1] == self.rates[-1])

    @property
    def fastest(self) -> int | None:
        """Index of the usable rate that reached the target in the fewest updates; None if no rate did."""
        # A run may reach the target and still end above it.
        steps = np.where(self.usable, self.steps, np.nan)
        if not np.isfinite(steps).any():
            return None
        return int(np.nanargmin(steps))


class Lowest(NamedTuple):
    """The variants with the lowest loss.

    Attributes:
        variants: the one with the lowest mean first, then those that cannot be told from it; without `tested`, those
            whose loss is equal. Empty if all diverged.
        tested: whether there are enough seeds to tell variants apart.
    """

    variants: tuple[Variant, ...]
    tested: bool


def knob(points: Sequence[Point]) -> str | None:
    """Return the setting that defines the variants of a study; None if the points do not differ in any of `KNOBS`."""
    return next((key for key in KNOBS if len({str(point.settings.get(key)) for point in points}) > 1), None)


def variants(points: Sequence[Point]) -> list[Variant]:
    """Return the variants of one backend's points, in order of first appearance.

    Points of a variant that share a rate differ in their seed.

    Raises:
        ValueError: two points of a variant share their rate and their seed, and differ in something else.
    """
    key = knob(points)
    if key is None:
        return []
    by_name: dict[str, dict[float, dict[int, Point]]] = {}
    for point in points:
        name = str(point.settings.get(key))
        shared = by_name.setdefault(name, {}).setdefault(point.learning_rate, {})
        # The same point may have been trained twice, for instance with other records of its weights.
        if not differ_in([shared.get(point.config.seed, point), point]):
            raise ValueError(f"two points of {name} have the rate {point.learning_rate:g} and the same seed")
        shared[point.config.seed] = point
    found = []
    for name, by_rate in by_name.items():
        cells = [by_rate[rate] for rate in sorted(by_rate)]
        losses = tuple({seed: final_loss(point) for seed, point in cell.items()} for cell in cells)
        usable = np.array([_usable(cell) for cell in cells])
        steps = np.array([_median(steps_to_target(point) for point in cell.values()) for cell in cells])
        found.append(Variant(name, np.array(sorted(by_rate)), losses, usable, steps))
    return found


def lowest(found: Sequence[Variant]) -> Lowest:
    """Return the variants with the lowest loss, each with its best rate.

    All that name a best variant take it from here, so that they agree.
    """
    trained = [(variant, variant.best) for variant in found if variant.best is not None]
    compared = best_set([variant.by_seed[index] for variant, index in trained], larger_is_better=False)
    if compared.best is None:
        return Lowest((), tested=False)
    first, at = trained[compared.best]
    members = [trained[index][0] for index in compared.members]
    if not compared.tested:
        members = [variant for variant, index in trained if variant.losses[index] == first.losses[at]]
    return Lowest((first, *(variant for variant in members if variant is not first)), compared.tested)


def _usable(cell: Mapping[int, Point]) -> bool:
    """Whether the seeds of a rate end at or below the target."""
    losses = [final_loss(point) for point in cell.values()]
    # A seed that diverged has a loss that is not finite, and so has the mean.
    return float(np.mean(losses)) <= target(next(iter(cell.values())))


def _median(values: Iterable[float]) -> float:
    """Return the median of the steps of several seeds.

    NaN, a target that was never reached, counts as more than any number. Of two values in the middle it is the larger
    one if that is not finite.
    """
    ordered = sorted(values, key=lambda value: (math.isnan(value), value))
    low = ordered[(len(ordered) - 1) // 2]
    high = ordered[len(ordered) // 2]
    if low < high and math.isfinite(high):
        return (low + high) / 2
    return high


def target(point: Point) -> float:
    """Return the target loss: `TARGET` times the baseline."""
    return TARGET * baseline_loss(point.config, point.history)


def loss_rows(points: Sequence[Point]) -> str:
    """Return which rows the final losses are of."""
    return next((rows for rows in ("validation", "test") if recorded(points, f"{rows}/loss")), "training")


def final_loss(point: Point) -> float:
    """Return the final loss without the penalty, on validation or test rows if there are any; inf if training diverged.

    With minibatches and no test rows, it is approximated by the last epoch's mean loss minus the final penalty, because
    the mean penalty of that epoch is not recorded.
    """
    if point.diverged:
        return math.inf
    return point.outcome.score - point.outcome.final.get("weights/penalty", 0.0)


def loss_name(points: Sequence[Point]) -> str:
    """Return which loss `final_loss` is, as it is called in sentences: `validation loss`."""
    final = {name for point in points if not point.diverged for name in point.outcome.final}
    names = ("validation/loss", "test/loss", "train/loss")
    return next((METRIC_NAMES[name] for name in names if name in final), "loss")


def steps_to_target(point: Point) -> float:
    """Return the updates until the training loss without the penalty first reached the target; NaN if it never did.

    If the losses of minibatches were kept, the mean of the last `SMOOTHED` of them is used. Otherwise the losses of the
    recorded epochs are used, which are single updates only with a full batch.
    """
    rows = point.history.tables.get("updates", [])
    if rows:
        losses = np.array([row["loss"] - row.get("penalty", 0.0) for row in rows])
        width = min(SMOOTHED, len(losses))
        # means[i] is the mean of the losses i to i + width - 1, so it is known at the last of these updates.
        means = np.convolve(losses, np.ones(width) / width, mode="valid")
        index = first_below(means, target(point))
        if index == len(means):
            return math.nan
        return float(rows[index + width - 1]["update"])
    # With minibatches an epoch is many updates, and its record does not show the update that reached the target.
    if point.config.training.batch_size is not None:
        return math.nan
    epochs, losses = point.history.series("train/loss")
    penalties = dict(zip(*point.history.series("weights/penalty"), strict=True))
    losses = losses - np.array([penalties.get(epoch, 0.0) for epoch in epochs])
    index = first_below(losses, target(point))
    if index == len(losses):
        return math.nan
    return float(epochs[index])
