"""Group the cells of a study by the values of the vertical axis and of the panels, each with its best cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from pipeline.points.point import Point
from pipeline.studies.grids import Cell, by_backend, cell_metric, cells
from pipeline.studies.knobs import Knob, Layout, layout
from pipeline.studies.named_values import values_of
from pipeline.studies.ranking import Ranking, rank
from pipeline.system.wording import listed


@dataclass(frozen=True)
class Group:
    """The cells that differ in the value of the horizontal axis and of knobs without an axis; at least one trained.

    Attributes:
        name: what they share, for instance `hidden size 32`; empty if that is the same for all points.
        short: the same without the name of the knob, if it is only one: `32`.
        ranking: its cells, and which of them are best.
        best: the cell with the best mean.
    """

    name: str
    short: str
    ranking: Ranking
    best: Cell

    def values(self, across: Knob) -> list[Any]:
        """Return the values of the horizontal axis that are among the best."""
        return values_of(self.ranking.members, across)

    def tried(self, across: Knob) -> list[Any]:
        """Return all values of the horizontal axis."""
        return values_of(self.ranking.tried, across)


def groups(points: Sequence[Point], shown: Layout) -> list[Group]:
    """Return a group for each value of the vertical axis and of the panels at which a point trained."""
    metric = cell_metric(points)
    shared = shared_knobs(shown)
    by_values: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in cells(points, shown, metric):
        by_values.setdefault(tuple(knob.of(cell.points[0]) for knob in shared), []).append(cell)
    found = []
    for values in product(*(knob.values for knob in shared)):
        ranking = rank(by_values.get(values, []), metric)
        if ranking.best is not None:
            name = " and ".join(knob.said(value) for knob, value in zip(shared, values, strict=True))
            found.append(Group(name, _short(shared, values) or name, ranking, ranking.best))
    return found


def _short(knobs: Sequence[Knob], values: Sequence[Any]) -> str:
    """Return the value of the only knob; empty if there are several, or if its value is null, which has a name."""
    if len(knobs) != 1 or values[0] is None:
        return ""
    return knobs[0].text(values[0])


def shared_knobs(shown: Layout) -> list[Knob]:
    """Return the knobs for whose values the best ones are looked for separately."""
    return [knob for knob in (shown.panels, shown.up) if knob is not None and len(knob.values) > 1]


def every(shown: Layout) -> str:
    """Name each group: `every hidden size`, `every value of momentum`."""
    names = [knob.name for knob in shared_knobs(shown)]
    if names == ["hidden size"]:
        return "every hidden size"
    return f"every value of {listed(names)}"


def on_what(shown: Layout) -> str:
    """Name what the groups differ in: `the hidden size`, `momentum`."""
    return listed([knob.name for knob in shared_knobs(shown)]).replace("hidden size", "the hidden size")


def overall(points: Sequence[Point], shown: Layout) -> Ranking:
    """Compare all cells of a study."""
    metric = cell_metric(points)
    return rank(cells(points, shown, metric), metric)


def best_points(points: Sequence[Point]) -> Sequence[Point]:
    """Return the best network of each backend, as its seeds; none of a backend on which all diverged."""
    found: list[Point] = []
    for networks in by_backend([point for point in points if point.config.kind == "network"]).values():
        best = overall(networks, layout(networks)).best
        if best is not None:
            found += best.points
    return found


def numbers(found: Sequence[Group]) -> str:
    """List the best mean of each group: `0.959 ± 0.002 for hidden size 32 and 0.975 ± 0.001 for 128`."""
    numbers = [group.best.estimate.number for group in found]
    if len(found) == 1:
        return numbers[0]
    names = [found[0].name, *(group.short for group in found[1:])]
    return listed([f"{number} for {name}" for number, name in zip(numbers, names, strict=True)])
