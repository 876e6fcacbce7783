"""Mark in a figure over learning rates where the networks of a study are predicted to break."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.drawing.colours import NEUTRAL
from pipeline.drawing.grid_plots import LINE_STYLES
from pipeline.points.point import Point
from pipeline.studies.breaking import networks
from pipeline.studies.knobs import RATE, Layout
from pipeline.system.wording import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_breaking_rates(ax: Axes, points: Sequence[Point], shown: Layout) -> None:
    """Draw a vertical line at the predicted rate of each network, in the style of the line of its results.

    Rates outside of the axis are not drawn, so that the axis stays that of the rates that were trained.
    """
    if shown.across.key != RATE:
        return
    low, high = ax.get_xlim()
    for row, up in enumerate(shown.up.values):
        members = [point for point in points if shown.up.of(point) == up]
        for network in networks(members):
            if network.predicted is not None and low < network.predicted < high:
                style = LINE_STYLES[row % len(LINE_STYLES)]
                ax.axvline(network.predicted, color=NEUTRAL, linewidth=1.1, linestyle=style, zorder=1)


def breaking_note(points: Sequence[Point], shown: Layout) -> str:
    """Say what the vertical lines are; nothing if there is none."""
    if shown.across.key != RATE or all(network.predicted is None for network in networks(points)):
        return ""
    return "vertical line: the predicted breaking rate"


def predicted_note(points: Sequence[Point]) -> str:
    """Say at which rate a network is predicted to break, in a figure without an axis of rates."""
    known = [network for network in networks(points) if network.predicted is not None]
    if len(known) != 1:
        return ""
    return f"predicted to break at {short(known[0].predicted or 0)}"
