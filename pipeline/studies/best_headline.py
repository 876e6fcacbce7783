"""Say in one line which points of a study are best, how good they are, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config.metrics import metric_name
from pipeline.points.point import Point
from pipeline.studies.certainty import COMPLETE, better_where_trained, in_brackets, in_short, unknown
from pipeline.studies.grids import Cell, extreme, told_metric
from pipeline.studies.groups import Group, every, groups, on_what, overall
from pipeline.studies.knobs import Layout
from pipeline.studies.named_values import MOST_CELLS, named_cells, said, values_of
from pipeline.studies.ranking import Ranking, nothing_learned
from pipeline.system.wording import counted, listed

# Maximum number of groups to name; of more, only the best points of all are.
MOST_GROUPS = 6


def best_in_short(points: Sequence[Point], shown: Layout) -> str:
    """Return the best points with the value of the metric: of each group if sentences name these, otherwise of all.

    Example:
        "rates 0.003 and 0.01 cannot be told apart, test accuracy 0.981 ± 0.001 (5 seeds)"
    """
    ranking = overall(points, shown)
    best = ranking.best
    if best is None:
        return "all diverged"
    result = f"{metric_name(ranking.metric)} {best.estimate.number}"
    if nothing_learned(points, ranking.metric, best):
        return f"no point learns: {result} is what a constant answer reaches"
    found = compared_groups(points, shown)
    if not all(group.ranking.known for group in found):
        reason = in_short(unknown([group.ranking for group in found]))
        # Without tests these are all that tie.
        highest = ranking.members
        if ranking.known:
            highest = [best]
        names = named_cells(highest, ranking.tried, shown)
        return f"{extreme(ranking.metric)} {result} at {names} ({reason}){told_there(points, best)}"
    if found and not ranking.better_where_trained:
        return f"{_of_groups(found, shown)}; {_highest(ranking, best, found, shown)}{told_there(points, best)}"
    return f"{_of_all(ranking, best, shown)}{told_there(points, best)}"


def compared_groups(points: Sequence[Point], shown: Layout) -> list[Group]:
    """Return the groups whose best values are named one by one, if there are several."""
    found = groups(points, shown)
    ranking = overall(points, shown)
    if not 1 < len(found) <= MOST_GROUPS or len(values_of(ranking.tried, shown.across)) < 2:
        return []
    return found


def told_there(points: Sequence[Point], best: Cell) -> str:
    """Return the value on test rows of the cell that validation rows chose; empty if others chose it."""
    told = told_metric(points, best.metric)
    if told is None:
        return ""
    return f", {metric_name(told)} there {Cell(best.points, told).estimate.number}"


def _of_all(ranking: Ranking, best: Cell, shown: Layout) -> str:
    """Say which of all cells are best."""
    names = named_cells(ranking.members, ranking.tried, shown)
    result = f"{metric_name(ranking.metric)} {best.estimate.number}"
    brackets = in_brackets(ranking, best)
    if len(ranking.tried) == 1:
        return f"{names}, {result}{brackets}"
    better = better_where_trained(ranking, shown)
    if better:
        first = named_cells([best], ranking.tried, shown)
        return f"{better}; {extreme(ranking.metric)} {result}{COMPLETE}: {first}{brackets}"
    if not ranking.known:
        return f"{extreme(ranking.metric)} {result} at {names} ({in_short(unknown([ranking]))})"
    if len(ranking.members) > 1:
        # Where they are only counted, the best of them is named.
        if len(ranking.members) > MOST_CELLS and names[0].isdigit():
            number = f"{len(ranking.members) - 1} of {counted(len(ranking.tried), 'point')}"
            names = f"{number} cannot be told from the best, {named_cells([best], ranking.tried, shown)}"
        else:
            names += " cannot be told apart"
        return f"{names}, {result}{brackets}"
    return f"best: {names}, {result}{brackets}"


def _of_groups(found: Sequence[Group], shown: Layout) -> str:
    """Say whether a value of the horizontal axis is among the best of every group."""
    across = shown.across
    better = [better_where_trained(group.ranking, shown) for group in found if group.ranking.better_where_trained]
    if better:
        return "; ".join(better)
    sets = [group.values(across) for group in found]
    common = [value for value in sets[0] if all(value in other for other in sets[1:])]
    single = all(len(values) == 1 for values in sets)
    if common and single:
        return f"best: {across.said(common[0])} for {every(shown)}"
    if common:
        verb = "is"
        if len(common) > 1:
            verb = "are"
        tried = values_of([cell for group in found for cell in group.ranking.tried], across)
        return f"{said(common, tried, across)} {verb} among the best for {every(shown)}"
    # With several knobs the names of the groups are long.
    if single and found[0].short != found[0].name:
        names = [found[0].name, *(group.short for group in found[1:])]
        parts = [f"{across.text(values[0])} for {name}" for values, name in zip(sets, names, strict=True)]
        return f"the best {across.name} depends on {on_what(shown)}: {listed(parts)}"
    if any(not set(one) & set(other) for one in sets for other in sets):
        return f"the best {across.name} depends on {on_what(shown)}"
    return f"no {across.name} is among the best for {every(shown)}"


def _highest(ranking: Ranking, best: Cell, found: Sequence[Group], shown: Layout) -> str:
    """Name the cell with the best mean, whose value the sentence on its group gives as well."""
    where = ""
    if any(group.ranking.better_where_trained for group in found):
        where = COMPLETE
    result = f"{metric_name(ranking.metric)}{where} {best.estimate.number}"
    at = named_cells([best], ranking.tried, shown)
    return f"{extreme(ranking.metric)} {result} at {at}{in_brackets(ranking, best)}"
