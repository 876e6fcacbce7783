"""Tell each network of a study what the others reached, so that its diagnosis is judged against that."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from pipeline.config.metrics import best_of, judged_by, larger_is_better, last_part
from pipeline.diagnosis.reach import LOSS, Reach, SmallerRate
from pipeline.points.point import Point

# Sections and keys of a config that do not change what a network can reach, or that differ between seeds.
FREE = {"study", "question", "report", "results", "dry_run", "force", "tracking", "recording", "seed"}


def judged_together(points: Sequence[Point]) -> list[Point]:
    """Return the points of a study, each with what its group reached.

    A group is all networks on one backend with the same data, loss and number of rows, and also with the same model and
    penalties: a smaller network does not reach what a larger one does. Where no two points with one model differ in
    more than the seed, all models are one group, because then only these can be compared. A point that diverged has
    reached nothing, but is judged too. Points of other kinds stay as they are.
    """
    wide: dict[str, list[Point]] = {}
    narrow: dict[str, list[Point]] = {}
    rates: dict[str, list[Point]] = {}
    for point in points:
        if point.config.kind == "network":
            wide.setdefault(_data_key(point), []).append(point)
            narrow.setdefault(_model_key(point), []).append(point)
            rates.setdefault(_settings_but_rate(point), []).append(point)
    # Computed once for each group, and not for each point.
    by_group: dict[str, Reach | None] = {}
    judged = []
    for point in points:
        if point.config.kind != "network":
            judged.append(point)
            continue
        key = _model_key(point)
        members = narrow[key]
        if len({settings_key(one) for one in members}) < 2:
            key = _data_key(point)
            members = wide[key]
        if key not in by_group:
            by_group[key] = _reach(members)
        reach = by_group[key]
        if reach is not None:
            reach = replace(reach, smaller_rate=_smaller_rate(point, rates[_settings_but_rate(point)], reach))
        judged.append(replace(point, reach=reach))
    return judged


def settings_key(point: Point) -> str:
    """Return a text that is the same for points that differ in nothing but the seed."""
    return f"{point.learning_rate!r} {_settings_but_rate(point)}"


def _settings_but_rate(point: Point) -> str:
    # The rows of a split by another seed are another sample of the same data.
    left_out = dict.fromkeys(FREE, True) | {"data": {"split_seed"}, "optimizer": {"learning_rate"}}
    return point.config.model_dump_json(exclude=left_out)


def _smaller_rate(point: Point, others: Sequence[Point], reach: Reach) -> SmallerRate | None:
    """Return the best point with a smaller rate, if it ends better than this one by more than the tolerance."""
    metric = reach.metric
    tolerance = reach.metric_tolerance()
    if metric not in point.outcome.final:
        return None
    smaller = [
        other
        for other in others
        if other.learning_rate < point.learning_rate and not other.diverged and metric in other.outcome.final
    ]
    if not smaller:
        return None
    best = min(smaller, key=lambda other: reach.behind(other.outcome.final[metric]))
    value = best.outcome.final[metric]
    if reach.behind(point.outcome.final[metric]) - reach.behind(value) <= tolerance:
        return None
    return SmallerRate(best.learning_rate, metric, value, best.outcome.final.get(LOSS, math.nan))


def _data_key(point: Point) -> str:
    config = point.config
    data = config.data.model_dump_json(exclude={"split_seed"})
    return f"{config.backend.name} {config.loss} {config.training.rows} {data}"


def _model_key(point: Point) -> str:
    config = point.config
    # Penalties and dropout raise the training loss.
    penalties = f"{config.training.l1} {config.training.l2}"
    return f"{_data_key(point)} {config.model.model_dump_json()} {penalties}"


def _reach(points: Sequence[Point]) -> Reach | None:
    """Return what points reached together; None if none of them recorded a loss, or all diverged."""
    trained = [point for point in points if not point.diverged and LOSS in point.outcome.best]
    if not trained:
        return None
    metric = judged_by(trained[0].config)
    best = math.nan
    values = [point.outcome.best[metric] for point in trained if metric in point.outcome.best]
    if values:
        best = best_of(metric, values)
    noise = {name: deviation for name in (LOSS, metric) for deviation in _noise(trained, name)}
    noise[metric] = max(noise.get(metric, 0.0), _sampling_error(trained[0], metric, best))
    return Reach(
        loss=min(point.outcome.best[LOSS] for point in trained),
        metric=metric,
        best=best,
        untrained=_untrained(trained, metric),
        noise=noise,
        points=len(points),
    )


def _untrained(points: Iterable[Point], metric: str) -> float:
    """Return the median over points of their first record of a metric; NaN if none has one."""
    first = [next((one.value for one in point.history.metrics if one.name == metric), math.nan) for point in points]
    known = [value for value in first if not math.isnan(value)]
    if not known:
        return math.nan
    return float(np.median(known))


def _sampling_error(point: Point, metric: str, value: float) -> float:
    """Return the standard error of a metric of the test rows, which are a sample; 0 if it is not of these rows.

    Of a share p, such as the accuracy, it is sqrt(p (1 - p) / rows). Errors and losses of single rows spread about as
    widely as their mean m, so that m / sqrt(rows) is the order of magnitude of theirs. All points are tested on the
    same rows, so that about half of the variance is common to them: the rest is divided by sqrt(2).
    """
    if point.data is None or not point.data.test_rows or metric.startswith("train/") or math.isnan(value):
        return 0.0
    spread = value
    if last_part(metric) == "r2":
        # 1 - r2 is such an error, divided by the variance.
        spread = 1 - value
    elif larger_is_better(metric):
        spread = math.sqrt(max(value * (1 - value), 0.0))
    return abs(spread) / math.sqrt(2 * point.data.test_rows)


def _noise(points: Iterable[Point], metric: str) -> Iterator[float]:
    """Yield the standard deviation over seeds of a final metric; nothing without two seeds of one point.

    It is the square root of the median variance of the better half of the points: one whose seeds sometimes stall says
    nothing about the others, and a mean over all would be its variance.
    """
    seeds: dict[str, list[float]] = {}
    for point in points:
        if metric in point.outcome.final:
            seeds.setdefault(settings_key(point), []).append(point.outcome.final[metric])
    several = [values for values in seeds.values() if len(values) > 1]
    if not several:
        return
    means = [float(np.mean(values)) for values in several]
    best = best_of(metric, means)
    distances = [abs(mean - best) for mean in means]
    limit = float(np.median(distances))
    better = [values for values, distance in zip(several, distances, strict=True) if distance <= limit]
    yield math.sqrt(float(np.median([np.var(values, ddof=1) for values in better])))
