"""The one picture that answers the question of a study of networks, with both backends where that tells something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.drawing.axes import (
    INK,
    Line,
    draw_by_rate,
    draw_heat,
    draw_lines,
    epoch_axis,
    label_ends,
    name_panel,
    panels,
    rate_colour,
)
from pipeline.drawing.plot_data import Curve, Series
from pipeline.points.point import Point
from pipeline.studies.grids import METRIC_NAMES, Backends, cell_metric, grid, hidden_sizes, recorded, with_size
from pipeline.studies.network_data import has_two_weights
from pipeline.studies.network_figures import curves_by_rate, draw_curves_by_rate, draw_weight, error_surface

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def network_study(study: str, backends: Backends) -> Figure:
    """The picture of a study of networks over rates and hidden sizes.

    Lines: the weight for each rate. Two weights: the error surface. Several hidden sizes: the final value over rate and
    size, as heat maps where there is a test accuracy, else as lines beside the curves. Otherwise: curves by rate.

    Args:
        study: its name, for the title.
        backends: the points of each backend; at least one of one.
    """
    points = next(iter(backends.values()))
    if recorded(points, "weights/weight"):
        return _weights(study, backends)
    if has_two_weights(points[0].history.snapshots):
        return error_surface(points[0])
    if len(hidden_sizes(points)) > 1:
        return _heat_maps(study, backends) if recorded(points, "test/accuracy") else _ends_and_curves(study, backends)
    if recorded(points, "test/accuracy"):
        return _curves(study, backends)
    return curves_by_rate(points)


def recorded_figure(title: str, by_rate: Mapping[float, Mapping[str, Series]]) -> Figure:
    """Curves by rate of a recorded run, in the same dress."""
    metrics = [name for name in METRIC_NAMES if any(name in metrics for metrics in by_rate.values())]
    figure, axes = panels(1, len(metrics), title, width=4.2, height=2.9)
    for panel, metric in zip(axes, metrics, strict=True):
        accuracy = metric.endswith("accuracy")
        lines = []
        for rate, (epochs, values) in ((rate, found[metric]) for rate, found in by_rate.items() if metric in found):
            value = f": {values[-1]:.3f}" if accuracy else ""
            lines.append(Line(Curve(epochs.astype(np.int64), values, False), f"{rate:g}{value}", rate_colour(rate)))
        draw_lines(panel, lines, log=not accuracy)
        epoch_axis(panel, max(int(line.curve.steps[-1]) for line in lines), full_batch=False)
        label_ends(panel, lines, heading="rate")
        name_panel(panel, METRIC_NAMES[metric])
    return figure


def _by_rate(points: Sequence[Point]) -> list[Point]:
    return sorted(points, key=lambda point: point.learning_rate)


def _weights(study: str, backends: Backends) -> Figure:
    columns = max(len(points) for points in backends.values())
    figure, axes = panels(len(backends), columns, f"{study}: the weight by learning rate", width=3.6, height=2.7)
    for row, (backend, points) in enumerate(backends.items()):
        chosen = _by_rate(points)
        for panel, point in zip(axes[row * columns :], chosen, strict=False):
            draw_weight(panel, point)
            how = point.diagnosis.label
            name_panel(panel, f"{backend}, rate {point.learning_rate:g}: {how}")
        for panel in axes[row * columns + len(chosen) : (row + 1) * columns]:
            panel.set_visible(False)
    return figure


def _curves(study: str, backends: Backends) -> Figure:
    metrics = ("train/loss", "test/loss", "test/accuracy")
    figure, axes = panels(len(backends), len(metrics), f"{study}: curves by learning rate", width=4.2, height=2.9)
    wanted = [(backend, metric) for backend in backends for metric in metrics]
    for panel, (backend, metric) in zip(axes, wanted, strict=True):
        draw_curves_by_rate(panel, _by_rate(backends[backend]), metric)
        name_panel(panel, f"{backend}, {METRIC_NAMES[metric]}")
    return figure


def _heat_maps(study: str, backends: Backends) -> Figure:
    """The first backend's final value against the rate, and every backend's over rate and size."""
    first, points = next(iter(backends.items()))
    metric = cell_metric(points)
    cells = grid(points, metric)
    width = max(4.3, 0.85 * len(cells.rates) + 1)
    height = max(2.6, 0.55 * len(cells.sizes) + 1)
    figure, axes = panels(1, 1 + len(backends), f"{study}: final {METRIC_NAMES[metric]}", width=width, height=height)
    draw_by_rate(axes[0], cells, log=not metric.endswith("accuracy"))
    name_panel(axes[0], first)
    for panel, (backend, members) in zip(axes[1:], backends.items(), strict=True):
        draw_heat(panel, grid(members, metric), metric)
        name_panel(panel, backend)
    return figure


def _ends_and_curves(study: str, backends: Backends) -> Figure:
    """The final value against the rate, rings where a second backend ends, and the first backend's curves."""
    (first, points), *others = backends.items()
    metric = cell_metric(points)
    sizes = hidden_sizes(points)
    rings = f"; rings: {others[0][0]}" if others else ""
    figure, axes = panels(1, 1 + len(sizes), f"{study}: {METRIC_NAMES[metric]} ({first}{rings})", width=4.4)
    draw_by_rate(axes[0], grid(points, metric), log=True)
    name_panel(axes[0], f"final {METRIC_NAMES[metric]}")
    for _, other in others[:1]:
        ends = grid(other, metric)
        for values in ends.values:
            axes[0].plot(ends.rates, np.where(values > 0, values, np.nan), linestyle="none", marker="o", markersize=11,
                         markerfacecolor="none", markeredgecolor=INK, markeredgewidth=0.9)  # fmt: skip
    for panel, size in zip(axes[1:], sizes, strict=True):
        draw_curves_by_rate(panel, with_size(points, size), metric)
        name_panel(panel, f"hidden size {size}")
    return figure
