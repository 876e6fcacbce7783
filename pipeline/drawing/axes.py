"""Draw on matplotlib axes: style, curves labelled at their ends. matplotlib is imported on first use."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.drawing.colours import FAINT, INK, Colour
from pipeline.drawing.plot_data import (
    Curve,
    Floats,
    drawable,
    log_limits,
    quantile_bands,
    score_limits,
    spread,
)
from pipeline.drawing.scales import plain_log_ticks
from pipeline.system.wording import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Figures, each with a name.
Figures = Iterable[tuple[str, "Figure"]]
# The same, but not drawn yet.
Drawings = Iterable[tuple[str, Callable[[], "Figure"]]]
TEXT = 10
SMALL = 8.5
DPI = 100
LABEL_GAP_INCHES = 0.16
# Letters of a figure's title that fit.
LETTERS_PER_INCH = 12
SMALL_LETTERS_PER_INCH = 15
NOTE = "#5c5c5c"
BAND_ALPHA = 0.22
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
    """A curve with its label and appearance.

    Attributes:
        curve: the line.
        label: what is written at its end.
        colour: the colour of the line, and of the band.
        style: matplotlib's line style.
        band: the two edges of a band around it, each as long as the curve; None: no band.
    """

    curve: Curve
    label: str
    colour: Colour
    style: str = "-"
    band: tuple[Floats, Floats] | None = None


def styled() -> AbstractContextManager[None]:
    """Return a context in which to make a figure, so that it gets our style.

    Matplotlib reads a file `matplotlibrc` in the current folder, and no variable of the environment prevents that. So
    its settings are also set to its defaults, which stay, because drawing on a figure uses them too.
    """
    from matplotlib import rc_context

    _undo_matplotlibrc()
    return rc_context(STYLE)


@functools.cache
def _undo_matplotlibrc() -> None:
    from matplotlib import rcdefaults

    rcdefaults()


def axes_grid(
    rows: int, columns: int, title: str, width: float = 4.3, height: float = 3.1, note: str = ""
) -> tuple[Figure, list[Axes]]:
    """Create a figure with axes of equal size, listed row by row.

    Args:
        rows: number of rows of axes.
        columns: number of columns of axes.
        title: title of the figure; it is broken into lines that fit.
        width: inches for each column.
        height: inches for each row.
        note: what the marks in the figure mean, in small letters below the title; broken into lines as well.

    Example:
        figure, (loss, accuracy) = axes_grid(1, 2, "mnist: curves")
    """
    from matplotlib.figure import Figure

    inches = width * columns
    lines = textwrap.wrap(title, max(int(LETTERS_PER_INCH * inches), 1)) or [""]
    notes = textwrap.wrap(note, max(int(SMALL_LETTERS_PER_INCH * inches), 1))
    with styled():
        # Figure instead of pyplot: pyplot keeps every figure alive until it is closed.
        figure = Figure(figsize=(inches, height * rows + 0.2 + 0.2 * len(lines) + 0.16 * len(notes)), dpi=DPI)
        axes = figure.subplots(rows, columns, squeeze=False)
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=TEXT + 1, color=INK)
        if notes:
            figure.text(0.01, 0.9, "\n".join(notes), ha="left", va="top", fontsize=SMALL, color=NOTE)
    return figure, list(axes.flat)


def epoch_axis(ax: Axes, epochs: int, full_batch: bool) -> None:
    """Set up the x axis for epochs from 0 on.

    With a full batch it is logarithmic beyond 1, because the early iterations matter most; otherwise it is linear.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    if full_batch and epochs > 10:
        ax.set_xscale("symlog", linthresh=1, linscale=0.4)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel("iteration")
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        ax.set_xlabel("epoch")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.set_xlim(0, max(epochs, 1))


def name_axes(ax: Axes, name: str) -> None:
    """Write a name above the left end of the axes."""
    # A fixed height saves matplotlib from searching for one at which the title overlaps nothing.
    ax.set_title(name, loc="left", y=1, fontsize=TEXT, color=INK)


def draw_lines(ax: Axes, lines: Sequence[Line], *, log: bool, max_growth: float = 1e6, score: bool = False) -> None:
    """Draw curves with their bands, with a cross at the end of each curve that diverged.

    Args:
        ax: the axes to draw on.
        lines: the curves to draw; empty curves are skipped.
        log: whether the values are on a logarithmic axis. Zeros are then drawn on its lower edge.
        max_growth: upper limit of a logarithmic axis, as a multiple of the largest first value.
        score: whether a linear axis shows where the curves end, as for an accuracy, rather than all of their values.
    """
    drawn = [line for line in lines if len(line.curve.steps)]
    floor = -np.inf
    if log:
        floor, ceiling = log_limits([line.curve for line in drawn], max_growth)
        ax.set_yscale("log")
        ax.set_ylim(floor, ceiling)
    for line in drawn:
        _draw_line(ax, line, floor)
    if log:
        plain_log_ticks(ax)
    limits = score_limits([line.curve for line in drawn])
    if score and limits is not None:
        ax.set_ylim(*limits)
    # The limits of other linear axes are known only now: matplotlib derives them from the lines.
    low, high = ax.get_ylim()
    for line in drawn:
        if line.curve.diverged:
            end = min(max(float(line.curve.values[-1]), low), high)
            ax.plot([line.curve.steps[-1]], [end], marker="x", markersize=8, markeredgewidth=2, color=line.colour,
                    clip_on=False, zorder=5)  # fmt: skip


def _draw_line(ax: Axes, line: Line, floor: float) -> None:
    """Draw a curve and its band, nothing of it below the floor."""
    steps = line.curve.steps
    if line.band is not None:
        low, high = (drawable(np.maximum(edge, floor)) for edge in line.band)
        ax.fill_between(steps, low, high, color=line.colour, alpha=BAND_ALPHA, linewidth=0)
    (artist,) = ax.plot(
        steps, drawable(np.maximum(line.curve.values, floor)), color=line.colour, linestyle=line.style, linewidth=1.6,
        markersize=4,
    )  # fmt: skip
    # One or two records make a line that is too short to see.
    if len(steps) < 3:
        artist.set_marker("o")


def label_ends(ax: Axes, lines: Sequence[Line]) -> None:
    """Write each line's label to the right of the axes, at the height of the line's end.

    Labels that would collide are moved apart and joined to their lines by thin strokes.

    Args:
        ax: axes of a grid of axes, with the lines already drawn.
        lines: the lines that were drawn; empty curves are skipped.

    Raises:
        ValueError: the axes are not part of a figure with a grid.
    """
    from matplotlib.lines import Line2D

    drawn = [line for line in lines if len(line.curve.steps)]
    figure = ax.get_figure(root=True)
    cell = ax.get_subplotspec()
    if figure is None or cell is None:
        raise ValueError("labels need axes that are part of a figure with a grid of axes")
    # The final height of the axes is known only when the figure is arranged; they fill about 72 % of their row.
    inches = 0.72 * figure.get_size_inches()[1] / cell.get_gridspec().nrows
    low, high = ax.get_ylim()
    ends = []
    for line in drawn:
        value = min(max(float(line.curve.values[-1]), low), high)
        pixels = ax.transData.transform((ax.get_xlim()[1], value))
        ends.append(float(ax.transAxes.inverted().transform(pixels)[1]))
    for line, end, moved in zip(drawn, ends, spread(ends, LABEL_GAP_INCHES / inches), strict=True):
        ax.add_artist(Line2D([1.0, 1.03], [end, moved], transform=ax.transAxes, color=line.colour, linewidth=0.8,
                             clip_on=False))  # fmt: skip
        # Text is thinner than a line and needs a darker shade of the same colour.
        ax.text(1.04, moved, _end_label(line, high), transform=ax.transAxes, va="center", fontsize=SMALL,
                color=[0.85 * part for part in line.colour[:3]])  # fmt: skip


def _end_label(line: Line, highest: float) -> str:
    """Return a line's label, with a note if the line diverged or ends above the axes."""
    last = float(line.curve.values[-1])
    if line.curve.diverged:
        return f"{line.label}, diverged"
    if last > highest:
        return f"{line.label}, up to {short(last)}"
    return line.label


def draw_bundle(ax: Axes, steps: NDArray[np.int64], values: Floats, colour: Colour) -> None:
    """Draw many lines of one colour, values (steps, lines)."""
    from matplotlib.collections import LineCollection

    values = drawable(values)
    if len(steps) < 3:
        ax.plot(steps, values, color=colour, linewidth=1.1, alpha=0.8, marker="o")
        return
    # One collection is drawn much faster than one artist for each line.
    lines = [np.column_stack([steps, line]) for line in values.T]
    ax.add_collection(LineCollection(lines, colors=[colour], linewidths=1.1, alpha=0.8, capstyle="projecting"))
    # Before version 3.11 matplotlib does not fit the limits to a collection by itself.
    ax.autoscale_view()


def draw_bands(ax: Axes, steps: Sequence[float], values: Floats, colour: Colour) -> None:
    """Draw the spread of many weights over the epochs: bands of all, 90 % and half of them, and the median."""
    bands = quantile_bands(drawable(values))
    for low, high, alpha in ((0, 6, 0.15), (1, 5, 0.25), (2, 4, 0.4)):
        ax.fill_between(steps, bands[low], bands[high], color=colour, alpha=alpha, linewidth=0)
    ax.plot(steps, bands[3], color=colour, linewidth=1.6)
