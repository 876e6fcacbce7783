"""Draw a study that compares methods or features: loss versus rate for each of them, with the others in grey."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.drawing.axes import SMALL, axes_grid, name_axes
from pipeline.drawing.colours import FAINT, INK, rate_colour
from pipeline.drawing.plot_data import drawable_on_log, on_log_axis
from pipeline.drawing.scales import rate_axis
from pipeline.studies.grids import PointsByBackend
from pipeline.studies.variants.variants import TARGET, Variant, target, variants

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
    wanted = target(points[0])
    columns = min(COLUMNS, len(found))
    rows = math.ceil(len(found) / columns)
    figure, axes = axes_grid(rows, columns, f"{study} ({backend}): final loss against the rate", width=3.3, height=2.5)
    finite = np.concatenate([variant.losses[np.isfinite(variant.losses)] for variant in found])
    positive = finite[finite > 0]
    # The target is TARGET times the baseline.
    ceiling = MOST * wanted / TARGET
    # A method may reach a loss of 1e-30; showing it would squeeze all others into the top of the figure.
    floor = max(min(positive.min(initial=wanted), wanted) / 2, 1e-12 * ceiling)
    for ax, variant in zip(axes, found, strict=False):
        for other in found:
            if other is variant:
                _draw_own(ax, other, floor, ceiling)
            else:
                _draw_behind(ax, other, floor, ceiling)
        ax.axhline(wanted, color=INK, linewidth=0.8, linestyle="--", zorder=1)
        if variant.range is not None:
            low, high = map(on_log_axis, variant.range)
            ax.axvspan(low, high, color="#dbe9d3", zorder=0, linewidth=0)
        ax.set_yscale("log")
        ax.set_ylim(floor / 1.3, ceiling)
        rate_axis(ax, [float(rate) for rate in variant.rates])
        ax.tick_params(axis="x", labelrotation=45)
        name_axes(ax, variant.name)
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


def _draw_own(ax: Axes, variant: Variant, floor: float, ceiling: float) -> None:
    """Draw the losses of a variant; values beyond the axes are marked with a cross at the upper edge."""
    shown = np.clip(variant.losses, floor, None)
    inside = shown < ceiling
    places = drawable_on_log(variant.rates)
    ax.plot(places[inside], shown[inside], color=INK, linewidth=1.4, zorder=3)
    for rate, place, loss, drawn in zip(variant.rates, places, shown, inside, strict=True):
        colour = rate_colour(float(rate))
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
