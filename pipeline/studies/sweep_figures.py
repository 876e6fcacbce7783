"""Draw the figures of a sweep of networks, over rates, hidden sizes or any other knobs. Nothing here writes files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config.metrics import larger_is_better
from pipeline.drawing.axes import Drawings, Line, axes_grid, draw_lines, epoch_axis, label_ends, name_axes, signed_log
from pipeline.drawing.colours import FAINT, axis_colours, rate_colour
from pipeline.drawing.grid_plots import draw_by_value, draw_heat, heat_limits
from pipeline.drawing.plot_data import ResultGrid
from pipeline.points.point import Point
from pipeline.studies.grids import (
    METRIC_NAMES,
    axis,
    cell_metric,
    curve_metrics,
    merged,
    profile_grid,
    recorded,
    result_grid,
    with_value,
)
from pipeline.studies.knobs import RATE, SEED, Knob, Layout, layout
from pipeline.studies.network_data import target_slope
from pipeline.studies.network_figures import EXPLODED, curve
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
    title = f"{sweep_title(points)}: curves by {_coloured(shown).title}"
    if shown.panels is not None:
        title += f", for each {shown.panels.name}"
    figure, axes = _filled_grid(len(wanted), columns, title)
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


def draw_curves(ax: Axes, points: Sequence[Point], metric: str, shown: Layout) -> None:
    """Draw one metric of several points over the epochs, coloured by the horizontal axis of the layout.

    Labels of accuracies have the last value. If points share a colour, only the first of them has a label; if all do,
    and they differ in their seed, the seed is the label.
    """
    accuracy = larger_is_better(metric)
    knob = _coloured(shown)
    colours = dict(zip(knob.values, axis_colours(axis(knob)), strict=True))
    lines = []
    labelled = []
    for point in points:
        value = knob.of(point)
        line = curve(point, metric)
        label = knob.text(value)
        if accuracy and len(line.steps):
            label += f": {line.values[-1]:.3f}"
        lines.append(Line(line, label, colours[value]))
        if value not in [knob.of(other) for other in points[: len(lines) - 1]]:
            labelled.append(lines[-1])
    draw_lines(ax, lines, log=not accuracy)
    epochs = max((point.history.epochs for point in points), default=1)
    epoch_axis(ax, epochs, any(point.config.training.batch_size is None for point in points))
    label_ends(ax, labelled, heading=knob.name)


def _coloured(shown: Layout) -> Knob:
    """Return the knob whose values colour curves: the horizontal axis, or the seed if nothing else varies."""
    if not shown.knobs and len(shown.seeds) > 1:
        return Knob(SEED, shown.seeds)
    return shown.across


def loss_by_value(points: Sequence[Point]) -> Figure:
    """Draw final training loss, and next to it what judges test rows, versus the rate or another knob.

    There is a line for each hidden size, or each value of another second knob, and a plot for each panel.
    """
    shown = layout(points)
    metrics = curve_metrics(points)
    title = with_note(f"{sweep_title(points)}: final results by {shown.across.title}", points, shown)
    wanted = [(panel, metric) for panel in panels(points, shown) for metric in metrics]
    figure, axes = _filled_grid(len(wanted), _columns(len(wanted), len(metrics)), title)
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
    title = with_note(f"{sweep_title(points)}: final {METRIC_NAMES[metric]}", points, shown)
    size = heat_size(grids[0], least_height=2.2)
    figure, axes = _filled_grid(len(groups), _columns(len(groups), 1), title, size)
    for ax, (panel, _), grid in zip(axes, groups, grids, strict=True):
        draw_heat(ax, grid, larger_is_better=larger_is_better(metric), limits=heat_limits(grids))
        name_axes(ax, "".join(panel))
    return figure


def _columns(plots: int, together: int) -> int:
    """Return how many of these plots are next to each other, if `together` of them have to be."""
    return min(plots, MOST_COLUMNS // together * together)


def _filled_grid(
    plots: int, columns: int, title: str, size: tuple[float, float] = (4.3, 3.1)
) -> tuple[Figure, list[Axes]]:
    """Create a figure with this many axes, row by row; `size` is their width and height in inches."""
    # -(-a // b) is a / b rounded up.
    figure, axes = axes_grid(-(-plots // columns), columns, title, width=size[0], height=size[1])
    for ax in axes[plots:]:
        ax.set_visible(False)
    return figure, axes[:plots]


def heat_size(grid: ResultGrid, least_height: float) -> tuple[float, float]:
    """Return width and height of a heat map in inches; a cell must be large enough for its printed value."""
    width = max(4.3, 0.85 * len(grid.across.ticks) + 1)
    height = max(least_height, 0.55 * len(grid.up.ticks) + 1)
    return width, height


def profiles(points: Sequence[Point]) -> Figure:
    """Draw for each knob without an axis the best result at each of its values, over all other knobs."""
    shown = layout(points)
    metric = cell_metric(points)
    title = f"{sweep_title(points)}: {METRIC_NAMES[metric]}, the best over all other knobs"
    figure, axes = axes_grid(1, len(shown.apart), title)
    for ax, knob in zip(axes, shown.apart, strict=True):
        draw_profile(ax, points, shown, knob)
        name_axes(ax, knob.name)
    return figure


def draw_profile(ax: Axes, points: Sequence[Point], shown: Layout, knob: Knob) -> None:
    """Draw the best result at each value of a knob, over all other knobs."""
    metric = cell_metric(points)
    draw_by_value(ax, profile_grid(points, shown, knob, metric), log=not larger_is_better(metric))


def with_note(title: str, points: Sequence[Point], shown: Layout) -> str:
    """Add to a title what the panels are, and which points share a cell."""
    if shown.panels is not None:
        title += f", for each {shown.panels.name}"
    note = merged(points, shown)
    if note:
        title += f" ({note})"
    return title


def weight_by_rate(points: Sequence[Point]) -> Figure:
    """Draw the weight of a line over the epochs, one plot for each rate, as in the source texts."""
    chosen = sorted(points, key=lambda point: point.learning_rate)
    title = f"{sweep_title(points)}: the weight by learning rate"
    figure, axes = _filled_grid(len(chosen), _columns(len(chosen), 1), title, (3.6, 3.1))
    for ax, point in zip(axes, chosen, strict=True):
        draw_weight(ax, point)
    return figure


def draw_weight(ax: Axes, point: Point) -> None:
    """Draw the weight of a line over the epochs, with the best-fitting slope."""
    config = point.config
    line = curve(point, "weights/weight")
    slope = target_slope(config)
    if slope is not None:
        ax.axhline(slope, color=FAINT, linewidth=1, linestyle="--", zorder=1)
    lines = []
    if len(line.steps):
        lines.append(Line(line, short(float(line.values[-1])), rate_colour(point.learning_rate)))
    draw_lines(ax, lines, log=False)
    if np.abs(line.values).max(initial=0) > EXPLODED:
        signed_log(ax)
    epoch_axis(ax, max(point.history.epochs, 1), config.training.batch_size is None)
    label_ends(ax, lines)
    name_axes(ax, f"rate {point.learning_rate:g}")
    ax.set_ylabel("weight")


def sweep_title(points: Sequence[Point]) -> str:
    """Return the title of a sweep's figures: its study and backends."""
    backends = dict.fromkeys(point.config.backend.name for point in points)
    return f"{points[0].config.study} ({', '.join(backends)})"
