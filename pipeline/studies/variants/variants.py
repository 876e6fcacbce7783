"""What a method or a feature does to the rates that can be used: loss against rate, usable range, steps to a target.

A variant is what the points of a study differ in besides the rate: the optimizer, the schedule or the feature. The
target is a loss of `TARGET` of the baseline. A rate is *usable* for a variant where training ends at most there. Losses
are compared without a penalty of L1 or L2, which only their own features have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from pipeline.config.schema import flatten
from pipeline.diagnosis.networks import baseline_loss
from pipeline.diagnosis.trends import first_below
from pipeline.drawing.plot_data import Floats
from pipeline.points.point import Point

KNOBS = ("optimizer.name", "schedule.name", "feature")
"""What makes variants: the first of these that differs among the points."""
TARGET = 0.2
"""Share of the baseline loss that is to be reached: 0.46 on MNIST, 0.1 on three_bits."""
SMOOTHED = 20
"""Over so many updates the loss of minibatches is averaged before it is held against the target."""


@dataclass(frozen=True)
class Variant:
    """One method or feature over the rates.

    Attributes:
        name: of the optimizer, schedule or feature.
        rates: (rates,) ascending.
        losses: (rates,) at the end of training without penalties, on the test rows where there are some; inf where
            training diverged.
        usable: (rates,) whether that is at most the target.
        steps: (rates,) updates until the training loss first was at most the target; NaN where it never was.
    """

    name: str
    rates: Floats
    losses: Floats
    usable: NDArray[np.bool_]
    steps: Floats

    @property
    def best(self) -> int | None:
        """Place of the rate that ends lowest; None where training diverged at all of them."""
        return int(np.argmin(self.losses)) if np.isfinite(self.losses).any() else None

    @property
    def range(self) -> tuple[float, float] | None:
        """The ends of the widest range of usable rates without a gap; None where none is usable.

        Of several as wide, to a tenth of a decade, it is the one that ends lowest.
        """
        edges = np.diff(self.usable.astype(np.int8), prepend=0, append=0)
        runs = zip(np.flatnonzero(edges > 0), np.flatnonzero(edges < 0) - 1, strict=True)
        found = [
            (
                round(math.log10(self.rates[high] / self.rates[low]), 1),
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
        """The width of that range, log10(highest / lowest), to a tenth: 1 to 3 is half a decade; None without one."""
        return None if self.range is None else round(math.log10(self.range[1] / self.range[0]), 1)

    @property
    def at_the_edge(self) -> bool:
        """Whether the range ends where the grid does, so that it may be wider."""
        return self.range is not None and bool(self.range[0] == self.rates[0] or self.range[1] == self.rates[-1])

    @property
    def fastest(self) -> int | None:
        """Place of the usable rate that reached the target in the fewest updates; None where none did."""
        steps = np.where(self.usable, self.steps, np.nan)
        return int(np.nanargmin(steps)) if np.isfinite(steps).any() else None


def knob(points: Sequence[Point]) -> str | None:
    """What makes the variants of a study; None where its points differ in nothing of the kind."""
    found = [dict(flatten(point.config)) for point in points]
    return next((key for key in KNOBS if len({str(values.get(key)) for values in found}) > 1), None)


def variants(points: Sequence[Point]) -> list[Variant]:
    """The variants of one backend's points, in the order in which they were asked for.

    Where several points of a variant share a rate the last one counts.
    """
    key = knob(points)
    if key is None:
        return []
    named = [(str(dict(flatten(point.config)).get(key)), point) for point in points]
    order = {name: place for place, name in enumerate(dict.fromkeys(name for name, _ in named))}
    found = []
    for name, members in groupby(sorted(named, key=lambda item: order[item[0]]), key=lambda item: item[0]):
        by_rate = {point.learning_rate: point for _, point in members}
        chosen = [by_rate[rate] for rate in sorted(by_rate)]
        losses = np.array([final_loss(point) for point in chosen])
        targets = np.array([target(point) for point in chosen])
        steps = np.array([steps_to_target(point) for point in chosen])
        found.append(Variant(name, np.array(sorted(by_rate)), losses, losses <= targets, steps))
    return found


def target(point: Point) -> float:
    """The loss that is to be reached."""
    return TARGET * baseline_loss(point.config)


def final_loss(point: Point) -> float:
    """The loss at the end without the penalty, on the test rows where there are some; inf if it diverged.

    Of minibatches without test rows it is the mean of the last epoch less the penalty at its end, which is near it.
    """
    final = point.outcome.final
    loss = final.get("test/loss", final.get("train/loss", math.inf)) - final.get("weights/penalty", 0.0)
    return math.inf if point.diverged else loss


def steps_to_target(point: Point) -> float:
    """Updates until the training loss without the penalty first was at most the target; NaN where it never was.

    With minibatches whose losses were kept, the mean of the last `SMOOTHED` of them; else the recorded epochs.
    """
    rows = point.history.tables.get("updates", [])
    if rows:
        losses = np.array([row["loss"] - row.get("penalty", 0.0) for row in rows])
        width = min(SMOOTHED, len(losses))
        means = np.convolve(losses, np.ones(width) / width, mode="valid")
        place = first_below(means, target(point))
        return float(rows[place + width - 1]["update"]) if place < len(means) else math.nan
    epochs, losses = point.history.series("train/loss")
    penalties = dict(zip(*point.history.series("weights/penalty"), strict=True))
    losses = losses - np.array([penalties.get(epoch, 0.0) for epoch in epochs])
    place = first_below(losses, target(point))
    if place == len(losses):
        return math.nan
    per_epoch = 1 if point.config.training.batch_size is None else math.nan
    return float(epochs[place]) * per_epoch
