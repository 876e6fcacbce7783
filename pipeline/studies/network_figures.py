"""The figures of networks: of one, of a sweep. Each returns a matplotlib Figure; nothing here writes files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config.schema import Config
from pipeline.drawing.axes import (
    DPI,
    FAINT,
    INK,
    SMALL,
    STYLE,
    TEXT,
    Figures,
    Line,
    draw_bands,
    draw_bundle,
    draw_by_rate,
    draw_heat,
    draw_lines,
    epoch_axis,
    label_ends,
    name_panel,
    panels,
    rate_colour,
    signed_log,
)
from pipeline.drawing.plot_data import Curve
from pipeline.points.point import Point
from pipeline.studies.grids import METRIC_NAMES, cell_metric, grid, hidden_sizes, rates, recorded, with_size
from pipeline.studies.network_data import has_two_weights, loss_at, loss_surface, target_slope, weight_lines
from pipeline.system.wording import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES_UP_TO = 200
NAMES_UP_TO = 12
PATH = "#ff5a5f"


def title_of(config: Config) -> str:
    """A point's name above its figures."""
    size = config.model.hidden_size
    hidden = "" if size is None else f", hidden size {size}"
    return f"{config.study} ({config.backend.name}): rate {config.optimizer.learning_rate:g}{hidden}"


def network_figures(point: Point) -> Figures:
    """The figures of one network by name: `curves`, `weights`, and `error_surface` where there are two weights."""
    yield "curves", curves(point)
    yield "weights", weights_over_time(point)
    if has_two_weights(point.history.snapshots):
        yield "error_surface", error_surface(point)


def network_sweep_figures(points: Sequence[Point]) -> Figures:
    """The figures of a sweep by name: `curves_by_rate`, `loss_by_rate`, `heat_map`, `weight_by_rate`, as they apply."""
    yield "curves_by_rate", curves_by_rate(points)
    if len(rates(points)) > 1:
        yield "loss_by_rate", loss_by_rate(points)
        if len(hidden_sizes(points)) > 1:
            yield "heat_map", heat_map(points)
    if recorded(points, "weights/weight"):
        yield "weight_by_rate", weight_by_rate(points)


def curve(point: Point, metric: str) -> Curve:
    """One metric over the epochs; empty where it was not recorded."""
    steps, values = point.history.series(metric)
    return Curve(steps, values.astype(np.float64), point.diverged)


def curves(point: Point) -> Figure:
    """Loss, and accuracy where there is one, of the training and the test rows over the epochs."""
    colour = rate_colour(point.learning_rate)
    names = [name for name in ("loss", "accuracy") if len(point.history.series(f"train/{name}")[0])] or ["loss"]
    how = "" if point.history.diverged_step is None else f", diverged after {point.history.diverged_step:,} updates"
    figure, axes = panels(1, len(names), title_of(point.config) + how)
    for panel, name in zip(axes, names, strict=True):
        lines = [
            Line(curve(point, f"train/{name}"), "training", colour),
            Line(curve(point, f"test/{name}"), "test", colour, dashed=True),
        ]
        draw_lines(panel, lines, log=name == "loss", most=1e30)
        epoch_axis(panel, max(point.history.epochs, 1), point.config.training.batch_size is None)
        name_panel(panel, name)
        if len(lines[1].curve.steps):
            label_ends(panel, lines)
    return figure


def weights_over_time(point: Point) -> Figure:
    """Every weight over the snapshots, or for a large network the spread of each array's weights."""
    arrays = weight_lines(point.history.snapshots)
    small = sum(values.shape[1] for _, values in arrays.values()) <= LINES_UP_TO
    note = "" if small else " (bands: all, 90 %, half of them; line: median)"
    figure, axes = panels(1, max(len(arrays), 1), f"{title_of(point.config)}, weights{note}", width=3.7)
    colour = rate_colour(point.learning_rate)
    for panel, (name, (steps, values)) in zip(axes, arrays.items(), strict=False):
        if small:
            draw_bundle(panel, steps, values, colour)
        else:
            draw_bands(panel, steps.tolist(), values, colour)
        if np.abs(values).max() > 1000:
            signed_log(panel)
        epoch_axis(panel, max(point.history.epochs, 1), point.config.training.batch_size is None)
        title = name.replace("layer_", "layer ").replace("/", ", ")
        if small and 1 < values.shape[1] <= NAMES_UP_TO:
            places = [",".join(map(str, place)) for place in np.ndindex(point.history.snapshots[0][name].shape)]
            columns = [Curve(steps, column, False) for column in values.T]
            label_ends(panel, [Line(*named, colour) for named in zip(columns, places, strict=True)])
            title += " (row,column)" if "," in places[0] else ""
        name_panel(panel, title)
    return figure


def error_surface(point: Point) -> Figure:
    """The loss of a two-weight network over both weights, as a surface and as contours, with the way down it."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    axis, surface = loss_surface(point.config)
    _, path = weight_lines(point.history.snapshots)["layer_0/weights"]
    inside = path[(np.abs(path) <= axis[-1]).all(axis=1)]
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 4.4), dpi=DPI)
        figure.suptitle(f"{title_of(point.config)}, error surface", x=0.01, ha="left", fontsize=TEXT + 1, color=INK)
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
    for place, above, name in ((0, 7, "start"), (-1, -14, f"after {point.history.epochs:,}")):
        if len(inside):
            side = "right" if inside[place, 0] > 0 else "left"
            flat.annotate(name, inside[place], xytext=(0, above), textcoords="offset points", ha=side,
                          fontsize=SMALL, color="white")  # fmt: skip
    flat.set(xlabel="first weight", ylabel="second weight", aspect="equal", xticks=ticks, yticks=ticks)
    flat.grid(False)
    figure.colorbar(levels, cax=scale, label="loss")
    return figure


def curves_by_rate(points: Sequence[Point]) -> Figure:
    """The training loss of every point, and below it the test accuracy, coloured by rate; a column for each size."""
    sizes = hidden_sizes(points)
    metrics = [name for name in ("train/loss", "test/accuracy") if recorded(points, name)] or ["train/loss"]
    across = len(sizes) > 1
    rows, columns = (len(metrics), len(sizes)) if across else (1, len(metrics))
    figure, axes = panels(rows, columns, f"{sweep_title(points)}: curves by learning rate")
    for panel, (metric, size) in zip(axes, [(m, s) for m in metrics for s in sizes], strict=True):
        draw_curves_by_rate(panel, with_size(points, size), metric)
        name_panel(panel, METRIC_NAMES[metric] + (f", hidden size {size}" if across else ""))
    return figure


def draw_curves_by_rate(panel: Axes, points: Sequence[Point], metric: str) -> None:
    """One metric of several points over the epochs, coloured by rate; accuracies with their last value."""
    accuracy = metric.endswith("accuracy")
    lines = []
    for point in points:
        rate = point.learning_rate
        line = curve(point, metric)
        value = f": {line.values[-1]:.3f}" if accuracy and len(line.steps) else ""
        lines.append(Line(line, f"{rate:g}{value}", rate_colour(rate)))
    draw_lines(panel, lines, log=not accuracy)
    epochs = max((point.history.epochs for point in points), default=1)
    epoch_axis(panel, epochs, any(point.config.training.batch_size is None for point in points))
    label_ends(panel, lines, heading="rate")


def loss_by_rate(points: Sequence[Point]) -> Figure:
    """The final training loss against the rate, and the test accuracy beside it, one line for each hidden size."""
    metrics = [name for name in ("train/loss", "test/accuracy") if recorded(points, name)] or ["train/loss"]
    figure, axes = panels(1, len(metrics), f"{sweep_title(points)}: the end of training by learning rate")
    for panel, metric in zip(axes, metrics, strict=True):
        draw_by_rate(panel, grid(points, metric), log=not metric.endswith("accuracy"))
        name_panel(panel, f"final {METRIC_NAMES[metric]}")
    return figure


def heat_map(points: Sequence[Point]) -> Figure:
    """What the sweep is judged by, over rates and hidden sizes, with the values in the cells."""
    metric = cell_metric(points)
    cells = grid(points, metric)
    note = "" if cells.points_per_cell < 2 else " (median where points share a cell)"
    figure, axes = panels(
        1,
        1,
        f"{sweep_title(points)}: final {METRIC_NAMES[metric]}{note}",
        width=max(4.3, 0.85 * len(cells.rates) + 1),
        height=max(2.2, 0.55 * len(cells.sizes) + 1),
    )
    draw_heat(axes[0], cells, metric)
    return figure


def weight_by_rate(points: Sequence[Point]) -> Figure:
    """The weight of a line over the epochs, one panel for each rate, as the texts draw it."""
    chosen = sorted(points, key=lambda point: point.learning_rate)
    columns = min(len(chosen), 4)
    rows = -(-len(chosen) // columns)
    figure, axes = panels(rows, columns, f"{sweep_title(points)}: the weight by learning rate", width=3.6)
    for panel, point in zip(axes, chosen, strict=False):
        draw_weight(panel, point)
    for panel in axes[len(chosen) :]:
        panel.set_visible(False)
    return figure


def draw_weight(panel: Axes, point: Point) -> None:
    """The weight of a line over the epochs, and the slope that fits the data best."""
    config = point.config
    rate = point.learning_rate
    line = curve(point, "weights/weight")
    drawn = [Line(line, short(float(line.values[-1])), rate_colour(rate))] if len(line.steps) else []
    slope = target_slope(config)
    if slope is not None:
        panel.axhline(slope, color=FAINT, linewidth=1, linestyle="--", zorder=1)
    draw_lines(panel, drawn, log=False)
    if drawn and np.abs(line.values).max() > 1000:
        signed_log(panel)
    epoch_axis(panel, max(point.history.epochs, 1), config.training.batch_size is None)
    label_ends(panel, drawn)
    name_panel(panel, f"rate {rate:g}")
    panel.set_ylabel("weight")


def sweep_title(points: Sequence[Point]) -> str:
    """The study and the backends of a sweep."""
    backends = dict.fromkeys(point.config.backend.name for point in points)
    return f"{points[0].config.study} ({', '.join(backends)})"
