"""Summaries of networks over rates and hidden sizes, computed from their points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pipeline.diagnosis.networks import GOAL, GROWN
from pipeline.diagnosis.verdicts import PROBLEMS, Diagnosis
from pipeline.points.point import Point
from pipeline.studies.grids import METRIC_NAMES, cell_metric, hidden_sizes, rates, with_size
from pipeline.studies.variants.variants import final_loss
from pipeline.system.wording import listed, roughly

# The study that checks the rate suggested by a range test against a smaller and a larger one.
RANGE_CHECK = "lr_range_check"


def network_sentences(points: Sequence[Point]) -> Iterator[str]:
    """Yield the best rates, the rates that are too large, and the cost of rates that are too small.

    For a single point, yield only its diagnosis.
    """
    if len(points) == 1:
        yield f"{points[0].diagnosis}."
        return
    best = best_points(points)
    yield from _range_check(points)
    yield from _best(points, best)
    if len(rates(points)) > 1 and not any(_exploded(point.diagnosis) for point in points):
        yield f"no rate up to {rates(points)[-1]:g} diverges."
    for size in hidden_sizes(points):
        members = with_size(points, size)
        sentences = [*_failing(members), *_costs(members), *_beyond(members, best.get(size))]
        if size is None:
            yield from sentences
        else:
            yield from (f"hidden size {size}: {sentence}" for sentence in sentences)


def network_headline(points: Sequence[Point]) -> str:
    """Return a one-line summary: the best point, and the diagnosis of each rate.

    Example:
        "best: rate 10 with hidden size 4, mean absolute error 0.00119; converged: 1, 10; stalled (saturation): 100"
    """
    parts = []
    best = best_point(points)
    if best is not None:
        parts.append(_best_in_short(best, points))
    if len(points) == 1:
        return "; ".join([*parts, points[0].diagnosis.label])
    # The points of each rate, for each diagnosis.
    labels: dict[str, dict[float, list[Point]]] = {}
    for point in points:
        labels.setdefault(point.diagnosis.label, {}).setdefault(point.learning_rate, []).append(point)
    # Ordered by the smallest rate of each diagnosis, which usually goes from too slow to diverged.
    for label, members in sorted(labels.items(), key=lambda item: min(item[1])):
        parts.append(f"{label}: {', '.join(_rate_in_short(members[rate], points) for rate in sorted(members))}")
    return "; ".join(parts)


def _best_in_short(best: Point, points: Sequence[Point]) -> str:
    """Describe the best point with its final value."""
    metric = cell_metric(points)
    text = f"rate {best.learning_rate:g}"
    if _share_cells(points):
        text = f"`{best.name}`"
    elif best.hidden_size is not None:
        text += f" with hidden size {best.hidden_size}"
    if len(points) > 1:
        text = f"best: {text}"
    return f"{text}, {METRIC_NAMES[metric]} {best.outcome.final[metric]:.4g}"


def _rate_in_short(members: Sequence[Point], points: Sequence[Point]) -> str:
    """Return a rate; if only some of its points have the diagnosis, also which ones.

    Args:
        members: points of one rate with the same diagnosis.
        points: all points.
    """
    rate = members[0].learning_rate
    total = sum(point.learning_rate == rate for point in points)
    if _share_cells(points):
        if len(members) == total:
            return f"{rate:g}"
        return f"{rate:g} ({len(members)} of {total})"
    if len(members) == total == len(hidden_sizes(points)):
        return f"{rate:g}"
    return f"{rate:g} ({', '.join(str(point.hidden_size) for point in members)})"


def verdict_counts(points: Sequence[Point]) -> dict[str, float]:
    """Return the number of points with each verdict, by the verdict's name with `_` for spaces."""
    counts = Counter(point.diagnosis.verdict for point in points)
    return {verdict.replace(" ", "_"): counts[verdict] for verdict in PROBLEMS}


def best_point(points: Sequence[Point]) -> Point | None:
    """Return the point with the best final value of the sweep's comparison metric; None if all diverged."""
    metric = cell_metric(points)
    ends = [point for point in points if not point.diverged and metric in point.outcome.final]
    choose = max if metric.endswith("accuracy") else min
    return choose(ends, key=lambda point: point.outcome.final[metric], default=None)


def best_points(points: Sequence[Point]) -> dict[int | None, Point]:
    """Return the best point of each hidden size; sizes whose points all diverged are skipped."""
    chosen = {size: best_point(with_size(points, size)) for size in hidden_sizes(points)}
    return {size: point for size, point in chosen.items() if point is not None}


def _share_cells(points: Sequence[Point]) -> bool:
    """Whether some points share rate and hidden size, so that these two do not identify a point."""
    return len({(point.learning_rate, point.hidden_size) for point in points}) < len(points)


def _exploded(diagnosis: Diagnosis) -> bool:
    """Whether the run diverged, or ended with a loss far above the baseline."""
    return diagnosis.verdict == "diverged" or diagnosis.values.get("loss_over_baseline", 0.0) > GROWN


def _range_check(points: Sequence[Point]) -> Iterator[str]:
    """Yield whether the suggested rate, the middle one of three, gives the lowest final loss."""
    if points[0].config.study != RANGE_CHECK or len(rates(points)) != 3:
        return
    by_rate = sorted(points, key=lambda point: point.learning_rate)
    losses = [final_loss(point) for point in by_rate]
    ends = [f"{loss:.4g} at {point.learning_rate:g}" for point, loss in zip(by_rate, losses, strict=True)]
    verdict = "is confirmed" if min(losses) == losses[1] else "is not the best of the three"
    yield f"the suggested rate, {by_rate[1].learning_rate:g}, {verdict}: the final loss is {listed(ends)}."


def _best(points: Sequence[Point], best: Mapping[int | None, Point]) -> Iterator[str]:
    """Yield the best rate for each hidden size; if points share rate and size, the best point."""
    shared = _share_cells(points)
    if len(rates(points)) < 2 and not shared:
        return
    metric = cell_metric(points)
    for size, point in best.items():
        subject = "the best rate"
        name = f"{point.learning_rate:g}"
        if shared:
            subject = "the best point"
            name = f"`{point.name}`"
        if size is not None:
            subject += f" for hidden size {size}"
        yield f"{subject} is {name}, {METRIC_NAMES[metric]} {point.outcome.final[metric]:.4g}."
    if len(best) < 2 or shared:
        return
    if len(rates(list(best.values()))) == 1:
        yield "the best rate is the same for every hidden size."
    else:
        yield "the best rate depends on the hidden size."


def _failing(points: Sequence[Point]) -> Iterator[str]:
    """Yield the first rate that diverges, and the rates that stall or oscillate."""
    diverged = [point for point in points if point.diagnosis.verdict == "diverged"]
    if diverged:
        first = diverged[0]
        sentence = f"{first.learning_rate:g} is the first rate that diverges: {first.diagnosis.evidence}"
        others = [point for point in diverged[1:] if point.learning_rate > first.learning_rate]
        if others:
            verb = _agreeing(others, "diverges", "diverge")
            sentence += f"; {_listed(others, points)} also {verb}"
        yield f"{sentence}."
    failed = [point for point in points if point.diagnosis.verdict in ("stalled", "oscillating")]
    for label in dict.fromkeys(point.diagnosis.label for point in failed):
        members = [point for point in points if point.diagnosis.label == label]
        first = members[0]
        noun = _agreeing(members, "rate", "rates")
        at = f"at {first.learning_rate:g}: {first.diagnosis.evidence}"
        yield f"{label} at {noun} {_listed(members, points)}; {at}."


def _costs(points: Sequence[Point]) -> Iterator[str]:
    """Yield the epochs at which each rate first reached a low loss, from the fastest rate down to the smallest.

    Nothing is yielded if points share a rate, or if no rate reached a low loss.
    """
    if len(rates(points)) < max(len(points), 2):
        return
    reached = {
        point.learning_rate: point.diagnosis.values["epochs_to_low_loss"]
        for point in points
        if "epochs_to_low_loss" in point.diagnosis.values
    }
    if not reached:
        return
    # If several rates are equally fast, the largest of them.
    fastest = min(reached, key=lambda rate: (reached[rate], -rate))
    reached_at = [f"{reached[fastest]:,.0f} (rate {fastest:g})"]
    not_reached = []
    for point in reversed(points):
        rate = point.learning_rate
        if rate >= fastest:
            continue
        if rate in reached:
            reached_at.append(f"{reached[rate]:,.0f} (rate {rate:g})")
        elif point.diagnosis.verdict == "too slow":
            needed = point.diagnosis.values.get("epochs_needed")
            # There is no number if the records show no trend, or a trend that is too slow to extrapolate.
            estimate = "it is not on track to get there"
            if needed:
                estimate = f"it would take about {roughly(needed)} epochs"
            not_reached.append(f"at rate {rate:g}, {estimate}")
    if len(reached_at) + len(not_reached) > 1:
        sentence = f"the loss first drops to {GOAL:.0%} of the baseline at epoch {', '.join(reached_at)}"
        yield f"{'; '.join([sentence, *not_reached])}."


def _beyond(points: Sequence[Point], best: Point | None) -> Iterator[str]:
    """Yield the rates that are slow because they are too large, not too small."""
    if best is None:
        return
    rate = best.learning_rate
    slow = [point for point in points if point.diagnosis.verdict == "too slow" and point.learning_rate > rate]
    if slow:
        noun = _agreeing(slow, "rate", "rates")
        verb = _agreeing(slow, "is", "are")
        yield (
            f"after the same number of epochs, {noun} {_listed(slow, points)} {verb} behind {rate:g}: "
            "too large a rate is also slow."
        )


def _agreeing(points: Sequence[Point], one: str, several: str) -> str:
    """Return the form of a word, singular or plural, that agrees with the number of different rates."""
    return one if len(rates(points)) == 1 else several


def _listed(some: Sequence[Point], points: Sequence[Point]) -> str:
    """List the rates of some of the points, with the number of affected points if a rate has others as well."""
    names = []
    for rate in dict.fromkeys(point.learning_rate for point in some):
        mine = sum(point.learning_rate == rate for point in some)
        total = sum(point.learning_rate == rate for point in points)
        name = f"{rate:g}"
        if mine < total:
            name += f" ({mine} of {total})"
        names.append(name)
    return listed(names)
