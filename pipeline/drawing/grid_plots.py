"""Draw results over two knobs, usually rates and hidden sizes: a line for each size, or a heat map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.drawing.axes import SMALL, Line, label_ends, linear_places, value_axis
from pipeline.drawing.colours import FAINT, INK, NEUTRAL, axis_colours
from pipeline.drawing.plot_data import (
    LARGEST,
    LOG_LARGEST,
    Axis,
    Curve,
    Floats,
    ResultGrid,
    drawable,
    drawable_on_log,
    on_log_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The markers of the lines: for the plot, and the same shape as a character for the label.
MARKERS = (("o", "●"), ("s", "■"), ("D", "◆"), ("^", "▲"), ("v", "▼"))
# Smallest and largest value of the cells of a heat map.
Limits = tuple[float, float]


def draw_by_value(ax: Axes, grid: ResultGrid, *, log: bool, others: Sequence[ResultGrid] = ()) -> None:
    """Draw a final value against a knob: a line for each value of the other one, points coloured by their value.

    Args:
        ax: the axes to draw on.
        grid: the values.
        log: whether they are on a logarithmic axis. Zeros are then at the lower edge and labelled 0.
        others: grids in plots next to this one, which get the same limits.
    """
    everything = np.concatenate([one.values.ravel() for one in (grid, *others)])
    finite = everything[np.isfinite(everything)]
    floor = -LARGEST
    ceiling = LARGEST
    if log:
        positive = finite[finite > 0]
        floor = on_log_axis(min(positive.tolist(), default=1.0) / 10)
        ceiling = LOG_LARGEST
    colours = axis_colours(grid.across)
    everywhere = places_of(grid.across)
    lines = []
    for row, label in enumerate(grid.up.labels):
        columns = np.flatnonzero(np.isfinite(grid.values[row]))
        values = grid.values[row][columns]
        shown = np.clip(values, floor, ceiling)
        places = everywhere[columns]
        if grid.across.joined:
            ax.plot(places, shown, color=FAINT, linewidth=1.2, linestyle=("-", "--", ":", "-.")[row % 4], zorder=2)
        marker, glyph = MARKERS[row % len(MARKERS)]
        for column, place, height, value in zip(columns, places, shown, values, strict=True):
            ax.plot([place], [height], marker=marker, markersize=6.5, color=colours[column], zorder=3)
            if log and value <= 0:
                ax.annotate("0", (place, height), xytext=(6, 2), textcoords="offset points", fontsize=SMALL)
        lines.append(Line(Curve(np.arange(len(values)), shown, False), f"{glyph} {label}", NEUTRAL))
    if log:
        ax.set_yscale("log")
    if others and len(finite):
        _set_limits(ax, np.clip(finite, floor, ceiling), log)
    value_axis(ax, grid.across)
    _mark_failures(ax, grid)
    if len(lines) > 1:
        label_ends(ax, lines)


def _set_limits(ax: Axes, values: Floats, log: bool) -> None:
    """Set the limits of the y axis to these values, with margins."""
    low = float(values.min())
    high = float(values.max())
    if log:
        ax.set_ylim(low / 1.5, high * 1.5)
    else:
        margin = 0.05 * (high - low) or 0.01
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
    for column, (place, colour) in enumerate(zip(places_of(grid.across), axis_colours(grid.across), strict=True)):
        # Heights of the first and the second label above the edge, points.
        heights = iter((6, 17))
        for name, marker, failed in (("diverged", "x", grid.diverged), ("stalled", "_", grid.stalled)):
            lost = [tick for tick, failed_here in zip(grid.up.ticks, failed[:, column], strict=True) if failed_here]
            if not lost:
                continue
            ax.plot([place], [1], transform=edge, marker=marker, markersize=8, markeredgewidth=2, zorder=4,
                    color=colour, clip_on=False)  # fmt: skip
            text = name
            if len(lost) < len(grid.up.ticks):
                text = f"{name} ({', '.join(lost)})"
            ink = [0.85 * part for part in colour[:3]]
            ax.annotate(text, (place, 1), xycoords=edge, xytext=(0, next(heights)), textcoords="offset points",
                        ha="center", fontsize=SMALL - 0.5, color=ink)  # fmt: skip


def heat_limits(grids: Sequence[ResultGrid]) -> Limits:
    """Return the smallest and the largest value of heat maps that share their colours."""
    finite = np.concatenate([drawable(grid.values[np.isfinite(grid.values)]) for grid in grids])
    # If no value is finite, no cell is coloured, but the colours still need limits.
    return float(min(finite, default=0.1)), float(max(finite, default=1.0))


def draw_heat(ax: Axes, grid: ResultGrid, *, larger_is_better: bool, limits: Limits | None = None) -> None:
    """Draw a heat map with the value printed in each cell. Darker is better.

    Args:
        ax: the axes to draw on.
        grid: the values.
        larger_is_better: whether a larger value is better.
        limits: the values at the ends of the colours; None: the smallest and the largest of the grid.
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
    ax.imshow(np.ma.masked_invalid(shown), cmap=colours, norm=norm, aspect="auto", origin="lower")
    for (row, column), value in np.ndenumerate(grid.values):
        ink = INK
        if math.isfinite(value) and sum(colours(float(norm(shown[row, column])))[:3]) <= 1.5:
            ink = "white"
        text = _cell_text(value, bool(grid.diverged[row, column]), digits)
        ax.text(column, row, text, ha="center", va="center", fontsize=SMALL + 0.5, color=ink)
    ax.set_xticks(range(len(grid.across.ticks)), grid.across.ticks)
    ax.set_yticks(range(len(grid.up.ticks)), grid.up.ticks)
    ax.grid(False)
    ax.set_xlabel(grid.across.title)
    ax.set_ylabel(grid.up.title)


def _cell_text(value: float, diverged: bool, digits: str) -> str:
    """Return the text of a cell of a heat map: its value, and a note if points of the cell diverged."""
    if not math.isfinite(value):
        # Neither a value nor a diverged point: the sweep has no point here.
        return "diverged" if diverged else ""
    text = f"{value:{digits}}"
    if diverged:
        text += "\nsome diverged"
    return text
