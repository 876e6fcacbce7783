"""Say which values of the horizontal axis are best, for each value of the vertical one, and how sure that is.

"Best" is a set: all values that cannot be told from the best mean by paired tests over seeds. With one seed there are
no tests: the lowest or the highest value is named, and that the noise is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pipeline.config.metrics import last_part, metric_name
from pipeline.points.point import Point
from pipeline.studies.best_headline import MOST_GROUPS, best_in_short, compared_groups, told_there
from pipeline.studies.certainty import COMPLETE, better_where_trained, seeds_of, unknown
from pipeline.studies.grids import Cell, extreme, told_metric
from pipeline.studies.groups import Group, every, groups, numbers, on_what, overall
from pipeline.studies.knobs import NO_KNOB, Knob, Layout
from pipeline.studies.named_values import plural, said, span, values_of
from pipeline.studies.ranking import nothing_learned
from pipeline.studies.statistics.intervals import Estimate, plus_minus
from pipeline.system.wording import listed

PERCENTAGE_POINTS = " percentage points"


def best_sentences(points: Sequence[Point], shown: Layout) -> Iterator[str]:
    """Yield the best values of the horizontal axis for each group, and whether they depend on the group."""
    ranking = overall(points, shown)
    metric = ranking.metric
    if ranking.best is None:
        yield "no point trained to the end."
        return
    if nothing_learned(points, metric, ranking.best):
        value = ranking.best.estimate.number
        yield f"no point learns: the best {metric_name(metric)}, {value}, is what a constant answer reaches."
        return
    found = groups(points, shown)
    if len(values_of(ranking.tried, shown.across)) < 2 or len(found) > MOST_GROUPS:
        there = told_there(points, ranking.best).removeprefix(", ")
        if shown.knobs:
            yield f"{best_in_short(points, shown)}."
        elif there:
            yield f"{there}."
        return
    yield from _of_groups(found, shown)
    told = told_metric(points, metric)
    if told is not None:
        yield f"{metric_name(told)} there: {_told(found, told)}."


def _of_groups(found: Sequence[Group], shown: Layout) -> Iterator[str]:
    across = shown.across
    if not all(group.ranking.known for group in found):
        yield f"{_lowest(found, shown)} ({unknown([group.ranking for group in found])})."
        return
    sets = [group.values(across) for group in found]
    complete = not any(group.ranking.better_where_trained for group in found)
    if complete and len(found) > 1 and all(values == sets[0] for values in sets):
        yield _same(found, shown)
        return
    if len(found) == 1:
        yield _one(found[0], shown)
        return
    # `group_sentences` has the values, and by how much others are worse.
    names = [found[0].name, *(group.short for group in found[1:])]
    spans = [span(values, group.tried(across), across) for values, group in zip(sets, found, strict=True)]
    parts = [f"{values} for {name}" for values, name in zip(spans, names, strict=True)]
    where = ""
    if not complete:
        where = COMPLETE
    parts[-1] += f" ({seeds_of(found)})"
    listing = "; ".join([*parts, *_better(found, shown), *_edges(found, across)])
    yield f"the {plural(across)} that cannot be told from the best{where}: {listing}."
    if complete:
        yield _relation(sets, shown)


def group_sentences(points: Sequence[Point], shown: Layout) -> list[str]:
    """Return a sentence on the best values of each of several groups that are known; none where no point learns."""
    ranking = overall(points, shown)
    if ranking.best is None or nothing_learned(points, ranking.metric, ranking.best):
        return []
    return [_one(group, shown) for group in compared_groups(points, shown) if group.ranking.known]


def _one(group: Group, shown: Layout) -> str:
    """Say which values of one group are best, and by how much those beside them are worse."""
    across = shown.across
    names = span(group.values(across), group.tried(across), across)
    further = [said(values_of(group.ranking.members, knob), knob.values, knob) for knob in shown.further]
    if further:
        names += f" with {listed(further)}"
    where = ""
    if group.name:
        where = f"for {group.name}, "
    value = f"{metric_name(group.ranking.metric)} {group.best.estimate.number}"
    if len(group.ranking.members) > 1:
        value += f" at {across.text(across.of(group.best.points[0]))}"
        far = _farthest(group)
        if far is not None:
            value += f", {far.estimate.number} at {across.text(across.of(far.points[0]))}"
        noun = plural(across)
        # With knobs that have no axis, several members may share a value.
        if len(group.values(across)) == 1:
            noun = across.name
        sentence = f"{where}{noun} {names} cannot be told apart ({value}, {seeds_of([group])})"
    elif group.ranking.better_where_trained:
        has = f"has the {extreme(group.ranking.metric)} {value}{COMPLETE}"
        sentence = f"{where}{across.name} {names} {has} ({seeds_of([group])})"
    else:
        sentence = f"{where}the best {across.name} is {names} ({value}, {seeds_of([group])})"
    # The sentence has named the group.
    own = replace(shown, up=NO_KNOB, panels=None)
    return "; ".join([sentence, *_better([group], own), *_worse(group, across), *_edge(group, across)]) + "."


def _better(found: Sequence[Group], shown: Layout) -> list[str]:
    """Name what is better than the best of its group where it trains."""
    return [better_where_trained(group.ranking, shown) for group in found if group.ranking.better_where_trained]


def _farthest(group: Group) -> Cell | None:
    """Return the worst member of a set if it looks worse than the best, and is there only because its seeds differ."""
    interval = group.best.estimate.interval
    worst = max(group.ranking.members, key=lambda cell: abs(cell.value - group.best.value))
    if interval is None or interval[0] <= worst.value <= interval[1]:
        return None
    return worst


def _same(found: Sequence[Group], shown: Layout) -> str:
    """Say that the same values are best in each group."""
    across = shown.across
    values = found[0].values(across)
    names = span(values, found[0].tried(across), across)
    value = f"{metric_name(found[0].ranking.metric)} {numbers(found)}, {seeds_of(found)}"
    if len(values) == 1:
        sentence = f"the best {across.name} is the same for {every(shown)}: {names} ({value})"
    elif len(values) == len(found[0].tried(across)):
        sentence = f"for {every(shown)}, {plural(across)} {names}, which are all, cannot be told apart ({value})"
    else:
        sentence = f"for {every(shown)}, {plural(across)} {names} cannot be told apart ({value})"
    return "; ".join([sentence, *_edges(found, across)]) + "."


def _relation(sets: Sequence[Sequence[Any]], shown: Layout) -> str:
    """Say whether the best values depend on the group, as far as the sets tell."""
    across = shown.across
    common = [value for value in sets[0] if all(value in other for other in sets[1:])]
    names = listed([across.text(value) for value in common] or [""])
    if any(not set(one) & set(other) for one in sets for other in sets):
        return f"the best {across.name} depends on {on_what(shown)}."
    if not common:
        return f"no {across.name} is among the best for {every(shown)}."
    if len(common) == 1:
        return f"one {across.name}, {names}, is among the best for {every(shown)}."
    return f"{plural(across)} {names} are among the best for {every(shown)}."


def _lowest(found: Sequence[Group], shown: Layout) -> str:
    """Name the lowest or the highest value of each group, without calling it the best."""
    across = shown.across
    metric = found[0].ranking.metric
    subject = f"the {extreme(metric)} {metric_name(metric)}"
    if any(group.ranking.better_where_trained for group in found):
        subject += COMPLETE
    if len(found) == 1:
        text = f"{subject} is {found[0].best.estimate.number}, {_at(found[0], shown)}"
        if found[0].name:
            text = f"for {found[0].name}, {text}"
    elif len({_at(group, shown) for group in found}) == 1:
        text = f"for {every(shown)}, {subject} is {_at(found[0], shown)}: {numbers(found)}"
    else:
        parts = [f"{group.best.estimate.number} for {group.name} {_at(group, shown)}" for group in found]
        text = f"{subject} is {'; '.join(parts)}"
    return "; ".join([text, *_better(found, shown), *_edges(found, across)])


def _at(group: Group, shown: Layout) -> str:
    """Return at which values a group has its lowest or highest value; with a tie there are several."""
    members = group.ranking.members
    names = said(group.values(shown.across), group.tried(shown.across), shown.across)
    further = [said(values_of(members, knob), knob.values, knob) for knob in shown.further]
    if further:
        names += f" with {listed(further)}"
    if len(members) > 1:
        names += ", which tie"
    return f"at {names}"


def _worse(group: Group, across: Knob) -> Iterator[str]:
    """Yield by how much the values beside the best ones are worse."""
    members = group.values(across)
    behind: dict[Any, Estimate] = {}
    for cell, worse in group.ranking.behind:
        value = across.of(cell.points[0])
        if value not in members and (value not in behind or worse.mean < behind[value].mean):
            behind[value] = worse
    below = [value for value in across.values if value in behind and value < members[0]]
    above = [value for value in across.values if value in behind and value > members[-1]]
    between = [value for value in across.values if value in behind and members[0] < value < members[-1]]
    near = [*below[-1:], *between, *above[:1]]
    if not near:
        return
    # A share of rows is compared in percentage points.
    unit = ""
    scale = 1
    if last_part(group.ranking.metric).endswith("accuracy"):
        unit = PERCENTAGE_POINTS
        scale = 100
    parts = []
    for value in near:
        by = plus_minus(scale * behind[value].mean, scale * (behind[value].half_width or 0.0))
        parts.append(f"{across.text(value)} by {by}")
    yield f"{listed(parts).replace(' by ', ' is worse by ', 1)}{unit}"


def _edges(found: Sequence[Group], across: Knob) -> list[str]:
    return list(dict.fromkeys(edge for group in found for edge in _edge(group, across)))


def _edge(group: Group, across: Knob) -> Iterator[str]:
    """Yield that the best value is the smallest or the largest that was tried, so that values beyond may be better."""
    tried = group.tried(across)
    members = group.values(across)
    best = across.of(group.best.points[0])
    # Of two values each is at an edge. If the other end is as good, the grid is too noisy rather than too narrow.
    if len(tried) < 3 or group.ranking.better_where_trained:
        return
    if best == tried[-1] and tried[0] not in members:
        yield f"{across.text(best)} is at the edge of the grid: a larger {across.name} may be better"
    elif best == tried[0] and tried[-1] not in members:
        yield f"{across.text(best)} is at the edge of the grid: a smaller {across.name} may be better"


def _told(found: Sequence[Group], told: str) -> str:
    """Return the value of a metric of test rows at the best point of each group."""
    return numbers([Group(group.name, group.short, group.ranking, Cell(group.best.points, told)) for group in found])
