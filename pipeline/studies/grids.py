"""Group the points of a sweep by its knobs, usually rates and hidden sizes: the metric to compare, the values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.config.metrics import judged_by, larger_is_better
from pipeline.points.point import Point
from pipeline.studies.knobs import Knob, Layout
from pipeline.studies.statistics.intervals import Estimate, estimate

# Points by the name of their backend.
PointsByBackend = Mapping[str, Sequence[Point]]


@dataclass(frozen=True)
class Cell:
    """The points that differ in nothing but their seed.

    Attributes:
        points: at least one.
        metric: the metric that `estimate` is of.
    """

    points: tuple[Point, ...]
    metric: str

    @cached_property
    def estimate(self) -> Estimate:
        """The mean of the final values over the seeds, with its interval; seeds that diverged have no value."""
        return estimate([final_value(point, self.metric) for point in self.points], self.metric)

    @property
    def value(self) -> float:
        """The mean of the final values, those that diverged left out; NaN if all did."""
        return self.estimate.mean

    @property
    def by_seed(self) -> dict[int, float]:
        """The final values by seed; NaN for a seed that diverged."""
        return {point.config.seed: final_value(point, self.metric) for point in self.points}


def by_backend(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Group points by backend. The backend is not a knob of a grid: each has an answer of its own."""
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(point.config.backend.name, []).append(point)
    return found


def extreme(metric: str) -> str:
    """Return which value of a metric is the better one: `highest` or `lowest`."""
    if larger_is_better(metric):
        return "highest"
    return "lowest"


def told_metric(points: Sequence[Point], metric: str) -> str | None:
    """Return the metric of test rows that is told besides one of validation rows, which only chooses; None: no other.

    A best value is the best partly by chance. Rows that have not chosen it show how good it is.
    """
    told = metric.replace("validation/", "test/")
    if told == metric or not recorded(points, told):
        return None
    return told


def with_value(points: Sequence[Point], knob: Knob, value: Any, across: Knob) -> list[Point]:
    """Return the points with one value of a knob, sorted by another one."""
    chosen = [point for point in points if knob.of(point) == value]
    return sorted(chosen, key=lambda point: across.values.index(across.of(point)))


def recorded(points: Sequence[Point], metric: str) -> bool:
    """Whether at least one of the points has a final value of the metric."""
    return any(metric in point.outcome.final for point in points)


def cell_metric(points: Sequence[Point]) -> str:
    """Return the metric for comparing points: the one that judges them, or another if they have not recorded it.

    The others are the accuracy and the mean absolute error of the training rows, and at last the training loss.
    """
    names = (judged_by(points[0].config), "train/mean_absolute_error", "train/accuracy")
    return next((name for name in names if recorded(points, name)), "train/loss")


def curve_metrics(points: Sequence[Point]) -> list[str]:
    """Return the metrics whose curves are drawn: the training loss, and the metric of cells if that is of other rows.

    A metric that the config names is drawn in any case.
    """
    judged = cell_metric(points)
    names = ["train/loss"]
    if not judged.startswith("train/") or judged == points[0].config.report.metric:
        names.append(judged)
    # Training may have diverged before the first record of a loss.
    return [name for name in dict.fromkeys(names) if recorded(points, name)] or ["train/loss"]


def final_value(point: Point, metric: str) -> float:
    """Return a point's final value of a metric; NaN if it has none."""
    # The last metrics before divergence do not describe the point.
    if point.diverged:
        return math.nan
    return point.outcome.final.get(metric, math.nan)


def cells(points: Sequence[Point], shown: Layout, metric: str) -> list[Cell]:
    """Group the points that differ in nothing but their seed, in the order of their first point.

    A seed counts once: the same point may have been trained twice, for instance with other records of its weights.
    """
    knobs = (shown.across, shown.up, *shown.apart)
    groups: dict[tuple[Any, ...], dict[int, Point]] = {}
    for point in points:
        groups.setdefault(tuple(knob.of(point) for knob in knobs), {})[point.config.seed] = point
    return [Cell(tuple(by_seed.values()), metric) for by_seed in groups.values()]


def best_cell(found: Sequence[Cell], metric: str) -> Cell | None:
    """Return the cell with the best mean, the first one of several; None if all diverged.

    A cell with a seed that diverged is the best only if no other has trained with all its seeds, as in `best_set`.
    Sentences that call it the best ask `Ranking.better_where_trained` first.
    """
    finite = [cell for cell in found if cell.estimate.trained]
    complete = [cell for cell in finite if cell.estimate.trained == cell.estimate.asked]
    choose = max if larger_is_better(metric) else min
    return choose(complete or finite, key=lambda cell: cell.value, default=None)


def profile(points: Sequence[Point], shown: Layout, knob: Knob, metric: str) -> list[Cell | None]:
    """Return for each value of a knob the best cell over all other knobs; None where all diverged."""
    found = cells(points, shown, metric)
    return [best_cell([cell for cell in found if knob.of(cell.points[0]) == value], metric) for value in knob.values]
