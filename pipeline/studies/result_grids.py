"""Arrange the results of a sweep over its axes for a figure: means and intervals over seeds, and which are best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.config.metrics import larger_is_better
from pipeline.drawing.plot_data import Axis, Floats, ResultGrid
from pipeline.points.point import Point
from pipeline.studies.grids import Cell, best_cell, cell_metric, cells, profile
from pipeline.studies.knobs import NO_KNOB, RATE, SIZE, Knob, Layout
from pipeline.studies.ranking import random, rank
from pipeline.studies.statistics.intervals import Estimate

# Maximum number of letters of a mean in a cell.
WIDEST = 7
# Row and column of a cell.
Place = tuple[int, int]


def axis(knob: Knob) -> Axis:
    """Return a knob as it is written and placed in a figure."""
    labels = [knob.said(value) for value in knob.values]
    if knob.key == SIZE:
        # Short: the labels of lines are beside the axes.
        labels = [label.replace("hidden size", "hidden") for label in labels]
    numbers = [float(rank) for rank in range(len(knob.values))]
    if knob.numeric and None not in knob.values:
        numbers = [float(value) for value in knob.values]
    return Axis(
        title=knob.title,
        ticks=[knob.text(value) for value in knob.values],
        labels=labels,
        numbers=numbers,
        logarithmic=knob.logarithmic,
        rates=knob.key == RATE,
        joined=knob.numeric,
    )


def result_grid(points: Sequence[Point], shown: Layout, metric: str) -> ResultGrid:
    """Arrange the final values of a metric over the two axes of a layout.

    Diverged points have no final value. Of points that differ in the seed it is their mean; of those that differ in
    further knobs, it is the best. The best cells of each row are marked if the metric is the one that judges points.
    """
    by_place: dict[Place, list[Cell]] = {}
    for cell in cells(points, shown, metric):
        row, column = (knob.values.index(knob.of(cell.points[0])) for knob in (shown.up, shown.across))
        by_place.setdefault((row, column), []).append(cell)
    shape = (len(shown.up.values), len(shown.across.values))
    grid = _with_values({place: best_cell(found, metric) for place, found in by_place.items()}, shape)
    for place, found in by_place.items():
        shared = [point for cell in found for point in cell.points]
        best = best_cell(found, metric)
        if best is not None:
            shared = list(best.points)
        grid.diverged[place] = any(point.diverged for point in shared)
        grid.stalled[place] = any(point.diagnosis.verdict == "stalled" for point in shared)
    if points and metric == cell_metric(points):
        _mark_best(grid.best, by_place, metric)
    return ResultGrid(axis(shown.across), axis(shown.up), *grid)


def profile_grid(points: Sequence[Point], shown: Layout, knob: Knob, metric: str) -> ResultGrid:
    """Arrange the best results at each value of a knob, over all other knobs, in a single row."""
    best = profile(points, shown, knob, metric)
    grid = _with_values({(0, column): cell for column, cell in enumerate(best)}, (1, len(best)))
    grid.diverged[0] = [cell is None for cell in best]
    _mark_best(grid.best, {(0, column): [cell] for column, cell in enumerate(best) if cell is not None}, metric)
    return ResultGrid(axis(knob), axis(NO_KNOB), *grid)


class _Arrays(NamedTuple):
    """The fields of a `ResultGrid` besides its axes, in their order."""

    values: Floats
    low: Floats
    high: Floats
    texts: dict[Place, str]
    best: NDArray[np.bool_]
    diverged: NDArray[np.bool_]
    stalled: NDArray[np.bool_]


def _with_values(found: Mapping[Place, Cell | None], shape: Place) -> _Arrays:
    """Return arrays with the means and intervals of cells; nothing is marked in them."""
    values, low, high = np.full((3, *shape), np.nan)
    best, diverged, stalled = np.zeros((3, *shape), dtype=np.bool_)
    texts = {}
    for place, cell in found.items():
        if cell is None:
            continue
        estimate = cell.estimate
        values[place] = estimate.mean
        if estimate.interval is not None:
            low[place], high[place] = estimate.interval
        if estimate.asked > 1:
            texts[place] = _in_two_lines(estimate)
    return _Arrays(values, low, high, texts, best, diverged, stalled)


def _in_two_lines(found: Estimate) -> str:
    """Return the text of an estimate for a narrow cell."""
    if " ± " not in found.text:
        return found.text.replace(" (", "\n(")
    mean, _, rest = found.text.partition(" ± ")
    if found.half_width is not None and len(mean) > WIDEST:
        # An interval this narrow would ask for more digits than have room.
        mean = f"{found.mean:.4g}"
        rest = f"{found.half_width:.1g} {rest[rest.index('(') :]}"
    return f"{mean}\n± {rest}"


def _mark_best(best: NDArray[np.bool_], by_place: Mapping[Place, Sequence[Cell]], metric: str) -> None:
    """Mark the cells of each row that cannot be told from the best of the row."""
    for row in {row for row, _ in by_place}:
        places = {id(cell): place for place, found in by_place.items() if place[0] == row for cell in found}
        members = [cell for place, found in by_place.items() if place[0] == row for cell in found]
        # A single result is not the best of several.
        if len(members) > 1:
            ranking = rank(members, metric)
            # Where a cell that has lost a seed looks better, nothing is the best.
            if not ranking.better_where_trained:
                for cell in ranking.members:
                    best[places[id(cell)]] = True


def joined(*notes: str) -> str:
    """Return the notes of a figure as one, those that are empty left out."""
    return "; ".join(note for note in notes if note)


def cell_note(points: Sequence[Point], shown: Layout) -> str:
    """Say which points share a cell of a figure: `best over momentum; mean and 95 % interval of 2 seeds`."""
    best = ""
    if shown.further:
        best = f"best over {' and '.join(knob.name for knob in shown.further)}"
    return joined(best, seeds_note(points, shown))


def seeds_note(points: Sequence[Point], shown: Layout) -> str:
    """Say what of several seeds is drawn, or that the noise between seeds is unknown; nothing if there is none."""
    counts = [len(cell.points) for cell in cells(points, shown, cell_metric(points))]
    most = max(counts, default=1)
    if most > 1 and len(shown.seeds) > 1:
        number = f"{most}" if min(counts) == most else f"up to {most}"
        return f"mean and 95 % interval of {number} seeds"
    if most > 1:
        return "mean if points share a cell"
    if any(random(point.config) for point in points):
        return "one seed: noise unknown"
    return ""


def best_note(points: Sequence[Point], shown: Layout, mark: str, of_rows: bool = True) -> str:
    """Say what the mark of the best cells means, for instance a frame; nothing if there is a single cell.

    Args:
        points: those of the figure.
        shown: its layout.
        mark: how the best cells are marked.
        of_rows: whether they are the best of each value of the vertical axis.
    """
    metric = cell_metric(points)
    found = cells(points, shown, metric)
    if len(found) < 2:
        return ""
    rows: dict[Any, list[Cell]] = {}
    for cell in found:
        row = shown.up.of(cell.points[0]) if of_rows else None
        rows.setdefault(row, []).append(cell)
    tested = {rank(members, metric).found.tested for members in rows.values() if len(members) > 1}
    of_row = ""
    if of_rows and len(shown.up.values) > 1:
        of_row = f" with each {shown.up.name}"
        if shown.up.key != SIZE:
            of_row = f" with each value of {shown.up.name}"
    if tested == {True}:
        return f"{mark}: cannot be told from the best{of_row}"
    extreme = "highest" if larger_is_better(metric) else "lowest"
    if True in tested:
        return f"{mark}: cannot be told from the best{of_row}; where seeds are missing, the {extreme}"
    return f"{mark}: the {extreme}{of_row}"
