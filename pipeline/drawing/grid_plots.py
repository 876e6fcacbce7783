"""Draw results over two knobs, usually rates and hidden sizes: a line for each size, or a heat map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.drawing.axes import SMALL, Line, label_ends
from pipeline.drawing.colours import FAINT, INK, NEUTRAL, axis_colours
from pipeline.drawing.plot_data import (
    LARGEST,
    LOG_LARGEST,
    LOG_SMALLEST,
    Axis,
    Curve,
    Floats,
    ResultGrid,
    drawable,
    drawable_on_log,
    log_floor,
    on_log_axis,
)
from pipeline.drawing.scales import linear_places, name_ticks, plain_log_ticks, shortened, value_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.transforms import Transform

# The markers of the lines: for the plot, and the same shape as a character for the label.
MARKERS = (("o", "●"), ("s", "■"), ("D", "◆"), ("^", "▲"), ("v", "▼"))
LINE_STYLES = ("-", "--", ":", "-.")
# The colour of the frame around the best cells of a heat map, seen on its darkest and its palest colour.
FRAME = "#e8552d"
# Height of a line of small text, points.
LINE = 11
# Distance between rows that have bars, points.
BETWEEN_ROWS = 3.5
# Number of ticks of a colour bar.
BAR_TICKS = 5
# Smallest and largest value of the cells of a heat map.
Limits = tuple[float, float]


def draw_by_value(ax: Axes, grid: ResultGrid, *, log: bool, others: Sequence[ResultGrid] = ()) -> None:
    """Draw a final value against a knob: a line for each value of the other one, points coloured by their value.

    Where there are several seeds, a bar through a point is the interval of its mean. The best points have a black edge.

    Args:
        ax: the axes to draw on.
        grid: the values.
        log: whether they are on a logarithmic axis. Zeros are then at the lower edge and labelled 0.
        others: grids in plots next to this one, which get the same limits.
    """
    everything = np.concatenate([part.ravel() for one in (grid, *others) for part in (one.values, one.low, one.high)])
    finite = everything[np.isfinite(everything)]
    floor = -LARGEST
    ceiling = LARGEST
    if log:
        floor = log_floor(finite)
        ceiling = LOG_LARGEST
    lines = []
    for row, label in enumerate(grid.up.labels):
        shown = _draw_row(ax, grid, row, (floor, ceiling), log)
        _, glyph = MARKERS[row % len(MARKERS)]
        lines.append(Line(Curve(np.arange(len(shown)), shown, False), f"{glyph} {label}", NEUTRAL))
    if log:
        ax.set_yscale("log")
    if len(finite):
        _set_limits(ax, np.clip(finite, floor, ceiling), log)
    if log:
        plain_log_ticks(ax)
    value_axis(ax, grid.across)
    _mark_failures(ax, grid)
    if len(lines) > 1:
        label_ends(ax, lines)


def _draw_row(ax: Axes, grid: ResultGrid, row: int, limits: Limits, log: bool) -> Floats:
    """Draw the values of one row within limits, and return them, those that are NaN left out."""
    from matplotlib.colors import to_rgba

    columns = np.flatnonzero(np.isfinite(grid.values[row]))
    values = grid.values[row][columns]
    shown: Floats = np.clip(values, *limits)
    places = places_of(grid.across)[columns]
    colours = axis_colours(grid.across)
    beside = _beside(ax, grid, row)
    lowest = limits[0]
    if log:
        lowest = LOG_SMALLEST
    if grid.across.joined:
        ax.plot(places, shown, color=FAINT, linewidth=1.2, linestyle=LINE_STYLES[row % len(LINE_STYLES)], zorder=2,
                transform=beside)  # fmt: skip
    marker, _ = MARKERS[row % len(MARKERS)]
    for column, place, height, value in zip(columns, places, shown, values, strict=True):
        colour = colours[column]
        # An end at 0 is not on a logarithmic axis: the bar leaves it at the lower edge.
        low, high = np.clip((grid.low[row, column], grid.high[row, column]), lowest, limits[1])
        # NaN with one seed.
        if low < high:
            ax.plot([place, place], [low, high], color=colour, linewidth=1.6, marker="_", markersize=6, zorder=3,
                    transform=beside)  # fmt: skip
        size, edge, width = (6.5, colour, 1.0)
        if grid.best[row, column]:
            size, edge, width = (8.5, to_rgba(INK), 1.8)
        ax.plot([place], [height], marker=marker, markersize=size, color=colour, markeredgecolor=edge,
                markeredgewidth=width, zorder=4, transform=beside)  # fmt: skip
        if log and value < limits[0]:
            ax.annotate(f"{value:.1g}", (place, height), xytext=(6, 2), textcoords="offset points", fontsize=SMALL)
    return shown


def _beside(ax: Axes, grid: ResultGrid, row: int) -> Transform:
    """Return where a row is drawn: where rows have bars, a little beside the others, so that the bars can be seen."""
    from matplotlib.transforms import ScaledTranslation

    figure = ax.get_figure(root=True)
    if figure is None or not np.isfinite(grid.low).any():
        return ax.transData
    points = BETWEEN_ROWS * (row - (len(grid.up.ticks) - 1) / 2)
    return ax.transData + ScaledTranslation(points / 72, 0, figure.dpi_scale_trans)


def _set_limits(ax: Axes, values: Floats, log: bool) -> None:
    """Set the limits of the y axis to these values, with margins."""
    low = float(values.min())
    high = float(values.max())
    if log:
        margin = max(1.5, (high / low) ** 0.06)
        ax.set_ylim(low / margin, high * margin)
    else:
        margin = 0.05 * (high - low) or 0.01 * max(abs(high), 1.0)
        ax.set_ylim(low - margin, high + margin)


def places_of(axis: Axis) -> Floats:
    """Return where the values of an axis are drawn."""
    if axis.logarithmic:
        return drawable_on_log(np.array(axis.numbers))
    return np.array(linear_places(axis))


def _mark_failures(ax: Axes, grid: ResultGrid) -> None:
    """Mark on the upper edge where training diverged (cross) or stalled (bar), with the values of the other knob."""
    # x is a value, y a share of the height of the axes.
    edge = ax.get_xaxis_transform()
    places = places_of(grid.across)
    colours = axis_colours(grid.across)
    above = 6
    for name, marker, failed in (("diverged", "x", grid.diverged), ("stalled", "_", grid.stalled)):
        columns = [int(column) for column in np.flatnonzero(failed.any(axis=0))]
        for column in columns:
            ax.plot([places[column]], [1], transform=edge, marker=marker, markersize=8, markeredgewidth=2, zorder=4,
                    color=colours[column], clip_on=False)  # fmt: skip
        # Neighbours that say the same have one label, which would not fit twice.
        labels = [_failed(name, grid, failed, column) for column in columns]
        runs = [
            [column for column, _ in run] for _, run in groupby(zip(columns, labels, strict=True), key=itemgetter(1))
        ]
        highest = 0
        for number, run in enumerate(runs):
            middle = run[len(run) // 2]
            ink = [0.85 * part for part in colours[middle][:3]]
            # Labels next to each other are at different heights, and those at the left are above the name of the axes.
            raised = number % 2 + int(middle < 0.6 * len(places))
            highest = max(highest, raised + 1)
            ax.annotate(_failed(name, grid, failed, middle), (places[middle], 1), xycoords=edge,
                        xytext=(0, above + LINE * raised), textcoords="offset points", ha="center",
                        fontsize=SMALL - 0.5, color=ink)  # fmt: skip
        # The labels of what stalled are above those of what diverged.
        above += LINE * highest


def _failed(name: str, grid: ResultGrid, failed: NDArray[np.bool_], column: int) -> str:
    """Return the label of a column in which some cells failed."""
    lost = [tick for tick, there in zip(grid.up.ticks, failed[:, column], strict=True) if there]
    # Where there is a value, other seeds did not fail.
    if name == "diverged" and np.isfinite(grid.values[:, column][failed[:, column]]).all():
        name = "some seeds diverged"
    if len(lost) < len(grid.up.ticks):
        return f"{name} ({', '.join(lost)})"
    return name


def heat_limits(grids: Sequence[ResultGrid]) -> Limits:
    """Return the smallest and the largest value of heat maps that share their colours."""
    finite = np.concatenate([drawable(grid.values[np.isfinite(grid.values)]) for grid in grids])
    # If no value is finite, no cell is coloured, but the colours still need limits.
    return float(min(finite, default=0.1)), float(max(finite, default=1.0))


def draw_heat(
    ax: Axes, grid: ResultGrid, *, larger_is_better: bool, limits: Limits | None = None, bar: str | None = None
) -> None:
    """Draw a heat map with the value printed in each cell, and a frame around the best cells. Darker is better.

    Args:
        ax: the axes to draw on.
        grid: the values.
        larger_is_better: whether a larger value is better.
        limits: the values at the ends of the colours; None: the smallest and the largest of the grid.
        bar: what a colour bar to the right is labelled with; None: no colour bar.
    """
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm, Normalize

    shown = drawable(grid.values)
    low, high = limits or heat_limits([grid])
    norm = Normalize(low, high)
    colours = colormaps["cividis_r"]
    digits = ".4f"
    if not larger_is_better:
        colours = colormaps["cividis"]
        digits = ".3g"
        # Losses and errors span decades.
        if low > 0:
            norm = LogNorm(on_log_axis(low), on_log_axis(high))
    image = ax.imshow(np.ma.masked_invalid(shown), cmap=colours, norm=norm, aspect="auto", origin="lower")
    for (row, column), value in np.ndenumerate(grid.values):
        ink = INK
        if math.isfinite(value) and sum(colours(float(norm(shown[row, column])))[:3]) <= 1.5:
            ink = "white"
        text = grid.texts.get((row, column)) or _cell_text(value, bool(grid.diverged[row, column]), digits)
        ax.text(column, row, text, ha="center", va="center", fontsize=SMALL + 0.5, color=ink)
        if grid.best[row, column]:
            _frame(ax, column, row)
    name_ticks(ax, range(len(grid.across.ticks)), grid.across.ticks)
    ax.set_yticks(range(len(grid.up.ticks)), [shortened(tick) for tick in grid.up.ticks])
    ax.grid(False)
    ax.set_xlabel(grid.across.title)
    ax.set_ylabel(grid.up.title)
    # Equal values have no scale.
    if bar is not None and low < high:
        ticks = [float(tick) for tick in norm.inverse(np.linspace(0, 1, BAR_TICKS))]
        draw_bar(ax, image, ticks, bar)


def _frame(ax: Axes, column: int, row: int) -> None:
    """Draw a frame inside a cell."""
    from matplotlib.patches import Rectangle

    inset = 0.04
    size = 1 - 2 * inset
    ax.add_patch(Rectangle((column - 0.5 + inset, row - 0.5 + inset), size, size, fill=False, edgecolor=FRAME,
                           linewidth=2.4))  # fmt: skip


def draw_bar(ax: Axes, image: ScalarMappable, ticks: Sequence[float], label: str) -> None:
    """Draw a colour bar to the right of a heat map, with these ticks.

    Matplotlib would place other ticks once the layout is known, and their labels might not fit.
    """
    figure = ax.get_figure(root=True)
    if figure is None:
        return
    # Inset axes are part of the axes for layout purposes, so there is room for the bar.
    bar = figure.colorbar(image, cax=ax.inset_axes((1.03, 0.0, 0.035, 1.0)))
    bar.set_ticks(ticks, labels=[f"{tick:.3g}" for tick in ticks])
    bar.ax.tick_params(labelsize=SMALL)
    bar.ax.minorticks_off()
    bar.set_label(label, fontsize=SMALL)


def _cell_text(value: float, diverged: bool, digits: str) -> str:
    """Return the text of a cell of a heat map: its value, and a note if points of the cell diverged."""
    if not math.isfinite(value):
        # Neither a value nor a diverged point: the sweep has no point here.
        return "diverged" if diverged else ""
    text = f"{value:{digits}}"
    if diverged:
        text += "\nsome diverged"
    return text
