"""Draw the figures of one network and of a sweep of networks. Nothing here writes files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config.schema import Config
from pipeline.drawing.axes import (
    DPI,
    FAINT,
    INK,
    SMALL,
    TEXT,
    Drawings,
    Line,
    axes_grid,
    draw_bands,
    draw_bundle,
    draw_lines,
    epoch_axis,
    label_ends,
    name_axes,
    rate_colour,
    signed_log,
    styled,
)
from pipeline.drawing.grid_plots import draw_by_rate, draw_heat
from pipeline.drawing.plot_data import Curve, Floats
from pipeline.points.point import Point
from pipeline.studies.grids import METRIC_NAMES, cell_metric, hidden_sizes, rates, recorded, result_grid, with_size
from pipeline.studies.network_data import has_two_weights, loss_at, loss_surface, target_slope, weight_lines
from pipeline.system.wording import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Maximum number of weights drawn as one line each; for more, the spread is drawn.
LINES_UP_TO = 200
# Maximum number of arrays of weights in one figure.
ARRAYS_UP_TO = 12
# Maximum number of lines whose labels do not overlap.
NAMES_UP_TO = 12
# Weights with a larger magnitude are drawn on a logarithmic axis.
EXPLODED = 1000
# Colour of the descent path over an error surface.
PATH = "#ff5a5f"


def title_of(config: Config) -> str:
    """Return the title of a point's figures."""
    title = f"{config.study} ({config.backend.name}): rate {config.optimizer.learning_rate:g}"
    if config.model.hidden_size is not None:
        title += f", hidden size {config.model.hidden_size}"
    return title


def network_figures(point: Point) -> Drawings:
    """Return the figures of one network: `curves`, `weights`, and `error_surface` if there are only two weights."""
    yield "curves", partial(curves, point)
    yield "weights", partial(weights_over_time, point)
    if has_two_weights(point.history.snapshots):
        yield "error_surface", partial(error_surface, point)


def network_sweep_figures(points: Sequence[Point]) -> Drawings:
    """Return those figures that apply to a sweep: `curves_by_rate`, `loss_by_rate`, `heat_map`, `weight_by_rate`."""
    yield "curves_by_rate", partial(curves_by_rate, points)
    if len(rates(points)) > 1:
        yield "loss_by_rate", partial(loss_by_rate, points)
        if len(hidden_sizes(points)) > 1:
            yield "heat_map", partial(heat_map, points)
    if recorded(points, "weights/weight"):
        yield "weight_by_rate", partial(weight_by_rate, points)


def curve(point: Point, metric: str) -> Curve:
    """Return one metric over the epochs; empty if it was not recorded."""
    steps, values = point.history.series(metric)
    return Curve(steps, values.astype(np.float64), point.diverged)


def curves(point: Point) -> Figure:
    """Draw the loss over the epochs, and the accuracy if there is one, for training and test rows."""
    colour = rate_colour(point.learning_rate)
    # A point that diverged immediately has recorded nothing, but still gets a figure.
    names = [name for name in ("loss", "accuracy") if len(point.history.series(f"train/{name}")[0])] or ["loss"]
    title = title_of(point.config)
    if point.history.diverged_step is not None:
        title += f", diverged after {point.history.diverged_step:,} updates"
    figure, axes = axes_grid(1, len(names), title)
    for ax, name in zip(axes, names, strict=True):
        train = Line(curve(point, f"train/{name}"), "training", colour)
        test = Line(curve(point, f"test/{name}"), "test", colour, style="--")
        draw_lines(ax, [train, test], log=name == "loss", max_growth=1e30)
        epoch_axis(ax, max(point.history.epochs, 1), point.config.training.batch_size is None)
        name_axes(ax, name)
        # A single line needs no label.
        if len(test.curve.steps):
            label_ends(ax, [train, test])
    return figure


def weights_over_time(point: Point) -> Figure:
    """Draw every weight over the snapshots; for a large network, the spread of each array's weights."""
    arrays = weight_lines(point.history.snapshots)
    shown = list(arrays)[:ARRAYS_UP_TO]
    small = sum(values.shape[1] for _, values in arrays.values()) <= LINES_UP_TO
    figure_title = f"{title_of(point.config)}, weights"
    if not small:
        figure_title += " (bands: all, 90 %, half of them; line: median)"
    if len(shown) < len(arrays):
        figure_title += f", the first {len(shown)} of {len(arrays)} arrays"
    figure, axes = axes_grid(1, max(len(shown), 1), figure_title, width=3.7)
    colour = rate_colour(point.learning_rate)
    # Without finite snapshots there are no arrays, and the only axes stay empty.
    for ax, name in zip(axes, shown, strict=False):
        steps, values = arrays[name]
        if small:
            draw_bundle(ax, steps, values, colour)
        else:
            draw_bands(ax, steps.tolist(), values, colour)
        if np.abs(values).max() > EXPLODED:
            signed_log(ax)
        epoch_axis(ax, max(point.history.epochs, 1), point.config.training.batch_size is None)
        title = name.replace("layer_", "layer ").replace("/", ", ")
        if small and 1 < values.shape[1] <= NAMES_UP_TO:
            shape = point.history.snapshots[0][name].shape
            labels = [",".join(map(str, index)) for index in np.ndindex(shape)]
            lines = [
                Line(Curve(steps, column, False), label, colour) for column, label in zip(values.T, labels, strict=True)
            ]
            label_ends(ax, lines)
            if len(shape) > 1:
                title += " (row,column)"
        name_axes(ax, title)
    return figure


def error_surface(point: Point) -> Figure:
    """Draw the loss of a two-weight network over both weights, as a surface and as contours, with the descent path.

    Only the part of the path within the surface is drawn.
    """
    from matplotlib.figure import Figure

    axis, surface = loss_surface(point.config)
    # A path needs at least one finite snapshot.
    _, path = weight_lines(point.history.snapshots).get("layer_0/weights", (None, np.empty((0, 2))))
    inside = path[(np.abs(path) <= axis[-1]).all(axis=1)]
    with styled():
        figure = Figure(figsize=(9.6, 4.4), dpi=DPI)
        figure.suptitle(f"{title_of(point.config)}, error surface", x=0.01, ha="left", fontsize=TEXT + 1, color=INK)
        # Placed by hand: a surface in three dimensions has wide empty corners that a grid of axes would not use.
        solid = figure.add_axes((-0.01, 0.04, 0.46, 0.9), projection="3d", computed_zorder=False)
        flat = figure.add_axes((0.55, 0.13, 0.345, 0.76))
        scale = figure.add_axes((0.915, 0.13, 0.018, 0.76))
    mesh = np.meshgrid(axis, axis)
    solid.plot_surface(*mesh, surface, cmap="cividis", rcount=40, ccount=40, linewidth=0.2, edgecolor="#ffffff60")  # type: ignore[attr-defined]
    solid.plot(inside[:, 0], inside[:, 1], loss_at(point.config, inside), color=PATH, linewidth=2.2, zorder=5)
    ticks = axis[:: len(axis) // 4]
    solid.set(xlabel="first weight", ylabel="second weight", xticks=ticks, yticks=ticks)
    levels = flat.contourf(axis, axis, surface, levels=16, cmap="cividis")
    flat.plot(inside[:, 0], inside[:, 1], color=PATH, linewidth=1.8, marker="o", markersize=3)
    if len(inside):
        _name_end(flat, inside[0], 7, "start")
        _name_end(flat, inside[-1], -14, f"after {point.history.epochs:,}")
    flat.set(xlabel="first weight", ylabel="second weight", aspect="equal", xticks=ticks, yticks=ticks)
    flat.grid(False)
    figure.colorbar(levels, cax=scale, label="loss")
    return figure


def _name_end(ax: Axes, weights: Floats, above: float, name: str) -> None:
    """Label an end of a path: `above` is in points, and the text runs towards the middle."""
    side = "right" if weights[0] > 0 else "left"
    ax.annotate(name, (weights[0], weights[1]), xytext=(0, above), textcoords="offset points", ha=side,
                fontsize=SMALL, color="white")  # fmt: skip


def curves_by_rate(points: Sequence[Point]) -> Figure:
    """Draw the training loss of every point, with the test accuracy below it, coloured by rate.

    Each hidden size gets a column. With a single size the two metrics are next to each other instead.
    """
    sizes = hidden_sizes(points)
    metrics = [name for name in ("train/loss", "test/accuracy") if recorded(points, name)] or ["train/loss"]
    rows = len(metrics)
    columns = len(sizes)
    if len(sizes) == 1:
        rows = 1
        columns = len(metrics)
    figure, axes = axes_grid(rows, columns, f"{sweep_title(points)}: curves by learning rate")
    for ax, (metric, size) in zip(axes, [(m, s) for m in metrics for s in sizes], strict=True):
        draw_curves_by_rate(ax, with_size(points, size), metric)
        name = METRIC_NAMES[metric]
        if len(sizes) > 1:
            name += f", hidden size {size}"
        name_axes(ax, name)
    return figure


def draw_curves_by_rate(ax: Axes, points: Sequence[Point], metric: str) -> None:
    """Draw one metric of several points over the epochs, coloured by rate; labels of accuracies have the last value."""
    accuracy = metric.endswith("accuracy")
    lines = []
    for point in points:
        line = curve(point, metric)
        label = f"{point.learning_rate:g}"
        if accuracy and len(line.steps):
            label += f": {line.values[-1]:.3f}"
        lines.append(Line(line, label, rate_colour(point.learning_rate)))
    draw_lines(ax, lines, log=not accuracy)
    epochs = max((point.history.epochs for point in points), default=1)
    epoch_axis(ax, epochs, any(point.config.training.batch_size is None for point in points))
    label_ends(ax, lines, heading="rate")


def loss_by_rate(points: Sequence[Point]) -> Figure:
    """Draw final training loss, and next to it test accuracy, versus learning rate, with one line per hidden size."""
    metrics = [name for name in ("train/loss", "test/accuracy") if recorded(points, name)] or ["train/loss"]
    figure, axes = axes_grid(1, len(metrics), f"{sweep_title(points)}: final results by learning rate")
    for ax, metric in zip(axes, metrics, strict=True):
        draw_by_rate(ax, result_grid(points, metric), log=not metric.endswith("accuracy"))
        name_axes(ax, f"final {METRIC_NAMES[metric]}")
    return figure


def heat_map(points: Sequence[Point]) -> Figure:
    """Draw the sweep's comparison metric over rates and hidden sizes, with the values in the cells."""
    metric = cell_metric(points)
    cells = result_grid(points, metric)
    title = f"{sweep_title(points)}: final {METRIC_NAMES[metric]}"
    if cells.points_per_cell > 1:
        title += " (median if points share a cell)"
    # Inches; a cell must be large enough for its printed value.
    width = max(4.3, 0.85 * len(cells.rates) + 1)
    height = max(2.2, 0.55 * len(cells.sizes) + 1)
    figure, axes = axes_grid(1, 1, title, width=width, height=height)
    draw_heat(axes[0], cells, metric)
    return figure


def weight_by_rate(points: Sequence[Point]) -> Figure:
    """Draw the weight of a line over the epochs, one plot for each rate, as in the source texts."""
    chosen = sorted(points, key=lambda point: point.learning_rate)
    columns = min(len(chosen), 4)
    # -(-a // b) is a / b rounded up.
    rows = -(-len(chosen) // columns)
    figure, axes = axes_grid(rows, columns, f"{sweep_title(points)}: the weight by learning rate", width=3.6)
    for ax, point in zip(axes, chosen, strict=False):
        draw_weight(ax, point)
    for ax in axes[len(chosen) :]:
        ax.set_visible(False)
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
