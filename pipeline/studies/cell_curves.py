"""Draw a metric over the epochs: a line for each point, or the mean over its seeds with a band."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.config.metrics import larger_is_better
from pipeline.drawing.axes import Line, draw_lines, epoch_axis, label_ends
from pipeline.drawing.colours import NEUTRAL, Colour, axis_colours
from pipeline.drawing.plot_data import Curve
from pipeline.points.point import Point
from pipeline.studies.grids import Cell, cells
from pipeline.studies.knobs import SEED, Knob, Layout
from pipeline.studies.network_figures import curve
from pipeline.studies.result_grids import axis
from pipeline.studies.statistics.bands import mean_band
from pipeline.studies.statistics.intervals import plus_minus

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_curves(ax: Axes, points: Sequence[Point], metric: str, shown: Layout) -> None:
    """Draw one metric of several points over the epochs, coloured by the horizontal axis of the layout.

    Labels of accuracies have the last value. If cells share a colour, only the first of them has a label. If nothing
    but the seed varies, each seed has a line, and the mean is among them.
    """
    knob = coloured_by(shown)
    lines = list(_lines_of_cells(points, metric, shown, knob))
    labelled = [line for index, line in enumerate(lines) if line.colour not in [one.colour for one in lines[:index]]]
    if knob.key == SEED:
        lines = [*_lines_of_seeds(points, metric, knob), *(line._replace(colour=NEUTRAL) for line in lines)]
        labelled = lines
    accuracy = larger_is_better(metric)
    draw_lines(ax, lines, log=not accuracy, score=accuracy)
    epochs = max((point.history.epochs for point in points), default=1)
    epoch_axis(ax, epochs, any(point.config.training.batch_size is None for point in points))
    label_ends(ax, labelled)


def coloured_by(shown: Layout) -> Knob:
    """Return the knob whose values colour curves: the horizontal axis, or the seed if nothing else varies."""
    if not shown.knobs and len(shown.seeds) > 1:
        return Knob(SEED, shown.seeds)
    return shown.across


def _lines_of_cells(points: Sequence[Point], metric: str, shown: Layout, knob: Knob) -> Iterator[Line]:
    """Yield a line for each cell."""
    colours = dict(zip(knob.values, axis_colours(axis(knob)), strict=True))
    for cell in cells(points, shown, metric):
        value = knob.of(cell.points[0])
        label = "mean" if knob.key == SEED else knob.text(value)
        yield _cell_line(cell, label, colours[value])


def _lines_of_seeds(points: Sequence[Point], metric: str, knob: Knob) -> Iterator[Line]:
    """Yield a line for each point of a single cell."""
    for point, colour in zip(points, axis_colours(axis(Knob(SEED, tuple(map(knob.of, points))))), strict=True):
        yield _cell_line(Cell((point,), metric), knob.text(knob.of(point)), colour)


def _cell_line(cell: Cell, label: str, colour: Colour) -> Line:
    """Return the curve of a cell: of several seeds the mean of those that trained, with a band."""
    metric = cell.metric
    all_lines = [curve(point, metric) for point in cell.points]
    trained = [line for line in all_lines if not line.diverged and len(line.steps)]
    if len(cell.points) == 1 or not trained:
        line = max(all_lines, key=lambda one: len(one.steps))
        return Line(line, _with_last(label, line, metric), colour)
    band = mean_band([(line.steps, line.values) for line in trained], metric)
    line = Curve(band.epochs, band.mean, False)
    edges = None
    if len(trained) > 1:
        edges = (band.low, band.high)
    if larger_is_better(metric):
        label += f": {_number(cell)}"
    if len(trained) < len(cell.points):
        label += f" ({len(trained)} of {len(cell.points)} trained)"
    return Line(line, label, colour, band=edges)


def _number(cell: Cell) -> str:
    """Return the mean of the last values, and half the width of its interval if that is known."""
    found = cell.estimate
    if found.half_width is None:
        return f"{found.mean:.3f}"
    return plus_minus(found.mean, found.half_width)


def _with_last(label: str, line: Curve, metric: str) -> str:
    """Return a label with the last value, if that is an accuracy or the like."""
    if not larger_is_better(metric) or not len(line.steps):
        return label
    return f"{label}: {line.values[-1]:.3f}"
