"""A map's summary and figure: the signed measure of every point over the two axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.maps.measures import LAST, best_position, map_metrics
from pipeline.backends.numpy.maps.rate_map import map_axes
from pipeline.config.map_axes import Axis, GridAxes
from pipeline.config.schema import Config
from pipeline.drawing.axes import SMALL, axes_grid
from pipeline.drawing.colours import INK, colour_map
from pipeline.drawing.plot_data import Floats, drawable, drawable_on_log
from pipeline.points.point import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis as DrawnAxis
    from matplotlib.figure import Figure

# Maximum number of points along an axis of the figure; larger maps are subsampled.
MOST = 1024
# Minimum colour intensity on a scale of 0 to 1, so that the two signs can be distinguished.
PALEST = 0.12
COLOURS = "RdBu"
LABELS = {
    "optimizer.learning_rate": "learning rate (step per unit of gradient)",
    "optimizer.output_learning_rate": "learning rate of the last layer (step per unit of gradient)",
    "model.hidden_size": "hidden size (units)",
    "seed": "seed",
}


def map_sentences(points: Sequence[Point]) -> Iterator[str]:
    """Yield the share of points of each map that converge, and the best point."""
    if len(points) == 1:
        yield f"map: {points[0].diagnosis.evidence}."
        return
    for point in points:
        yield f"`{point.name}`: {point.diagnosis.evidence}."


def map_headline(points: Sequence[Point]) -> str:
    """Return the same as one line."""
    return "; ".join(point.diagnosis.evidence for point in points)


def map_numbers(points: Sequence[Point]) -> dict[str, float]:
    """Return the summary metrics of the first map."""
    return {name: value for name, value in points[0].outcome.final.items() if name.startswith("map/")}


def ranked(measures: Floats) -> Floats:
    """Turn the signed measures of a map into colour values of the same shape: signed ranks of the magnitudes.

    The largest magnitude of each sign becomes 1 or -1, the smallest `PALEST` or -`PALEST`; equal values get equal
    colours. Ranking uses the full range of shades regardless of the values' magnitudes.
    """
    colours = np.zeros(measures.shape)
    for side in (measures > 0, measures < 0):
        if side.any():
            values, ranks = np.unique(np.abs(measures[side]), return_inverse=True)
            shades = np.linspace(PALEST, 1, len(values))
            # A single value is both the largest and the smallest; it gets the full colour.
            shades[-1] = 1
            colours[side] = np.sign(measures[side]) * shades[ranks]
    return colours


def map_figure(config: Config, arrays: Mapping[str, NDArray[Any]]) -> Figure:
    """Draw the signed measure over both axes: blue if training converged, red if not; paler means sooner.

    Args:
        config: the config of a map.
        arrays: the arrays of the trained map, with `x`, `y` and `measure` (rows, columns) among them.

    Raises:
        ValueError: the config has no grid.
    """
    grid = map_axes(config)
    # -(-a // b) is a / b rounded up.
    every_x = -(-len(arrays["x"]) // MOST)
    every_y = -(-len(arrays["y"]) // MOST)
    x = arrays["x"][::every_x]
    y = arrays["y"][::every_y]
    measures = arrays["measure"][::every_y, ::every_x]
    share = map_metrics(arrays)["map/converged_share"]
    title = f"{config.study}: {share:.1%} of {grid.points:,} points converge in {config.training.epochs:,} steps"
    figure, (ax,) = axes_grid(1, 1, title, width=7.6, height=6.0)
    mesh = ax.pcolormesh(
        edges(x, grid.x.logarithmic), edges(y, grid.y.logarithmic), ranked(measures),
        cmap=colour_map(COLOURS), vmin=-1, vmax=1, rasterized=True,
    )  # fmt: skip
    ax.grid(False)
    if grid.x.logarithmic:
        ax.set_xscale("log")
    if grid.y.logarithmic:
        ax.set_yscale("log")
    _set_ticks(grid.x, ax.xaxis, x)
    _set_ticks(grid.y, ax.yaxis, y)
    ax.set(xlabel=_label(grid.x, grid.y), ylabel=_label(grid.y, grid.x))
    best = best_position(arrays)
    if best is not None:
        _mark_best(ax, grid, arrays, best)
    # Inset axes are part of the axes for layout purposes, so there is room for the bar.
    bar = figure.colorbar(mesh, cax=ax.inset_axes((1.03, 0.05, 0.04, 0.9)))
    ticks, names = colour_ticks(measures)
    bar.set_ticks(ticks, labels=names)
    bar.ax.tick_params(labelsize=SMALL)
    bar.set_label(
        f"blue, +: converged (mean of the last {LAST} losses below the first); sum of losses\n"
        "red, -: not converged; sum of 1 / loss (losses over the first; shades by rank)", fontsize=SMALL,
    )  # fmt: skip
    return figure


def edges(values: Floats, logarithmic: bool) -> Floats:
    """Return the cell boundaries (n + 1,) of ascending values (n,): half way to the neighbours."""
    if logarithmic:
        # Half way on a logarithmic axis.
        return drawable_on_log(np.exp(edges(np.log(drawable_on_log(values)), False)))
    values = drawable(values)
    middles = (values[1:] + values[:-1]) / 2
    # The first and the last cell are symmetric around their values.
    return np.concatenate([[2 * values[0] - middles[0]], middles, [2 * values[-1] - middles[-1]]])


def colour_ticks(measures: Floats) -> tuple[list[float], list[str]]:
    """Return the ticks of the colour bar, -1 to 1, with labels: the smallest, median and largest value of each sign."""
    ticks = []
    names = []
    for sign in (-1, 1):
        sizes = np.unique(np.abs(measures[np.sign(measures) == sign]))
        if len(sizes):
            for rank in (0, len(sizes) // 2, len(sizes) - 1):
                ticks.append(sign * (PALEST + (1 - PALEST) * rank / max(len(sizes) - 1, 1)))
                names.append(f"{sign * sizes[rank]:+,.4g}")
    return ticks, names


def _set_ticks(axis: Axis, drawn: DrawnAxis, values: Floats) -> None:
    """Set the ticks of an axis of a map.

    A logarithmic axis has ticks at powers of ten; if it spans less than three decades, also at 2 and 5 times these.
    Linear axes, and axes that span too little for that, have evenly spaced ticks.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    decades = 0.0
    if axis.logarithmic:
        with np.errstate(over="ignore"):
            decades = float(np.log10(values[-1] / values[0]))
    if decades >= 3:
        drawn.set_major_locator(LogLocator(subs=(1.0,)))
    elif decades >= 0.7:
        drawn.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    else:
        drawn.set_major_locator(MaxNLocator(6))
    drawn.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    drawn.set_minor_formatter(NullFormatter())


def _label(axis: Axis, other: Axis) -> str:
    """Return the label of an axis; the rate is labelled "of the first layer" if the last layer has its own."""
    label = LABELS[axis.knob]
    if other.knob == "optimizer.output_learning_rate":
        label = label.replace("learning rate (", "learning rate of the first layer (")
    return label


def _mark_best(ax: Axes, grid: GridAxes, arrays: Mapping[str, NDArray[Any]], best: tuple[int, int]) -> None:
    """Draw a star at the best point, and write its values below the title."""
    row, column = best
    x = float(arrays["x"][column])
    y = float(arrays["y"][row])
    places = []
    for axis, value in zip(grid.axes, (x, y), strict=True):
        limit = drawable
        if axis.logarithmic:
            limit = drawable_on_log
        places.append(limit(np.array([value])))
    ax.plot(*places, marker="*", markersize=13, color="#ffd34d", markeredgecolor=INK, linestyle="none")
    loss = float(arrays["final_loss"][best])
    ax.set_title(f"star: the smallest loss, {loss:.3g} at {x:.4g} across, {y:.4g} up", loc="left",
                 fontsize=SMALL, color=INK)  # fmt: skip
