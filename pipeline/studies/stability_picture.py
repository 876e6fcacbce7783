"""Draw the recorded curvature over the epochs beside what the rate allows: the edge of stability (stability.py)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.drawing.axes import Line, axes_grid, epoch_axis, label_ends, name_axes
from pipeline.drawing.colours import Colour, rate_colours
from pipeline.drawing.plot_data import Curve, drawable_on_log
from pipeline.drawing.scales import plain_log_ticks
from pipeline.points.point import Point
from pipeline.studies.grids import PointsByBackend
from pipeline.studies.stability import PRECONDITIONED, Edge, by_networks, edge_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 2
# Maximum number of networks that have a panel.
MOST_PANELS = 8
# The axis ends at these multiples of the smallest and the largest line: a curvature that explodes, or that a dead
# network no longer has, would leave no room for the rest.
BELOW = 1 / 30
ABOVE = 5.0
NOTE = (
    "dashed: the curvature that the rate allows; solid: the first seed, faint: the others; a cross: diverged; colour: "
    "learning rate"
)


def stability_study(study: str, backends: PointsByBackend) -> Figure:
    """Draw the curvature against the epoch, a line for each rate and a panel for each network.

    Args:
        study: the study's name, for the title.
        backends: the points of each backend; those of the first are drawn.
    """
    points = next(iter(backends.values()))
    networks = by_networks(points)
    shown = dict(list(networks.items())[:MOST_PANELS])
    note = NOTE
    if len(shown) < len(networks):
        note = f"the first {len(shown)} of {len(networks)} networks; {note}"
    columns = min(COLUMNS, len(shown))
    title = f"{study} ({points[0].config.backend.name}): the curvature beside what the rate allows"
    figure, axes = axes_grid(math.ceil(len(shown) / columns), columns, title, width=4.6, height=3.0, note=note)
    colours = rate_colours(point.learning_rate for point in points)
    for ax, (name, rates) in zip(axes, shown.items(), strict=False):
        _draw_network(ax, rates, colours)
        name_axes(ax, name)
    for ax in axes[len(shown) :]:
        ax.set_visible(False)
    return figure


def _draw_network(ax: Axes, rates: Mapping[float, Sequence[Point]], colours: Mapping[float, Colour]) -> None:
    edges = {rate: [edge_of(point) for point in members] for rate, members in rates.items()}
    low, high = _limits(edge for found in edges.values() for edge in found)
    members = [point for points in rates.values() for point in points]
    ax.set_yscale("log")
    ax.set_ylim(low, high)
    plain_log_ticks(ax)
    # Not logarithmic, as other full batches are: what happens at the line is most of the training.
    last = max(point.config.training.epochs for point in members)
    epoch_axis(ax, last, full_batch=False)
    ends = []
    for rate, found in edges.items():
        for number, (edge, point) in enumerate(zip(found, rates[rate], strict=True)):
            _draw_edge(ax, edge, colours[rate], faint=number > 0)
            _mark_end(ax, edge, point, colours[rate])
        # The label stands at the end of the dashed line, where seeds do not differ.
        first = next((edge for edge in found if len(edge.steps)), None)
        if first is not None:
            # A training that diverged has no records up to the end, where the label is.
            steps = np.append(first.steps, last)
            line = drawable_on_log(np.append(first.line, first.line[-1]))
            ax.plot(steps, line, color=colours[rate], linestyle="--", linewidth=1.1)
            ends.append(Line(Curve(steps, line, False), f"rate {rate:g}", colours[rate]))
    label_ends(ax, ends)
    ax.set_ylabel("curvature")
    if any(PRECONDITIONED in point.history.names() for point in members):
        ax.set_ylabel("curvature, preconditioned")


def _draw_edge(ax: Axes, edge: Edge, colour: Colour, faint: bool) -> None:
    """Draw the curvature of one training; one that is not positive has no place on the axis."""
    positive = edge.curvatures > 0
    (artist,) = ax.plot(edge.steps[positive], drawable_on_log(edge.curvatures[positive]), color=colour, linewidth=1.4)
    if faint:
        artist.set(alpha=0.35, linewidth=1.0)
    # One or two records make a line that is too short to see.
    if positive.sum() < 3:
        artist.set_marker("o")


def _mark_end(ax: Axes, edge: Edge, point: Point, colour: Colour) -> None:
    """Mark the last record of a training that diverged, on the edge of the axes if it is beyond them."""
    if not point.diverged or not len(edge.steps):
        return
    low, high = ax.get_ylim()
    end = min(max(float(edge.curvatures[-1]), low), high)
    ax.plot([edge.steps[-1]], [end], marker="x", markersize=8, markeredgewidth=2, color=colour, clip_on=False, zorder=5)


def _limits(edges: Iterable[Edge]) -> tuple[float, float]:
    """Return the limits of the axis: those of all curvatures and lines, as far as they are near the lines."""
    found = [edge for edge in edges if len(edge.steps)]
    if not found:
        return 0.1, 1.0
    lines = drawable_on_log(np.concatenate([edge.line for edge in found]))
    curvatures = np.concatenate([edge.curvatures for edge in found])
    shown = np.concatenate([drawable_on_log(curvatures[curvatures > 0]), lines])
    low = max(float(shown.min()), BELOW * float(lines.min()))
    high = min(float(shown.max()), ABOVE * float(lines.max()))
    return low / 1.3, high * 1.3
