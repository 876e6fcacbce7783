"""Summaries of networks over their knobs, usually rates and hidden sizes, computed from their points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.config.metrics import metric_name
from pipeline.diagnosis.thresholds import GOAL
from pipeline.diagnosis.verdicts import PROBLEMS, TOO_LARGE
from pipeline.points.point import Point
from pipeline.studies.best_headline import best_in_short, compared_groups
from pipeline.studies.best_values import best_sentences, group_sentences
from pipeline.studies.explanations import Section
from pipeline.studies.grids import Cell, extreme
from pipeline.studies.groups import Group, every, groups, overall
from pipeline.studies.knobs import RATE, Layout, layout
from pipeline.studies.named_values import plural, said, values_of
from pipeline.studies.profiles import profile_sentences, seed_sentences
from pipeline.studies.verdict_sentences import counted_verdicts, evidence_sentences, verdict_sentence
from pipeline.system.wording import listed, roughly

# Verdicts for each value that take more characters than this are counted instead: on a page, and where one line is
# wanted.
LONGEST = 300
LONGEST_IN_A_LINE = 160
# The study that checks the rate suggested by a range test against a smaller and a larger one.
RANGE_CHECK = "lr_range_check"


def network_sentences(points: Sequence[Point]) -> Iterator[str]:
    """Yield the best values of the knobs, how training went at each, and the cost of rates that are too small.

    The most important ones come first, because a page and a description end after a few (`kinds.answers`).

    For a single point, yield only its diagnosis.
    """
    if len(points) == 1:
        yield f"{points[0].diagnosis}."
        return
    shown = layout(points)
    yield from _range_check(points, shown)
    yield from best_sentences(points, shown)
    yield from seed_sentences(points, shown)
    yield f"{_verdicts(points, shown, LONGEST)}."
    yield from profile_sentences(points, shown)
    yield from evidence_sentences(points, shown)
    if shown.across.key == RATE:
        yield from _beyond(groups(points, shown), shown)
    yield from _costs(points, shown)


def network_sections(points: Sequence[Point]) -> list[Section]:
    """Return the section of a page on the best values for each hidden size, or each value of another knob."""
    shown = layout(points)
    sentences = group_sentences(points, shown)
    if not sentences:
        return []
    heading = f"The best {plural(shown.across)} for {every(shown)}"
    if len(sentences) < len(compared_groups(points, shown)):
        heading += " of which they are known"
    return [(heading, [f"- {sentence}" for sentence in sentences])]


def network_headline(points: Sequence[Point]) -> str:
    """Return a one-line summary: the best points, and how training went at each rate, or value of another knob.

    Example:
        "rates 1 and 10 with hidden size 4 cannot be told apart, training loss 0.0012 ± 0.0003 (5 seeds); rate 0.1 is
        too slow; 1 and 10 converge; 100 stalls (saturation)"
    """
    shown = layout(points)
    best = best_in_short(points, shown)
    if len(points) == 1:
        label = points[0].diagnosis.label
        # A point that diverged has no value, only its diagnosis.
        if points[0].diverged:
            return label
        return f"{best}; {label}"
    return f"{best}; {_verdicts(points, shown, LONGEST_IN_A_LINE)}"


def _verdicts(points: Sequence[Point], shown: Layout, longest: int) -> str:
    """Return the verdicts for each value, or their numbers if that takes too many characters."""
    verdicts = verdict_sentence(points, shown)
    if len(verdicts) > longest:
        return counted_verdicts(points)
    return verdicts


def verdict_counts(points: Sequence[Point]) -> dict[str, float]:
    """Return the number of points with each verdict, by the verdict's name with `_` for spaces."""
    counts = Counter(point.diagnosis.verdict for point in points)
    return {verdict.replace(" ", "_"): counts[verdict] for verdict in PROBLEMS}


def _range_check(points: Sequence[Point], shown: Layout) -> Iterator[str]:
    """Yield whether the suggested rate, the middle one of three, gives the best result of them."""
    found = groups(points, shown)
    if points[0].config.study != RANGE_CHECK or len(shown.across.values) != 3 or len(found) != 1:
        return
    # Of three, one that lost a seed and is better leaves nothing to say.
    if found[0].ranking.better_where_trained:
        return
    suggested = shown.across.values[1]
    best = found[0].values(shown.across)
    wanted = f"the {extreme(found[0].ranking.metric)} {metric_name(found[0].ranking.metric)} of the three"
    if suggested not in best:
        yield f"the suggested rate, {suggested:g}, does not give {wanted}."
    elif len(best) == 1:
        yield f"the suggested rate, {suggested:g}, gives {wanted}."
    else:
        yield f"the suggested rate, {suggested:g}, cannot be told from that with {wanted}."


def _costs(points: Sequence[Point], shown: Layout) -> Iterator[str]:
    """Yield the epochs at which each value first came near the best, from the fastest on; of rates the smaller ones.

    Of several groups it is the one with the best point. Of several seeds it is the median, if all of them got there.
    """
    best = overall(points, shown).best
    for group in groups(points, shown):
        if best is not None and group.best.points[0] is best.points[0] and not shown.further:
            yield from _costs_of(group, shown)


def _costs_of(group: Group, shown: Layout) -> Iterator[str]:
    across = shown.across
    by_value = {across.of(cell.points[0]): cell for cell in group.ranking.cells}
    reached = {value: _median(cell, "epochs_to_low_loss") for value, cell in by_value.items()}
    known = {value: epochs for value, epochs in reached.items() if epochs is not None}
    if not known:
        return
    # If several values are equally fast, the largest of them.
    fastest = min(known, key=lambda value: (known[value], -value))
    slower = [value for value in sorted(by_value, reverse=True) if value < fastest]
    if across.key != RATE:
        slower = [value for value in sorted(by_value, reverse=True) if value != fastest]
    reached_at = [f"{known[fastest]:,.0f} with {across.said(fastest)}"]
    not_reached = []
    for value in slower:
        needed = _median(by_value[value], "epochs_needed")
        if value in known:
            reached_at.append(f"{known[value]:,.0f} with {across.text(value)}")
        elif needed is not None:
            not_reached.append(f"with {across.text(value)} it would take about {roughly(needed)} epochs")
    if len(reached_at) + len(not_reached) > 1:
        where = ""
        if group.name:
            where = f"with {group.name}, "
        way = f"{1 - GOAL:.0%} of the way from a constant answer to the best loss"
        sentence = f"{where}{way} is first reached at epoch {listed(reached_at)}"
        yield f"{'; '.join([sentence, *not_reached])}."


def _median(cell: Cell, name: str) -> float | None:
    """Return the median of a number of the diagnosis over the seeds of a cell; None if one of them does not have it."""
    values = [point.diagnosis.values.get(name) for point in cell.points]
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return None
    return float(np.median(numbers))


def _is_slow(point: Point) -> bool:
    """Whether a point is behind, but has not diverged."""
    diagnosis = point.diagnosis
    return diagnosis.verdict == "too slow" or (diagnosis.cause == TOO_LARGE and not point.diverged)


def _beyond(found: Sequence[Group], shown: Layout) -> Iterator[str]:
    """Yield the rates that are slow because they are too large, not too small: worse than the best, by the tests."""
    across = shown.across
    slow: dict[Any, list[str]] = {}
    for group in found:
        largest = group.values(across)[-1]
        for cell, _ in group.ranking.behind:
            value = across.of(cell.points[0])
            if value > largest and all(_is_slow(point) for point in cell.points):
                slow.setdefault(value, []).append(group.name)
    everywhere = [value for value in across.values if value in slow and len(set(slow[value])) == len(found)]
    if everywhere:
        tried = values_of([cell for group in found for cell in group.ranking.cells], across)
        verb = "is"
        if len(everywhere) > 1:
            verb = "are"
        yield f"{said(everywhere, tried, across)} {verb} behind after the same epochs: too large a rate is slow too."
