"""Draw the figure that answers the question of a study of networks, showing both backends if that is informative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config.metrics import METRIC_NAMES, larger_is_better
from pipeline.drawing.axes import Line, axes_grid, draw_lines, epoch_axis, label_ends, name_axes
from pipeline.drawing.colours import INK, rate_colours
from pipeline.drawing.grid_plots import draw_by_value, draw_heat, heat_limits, places_of
from pipeline.drawing.plot_data import Curve, Series, drawable_on_log
from pipeline.points.point import Point
from pipeline.studies.breaking_picture import breaking_note, draw_breaking_rates, predicted_note
from pipeline.studies.cell_curves import draw_curves
from pipeline.studies.grids import PointsByBackend, cell_metric, recorded, with_value
from pipeline.studies.knobs import RATE, Layout, layout
from pipeline.studies.network_data import has_error_surface
from pipeline.studies.network_figures import error_surface
from pipeline.studies.result_grids import best_note, cell_note, joined, result_grid, seeds_note
from pipeline.studies.sweep_figures import (
    MOST_COLUMNS,
    bar_label,
    curves_by_value,
    draw_profile,
    draw_weights,
    for_each,
    heat_size,
    panels,
    rates_apart,
    weight_note,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Maximum number of panels and profiles in one row; more of them are drawn in rows of MOST_COLUMNS.
MOST_IN_A_ROW = 6


def network_study(study: str, backends: PointsByBackend) -> Figure:
    """Draw a study of networks over its knobs, usually rates and hidden sizes.

    The content depends on the study:

    - more knobs than two axes: a plot for each panel, and the profile of each further knob;
    - fitting a line over rates: the weight for each rate;
    - a point with two weights: the error surface;
    - two axes: heat maps of the final value if validation or test rows judge, otherwise lines next to the curves;
    - another knob than the rate: its line next to the curves;
    - otherwise: curves by rate.

    Args:
        study: the study's name, for the title.
        backends: the points of each backend; at least one backend with at least one point.
    """
    points = next(iter(backends.values()))
    shown = _layout(backends)
    if shown.apart:
        return _panels_and_profiles(study, backends)
    over_rates = shown.across.key == RATE
    if recorded(points, "weights/weight") and over_rates and len(shown.up.values) == 1:
        return _weights(study, backends)
    if has_error_surface(points[0]) and len(points) == 1:
        return error_surface(points[0])
    tested = not cell_metric(points).startswith("train/")
    two_axes = len(shown.up.values) > 1
    if two_axes and tested:
        return _heat_maps(study, backends)
    if two_axes or not over_rates:
        return _ends_and_curves(study, backends)
    if tested:
        return _curves(study, backends)
    return curves_by_value(points)


def recorded_figure(title: str, by_rate: Mapping[float, Mapping[str, Series]]) -> Figure:
    """Draw the curves by rate of a stored run, in the same style as the other figures."""
    metrics = [name for name in METRIC_NAMES if any(name in metrics for metrics in by_rate.values())]
    figure, axes = axes_grid(1, len(metrics), title, width=4.2, height=2.9, note="colour: learning rate")
    colours = rate_colours(by_rate)
    for ax, metric in zip(axes, metrics, strict=True):
        accuracy = larger_is_better(metric)
        lines = []
        for rate, (epochs, values) in ((rate, found[metric]) for rate, found in by_rate.items() if metric in found):
            label = f"{rate:g}"
            if accuracy:
                label += f": {values[-1]:.3f}"
            lines.append(Line(Curve(epochs.astype(np.int64), values, False), label, colours[rate]))
        draw_lines(ax, lines, log=not accuracy, score=accuracy)
        epoch_axis(ax, max(int(line.curve.steps[-1]) for line in lines), full_batch=False)
        label_ends(ax, lines)
        name_axes(ax, METRIC_NAMES[metric])
    return figure


def _by_rate(points: Sequence[Point]) -> list[Point]:
    return sorted(points, key=lambda point: point.learning_rate)


def _weights(study: str, backends: PointsByBackend) -> Figure:
    """Draw the weight over the epochs: a row for each backend, a column for each rate."""
    apart = {backend: rates_apart(points) for backend, points in backends.items()}
    colours = rate_colours(rate for by_rate in apart.values() for rate in by_rate)
    columns = max(map(len, apart.values()))
    points = next(iter(backends.values()))
    note = joined(weight_note(points), predicted_note(points))
    title = f"{study}: the weight by learning rate"
    figure, axes = axes_grid(len(backends), columns, title, width=3.6, height=2.8, note=note)
    for row, (backend, by_rate) in enumerate(apart.items()):
        for ax, (rate, members) in zip(axes[row * columns :], by_rate.items(), strict=False):
            draw_weights(ax, members, colours[rate])
            labels = " or ".join(dict.fromkeys(point.diagnosis.label for point in members))
            name_axes(ax, f"{backend}, rate {rate:g}: {labels}")
        # One backend may have trained fewer rates than the other.
        for ax in axes[row * columns + len(by_rate) : (row + 1) * columns]:
            ax.set_visible(False)
    return figure


def _curves(study: str, backends: PointsByBackend) -> Figure:
    """Draw losses and what judges over the epochs: a row for each backend, a column for each metric."""
    judged = cell_metric(next(iter(backends.values())))
    rows = judged.partition("/")[0]
    metrics = list(dict.fromkeys(("train/loss", f"{rows}/loss", judged)))
    title = f"{study}: curves by learning rate"
    points = next(iter(backends.values()))
    note = joined("colour: learning rate", seeds_note(points, layout(points)), predicted_note(points))
    figure, axes = axes_grid(len(backends), len(metrics), title, width=4.2, height=2.9, note=note)
    wanted = [(backend, metric) for backend in backends for metric in metrics]
    for ax, (backend, metric) in zip(axes, wanted, strict=True):
        draw_curves(ax, _by_rate(backends[backend]), metric, layout(backends[backend]))
        name_axes(ax, f"{backend}, {METRIC_NAMES[metric]}")
    return figure


def _heat_maps(study: str, backends: PointsByBackend) -> Figure:
    """Draw the first backend's final value versus rate, and a heat map over rate and size for each backend."""
    first, points = next(iter(backends.items()))
    shown = _layout(backends)
    metric = cell_metric(points)
    grids = {backend: result_grid(members, shown, metric) for backend, members in backends.items()}
    width, height = heat_size(grids[first], least_height=2.6)
    title = f"{study}: final {METRIC_NAMES[metric]}"
    marks = best_note(points, shown, "black edge or red frame")
    note = joined(cell_note(points, shown), marks, breaking_note(points, shown))
    figure, axes = axes_grid(1, 1 + len(backends), title, width=width, height=height, note=note)
    draw_by_value(axes[0], grids[first], log=not larger_is_better(metric))
    draw_breaking_rates(axes[0], points, shown)
    name_axes(axes[0], first)
    limits = heat_limits(list(grids.values()))
    for ax, (backend, grid) in zip(axes[1:], grids.items(), strict=True):
        # One colour bar is enough, because all have the same colours.
        bar = bar_label(metric) if ax is axes[-1] else None
        draw_heat(ax, grid, larger_is_better=larger_is_better(metric), limits=limits, bar=bar)
        name_axes(ax, backend)
    return figure


def _layout(backends: PointsByBackend) -> Layout:
    """Return the knobs of the first backend, with the values of all backends."""
    points, *others = backends.values()
    return layout(points, [point for members in others for point in members])


def _ends_and_curves(study: str, backends: PointsByBackend) -> Figure:
    """Draw the final value versus rate, with rings for the second backend's values, and the first backend's curves."""
    (first, points), *others = backends.items()
    shown = _layout(backends)
    metric = cell_metric(points)
    rings = f"rings: {others[0][0]}" if others else ""
    title = f"{study}: {METRIC_NAMES[metric]} ({first})"
    colour = f"colour: {shown.across.title}"
    marks = best_note(points, shown, "black edge")
    note = joined(colour, cell_note(points, shown), marks, rings, breaking_note(points, shown))
    figure, axes = axes_grid(1, 1 + len(shown.up.values), title, width=4.4, note=note)
    draw_by_value(axes[0], result_grid(points, shown, metric), log=not larger_is_better(metric))
    draw_breaking_rates(axes[0], points, shown)
    name_axes(axes[0], f"final {METRIC_NAMES[metric]}")
    for _, other in others[:1]:
        ends = result_grid(other, shown, metric)
        for values in ends.values:
            # Zeros are not on a logarithmic axis; as NaN they are not drawn.
            drawn = drawable_on_log(np.where(values > 0, values, np.nan))
            axes[0].plot(places_of(ends.across), drawn, linestyle="none", marker="o", markersize=11,
                         markerfacecolor="none", markeredgecolor=INK, markeredgewidth=0.9)  # fmt: skip
    for ax, up in zip(axes[1:], shown.up.values, strict=True):
        draw_curves(ax, with_value(points, shown.up, up, shown.across), metric, shown)
        name_axes(ax, shown.up.said(up))
    return figure


def _panels_and_profiles(study: str, backends: PointsByBackend) -> Figure:
    """Draw for each backend a plot for each panel over the two axes, then the profile of each further knob."""
    points = next(iter(backends.values()))
    metric = cell_metric(points)
    shown = _layout(backends)
    panel_count = 0
    if len(shown.across.values) > 1:
        panel_count = len(panels(points, shown))
    plots = panel_count + len(shown.apart)
    columns = plots
    if plots > MOST_IN_A_ROW:
        columns = MOST_COLUMNS
    # -(-a // b) is a / b rounded up.
    rows = -(-plots // columns)
    title = f"{study}: final {METRIC_NAMES[metric]}{for_each(shown)}; profiles: the best over all other knobs"
    note = joined(cell_note(points, shown), best_note(points, shown, "black edge or frame"))
    width, height = (3.4, 2.7)
    if len(shown.up.values) > 1:
        width, height = heat_size(result_grid(points, shown, metric), least_height=3.1)
    figure, axes = axes_grid(rows * len(backends), columns, title, width=width, height=height, note=note)
    for number, (backend, members) in enumerate(backends.items()):
        own = axes[number * rows * columns : (number + 1) * rows * columns]
        _draw_panels(own[:panel_count], backend, members, shown)
        for ax, knob in zip(own[panel_count:plots], shown.apart, strict=True):
            draw_profile(ax, members, shown, knob)
            name_axes(ax, f"{backend}, profile of {knob.name}")
        for ax in own[plots:]:
            ax.set_visible(False)
    return figure


def _draw_panels(axes: Sequence[Axes], backend: str, points: Sequence[Point], shown: Layout) -> None:
    """Draw each panel of one backend: a heat map if there are two axes, otherwise a line; none without axes."""
    metric = cell_metric(points)
    groups = panels(points, shown)
    grids = [result_grid(members, shown, metric) for _, members in groups]
    for ax, (panel, members), grid in zip(axes, groups, grids, strict=False):
        if len(shown.up.values) > 1:
            draw_heat(
                ax, grid, larger_is_better=larger_is_better(metric), limits=heat_limits(grids), bar=bar_label(metric)
            )
        else:
            draw_by_value(ax, grid, log=not larger_is_better(metric), others=grids)
            draw_breaking_rates(ax, members, shown)
        name_axes(ax, ", ".join([backend, *panel]))
