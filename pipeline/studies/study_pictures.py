"""Draw the figure that answers the question of a study of networks, showing both backends if that is informative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.drawing.axes import (
    INK,
    Line,
    axes_grid,
    draw_lines,
    epoch_axis,
    label_ends,
    name_axes,
    rate_colour,
)
from pipeline.drawing.grid_plots import draw_by_rate, draw_heat
from pipeline.drawing.plot_data import Curve, Series
from pipeline.points.point import Point
from pipeline.studies.grids import (
    METRIC_NAMES,
    PointsByBackend,
    cell_metric,
    hidden_sizes,
    recorded,
    result_grid,
    with_size,
)
from pipeline.studies.network_data import has_two_weights
from pipeline.studies.network_figures import curves_by_rate, draw_curves_by_rate, draw_weight, error_surface

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def network_study(study: str, backends: PointsByBackend) -> Figure:
    """Draw a study of networks over rates and hidden sizes.

    The content depends on the study:

    - fitting a line: the weight for each rate;
    - two weights: the error surface;
    - several hidden sizes: heat maps of the final value over rate and size if there is a test accuracy, otherwise lines
      next to the curves;
    - otherwise: curves by rate.

    Args:
        study: the study's name, for the title.
        backends: the points of each backend; at least one backend with at least one point.
    """
    points = next(iter(backends.values()))
    if recorded(points, "weights/weight"):
        return _weights(study, backends)
    if has_two_weights(points[0].history.snapshots):
        return error_surface(points[0])
    accuracy = recorded(points, "test/accuracy")
    several_sizes = len(hidden_sizes(points)) > 1
    if several_sizes and accuracy:
        return _heat_maps(study, backends)
    if several_sizes:
        return _ends_and_curves(study, backends)
    if accuracy:
        return _curves(study, backends)
    return curves_by_rate(points)


def recorded_figure(title: str, by_rate: Mapping[float, Mapping[str, Series]]) -> Figure:
    """Draw the curves by rate of a stored run, in the same style as the other figures."""
    metrics = [name for name in METRIC_NAMES if any(name in metrics for metrics in by_rate.values())]
    figure, axes = axes_grid(1, len(metrics), title, width=4.2, height=2.9)
    for ax, metric in zip(axes, metrics, strict=True):
        accuracy = metric.endswith("accuracy")
        lines = []
        for rate, (epochs, values) in ((rate, found[metric]) for rate, found in by_rate.items() if metric in found):
            label = f"{rate:g}"
            if accuracy:
                label += f": {values[-1]:.3f}"
            lines.append(Line(Curve(epochs.astype(np.int64), values, False), label, rate_colour(rate)))
        draw_lines(ax, lines, log=not accuracy)
        epoch_axis(ax, max(int(line.curve.steps[-1]) for line in lines), full_batch=False)
        label_ends(ax, lines, heading="rate")
        name_axes(ax, METRIC_NAMES[metric])
    return figure


def _by_rate(points: Sequence[Point]) -> list[Point]:
    return sorted(points, key=lambda point: point.learning_rate)


def _weights(study: str, backends: PointsByBackend) -> Figure:
    """Draw the weight over the epochs: a row for each backend, a column for each rate."""
    columns = max(len(points) for points in backends.values())
    figure, axes = axes_grid(len(backends), columns, f"{study}: the weight by learning rate", width=3.6, height=2.7)
    for row, (backend, points) in enumerate(backends.items()):
        chosen = _by_rate(points)
        for ax, point in zip(axes[row * columns :], chosen, strict=False):
            draw_weight(ax, point)
            name_axes(ax, f"{backend}, rate {point.learning_rate:g}: {point.diagnosis.label}")
        # One backend may have trained fewer rates than the other.
        for ax in axes[row * columns + len(chosen) : (row + 1) * columns]:
            ax.set_visible(False)
    return figure


def _curves(study: str, backends: PointsByBackend) -> Figure:
    """Draw losses and test accuracy over the epochs: a row for each backend, a column for each metric."""
    metrics = ("train/loss", "test/loss", "test/accuracy")
    figure, axes = axes_grid(len(backends), len(metrics), f"{study}: curves by learning rate", width=4.2, height=2.9)
    wanted = [(backend, metric) for backend in backends for metric in metrics]
    for ax, (backend, metric) in zip(axes, wanted, strict=True):
        draw_curves_by_rate(ax, _by_rate(backends[backend]), metric)
        name_axes(ax, f"{backend}, {METRIC_NAMES[metric]}")
    return figure


def _heat_maps(study: str, backends: PointsByBackend) -> Figure:
    """Draw the first backend's final value versus rate, and a heat map over rate and size for each backend."""
    first, points = next(iter(backends.items()))
    metric = cell_metric(points)
    cells = result_grid(points, metric)
    # Inches; a cell must be large enough for its printed value.
    width = max(4.3, 0.85 * len(cells.rates) + 1)
    height = max(2.6, 0.55 * len(cells.sizes) + 1)
    title = f"{study}: final {METRIC_NAMES[metric]}"
    figure, axes = axes_grid(1, 1 + len(backends), title, width=width, height=height)
    draw_by_rate(axes[0], cells, log=not metric.endswith("accuracy"))
    name_axes(axes[0], first)
    for ax, (backend, members) in zip(axes[1:], backends.items(), strict=True):
        draw_heat(ax, result_grid(members, metric), metric)
        name_axes(ax, backend)
    return figure


def _ends_and_curves(study: str, backends: PointsByBackend) -> Figure:
    """Draw the final value versus rate, with rings for the second backend's values, and the first backend's curves."""
    (first, points), *others = backends.items()
    metric = cell_metric(points)
    sizes = hidden_sizes(points)
    drawn = first
    if others:
        drawn = f"{first}; rings: {others[0][0]}"
    figure, axes = axes_grid(1, 1 + len(sizes), f"{study}: {METRIC_NAMES[metric]} ({drawn})", width=4.4)
    draw_by_rate(axes[0], result_grid(points, metric), log=True)
    name_axes(axes[0], f"final {METRIC_NAMES[metric]}")
    for _, other in others[:1]:
        ends = result_grid(other, metric)
        for values in ends.values:
            # Zeros are not on a logarithmic axis; as NaN they are not drawn.
            axes[0].plot(ends.rates, np.where(values > 0, values, np.nan), linestyle="none", marker="o", markersize=11,
                         markerfacecolor="none", markeredgecolor=INK, markeredgewidth=0.9)  # fmt: skip
    for ax, size in zip(axes[1:], sizes, strict=True):
        draw_curves_by_rate(ax, with_size(points, size), metric)
        name_axes(ax, f"hidden size {size}")
    return figure
