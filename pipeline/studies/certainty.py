"""Say how sure it is which points are best: the number of seeds, those left out, and why points cannot be compared."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.studies.grids import Cell, best_cell
from pipeline.studies.groups import Group
from pipeline.studies.knobs import Layout
from pipeline.studies.named_values import named_cells
from pipeline.studies.ranking import Ranking
from pipeline.system.wording import counted

ONE_SEED = "one seed: the noise between seeds is unknown, repeats=5 shows it"
SOME_SEEDS = "some points have one seed: the noise between seeds is unknown there, repeats=5 shows it"
FEW_SEEDS = "too few seeds trained to tell the points apart"
# Where a point with the better mean has lost a seed, only those that have all of them are compared.
COMPLETE = " where every seed trains"


def unknown(rankings: Sequence[Ranking]) -> str:
    """Return why the points cannot be told apart by tests."""
    return unknown_of([len(cell.points) for ranking in rankings for cell in ranking.tried])


def unknown_of(seeds: Sequence[int]) -> str:
    """Return why points with these numbers of seeds cannot be told apart."""
    if max(seeds, default=1) == 1:
        return ONE_SEED
    if min(seeds) == 1:
        return SOME_SEEDS
    return FEW_SEEDS


def in_short(reason: str) -> str:
    """Return a reason without its explanation."""
    return reason.partition(":")[0]


def seeds_of(found: Sequence[Group]) -> str:
    """Return the numbers of seeds of the best points, and how many points have too few: `5 seeds`."""
    if all(group.best.estimate.asked == 1 for group in found):
        return "and nothing in the training is random"
    seeds = " or ".join(dict.fromkeys(group.best.estimate.seeds for group in found))
    return f"{seeds} seeds{_left_out([group.ranking for group in found])}"


def in_brackets(ranking: Ranking, best: Cell) -> str:
    """Return the number of seeds of the best cell in brackets, with how many cells have too few; empty for one seed."""
    if best.estimate.asked == 1:
        return ""
    return f" ({best.estimate.seeds} seeds{_left_out([ranking])})"


def _left_out(rankings: Sequence[Ranking]) -> str:
    number = sum(len(ranking.left_out) for ranking in rankings)
    if not number:
        return ""
    return f", {counted(number, 'point')} with one seed left out"


def better_where_trained(ranking: Ranking, shown: Layout) -> str:
    """Name the cells of which a seed diverged and whose others are better than the best; empty if there are none.

    Example:
        "rate 0.01 is better where it trains (0.957 ± 0.021, 2 of 3 seeds)"
    """
    better = ranking.better_where_trained
    if not better:
        return ""
    names = named_cells(better, ranking.tried, shown)
    first = best_cell(better, ranking.metric) or better[0]
    if len(better) == 1:
        return f"{names} is better where it trains ({first.estimate.number}, {first.estimate.seeds} seeds)"
    at = f"{first.estimate.number} at {named_cells([first], ranking.tried, shown)}, {first.estimate.seeds} seeds"
    return f"{names} are better where they train ({at})"
