"""Summaries of networks over their knobs, usually rates and hidden sizes, computed from their points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.config.metrics import larger_is_better
from pipeline.diagnosis.thresholds import GOAL, GROWN
from pipeline.diagnosis.verdicts import PROBLEMS, Diagnosis
from pipeline.points.point import Point
from pipeline.studies.grids import METRIC_NAMES, Cell, best_cell, cell_metric, cells, with_value
from pipeline.studies.knobs import RATE, Knob, Layout, layout
from pipeline.studies.profiles import profile_sentences, seed_sentences
from pipeline.studies.variants.variants import final_loss
from pipeline.system.wording import listed, roughly

# The study that checks the rate suggested by a range test against a smaller and a larger one.
RANGE_CHECK = "lr_range_check"


def network_sentences(points: Sequence[Point]) -> Iterator[str]:
    """Yield the best values of the knobs, those that fail, and the cost of rates that are too small.

    For a single point, yield only its diagnosis.
    """
    if len(points) == 1:
        yield f"{points[0].diagnosis}."
        return
    shown = layout(points)
    yield from _range_check(points)
    if shown.panels is None:
        yield from _of_axes(points, shown)
    else:
        for value in shown.panels.values:
            members = with_value(points, shown.panels, value, shown.across)
            yield from (f"{shown.panels.said(value)}: {sentence}" for sentence in _of_axes(members, shown))
    yield from profile_sentences(points, shown)
    yield from seed_sentences(points, shown)


def _of_axes(points: Sequence[Point], shown: Layout) -> Iterator[str]:
    """Yield what is said of the points of one panel, over the two axes."""
    best = best_cells(points, shown)
    yield from _best(points, shown, best)
    tried = _values(points, shown.across)
    if len(tried) > 1 and not any(_exploded(point.diagnosis) for point in points):
        if shown.across.key == RATE:
            yield f"no rate up to {shown.across.text(tried[-1])} diverges."
        else:
            yield "no point diverges."
    for value in _values(points, shown.up):
        members = with_value(points, shown.up, value, shown.across)
        sentences = [*_failing(members, shown.across), *_costs(members, shown.across)]
        if value in best and shown.across.key == RATE:
            sentences += _beyond(members, best[value].points[0].learning_rate)
        if value is None and len(shown.up.values) == 1:
            yield from sentences
        else:
            yield from (f"{shown.up.said(value)}: {sentence}" for sentence in sentences)


def network_headline(points: Sequence[Point]) -> str:
    """Return a one-line summary: the best point, and the diagnosis of each rate, or of each value of another knob.

    Example:
        "best: rate 10 with hidden size 4, mean absolute error 0.00119; converged: 1, 10; stalled (saturation): 100"
    """
    parts = []
    shown = layout(points)
    best = best_cell(cells(points, shown, cell_metric(points)), cell_metric(points))
    if best is not None:
        parts.append(_best_in_short(best, points, shown))
    if len(points) == 1:
        return "; ".join([*parts, points[0].diagnosis.label])
    # The points of each value, for each diagnosis.
    labels: dict[str, dict[Any, list[Point]]] = {}
    for point in points:
        labels.setdefault(point.diagnosis.label, {}).setdefault(shown.across.of(point), []).append(point)
    # Ordered by the smallest value of each diagnosis, which for rates usually goes from too slow to diverged.
    for label, members in sorted(labels.items(), key=lambda item: min(item[1])):
        values = ", ".join(_value_in_short(members[value], points, shown) for value in sorted(members))
        parts.append(f"{label}: {values}")
    return "; ".join(parts)


def _best_in_short(best: Cell, points: Sequence[Point], shown: Layout) -> str:
    """Describe the best result with its final value."""
    metric = cell_metric(points)
    point = best.points[0]
    text = shown.across.said(shown.across.of(point))
    others = [knob.said(knob.of(point)) for knob in (shown.up, *shown.apart) if knob.of(point) is not None]
    if others:
        text += f" with {listed(others)}"
    if len(points) > 1:
        text = f"best: {text}"
    return f"{text}, {_value(best, metric)}"


def _value_in_short(members: Sequence[Point], points: Sequence[Point], shown: Layout) -> str:
    """Return a value of the horizontal axis; if only some of its points have the diagnosis, also which ones.

    Args:
        members: points of one value with the same diagnosis.
        points: all points.
        shown: the axes.
    """
    value = shown.across.of(members[0])
    text = shown.across.text(value)
    total = sum(shown.across.of(point) == value for point in points)
    if _share_cells(points, shown):
        if len(members) == total:
            return text
        return f"{text} ({len(members)} of {total})"
    if len(members) == total == len(shown.up.values):
        return text
    return f"{text} ({', '.join(shown.up.text(shown.up.of(point)) for point in members)})"


def verdict_counts(points: Sequence[Point]) -> dict[str, float]:
    """Return the number of points with each verdict, by the verdict's name with `_` for spaces."""
    counts = Counter(point.diagnosis.verdict for point in points)
    return {verdict.replace(" ", "_"): counts[verdict] for verdict in PROBLEMS}


def best_point(points: Sequence[Point]) -> Point | None:
    """Return the point with the best final value of the sweep's comparison metric; None if all diverged."""
    metric = cell_metric(points)
    ends = [point for point in points if not point.diverged and metric in point.outcome.final]
    choose = max if larger_is_better(metric) else min
    return choose(ends, key=lambda point: point.outcome.final[metric], default=None)


def best_cells(points: Sequence[Point], shown: Layout) -> dict[Any, Cell]:
    """Return the best cell for each value of the vertical axis; values at which all points diverged are skipped."""
    metric = cell_metric(points)
    found = cells(points, shown, metric)
    best = {}
    for value in _values(points, shown.up):
        cell = best_cell([cell for cell in found if shown.up.of(cell.points[0]) == value], metric)
        if cell is not None:
            best[value] = cell
    return best


def _values(points: Sequence[Point], knob: Knob) -> list[Any]:
    """Return those values of a knob that some of the points have, in order."""
    present = {knob.of(point) for point in points}
    return [value for value in knob.values if value in present]


def _value(cell: Cell, metric: str) -> str:
    """Name the value of a cell."""
    text = f"{METRIC_NAMES[metric]} {cell.value:.4g}"
    if len(cell.points) > 1:
        text += f" (mean of {len(cell.points)})"
    return text


def _share_cells(points: Sequence[Point], shown: Layout) -> bool:
    """Whether some points share a place on the two axes, so that these do not identify a point."""
    return len({(shown.across.of(point), shown.up.of(point)) for point in points}) < len(points)


def _exploded(diagnosis: Diagnosis) -> bool:
    """Whether the run diverged, or ended with a loss far above the baseline."""
    return diagnosis.verdict == "diverged" or diagnosis.values.get("loss_over_baseline", 0.0) > GROWN


def _range_check(points: Sequence[Point]) -> Iterator[str]:
    """Yield whether the suggested rate, the middle one of three, gives the lowest final loss."""
    by_rate = sorted(points, key=lambda point: point.learning_rate)
    if points[0].config.study != RANGE_CHECK or len({point.learning_rate for point in points}) != 3:
        return
    losses = [final_loss(point) for point in by_rate]
    ends = [f"{loss:.4g} at {point.learning_rate:g}" for point, loss in zip(by_rate, losses, strict=True)]
    verdict = "is confirmed" if min(losses) == losses[1] else "is not the best of the three"
    yield f"the suggested rate, {by_rate[1].learning_rate:g}, {verdict}: the final loss is {listed(ends)}."


def _best(points: Sequence[Point], shown: Layout, best: Mapping[Any, Cell]) -> Iterator[str]:
    """Yield the best value of the horizontal axis for each value of the vertical one."""
    if len(_values(points, shown.across)) < 2:
        return
    metric = cell_metric(points)
    across = shown.across
    for value, cell in best.items():
        subject = f"the best {across.name}"
        if value is not None or len(shown.up.values) > 1:
            subject += f" for {shown.up.said(value)}"
        name = across.text(across.of(cell.points[0]))
        # The panel is named before the sentence.
        others = [knob.said(knob.of(cell.points[0])) for knob in shown.further]
        if others:
            name += f" with {listed(others)}"
        yield f"{subject} is {name}, {_value(cell, metric)}."
    if len(best) < 2:
        return
    if len({across.of(cell.points[0]) for cell in best.values()}) == 1:
        yield f"the best {across.name} is the same for every {shown.up.name}."
    else:
        yield f"the best {across.name} depends on the {shown.up.name}."


def _failing(points: Sequence[Point], across: Knob) -> Iterator[str]:
    """Yield the first rate that diverges, or the values of another knob that do, and those that stall or oscillate."""
    diverged = [point for point in points if point.diagnosis.verdict == "diverged"]
    if diverged and across.key == RATE:
        first = diverged[0]
        sentence = f"{first.learning_rate:g} is the first rate that diverges: {first.diagnosis.evidence}"
        others = [point for point in diverged[1:] if point.learning_rate > first.learning_rate]
        if others:
            verb = _agreeing(others, across, "diverges", "diverge")
            sentence += f"; {_listed(others, points, across)} also {verb}"
        yield f"{sentence}."
    told = ["stalled", "oscillating"]
    if across.key != RATE:
        told.append("diverged")
    failed = [point for point in points if point.diagnosis.verdict in told]
    for label in dict.fromkeys(point.diagnosis.label for point in failed):
        members = [point for point in points if point.diagnosis.label == label]
        first = members[0]
        noun = across.name
        if across.key == RATE:
            noun = _agreeing(members, across, "rate", "rates")
        at = f"at {across.text(across.of(first))}: {first.diagnosis.evidence}"
        yield f"{label} at {noun} {_listed(members, points, across)}; {at}."


def _costs(points: Sequence[Point], across: Knob) -> Iterator[str]:
    """Yield the epochs at which each value first reached a low loss, from the fastest on; of rates the smaller ones.

    Nothing is yielded if points share a value, or if none reached a low loss.
    """
    if len(_values(points, across)) < max(len(points), 2):
        return
    reached = {
        across.of(point): point.diagnosis.values["epochs_to_low_loss"]
        for point in points
        if "epochs_to_low_loss" in point.diagnosis.values
    }
    if not reached:
        return
    # If several values are equally fast, the largest of them.
    fastest = min(reached, key=lambda value: (reached[value], -value))
    reached_at = [f"{reached[fastest]:,.0f} ({across.said(fastest)})"]
    not_reached = []
    others = [point for point in reversed(points) if across.of(point) != fastest]
    if across.key == RATE:
        others = [point for point in others if across.of(point) < fastest]
    for point in others:
        value = across.of(point)
        if value in reached:
            reached_at.append(f"{reached[value]:,.0f} ({across.said(value)})")
        elif point.diagnosis.verdict == "too slow":
            needed = point.diagnosis.values.get("epochs_needed")
            # There is no number if the records show no trend, or a trend that is too slow to extrapolate.
            estimate = "it is not on track to get there"
            if needed:
                estimate = f"it would take about {roughly(needed)} epochs"
            not_reached.append(f"at {across.said(value)}, {estimate}")
    if len(reached_at) + len(not_reached) > 1:
        sentence = f"the loss first drops to {GOAL:.0%} of the baseline at epoch {', '.join(reached_at)}"
        yield f"{'; '.join([sentence, *not_reached])}."


def _beyond(points: Sequence[Point], best: float) -> Iterator[str]:
    """Yield the rates that are slow because they are too large, not too small."""
    slow = [point for point in points if point.diagnosis.verdict == "too slow" and point.learning_rate > best]
    if slow:
        rates = Knob(RATE, ())
        noun = _agreeing(slow, rates, "rate", "rates")
        verb = _agreeing(slow, rates, "is", "are")
        yield (
            f"after the same number of epochs, {noun} {_listed(slow, points, rates)} {verb} behind {best:g}: "
            "too large a rate is also slow."
        )


def _agreeing(points: Sequence[Point], across: Knob, one: str, several: str) -> str:
    """Return the form of a word, singular or plural, that agrees with the number of different values."""
    return one if len({across.of(point) for point in points}) == 1 else several


def _listed(some: Sequence[Point], points: Sequence[Point], across: Knob) -> str:
    """List the values of some of the points, with the number of affected points if a value has others as well."""
    names = []
    for value in dict.fromkeys(across.of(point) for point in some):
        mine = sum(across.of(point) == value for point in some)
        total = sum(across.of(point) == value for point in points)
        name = across.text(value)
        if mine < total:
            name += f" ({mine} of {total})"
        names.append(name)
    return listed(names)
