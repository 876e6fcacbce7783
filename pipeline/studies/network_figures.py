"""Draw the figures of one network. Nothing here writes files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config.metrics import judged_by, larger_is_better, last_part
from pipeline.config.schema import Config
from pipeline.drawing.axes import (
    DPI,
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
    styled,
)
from pipeline.drawing.colours import INK, rate_colour
from pipeline.drawing.plot_data import Curve, Floats
from pipeline.drawing.scales import signed_log
from pipeline.points.point import Point
from pipeline.studies.grids import recorded
from pipeline.studies.network_data import has_error_surface, loss_at, loss_surface, weight_lines

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
    if has_error_surface(point):
        yield "error_surface", partial(error_surface, point)


def curve(point: Point, metric: str) -> Curve:
    """Return one metric over the epochs; empty if it was not recorded."""
    steps, values = point.history.series(metric)
    return Curve(steps, values.astype(np.float64), point.diverged)


def curves(point: Point) -> Figure:
    """Draw the loss over the epochs, and the accuracy or what else judges, for training and validation rows.

    Without validation rows, for test rows.
    """
    colour = rate_colour(point.learning_rate)
    names = _drawn(point)
    title = title_of(point.config)
    if point.history.diverged_step is not None:
        title += f", diverged after {point.history.diverged_step:,} updates"
    figure, axes = axes_grid(1, len(names), title)
    for ax, name in zip(axes, names, strict=True):
        train = Line(curve(point, f"train/{name}"), "training", colour)
        others = "test"
        if recorded([point], f"validation/{name}"):
            others = "validation"
        dashed = Line(curve(point, f"{others}/{name}"), others, colour, style="--")
        score = larger_is_better(name)
        draw_lines(ax, [train, dashed], log=not score, max_growth=1e30, score=score)
        epoch_axis(ax, max(point.history.epochs, 1), point.config.training.batch_size is None)
        name_axes(ax, name)
        # A single line needs no label.
        if len(dashed.curve.steps):
            label_ends(ax, [train, dashed])
    return figure


def _drawn(point: Point) -> Sequence[str]:
    """Return the metrics of a point that are drawn over the epochs, without their rows."""
    names = [name for name in ("loss", "accuracy") if recorded([point], f"train/{name}")]
    judged = judged_by(point.config)
    chosen = point.data is not None or point.config.report.metric is not None
    if chosen and recorded([point], judged):
        names.append(last_part(judged))
    # A point that diverged immediately has recorded nothing, but still gets a figure.
    return list(dict.fromkeys(names)) or ["loss"]


def weights_over_time(point: Point) -> Figure:
    """Draw every weight over the snapshots; for a large network, the spread of each array's weights."""
    arrays = weight_lines(point.history.snapshots)
    shown = list(arrays)[:ARRAYS_UP_TO]
    small = sum(values.shape[1] for _, values in arrays.values()) <= LINES_UP_TO
    figure_title = f"{title_of(point.config)}, weights"
    note = "" if small else "bands: all weights, 90 % and half of them; line: their median"
    if len(shown) < len(arrays):
        figure_title += f", the first {len(shown)} of {len(arrays)} arrays"
    figure, axes = axes_grid(1, max(len(shown), 1), figure_title, width=3.7, note=note)
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
        figure.suptitle(
            f"{title_of(point.config)}, error surface; red: the path of the weights",
            x=0.01,
            ha="left",
            fontsize=TEXT + 1,
            color=INK,
        )
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
