"""Draw balls on a curve: their paths, their positions over the steps, and a map of the minima that they reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.curves.basins import LOST, basin_metrics
from pipeline.backends.numpy.curves.descent import FEW, POSITIONS, curve_data
from pipeline.backends.numpy.curves.rolling import DIVERGED
from pipeline.backends.numpy.curves.shape import Curve, curve_of
from pipeline.backends.numpy.maps.rate_map import map_axes
from pipeline.backends.shared.history import History
from pipeline.config.optimizer import Momentum
from pipeline.config.schema import Config
from pipeline.diagnosis.curves import Ending, ending
from pipeline.drawing.axes import SMALL, axes_grid, draw_lines, epoch_axis, name_axes
from pipeline.drawing.axes import Line as NamedLine
from pipeline.drawing.colours import FAINT, INK, rate_colour
from pipeline.drawing.plot_data import drawable
from pipeline.points.point import Point
from pipeline.studies.curves.answers import point_labels
from pipeline.studies.curves.restarts import chance_of_all, countable
from pipeline.studies.maps import edges
from pipeline.studies.network_figures import curve as metric_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A colour for each minimum from the left, after Okabe and Ito: colour-blind readers can distinguish the first six.
# With more minima the colours repeat.
BASINS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7a5195", "#b8a100")
UNSETTLED_COLOUR = "#b0b0b0"
LOST_COLOUR = "#222222"
# The note of figures that draw balls.
COLOURS = "colour: the minimum that a ball reaches; grey: not settled; black: diverged"
# Paths are cut off at this distance from the middle of the domain, in domain widths.
BEYOND = 3
Floats = NDArray[np.float64]


def basin_colour(minimum: int) -> str:
    """Return the colour of the minimum reached by a ball; grey if it has not settled (-1)."""
    if minimum < 0:
        return UNSETTLED_COLOUR
    return BASINS[minimum % len(BASINS)]


def ball_colours(found: Ending) -> list[str]:
    """Return the colour of each ball: the colour of its minimum, or of its outcome."""
    colours = [basin_colour(minimum) for minimum in found.minimum.tolist()]
    for ball in np.flatnonzero(found.outcome == DIVERGED):
        colours[ball] = LOST_COLOUR
    return colours


def ball_positions(history: History) -> tuple[NDArray[np.int64], Floats]:
    """Return the steps of the snapshots, and the positions of the balls (snapshots, balls)."""
    steps = sorted(history.snapshots)
    return np.array(steps), np.stack([history.snapshots[step][POSITIONS] for step in steps]).astype(np.float64)


def domain_limits(curve: Curve) -> tuple[float, float]:
    """Return the plot limits of x."""
    low, high = drawable(np.array([curve.lowest, curve.highest]))
    return float(low), float(high)


def height_limits(curve: Curve) -> tuple[float, float]:
    """Return the plot limits of a curve's height, with some margin."""
    heights = drawable(curve.at(np.linspace(curve.lowest, curve.highest, 1001)).value)
    low = float(heights.min())
    high = float(heights.max())
    # A constant curve still needs an axis of some height.
    room = 0.06 * ((high - low) or abs(high) or 1.0)
    return low - room, high + room


def balls_figure(point: Point) -> Figure:
    """Draw the balls of one point: paths on the curve, positions over the steps, and the mean height.

    For random starts, the mean height is replaced by the chance of finding all minima.
    """
    config = point.config
    history = point.history
    found = ending(config, history)
    title = f"{config.study}: rate {point.learning_rate:g}, {point.diagnosis.label}"
    note = f"{COLOURS}; dashed: the minima"
    figure, (on_curve, over_steps, third) = axes_grid(1, 3, title, width=4.4, height=3.4, note=note)
    draw_path(on_curve, point)
    name_axes(on_curve, "the curve and the balls")
    draw_positions(over_steps, history, found)
    name_axes(over_steps, "positions of the balls")
    random = config.balls is not None and config.balls.random is not None
    if random and len(found.curve.minima) > 1 and countable(found.curve.shares()):
        _draw_chance(third, found)
        name_axes(third, "chance of finding all minima")
    else:
        _draw_height(third, point)
        name_axes(third, "mean height")
    return figure


def _draw_height(ax: Axes, point: Point) -> None:
    """Draw the mean height over the steps, on a logarithmic axis if it is positive and spans two decades."""
    line = metric_curve(point, "train/loss")
    decades = len(line.values) > 0 and 0 < 100 * float(line.values.min()) < float(line.values.max())
    draw_lines(ax, [NamedLine(line, "", rate_colour(point.learning_rate))], log=decades)
    epoch_axis(ax, max(point.history.epochs, 1), full_batch=True)


def draw_path(ax: Axes, point: Point) -> None:
    """Draw the curve with each ball's path if there are few balls, or only start and end points if there are many."""
    found = ending(point.config, point.history)
    curve = found.curve
    _, positions = ball_positions(point.history)
    x = np.linspace(curve.lowest, curve.highest, 801)
    ax.plot(drawable(x), drawable(curve.at(x).value), color=FAINT, linewidth=1.4, zorder=1)
    low, high = height_limits(curve)
    ax.set(xlim=domain_limits(curve), ylim=(low, high), xlabel="x", ylabel="height")
    if positions.shape[1] > FEW:
        _draw_ends(ax, found, low)
        return
    for ball, colour in enumerate(ball_colours(found)):
        path = _inside(positions[:, ball], curve)
        heights = drawable(curve.at(path).value)
        path = drawable(path)
        ax.plot(path, heights, color=colour, linewidth=0.9, marker="o", markersize=2.6, alpha=0.85, zorder=2)
        # A ring at the start, a dot at the end.
        ax.plot(path[:1], heights[:1], marker="o", markersize=8, markerfacecolor="white", markeredgecolor=colour,
                markeredgewidth=1.6, zorder=3, clip_on=False)  # fmt: skip
        end = positions[-1:, ball]
        if curve.lowest <= end[0] <= curve.highest:
            height = drawable(curve.at(end).value)
            ax.plot(drawable(end), height, marker="o", markersize=8, color=colour, markeredgecolor="white", zorder=4)


def _inside(path: Floats, curve: Curve) -> Floats:
    """Return a path, cut off where it goes far outside the plot: the heights there may overflow."""
    far = np.abs(path - (curve.lowest + curve.highest) / 2) > BEYOND * curve.width
    if not far.any():
        return path
    return path[: int(far.argmax())]


def _draw_ends(ax: Axes, found: Ending, low: float) -> None:
    """Draw the starts as ticks at the lower edge and as small dots on the curve; large dots are the minima.

    Starts have the colour of the minimum that the ball reaches. Each minimum is labelled with its number of balls.
    """
    starts = drawable(found.start)
    heights = drawable(found.curve.at(found.start).value)
    for minimum in np.unique(found.minimum).tolist():
        mine = found.minimum == minimum
        colour = basin_colour(minimum)
        ax.vlines(starts[mine], low, low + 0.08 * (ax.get_ylim()[1] - low), color=colour, linewidth=1.1)
        ax.plot(starts[mine], heights[mine], linestyle="none", marker="o", markersize=3.6, color=colour, zorder=2)
        # -1 marks balls that have not settled.
        if minimum >= 0:
            at = found.curve.minima[minimum : minimum + 1]
            height = drawable(found.curve.at(at).value)
            at = drawable(at)
            ax.plot(at, height, marker="o", markersize=9, color=colour, markeredgecolor="white",
                    zorder=4)  # fmt: skip
            ax.annotate(str(int(mine.sum())), (float(at[0]), float(height[0])), xytext=(0, 9),
                        textcoords="offset points", ha="center", fontsize=SMALL, color=INK)  # fmt: skip


def draw_positions(ax: Axes, history: History, found: Ending) -> None:
    """Draw x over the steps, in the colour of the minimum that each ball reaches; dashed lines mark the minima."""
    steps, positions = ball_positions(history)
    curve = found.curve
    for x in drawable(curve.minima):
        ax.axhline(float(x), color=FAINT, linewidth=0.8, linestyle="--", zorder=1)
    for ball, colour in enumerate(ball_colours(found)):
        ax.plot(steps, drawable(positions[:, ball]), color=colour, linewidth=1.2, alpha=0.8, zorder=2)
    epoch_axis(ax, max(history.epochs, 1), full_batch=True)
    ax.set(xlabel="step", ylabel="x", ylim=domain_limits(curve))


def _draw_chance(ax: Axes, found: Ending) -> None:
    """Draw the chance of finding all minima against the number of random starts."""
    from matplotlib.ticker import PercentFormatter

    counts = np.arange(1, 41)
    chances = [chance_of_all(found.curve.shares(), int(count)) for count in counts]
    ax.plot(counts, chances, color=BASINS[0], linewidth=1.6)
    ax.set(xlim=(1, counts[-1]), ylim=(0, 1.02), xlabel="random starts", ylabel="probability")
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))


def balls_by_rate(points: Sequence[Point]) -> Figure:
    """Draw the paths of the balls of several points, one plot for each; a single point gets its own figure."""
    chosen = sorted(points, key=lambda point: (point.learning_rate, point.name))
    names = point_labels(chosen)
    if len(chosen) == 1:
        return balls_figure(chosen[0])
    columns = min(len(chosen), 3)
    # Two rows of two leave no gap.
    if len(chosen) == 4:
        columns = 2
    rows = -(-len(chosen) // columns)
    steps = max(point.history.epochs for point in chosen)
    title = f"{chosen[0].config.study}: up to {steps:,} steps, from the ring to the dot"
    figure, axes = axes_grid(rows, columns, title, width=4.3, height=2.9, note=COLOURS)
    for ax, point, name in zip(axes, chosen, names, strict=False):
        draw_path(ax, point)
        name_axes(ax, f"{name}: {point.diagnosis.label}")
    for ax in axes[len(chosen) :]:
        ax.set_visible(False)
    return figure


def basin_figure(maps: Sequence[Point]) -> Figure:
    """Draw the minimum that each ball reaches, over rate and start, for each map of one curve."""
    width = 8.2 if len(maps) == 1 else 6.6
    figure, axes = axes_grid(1, len(maps), f"{maps[0].config.study}: minimum reached, by rate and start", width, 5.2)
    for ax, point in zip(axes, maps, strict=True):
        # One colour bar is enough, because all maps use the same colours.
        _draw_basins(ax, point.config, point.history.map_arrays, bar=ax is axes[-1])
    return figure


def _draw_basins(ax: Axes, config: Config, arrays: Mapping[str, NDArray[Any]], bar: bool) -> None:
    """Draw one map of a curve, with a colour bar next to it if `bar` is set."""
    from matplotlib.colors import BoundaryNorm, ListedColormap

    curve = curve_of(curve_data(config))
    grid = map_axes(config)
    name: str = config.optimizer.name
    if isinstance(config.optimizer, Momentum):
        name = f"{name} {config.optimizer.momentum:g}"
    share = basin_metrics(arrays)["map/converged_share"]
    name_axes(ax, f"{name}: {share:.1%} of {grid.points:,} balls settle")
    # The map holds -2 for diverged, -1 for not settled, and otherwise the index of the minimum.
    colours = [LOST_COLOUR, UNSETTLED_COLOUR, *map(basin_colour, range(len(curve.minima)))]
    norm = BoundaryNorm(np.arange(LOST, len(curve.minima) + 1) - 0.5, len(colours))
    mesh = ax.pcolormesh(
        edges(arrays["x"], grid.x.logarithmic), edges(arrays["y"], grid.y.logarithmic), arrays["minimum"],
        cmap=ListedColormap(colours), norm=norm, rasterized=True,
    )  # fmt: skip
    ax.grid(False)
    if grid.x.logarithmic:
        ax.set_xscale("log")
    if grid.y.logarithmic:
        ax.set_yscale("log")
    labels = {"optimizer.learning_rate": "learning rate (step per unit of slope)", "balls.start": "start x"}
    ax.set(xlabel=labels[grid.x.knob], ylabel=labels[grid.y.knob])
    if not bar:
        return
    colour_bar = ax.figure.colorbar(mesh, cax=ax.inset_axes((1.03, 0.05, 0.04, 0.9)))
    names = ["diverged", "not settled", *(f"x = {curve.label(x)}" for x in curve.minima)]
    colour_bar.set_ticks(list(range(LOST, len(curve.minima))), labels=names)
    colour_bar.ax.tick_params(labelsize=SMALL, length=0)
    colour_bar.set_label("minimum reached by the ball", fontsize=SMALL)
