"""Draw the figures of a sweep of networks, over rates, hidden sizes or any other knobs. Nothing here writes files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config.metrics import METRIC_NAMES, larger_is_better
from pipeline.drawing.axes import Drawings, Line, axes_grid, draw_lines, epoch_axis, label_ends, name_axes
from pipeline.drawing.colours import FAINT, Colour, rate_colours
from pipeline.drawing.grid_plots import draw_by_value, draw_heat, heat_limits
from pipeline.drawing.plot_data import ResultGrid
from pipeline.drawing.scales import signed_log
from pipeline.points.point import Point
from pipeline.studies.cell_curves import coloured_by, draw_curves
from pipeline.studies.grids import cell_metric, curve_metrics, recorded, with_value
from pipeline.studies.knobs import RATE, Knob, Layout, layout
from pipeline.studies.network_data import target_slope
from pipeline.studies.network_figures import EXPLODED, curve
from pipeline.studies.result_grids import best_note, cell_note, joined, profile_grid, result_grid, seeds_note
from pipeline.system.wording import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Maximum number of panels next to each other.
MOST_COLUMNS = 4


def network_sweep_figures(points: Sequence[Point]) -> Drawings:
    """Return those figures that apply: `curves_by_rate`, `loss_by_rate`, `heat_map`, `profiles`, `weight_by_rate`.

    If the rate does not vary, the names of the first two have the knob that does, for instance `loss_by_batch_size`.
    """
    if not points:
        return
    shown = layout(points)
    name = shown.across.name.replace(" ", "_")
    yield f"curves_by_{name}", partial(curves_by_value, points)
    if len(shown.across.values) > 1:
        yield f"loss_by_{name}", partial(loss_by_value, points)
        if len(shown.up.values) > 1:
            yield "heat_map", partial(heat_map, points)
    if shown.apart:
        yield "profiles", partial(profiles, points)
    if recorded(points, "weights/weight") and shown.knobs in ((), (shown.across,)) and shown.across.key == RATE:
        yield "weight_by_rate", partial(weight_by_rate, points)


def curves_by_value(points: Sequence[Point]) -> Figure:
    """Draw the training loss of every point, with what judges test rows below it, coloured by rate or another knob.

    Each hidden size, and each value of another second knob, gets a column, and each panel rows of its own. Without
    sizes, metrics and panels are next to each other instead.
    """
    shown = layout(points)
    metrics = curve_metrics(points)
    wanted = [(panel, metric, up) for panel in panels(points, shown) for metric in metrics for up in shown.up.values]
    columns = len(shown.up.values)
    if columns == 1:
        columns = _columns(len(wanted), len(metrics))
    title = f"{sweep_title(points)}: curves by {coloured_by(shown).title}{for_each(shown)}"
    note = joined(f"colour: {coloured_by(shown).title}", seeds_note(points, shown))
    figure, axes = _filled_grid(len(wanted), columns, title, note=note)
    for ax, ((panel, members), metric, up) in zip(axes, wanted, strict=True):
        draw_curves(ax, with_value(members, shown.up, up, shown.across), metric, shown)
        parts = [METRIC_NAMES[metric]]
        if len(shown.up.values) > 1:
            parts.append(shown.up.said(up))
        name_axes(ax, ", ".join([*panel, *parts]))
    return figure


def panels(points: Sequence[Point], shown: Layout) -> list[tuple[list[str], Sequence[Point]]]:
    """Return the points of each panel, after its value; without panels all points, after no value."""
    if shown.panels is None:
        return [([], points)]
    knob = shown.panels
    return [([knob.text(value)], with_value(points, knob, value, shown.across)) for value in knob.values]


def loss_by_value(points: Sequence[Point]) -> Figure:
    """Draw final training loss, and next to it what judges test rows, versus the rate or another knob.

    There is a line for each hidden size, or each value of another second knob, and a plot for each panel.
    """
    shown = layout(points)
    metrics = curve_metrics(points)
    title = f"{sweep_title(points)}: final results by {shown.across.title}{for_each(shown)}"
    note = cell_note(points, shown)
    if cell_metric(points) in metrics:
        note = joined(note, best_note(points, shown, "black edge"))
    wanted = [(panel, metric) for panel in panels(points, shown) for metric in metrics]
    figure, axes = _filled_grid(len(wanted), _columns(len(wanted), len(metrics)), title, note=note)
    for ax, ((panel, members), metric) in zip(axes, wanted, strict=True):
        grid = result_grid(members, shown, metric)
        others = []
        if shown.panels is not None:
            others = [result_grid(other, shown, metric) for _, other in panels(points, shown)]
        draw_by_value(ax, grid, log=not larger_is_better(metric), others=others)
        name_axes(ax, ", ".join([*panel, f"final {METRIC_NAMES[metric]}"]))
    return figure


def heat_map(points: Sequence[Point]) -> Figure:
    """Draw the sweep's comparison metric over the two axes, with the values in the cells, for each panel."""
    shown = layout(points)
    metric = cell_metric(points)
    groups = panels(points, shown)
    grids = [result_grid(members, shown, metric) for _, members in groups]
    title = f"{sweep_title(points)}: final {METRIC_NAMES[metric]}{for_each(shown)}"
    note = joined(cell_note(points, shown), best_note(points, shown, "frame"))
    size = heat_size(grids[0], least_height=2.2)
    figure, axes = _filled_grid(len(groups), _columns(len(groups), 1), title, size, note)
    for ax, (panel, _), grid in zip(axes, groups, grids, strict=True):
        draw_heat(ax, grid, larger_is_better=larger_is_better(metric), limits=heat_limits(grids), bar=bar_label(metric))
        name_axes(ax, "".join(panel))
    return figure


def _columns(plots: int, together: int) -> int:
    """Return how many of these plots are next to each other, if `together` of them have to be."""
    return min(plots, MOST_COLUMNS // together * together)


def _filled_grid(
    plots: int, columns: int, title: str, size: tuple[float, float] = (4.3, 3.1), note: str = ""
) -> tuple[Figure, list[Axes]]:
    """Create a figure with this many axes, row by row; `size` is their width and height in inches."""
    # -(-a // b) is a / b rounded up.
    figure, axes = axes_grid(-(-plots // columns), columns, title, width=size[0], height=size[1], note=note)
    for ax in axes[plots:]:
        ax.set_visible(False)
    return figure, axes[:plots]


def heat_size(grid: ResultGrid, least_height: float) -> tuple[float, float]:
    """Return width and height of a heat map in inches; a cell must be large enough for its printed value."""
    # Cells of several seeds have two lines, of which the second is longer.
    wide, high = (0.85, 0.55)
    if grid.texts:
        wide, high = (1.05, 0.62)
    width = max(4.3, wide * len(grid.across.ticks) + 1.8)
    height = max(least_height, high * len(grid.up.ticks) + 1)
    return width, height


def bar_label(metric: str) -> str:
    """Return what is written at the colour bar of a heat map."""
    return f"{METRIC_NAMES[metric]}\n(dark is good)"


def profiles(points: Sequence[Point]) -> Figure:
    """Draw for each knob without an axis the best result at each of its values, over all other knobs."""
    shown = layout(points)
    metric = cell_metric(points)
    title = f"{sweep_title(points)}: {METRIC_NAMES[metric]}, the best over all other knobs"
    note = joined(seeds_note(points, shown), best_note(points, shown, "black edge", of_rows=False))
    figure, axes = axes_grid(1, len(shown.apart), title, note=note)
    for ax, knob in zip(axes, shown.apart, strict=True):
        draw_profile(ax, points, shown, knob)
        name_axes(ax, knob.name)
    return figure


def draw_profile(ax: Axes, points: Sequence[Point], shown: Layout, knob: Knob) -> None:
    """Draw the best result at each value of a knob, over all other knobs."""
    metric = cell_metric(points)
    draw_by_value(ax, profile_grid(points, shown, knob, metric), log=not larger_is_better(metric))


def for_each(shown: Layout) -> str:
    """Return what the panels of a figure are, to be added to its title."""
    if shown.panels is None:
        return ""
    return f", for each {shown.panels.name}"


def weight_by_rate(points: Sequence[Point]) -> Figure:
    """Draw the weight of a line over the epochs, one plot for each rate, as in the source texts."""
    by_rate = rates_apart(points)
    title = f"{sweep_title(points)}: the weight by learning rate"
    columns = _columns(len(by_rate), 1)
    figure, axes = _filled_grid(len(by_rate), columns, title, (3.6, 3.1), note=weight_note(points))
    colours = rate_colours(by_rate)
    for ax, (rate, members) in zip(axes, by_rate.items(), strict=True):
        draw_weights(ax, members, colours[rate])
        name_axes(ax, f"rate {rate:g}")
    return figure


def rates_apart(points: Sequence[Point]) -> dict[float, list[Point]]:
    """Return the points of each rate, ascending; those of one rate are its seeds."""
    return {
        rate: [point for point in points if point.learning_rate == rate]
        for rate in sorted({point.learning_rate for point in points})
    }


def weight_note(points: Sequence[Point]) -> str:
    """Say what the lines of `draw_weights` are."""
    parts = []
    if target_slope(points[0].config) is not None:
        parts.append("dashed: the slope that fits best")
    if len({point.config.seed for point in points}) > 1:
        parts.append("one line for each seed")
    return "; ".join(parts)


def draw_weights(ax: Axes, points: Sequence[Point], colour: Colour) -> None:
    """Draw the weight of a line over the epochs, a line for each seed, and the slope that fits best."""
    config = points[0].config
    slope = target_slope(config)
    if slope is not None:
        ax.axhline(slope, color=FAINT, linewidth=1, linestyle="--", zorder=1)
    found = [curve(point, "weights/weight") for point in points]
    lines = [Line(line, short(float(line.values[-1])), colour) for line in found if len(line.steps)]
    draw_lines(ax, lines, log=False)
    if any(np.abs(line.values).max(initial=0) > EXPLODED for line in found):
        signed_log(ax)
    epoch_axis(ax, max(1, *(point.history.epochs for point in points)), config.training.batch_size is None)
    # Several seeds end close to each other.
    label_ends(ax, lines[:1] if len(lines) > 1 else lines)
    ax.set_ylabel("weight")


def sweep_title(points: Sequence[Point]) -> str:
    """Return the title of a sweep's figures: its study and backends."""
    backends = dict.fromkeys(point.config.backend.name for point in points)
    return f"{points[0].config.study} ({', '.join(backends)})"
