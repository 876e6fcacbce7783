"""Tell each network of a study what the others reached, so that its diagnosis is judged against that."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np

from pipeline.config.metrics import best_of, judged_by, larger_is_better, last_part
from pipeline.config.schema import NO_SETTINGS
from pipeline.diagnosis.reach import LOSS, Reach, SmallerRate
from pipeline.diagnosis.thresholds import NOISE
from pipeline.points.point import POINTS, Point
from pipeline.points.reading import read_results
from pipeline.points.sweep_record import SweepPoint, SweepRecord, all_sweeps
from pipeline.studies.grids import Cell
from pipeline.studies.ranking import rank
from pipeline.studies.row_numbers import rows_of
from pipeline.system.errors import DamagedError
from pipeline.system.failures import Failures

log = logging.getLogger(__name__)

# Sections and keys of a config that do not change what a network can reach, or that differ between seeds.
FREE = {
    *NO_SETTINGS,
    *("study", "results", "dry_run", "force", "breaking_rate", "budget", "threads", "tracking", "recording", "seed"),
}
# The median distance from the median of a normal distribution, in standard deviations.
MEDIAN_DISTANCE = 0.6745


@dataclass(frozen=True)
class _Member:
    """A network, and the texts by which it is grouped: making them takes most of the time.

    Attributes:
        point: the network.
        data: what all networks have in common that can be compared at all.
        model: the same, and the model with its penalties.
        settings: all that changes the training but the rate and the seed.
    """

    point: Point
    data: str
    model: str
    settings: str

    @property
    def same_but_seed(self) -> tuple[float, str]:
        """What points have in common that differ in nothing but the seed."""
        return self.point.learning_rate, self.settings


def _member(point: Point) -> _Member:
    config = point.config
    # The rows of a split by another seed are another sample of the same data.
    left_out = dict.fromkeys(FREE, True) | {"data": {"split_seed"}, "optimizer": {"learning_rate"}}
    data = config.data.model_dump_json(exclude={"split_seed"})
    data = f"{config.backend.name} {config.loss} {config.training.rows} {data}"
    # Penalties raise the training loss.
    model = f"{data} {config.model.model_dump_json()} {config.training.l1} {config.training.l2}"
    return _Member(point, data, model, config.model_dump_json(exclude=left_out))


def judged_together(points: Sequence[Point]) -> list[Point]:
    """Return the points of a study, each with what its group reached.

    A group is all networks on one backend with the same data, loss and number of rows, and also with the same model and
    penalties: a smaller network does not reach what a larger one does. A model whose points do not differ, or not in
    the rate while another model has a single point, is judged against all models: only these can be compared. A point
    that diverged has reached nothing, but is judged too. Points of other kinds stay as they are.
    """
    members = [_member(point) for point in points if point.config.kind == "network"]
    wide = _by(members, lambda one: one.data)
    judged: dict[int, Point] = {}
    apart: list[_Member] = []
    models = list(_by(members, lambda one: one.model).values())
    single = any(len({one.same_but_seed for one in group}) == 1 for group in models)
    for group in models:
        # Of a feature at one rate, two that clip gradients are no more alike than any others.
        varied = {one.point.learning_rate for one in group} if single else {one.same_but_seed for one in group}
        if len(varied) > 1:
            judged |= _judged(group, group)
        else:
            apart += group
    for key, group in _by(apart, lambda one: one.data).items():
        judged |= _judged(group, wide[key])
    return [judged.get(id(point), point) for point in points]


def judged_in_study(root: Path, sweep: SweepRecord, points: Sequence[Point]) -> list[Point]:
    """Return the points of a command, each with what its group reached.

    A single training is judged beside the newest sweep of its study, backend and store whose points are on this disk.

    Args:
        root: folder that holds .points/.
        sweep: the record of the command.
        points: its complete points.
    """
    others: list[Point] = []
    if not sweep.parent and points:
        own = {point.folder.name for point in points}
        others = [point for point in _newest_sweep(root, sweep) if point.folder.name not in own]
    return judged_together([*points, *others])[: len(points)]


def _newest_sweep(root: Path, single: SweepRecord) -> list[Point]:
    """Return the complete points of the newest sweep of several points beside which a single training is judged."""
    wanted = (single.study, single.backend, single.tracking)
    # What cannot be read of other commands is only left out: the training itself has not failed.
    unread = Failures()
    sweeps = (one for _, one in all_sweeps(root, unread) if one.parent)
    same = [one for one in sweeps if (one.study, one.backend, one.tracking) == wanted]
    members: Sequence[SweepPoint] = ()
    if same:
        members = max(same, key=lambda one: one.when).points
    points = []
    for member in members:
        # Points that are missing were trained on another machine, and a damaged one is reported where it is asked for.
        with unread.apart(member.name), suppress(DamagedError):
            points.append(read_results(root / POINTS / member.signature, member.name, member.signature))
    for message in unread.messages("could not be compared with the training"):
        log.warning(message)
    return points


def _judged(members: Sequence[_Member], group: Sequence[_Member]) -> dict[int, Point]:
    """Return points with what their group reached, by the identity of the point without it."""
    reach = _reach(group)
    if reach is None:
        return {}
    judged: dict[int, Point] = {}
    for same in _by(members, lambda one: one.settings).values():
        best: SmallerRate | None = None
        # In the order of their rates, so that the best of the smaller ones is known each time.
        for cell, told_apart in _by_rate([one.point for one in same], reach.metric):
            own = replace(reach, own_noise=_own_noise(cell, told_apart))
            mean = _mean(cell)
            if told_apart and _ends_better(best, mean, own):
                own = replace(own, smaller_rate=best)
            judged |= {id(point): replace(point, reach=own) for point in cell.points}
            if best is None or (mean is not None and reach.behind(mean.value) < reach.behind(best.value)):
                best = mean
    return judged


def _by_rate(points: Sequence[Point], metric: str) -> Iterator[tuple[Cell, bool]]:
    """Yield the points with each rate, the smallest first, and whether they can be told from the best rate.

    They can if there is no test, because there is one seed.
    """
    by_rate: dict[float, list[Point]] = {}
    for point in sorted(points, key=lambda one: one.learning_rate):
        by_rate.setdefault(point.learning_rate, []).append(point)
    cells = [Cell(tuple(members), metric) for members in by_rate.values()]
    ranking = rank(cells, metric)
    cannot = set()
    if ranking.found.tested:
        cannot = {id(cell) for cell in ranking.members}
    for cell in cells:
        yield cell, id(cell) not in cannot


def _own_noise(cell: Cell, told_apart: bool) -> dict[str, float]:
    """Return the deviation over seeds of the metric of points that cannot be told from the best; else nothing."""
    deviation = _robust_deviation(_finals(cell.points, cell.metric))
    if told_apart or not deviation:
        return {}
    return {cell.metric: deviation}


def _by(members: Sequence[_Member], key: Callable[[_Member], str]) -> dict[str, list[_Member]]:
    groups: dict[str, list[_Member]] = {}
    for member in members:
        groups.setdefault(key(member), []).append(member)
    return groups


def _finals(points: Iterable[Point], metric: str) -> list[float]:
    """Return the final values of a metric of the points that did not diverge and have one."""
    return [point.outcome.final[metric] for point in points if not point.diverged and metric in point.outcome.final]


def _mean(cell: Cell) -> SmallerRate | None:
    """Return what the points with one rate reached on average; None if all diverged, or have no such metric."""
    values = _finals(cell.points, cell.metric)
    if not values:
        return None
    loss = math.nan
    losses = _finals(cell.points, LOSS)
    if losses:
        loss = fmean(losses)
    error = _robust_deviation(values) / math.sqrt(len(values))
    return SmallerRate(cell.points[0].learning_rate, cell.metric, fmean(values), loss, len(values), error)


def _ends_better(smaller: SmallerRate | None, own: SmallerRate | None, reach: Reach) -> bool:
    """Whether the mean with a smaller rate is better than that with this one, by more than the tolerance and noise."""
    if smaller is None or own is None:
        return False
    tolerance = max(reach.metric_tolerance(), NOISE * own.error)
    return reach.behind(own.value) - reach.behind(smaller.value) > tolerance


def _robust_deviation(values: Sequence[float]) -> float:
    """Return the standard deviation by the median distance from the median; 0 for a single value.

    For values of a normal distribution that distance is 0.6745 standard deviations. A seed that fails does not count
    as noise, which would excuse it: it moves neither median.
    """
    if len(values) < 2:
        return 0.0
    return float(np.median(np.abs(np.subtract(values, np.median(values)))) / MEDIAN_DISTANCE)


def _reach(members: Sequence[_Member]) -> Reach | None:
    """Return what points reached together; None if none of them recorded a loss, or all diverged."""
    finished = [one for one in members if not one.point.diverged and LOSS in one.point.outcome.best]
    trained = [one.point for one in finished]
    if not trained:
        return None
    metric = judged_by(trained[0].config)
    best = math.nan
    values = [point.outcome.best[metric] for point in trained if metric in point.outcome.best]
    if values:
        best = best_of(metric, values)
    noise = {name: deviation for name in (LOSS, metric) for deviation in _noise(finished, name)}
    noise[metric] = max(noise.get(metric, 0.0), _sampling_error(trained[0], metric, best))
    return Reach(
        loss=min(point.outcome.best[LOSS] for point in trained),
        metric=metric,
        best=best,
        untrained=_untrained(trained, metric),
        noise=noise,
        points=len(members),
    )


def _untrained(points: Iterable[Point], metric: str) -> float:
    """Return the median over points of their first record of a metric; NaN if none has one."""
    first = [next((one.value for one in point.history.metrics if one.name == metric), math.nan) for point in points]
    known = [value for value in first if not math.isnan(value)]
    if not known:
        return math.nan
    return float(np.median(known))


def _sampling_error(point: Point, metric: str, value: float) -> float:
    """Return the standard error of a metric of held-out rows, which are a sample; 0 if it is not of such rows.

    Of a share p, such as the accuracy, it is sqrt(p (1 - p) / rows). Errors and losses of single rows spread about as
    widely as their mean m, so that m / sqrt(rows) is the order of magnitude of theirs. All points are measured on the
    same rows, so that about half of the variance is common to them: the rest is divided by sqrt(2).
    """
    rows = rows_of(point, metric)
    if not rows or metric.startswith("train/") or math.isnan(value):
        return 0.0
    spread = value
    if last_part(metric) == "r2":
        # 1 - r2 is such an error, divided by the variance.
        spread = 1 - value
    elif larger_is_better(metric):
        spread = math.sqrt(max(value * (1 - value), 0.0))
    return abs(spread) / math.sqrt(2 * rows)


def _noise(members: Iterable[_Member], metric: str) -> Iterator[float]:
    """Yield the standard deviation over seeds of a final metric; nothing without two seeds of one point.

    It is the square root of the median variance of the better half of the points: one whose seeds sometimes stall says
    nothing about the others, and a mean over all would be its variance.
    """
    seeds: dict[tuple[float, str], list[float]] = {}
    for one in members:
        if metric in one.point.outcome.final:
            seeds.setdefault(one.same_but_seed, []).append(one.point.outcome.final[metric])
    several = [values for values in seeds.values() if len(values) > 1]
    if not several:
        return
    means = [float(np.mean(values)) for values in several]
    best = best_of(metric, means)
    distances = [abs(mean - best) for mean in means]
    limit = float(np.median(distances))
    better = [values for values, distance in zip(several, distances, strict=True) if distance <= limit]
    yield math.sqrt(float(np.median([np.var(values, ddof=1) for values in better])))
