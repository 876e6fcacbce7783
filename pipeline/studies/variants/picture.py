"""Draw a study that compares methods or features: loss versus rate for each of them, with the others in grey."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.drawing.axes import SMALL, TEXT, axes_grid, name_axes
from pipeline.drawing.colours import FAINT, INK, Colour, rate_colours
from pipeline.drawing.plot_data import LOG_SMALLEST, drawable_on_log, on_log_axis
from pipeline.drawing.scales import plain_log_ticks, rate_axis
from pipeline.points.point import Point
from pipeline.studies.grids import PointsByBackend
from pipeline.studies.result_grids import joined
from pipeline.studies.variants.variants import TARGET, Variant, knob, loss_rows, lowest, target, variants

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 4
# Upper limit of all axes, as a multiple of the baseline loss.
MOST = 3.0


def variants_study(study: str, backends: PointsByBackend) -> Figure:
    """Draw each variant: its final loss versus rate, with its usable range shaded and all other variants in grey.

    Args:
        study: the study's name, for the title.
        backends: the points of each backend; only the first backend is drawn.
    """
    points = next(iter(backends.values()))
    backend = points[0].config.backend.name
    found = variants(points)
    best = lowest(found)
    wanted = target(points[0])
    columns = min(COLUMNS, len(found))
    rows = math.ceil(len(found) / columns)
    title = f"{study} ({backend}): final {loss_rows(points)} loss against the rate"
    figure, axes = axes_grid(rows, columns, title, width=3.3, height=2.5, note=_note(points, best.tested))
    colours = rate_colours(float(rate) for variant in found for rate in variant.rates)
    finite = np.concatenate([variant.losses[np.isfinite(variant.losses)] for variant in found])
    positive = finite[finite > 0]
    # The target is TARGET times the baseline.
    ceiling = MOST * wanted / TARGET
    # A method may reach a loss of 1e-30; showing it would squeeze all others into the top of the figure.
    floor = max(min(positive.min(initial=wanted), wanted) / 2, 1e-12 * ceiling)
    for ax, variant in zip(axes, found, strict=False):
        for other in found:
            if other is variant:
                _draw_own(ax, other, floor, ceiling, colours)
                _draw_bars(ax, other, ceiling, colours)
            else:
                _draw_behind(ax, other, floor, ceiling)
        ax.axhline(wanted, color=INK, linewidth=0.8, linestyle="--", zorder=1)
        if variant.range is not None:
            low, high = map(on_log_axis, variant.range)
            ax.axvspan(low, high, color="#dbe9d3", zorder=0, linewidth=0)
        ax.set_yscale("log")
        ax.set_ylim(floor / 1.3, ceiling)
        plain_log_ticks(ax)
        rate_axis(ax, [float(rate) for rate in variant.rates])
        name_axes(ax, variant.name)
        if variant.name in [one.name for one in best.variants]:
            ax.set_title(variant.name, loc="left", y=1, fontsize=TEXT, color=INK, fontweight="bold")
        ax.set_title(_width(variant), loc="right", y=1, fontsize=SMALL, color=FAINT)
    _label_outer_axes(axes, columns, len(found))
    return figure


def _label_outer_axes(axes: Sequence[Axes], columns: int, used: int) -> None:
    """Hide unused axes, and keep labels only at the left and at the bottom of each column."""
    for index, ax in enumerate(axes):
        if index >= used:
            ax.set_visible(False)
        elif index + columns < used:
            ax.set_xlabel("")
        if index % columns == 0:
            ax.set_ylabel("final loss")


def _draw_behind(ax: Axes, variant: Variant, floor: float, ceiling: float) -> None:
    """Draw the losses of another variant in grey."""
    shown = np.clip(variant.losses, floor, None)
    inside = shown < ceiling
    ax.plot(drawable_on_log(variant.rates[inside]), shown[inside], color="#d8d8d8", linewidth=1, zorder=1)


def _note(points: Sequence[Point], tested: bool) -> str:
    """Say what the marks in the figure mean; `tested`: whether variants were told apart by seeds."""
    seeds = max(
        Counter((str(point.settings.get(knob(points) or "")), point.learning_rate) for point in points).values()
    )
    lowest_loss = "bold: the lowest loss"
    if tested:
        lowest_loss = "bold: cannot be told from the lowest loss"
    known = "one seed: noise unknown"
    if seeds > 1:
        known = f"bars: the 95 % interval of the mean of {seeds} seeds"
    return joined(
        f"dashed: the target, {TARGET:.0%} of the baseline",
        "green: the widest range of rates that reach it",
        "grey: the others",
        "cross: diverged, or beyond the axis",
        lowest_loss,
        known,
    )


def _draw_bars(ax: Axes, variant: Variant, ceiling: float, colours: Mapping[float, Colour]) -> None:
    """Draw the intervals of the mean losses of a variant up to the ceiling, where several seeds trained."""
    for rate, found in zip(map(float, variant.rates), variant.estimates, strict=True):
        # An end at 0 is not on a logarithmic axis: the bar leaves it at the lower edge.
        low, high = np.clip(found.interval or (math.nan, math.nan), LOG_SMALLEST, ceiling)
        if low < high:
            ax.plot([on_log_axis(rate)] * 2, [low, high], color=colours[rate], linewidth=1.5, marker="_", markersize=6,
                    zorder=4)  # fmt: skip


def _draw_own(ax: Axes, variant: Variant, floor: float, ceiling: float, colours: Mapping[float, Colour]) -> None:
    """Draw the losses of a variant; values beyond the axes are marked with a cross at the upper edge."""
    shown = np.clip(variant.losses, floor, None)
    inside = shown < ceiling
    places = drawable_on_log(variant.rates)
    ax.plot(places[inside], shown[inside], color=INK, linewidth=1.4, zorder=3)
    for rate, place, loss, drawn in zip(variant.rates, places, shown, inside, strict=True):
        colour = colours[float(rate)]
        if drawn:
            ax.plot([place], [loss], color=colour, clip_on=False, zorder=4, marker="o", markersize=5)
        else:
            ax.plot([place], [ceiling], color=colour, clip_on=False, zorder=4, marker="x", markersize=6,
                    markeredgewidth=1.6)  # fmt: skip


def _width(variant: Variant) -> str:
    """Return the width of a variant's usable range as a short label."""
    if variant.decades is None:
        return "none"
    if variant.decades == 0:
        return "one rate"
    if variant.at_the_edge:
        return f"{variant.decades:.1f}+ decades"
    return f"{variant.decades:.1f} decades"
