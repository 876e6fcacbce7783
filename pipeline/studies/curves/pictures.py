"""The figures of balls on a curve: their paths on it, their places over the steps, and the map of where they end."""

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
from pipeline.drawing.axes import FAINT, INK, SMALL, draw_lines, epoch_axis, name_panel, panels, rate_colour
from pipeline.drawing.axes import Line as NamedLine
from pipeline.points.point import Point
from pipeline.studies.curves.answers import varied
from pipeline.studies.curves.restarts import chance_of_all, countable
from pipeline.studies.maps import edges
from pipeline.studies.network_figures import curve as metric_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASINS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7a5195", "#b8a100")
"""A colour for each minimum from the left, after Okabe and Ito; of more minima they come again."""
UNSETTLED_COLOUR, LOST_COLOUR = "#b0b0b0", "#222222"
BEYOND = 3
"""So many widths of the domain away a path is not drawn any further."""
Floats = NDArray[np.float64]


def basin_colour(minimum: int) -> str:
    """The colour of the minimum in which a ball ends; grey where it has settled in none."""
    return BASINS[minimum % len(BASINS)] if minimum >= 0 else UNSETTLED_COLOUR


def ball_colours(found: Ending) -> list[str]:
    """The colour of each ball: of its minimum, or of what became of it."""
    return [
        LOST_COLOUR if outcome == DIVERGED else basin_colour(minimum)
        for outcome, minimum in zip(found.outcome.tolist(), found.minimum.tolist(), strict=True)
    ]


def positions(history: History) -> tuple[NDArray[np.int64], Floats]:
    """The steps of the snapshots and where the balls are at each, (snapshots, balls)."""
    steps = sorted(history.snapshots)
    return np.array(steps), np.stack([history.snapshots[step][POSITIONS] for step in steps]).astype(np.float64)


def height_limits(curve: Curve) -> tuple[float, float]:
    """The lowest and the highest that is drawn of a curve, with some room."""
    heights = curve.at(np.linspace(curve.lowest, curve.highest, 1001)).value
    low = float(heights.min())
    high = float(heights.max())
    room = 0.06 * ((high - low) or 1.0)
    return low - room, high + room


def balls_figure(point: Point) -> Figure:
    """Paths on the curve, places over the steps, the mean height; of random starts the chance to find all minima."""
    config, history = point.config, point.history
    found = ending(config, history)
    random = config.balls is not None and config.balls.random is not None
    chance = random and len(found.curve.minima) > 1 and countable(found.curve.shares())
    names = ["path", "places", "chance" if chance else "height"]
    title = f"{config.study}: rate {point.learning_rate:g}, {point.diagnosis.label}"
    figure, axes = panels(1, len(names), title, width=4.4, height=3.4)
    draw_path(axes[0], point)
    name_panel(axes[0], "the curve and the balls")
    draw_places(axes[1], history, found)
    name_panel(axes[1], "where the balls are")
    if chance:
        _draw_chance(axes[2], found)
        name_panel(axes[2], "starts that find all minima")
    else:
        line = metric_curve(point, "train/loss")
        decades = len(line.values) > 0 and 0 < 100 * float(line.values.min()) < float(line.values.max())
        draw_lines(axes[2], [NamedLine(line, "", rate_colour(point.learning_rate))], log=decades)
        epoch_axis(axes[2], max(history.epochs, 1), full_batch=True)
        name_panel(axes[2], "mean height")
    return figure


def draw_path(panel: Axes, point: Point) -> None:
    """The curve, and on it of few balls each path from its start to its end, of many where they start and end."""
    found = ending(point.config, point.history)
    curve, (_, places) = found.curve, positions(point.history)
    x = np.linspace(curve.lowest, curve.highest, 801)
    panel.plot(x, curve.at(x).value, color=FAINT, linewidth=1.4, zorder=1)
    low, high = height_limits(curve)
    panel.set(xlim=(curve.lowest, curve.highest), ylim=(low, high), xlabel="x", ylabel="height")
    if places.shape[1] > FEW:
        _draw_ends(panel, found, low)
        return
    for ball, colour in enumerate(ball_colours(found)):
        way = _inside(places[:, ball], curve)
        heights = curve.at(way).value
        panel.plot(way, heights, color=colour, linewidth=0.9, marker="o", markersize=2.6, alpha=0.85, zorder=2)
        panel.plot(way[:1], heights[:1], marker="o", markersize=8, markerfacecolor="white", markeredgecolor=colour,
                   markeredgewidth=1.6, zorder=3, clip_on=False)  # fmt: skip
        end = places[-1:, ball]
        if curve.lowest <= end[0] <= curve.highest:
            panel.plot(
                end, curve.at(end).value, marker="o", markersize=8, color=colour, markeredgecolor="white", zorder=4
            )


def _inside(way: Floats, curve: Curve) -> Floats:
    """A path up to where it leaves the picture by far."""
    far = np.abs(way - (curve.lowest + curve.highest) / 2) > BEYOND * curve.width
    return way[: int(far.argmax())] if far.any() else way


def _draw_ends(panel: Axes, found: Ending, low: float) -> None:
    """Starts as ticks at the lower edge, in the colour of the minimum that each ball ends in; ends as dots."""
    heights = found.curve.at(found.start).value
    for minimum in np.unique(found.minimum).tolist():
        mine = found.minimum == minimum
        colour = basin_colour(minimum)
        panel.vlines(found.start[mine], low, low + 0.08 * (panel.get_ylim()[1] - low), color=colour, linewidth=1.1)
        panel.plot(
            found.start[mine], heights[mine], linestyle="none", marker="o", markersize=3.6, color=colour, zorder=2
        )
        if minimum >= 0:
            at = found.curve.minima[minimum : minimum + 1]
            panel.plot(at, found.curve.at(at).value, marker="o", markersize=9, color=colour, markeredgecolor="white",
                       zorder=4)  # fmt: skip
            panel.annotate(str(int(mine.sum())), (float(at[0]), float(found.curve.at(at).value[0])), xytext=(0, 9),
                           textcoords="offset points", ha="center", fontsize=SMALL, color=INK)  # fmt: skip


def draw_places(panel: Axes, history: History, found: Ending) -> None:
    """X over the steps, in the colour of the minimum that each ball ends in; dashed lines at the minima."""
    steps, places = positions(history)
    curve = found.curve
    for x in curve.minima:
        panel.axhline(float(x), color=FAINT, linewidth=0.8, linestyle="--", zorder=1)
    for ball, colour in enumerate(ball_colours(found)):
        panel.plot(steps, places[:, ball], color=colour, linewidth=1.2, alpha=0.8, zorder=2)
    epoch_axis(panel, max(history.epochs, 1), full_batch=True)
    panel.set(xlabel="step", ylabel="x", ylim=(curve.lowest, curve.highest))


def _draw_chance(panel: Axes, found: Ending) -> None:
    from matplotlib.ticker import PercentFormatter

    counts = np.arange(1, 41)
    chances = [chance_of_all(found.curve.shares(), int(count)) for count in counts]
    panel.plot(counts, chances, color=BASINS[0], linewidth=1.6)
    panel.set(xlim=(1, counts[-1]), ylim=(0, 1.02), xlabel="random starts", ylabel="probability to find all")
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))


def balls_by_rate(points: Sequence[Point]) -> Figure:
    """The paths of the balls of several points, a panel for each."""
    chosen = sorted(points, key=lambda point: (point.learning_rate, point.name))
    names = varied(chosen)
    if len(chosen) == 1:
        return balls_figure(chosen[0])
    columns = min(len(chosen), 3) if len(chosen) != 4 else 2
    rows = -(-len(chosen) // columns)
    steps = max(point.history.epochs for point in chosen)
    title = f"{chosen[0].config.study}: up to {steps:,} steps, from the ring to the dot"
    figure, axes = panels(rows, columns, title, width=4.3, height=2.9)
    for panel, point, name in zip(axes, chosen, names, strict=False):
        draw_path(panel, point)
        name_panel(panel, f"{name}: {point.diagnosis.label}")
    for panel in axes[len(chosen) :]:
        panel.set_visible(False)
    return figure


def basin_figure(maps: Sequence[Point]) -> Figure:
    """The minimum that each ball ends in, over rate and start; a panel for each map of one curve."""
    wide = 8.2 if len(maps) == 1 else 6.6
    figure, axes = panels(1, len(maps), f"{maps[0].config.study}: where balls settle, by rate and start", wide, 5.2)
    for panel, point in zip(axes, maps, strict=True):
        _draw_basins(panel, point.config, point.history.map_arrays, bar=panel is axes[-1])
    return figure


def _draw_basins(panel: Axes, config: Config, arrays: Mapping[str, NDArray[Any]], bar: bool) -> None:
    from matplotlib.colors import BoundaryNorm, ListedColormap

    curve = curve_of(curve_data(config))
    axes_of = map_axes(config)
    optimizer = config.optimizer
    momentum = f" {optimizer.momentum:g}" if isinstance(optimizer, Momentum) else ""
    share = basin_metrics(arrays)["map/converged_share"]
    name_panel(panel, f"{optimizer.name}{momentum}: {share:.1%} of {axes_of.points:,} balls settle")
    colours = [LOST_COLOUR, UNSETTLED_COLOUR, *(basin_colour(place) for place in range(len(curve.minima)))]
    norm = BoundaryNorm(np.arange(LOST, len(curve.minima) + 1) - 0.5, len(colours))
    mesh = panel.pcolormesh(
        edges(arrays["x"], axes_of.x.logarithmic), edges(arrays["y"], axes_of.y.logarithmic), arrays["minimum"],
        cmap=ListedColormap(colours), norm=norm, rasterized=True,
    )  # fmt: skip
    panel.grid(False)
    for axis, scale in ((axes_of.x, panel.set_xscale), (axes_of.y, panel.set_yscale)):
        if axis.logarithmic:
            scale("log")
    labels = {"optimizer.learning_rate": "learning rate (step per unit of slope)", "balls.start": "start x"}
    panel.set(xlabel=labels[axes_of.x.knob], ylabel=labels[axes_of.y.knob])
    if not bar:
        return
    scale_of = panel.figure.colorbar(mesh, cax=panel.inset_axes((1.03, 0.05, 0.04, 0.9)))
    names = ["diverged", "not settled", *(f"x = {curve.place(x)}" for x in curve.minima)]
    scale_of.set_ticks(list(range(LOST, len(curve.minima))), labels=names)
    scale_of.ax.tick_params(labelsize=SMALL, length=0)
    scale_of.set_label("the minimum in which the ball rests", fontsize=SMALL)
