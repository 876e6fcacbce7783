"""Draw results over rates and hidden sizes: a line for each size, or a heat map."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pipeline.drawing.axes import FAINT, INK, SMALL, Line, label_ends, rate_axis, rate_colour
from pipeline.drawing.plot_data import LARGEST, LOG_LARGEST, Curve, ResultGrid, drawable, drawable_on_log, on_log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The markers of hidden sizes: for the plot, and the same shape as a character for the label.
SIZE_MARKERS = (("o", "●"), ("s", "■"), ("D", "◆"), ("^", "▲"), ("v", "▼"))


def draw_by_rate(ax: Axes, grid: ResultGrid, *, log: bool) -> None:
    """Draw a final value against the rate: a line for each hidden size, points in the colour of their rate.

    On a logarithmic axis zeros are at the lower edge and labelled 0.
    """
    floor = -LARGEST
    ceiling = LARGEST
    if log:
        positive = grid.values[np.isfinite(grid.values) & (grid.values > 0)]
        floor = on_log_axis(min(positive.tolist(), default=1.0) / 10)
        ceiling = LOG_LARGEST
    lines = []
    for row, size in enumerate(grid.sizes):
        finite = np.isfinite(grid.values[row])
        rates = np.array(grid.rates)[finite]
        values = grid.values[row][finite]
        shown = np.clip(values, floor, ceiling)
        places = drawable_on_log(rates)
        ax.plot(places, shown, color=FAINT, linewidth=1.2, linestyle=("-", "--", ":", "-.")[row % 4], zorder=2)
        marker, glyph = SIZE_MARKERS[row % len(SIZE_MARKERS)]
        for rate, place, height, value in zip(rates, places, shown, values, strict=True):
            ax.plot([place], [height], marker=marker, markersize=6.5, color=rate_colour(rate), zorder=3)
            if log and value <= 0:
                ax.annotate("0", (place, height), xytext=(6, 2), textcoords="offset points", fontsize=SMALL)
        name = f"{glyph} hidden {size}"
        if size is None:
            name = f"{glyph} no hidden layer"
        lines.append(Line(Curve(np.arange(len(values)), shown, False), name, (0.3, 0.3, 0.3, 1.0)))
    if log:
        ax.set_yscale("log")
    rate_axis(ax, grid.rates)
    _mark_failures(ax, grid)
    if len(lines) > 1:
        label_ends(ax, lines)


def _mark_failures(ax: Axes, grid: ResultGrid) -> None:
    """Mark on the upper edge the rates at which training diverged (cross) or stalled (bar), with the hidden sizes."""
    # x is a rate, y a share of the height of the axes.
    edge = ax.get_xaxis_transform()
    for column, rate in enumerate(grid.rates):
        place = on_log_axis(rate)
        # Heights of the first and the second label above the edge, points.
        heights = iter((6, 17))
        for name, marker, failed in (("diverged", "x", grid.diverged), ("stalled", "_", grid.stalled)):
            sizes = [str(size) for size, lost in zip(grid.sizes, failed[:, column], strict=True) if lost]
            if not sizes:
                continue
            ax.plot([place], [1], transform=edge, marker=marker, markersize=8, markeredgewidth=2, zorder=4,
                    color=rate_colour(rate), clip_on=False)  # fmt: skip
            text = name
            if len(sizes) < len(grid.sizes):
                text = f"{name} ({', '.join(sizes)})"
            ink = [0.85 * part for part in rate_colour(rate)[:3]]
            ax.annotate(text, (place, 1), xycoords=edge, xytext=(0, next(heights)), textcoords="offset points",
                        ha="center", fontsize=SMALL - 0.5, color=ink)  # fmt: skip


def draw_heat(ax: Axes, grid: ResultGrid, metric: str) -> None:
    """Draw a heat map: rates across, hidden sizes up, the value printed in each cell. Darker is better."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm, Normalize

    accuracy = metric.endswith("accuracy")
    shown = drawable(grid.values)
    finite = shown[np.isfinite(shown)]
    # If no value is finite, no cell is coloured, but the norm still needs limits.
    low = float(min(finite, default=0.1))
    high = float(max(finite, default=1.0))
    norm = Normalize(low, high)
    colours = colormaps["cividis_r"]
    digits = ".4f"
    if not accuracy:
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
    ax.set_xticks(range(len(grid.rates)), [f"{rate:g}" for rate in grid.rates])
    ax.set_yticks(range(len(grid.sizes)), [str(size or "none") for size in grid.sizes])
    ax.grid(False)
    ax.set_xlabel("learning rate")
    ax.set_ylabel("hidden size")


def _cell_text(value: float, diverged: bool, digits: str) -> str:
    """Return the text of a cell of a heat map: its value, and a note if points of the cell diverged."""
    if not math.isfinite(value):
        # Neither a value nor a diverged point: the sweep has no point here.
        return "diverged" if diverged else ""
    text = f"{value:{digits}}"
    if diverged:
        text += "\nsome diverged"
    return text
