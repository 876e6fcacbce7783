"""The picture of a study that compares methods or features: for each the loss against the rate, the others behind."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pipeline.drawing.axes import FAINT, INK, SMALL, name_panel, panels, rate_axis, rate_colour
from pipeline.studies.grids import Backends
from pipeline.studies.variants.variants import TARGET, Variant, target, variants

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 4
MOST = 3.0
"""How many times the loss of a constant answer the panels reach up to."""


def variants_study(study: str, backends: Backends) -> Figure:
    """A panel for each variant: its final loss against the rate, its usable range shaded, all the others in grey.

    Args:
        study: its name, for the title.
        backends: the points of each backend; the first one's are drawn.
    """
    points = next(iter(backends.values()))
    backend = points[0].config.backend.name
    found = variants(points)
    wanted = target(points[0])
    columns = min(COLUMNS, len(found))
    rows = math.ceil(len(found) / columns)
    figure, axes = panels(rows, columns, f"{study} ({backend}): final loss against the rate", width=3.3, height=2.5)
    finite = np.concatenate([variant.losses[np.isfinite(variant.losses)] for variant in found])
    positive = finite[finite > 0]
    ceiling = MOST * wanted / TARGET
    floor = max(min(positive.min(initial=wanted), wanted) / 2, 1e-12 * ceiling)
    for panel, variant in zip(axes, found, strict=False):
        for other in found:
            _line(panel, other, floor, ceiling, own=other is variant)
        panel.axhline(wanted, color=INK, linewidth=0.8, linestyle="--", zorder=1)
        if variant.range is not None:
            panel.axvspan(variant.range[0], variant.range[1], color="#dbe9d3", zorder=0, linewidth=0)
        panel.set_yscale("log")
        panel.set_ylim(floor / 1.3, ceiling)
        rate_axis(panel, [float(rate) for rate in variant.rates])
        panel.tick_params(axis="x", labelrotation=45)
        name_panel(panel, variant.name)
        panel.set_title(_said(variant), loc="right", y=1, fontsize=SMALL, color=FAINT)
    for place, panel in enumerate(axes):
        if place >= len(found):
            panel.set_visible(False)
        elif place + columns < len(found):
            panel.set_xlabel("")
        if place % columns == 0:
            panel.set_ylabel("final loss")
    return figure


def _line(panel: Axes, variant: Variant, floor: float, ceiling: float, own: bool) -> None:
    """The losses of a variant; what is beyond the panel stands on its upper edge as a cross."""
    shown = np.clip(variant.losses, floor, None)
    inside = shown < ceiling
    if not own:
        panel.plot(variant.rates[inside], shown[inside], color="#d8d8d8", linewidth=1, zorder=1)
        return
    panel.plot(variant.rates[inside], shown[inside], color=INK, linewidth=1.4, zorder=3)
    for rate, loss, drawn in zip(variant.rates, shown, inside, strict=True):
        marker = {"marker": "o", "markersize": 5} if drawn else {"marker": "x", "markersize": 6, "markeredgewidth": 1.6}
        panel.plot([rate], [min(loss, ceiling)], color=rate_colour(float(rate)), clip_on=False, zorder=4, **marker)  # type: ignore[arg-type]


def _said(variant: Variant) -> str:
    """The usable range of a variant in a few characters."""
    if variant.decades is None:
        return "none"
    if variant.decades == 0:
        return "one rate"
    return f"{variant.decades:.1f}{'+' if variant.at_the_edge else ''} decades"
