"""Drawing on one panel: style, palette, curves named at their ends. matplotlib is imported on first use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.drawing.plot_data import Curve, Floats, Grid, log_limits, palette_position, quantile_bands, spread
from pipeline.system.wording import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Figures = Iterable[tuple[str, "Figure"]]
"""Figures, each with its name."""
Colour = tuple[float, float, float, float]

INK, FAINT = "#222222", "#8a8a8a"
TEXT, SMALL = 10, 8.5
DPI = 100
LABEL_GAP_INCHES = 0.16
RATE_COLOURS = ("#12123a", "#1b3399", "#7d42cf", "#c92f8c", "#e84f47", "#ee7c2b", "#e59a14", "#d8cf3a")
"""One colour for each decade of rates. Lightness rises all the way, so that they are ordered in grey and for
colour-blind eyes; the last one can still be seen on white."""
STYLE: dict[Any, Any] = {
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "axes.labelsize": TEXT,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


class Line(NamedTuple):
    """A curve, what it is called at its end, and how it looks."""

    curve: Curve
    label: str
    colour: Colour
    dashed: bool = False


def rate_colour(rate: float) -> Colour:
    """The colour of a learning rate, the same in every plot: dark blue is small, yellow is large."""
    from matplotlib.colors import LinearSegmentedColormap

    red, green, blue, alpha = LinearSegmentedColormap.from_list("rates", RATE_COLOURS)(palette_position(rate))
    return (float(red), float(green), float(blue), float(alpha))


def panels(rows: int, columns: int, title: str, width: float = 4.3, height: float = 3.1) -> tuple[Figure, list[Axes]]:
    """A figure of equal panels, width and height in inches each, row by row."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(width * columns, height * rows + 0.4), dpi=DPI)
        axes = figure.subplots(rows, columns, squeeze=False)
        figure.suptitle(title, x=0.01, ha="left", fontsize=TEXT + 1, color=INK)
    return figure, [panel for row in axes for panel in row]


def epoch_axis(axes: Axes, epochs: int, full_batch: bool) -> None:
    """Epochs from 0: logarithmic beyond 1 for a full batch, where the first steps tell most; else linear."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    if full_batch and epochs > 10:
        axes.set_xscale("symlog", linthresh=1, linscale=0.4)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("iteration")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.set_xlabel("epoch")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlim(0, max(epochs, 1))


def name_panel(axes: Axes, name: str) -> None:
    """Write what a panel shows above its left end."""
    axes.set_title(name, loc="left", y=1, fontsize=TEXT, color=INK)  # a given height need not be looked for


def draw_lines(axes: Axes, lines: Sequence[Line], *, log: bool, most: float = 1e6) -> None:
    """Draw curves; where one ends because it diverged there is a cross.

    Args:
        axes: the panel.
        lines: what to draw; empty ones are passed over.
        log: logarithmic values; zeros are drawn on the lower edge.
        most: how many times its start a value may be before it leaves a logarithmic panel.
    """
    drawn = [line for line in lines if len(line.curve.steps)]
    low, high = log_limits([line.curve for line in drawn], most) if log else (-np.inf, np.inf)
    for curve, _, colour, dashed in drawn:
        axes.plot(curve.steps, np.maximum(curve.values, low), color=colour, linestyle="--" if dashed else "-",
                  linewidth=1.6, marker="o" if len(curve.steps) < 3 else None, markersize=4)  # fmt: skip
    if log:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
    low, high = axes.get_ylim()
    for curve, _, colour, _ in drawn:
        if curve.diverged:
            end = min(max(float(curve.values[-1]), low), high)
            axes.plot([curve.steps[-1]], [end], marker="x", markersize=8, markeredgewidth=2, color=colour,
                      clip_on=False, zorder=5)  # fmt: skip


def label_ends(axes: Axes, lines: Sequence[Line], heading: str = "") -> None:
    """Write each line's name in the right margin at the height where it ends, moved apart where they would collide."""
    from matplotlib.lines import Line2D

    drawn = [line for line in lines if len(line.curve.steps)]
    figure, place = axes.get_figure(root=True), axes.get_subplotspec()
    if figure is None or place is None:
        raise ValueError("labels need a panel that is part of a figure")
    inches = 0.72 * figure.get_size_inches()[1] / place.get_gridspec().nrows
    low, high = axes.get_ylim()
    ends = []
    for line in drawn:
        value = min(max(float(line.curve.values[-1]), low), high)
        pixels = axes.transData.transform((axes.get_xlim()[1], value))
        ends.append(float(axes.transAxes.inverted().transform(pixels)[1]))
    for line, end, moved in zip(drawn, ends, spread(ends, LABEL_GAP_INCHES / inches), strict=True):
        last = float(line.curve.values[-1])
        beyond = f", up to {short(last)}" if last > high else ""
        text = line.label + (", diverged" if line.curve.diverged else beyond)
        axes.add_artist(Line2D([1.0, 1.03], [end, moved], transform=axes.transAxes, color=line.colour, linewidth=0.8,
                               clip_on=False))  # fmt: skip
        axes.text(1.04, moved, text, transform=axes.transAxes, va="center", fontsize=SMALL,
                  color=[0.85 * part for part in line.colour[:3]])  # fmt: skip
    if heading and drawn:
        axes.text(1.04, 1.04, heading, transform=axes.transAxes, va="bottom", fontsize=SMALL, color=FAINT)


def signed_log(axes: Axes) -> None:
    """An axis for drawn values of both signs that explode: linear up to 10, logarithmic beyond."""
    from matplotlib.ticker import SymmetricalLogLocator

    low, high = np.clip(axes.dataLim.intervaly, -1e300, 1e300)  # twice as much must be a number too
    decades = np.log10(max(abs(low), abs(high), 100) / 10)
    axes.set_yscale("symlog", linthresh=10, linscale=max(1.0, decades / 5))
    axes.set_ylim(min(2 * low, -10), max(2 * high, 10))
    locator = SymmetricalLogLocator(base=10, linthresh=10)
    locator.set_params(numticks=7)
    axes.yaxis.set_major_locator(locator)


def draw_bundle(axes: Axes, steps: NDArray[np.int64], values: Floats, colour: Colour) -> None:
    """Many lines of one colour, values (steps, lines), as one artist, which is faster than many."""
    from matplotlib.collections import LineCollection

    if len(steps) < 3:
        axes.plot(steps, values, color=colour, linewidth=1.1, alpha=0.8, marker="o")
        return
    lines = [np.column_stack([steps, line]) for line in values.T]
    axes.add_collection(LineCollection(lines, colors=[colour], linewidths=1.1, alpha=0.8, capstyle="projecting"))
    axes.autoscale_view()  # which matplotlib does by itself from 3.11 on


def draw_bands(axes: Axes, steps: Sequence[float], values: Floats, colour: Colour) -> None:
    """The spread of many weights over the epochs: all of them, 90 %, half of them, and the median."""
    bands = quantile_bands(values)
    for low, high, alpha in ((0, 6, 0.15), (1, 5, 0.25), (2, 4, 0.4)):
        axes.fill_between(steps, bands[low], bands[high], color=colour, alpha=alpha, linewidth=0)
    axes.plot(steps, bands[3], color=colour, linewidth=1.6)


def draw_heat(axes: Axes, grid: Grid, metric: str) -> None:
    """Rates across, hidden sizes up, the value printed in each cell; darker is better."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm, Normalize

    accuracy = metric.endswith("accuracy")
    finite = grid.values[np.isfinite(grid.values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.1, 1.0)
    norm = Normalize(low, high) if accuracy or low <= 0 else LogNorm(low, high)
    colours = colormaps["cividis_r" if accuracy else "cividis"]
    axes.imshow(np.ma.masked_invalid(grid.values), cmap=colours, norm=norm, aspect="auto", origin="lower")
    for (row, column), value in np.ndenumerate(grid.values):
        text = f"{value:.4f}" if accuracy else f"{value:.3g}"
        if not np.isfinite(value):
            text = "diverged" if grid.diverged[row, column] else ""
        elif grid.diverged[row, column]:
            text += "\nsome diverged"
        light = np.isfinite(value) and sum(colours(float(norm(value)))[:3]) > 1.5
        ink = INK if light or not np.isfinite(value) else "white"
        axes.text(column, row, text, ha="center", va="center", fontsize=SMALL + 0.5, color=ink)
    axes.set_xticks(range(len(grid.rates)), [f"{rate:g}" for rate in grid.rates])
    axes.set_yticks(range(len(grid.sizes)), ["none" if size is None else str(size) for size in grid.sizes])
    axes.grid(False)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("hidden size")


def rate_axis(axes: Axes, rates: Sequence[float]) -> None:
    """Learning rates on a logarithmic axis, ticks at the rates themselves."""
    from matplotlib.ticker import NullLocator

    axes.set_xlim(rates[0] / 1.8, rates[-1] * 1.8)  # first: matplotlib finds no limits for a single rate
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    shown = rates[:: max(1, len(rates) // 10)]
    axes.set_xticks(shown, [f"{rate:g}" for rate in shown])
    axes.set_xlabel("learning rate")


SIZE_MARKERS = (("o", "●"), ("s", "■"), ("D", "◆"), ("^", "▲"), ("v", "▼"))
"""Marker of a hidden size in the plot and in its label."""


def draw_by_rate(axes: Axes, grid: Grid, *, log: bool) -> None:
    """A final value against the rate: one line for each hidden size, points in the colour of their rate.

    On a logarithmic axis zeros stand on the lower edge.
    """
    finite = grid.values[np.isfinite(grid.values)]
    positive = finite[finite > 0]
    floor = (float(positive.min()) if len(positive) else 1.0) / 10
    lines = []
    for row, size in enumerate(grid.sizes):
        there = np.isfinite(grid.values[row])
        at, values = np.array(grid.rates)[there], grid.values[row][there]
        shown = np.maximum(values, floor) if log else values
        axes.plot(at, shown, color=FAINT, linewidth=1.2, linestyle=("-", "--", ":", "-.")[row % 4], zorder=2)
        marker, glyph = SIZE_MARKERS[row % len(SIZE_MARKERS)]
        for rate, height, value in zip(at, shown, values, strict=True):
            axes.plot([rate], [height], marker=marker, markersize=6.5, color=rate_colour(rate), zorder=3)
            if log and value <= 0:
                axes.annotate("0", (rate, height), xytext=(6, 2), textcoords="offset points", fontsize=SMALL)
        name = f"{glyph} no hidden layer" if size is None else f"{glyph} hidden {size}"
        lines.append(Line(Curve(np.arange(len(values)), shown, False), name, (0.3, 0.3, 0.3, 1.0)))
    if log:
        axes.set_yscale("log")
    rate_axis(axes, grid.rates)
    _mark_failures(axes, grid)
    if len(lines) > 1:
        label_ends(axes, lines)


def _mark_failures(axes: Axes, grid: Grid) -> None:
    """Mark on the upper edge the rates where training diverged (cross) or stalled (bar), and at which hidden sizes."""
    edge = axes.get_xaxis_transform()
    for column, rate in enumerate(grid.rates):
        heights = iter((6, 17))
        for name, marker, where in (("diverged", "x", grid.diverged), ("stalled", "_", grid.stalled)):
            gone = [str(size) for size, lost in zip(grid.sizes, where[:, column], strict=True) if lost]
            if not gone:
                continue
            axes.plot([rate], [1], transform=edge, marker=marker, markersize=8, markeredgewidth=2, zorder=4,
                      color=rate_colour(rate), clip_on=False)  # fmt: skip
            text = f"{name} ({', '.join(gone)})" if 1 < len(grid.sizes) != len(gone) else name
            ink = [0.85 * part for part in rate_colour(rate)[:3]]
            axes.annotate(text, (rate, 1), xycoords=edge, xytext=(0, next(heights)), textcoords="offset points",
                          ha="center", fontsize=SMALL - 0.5, color=ink)  # fmt: skip
