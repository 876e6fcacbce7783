"""Draw the loss on the planes of several trainings side by side, with their paths (landscapes.py)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.config.own_model import KerasModel
from pipeline.drawing.axes import axes_grid, name_axes
from pipeline.drawing.colours import INK, colour_map
from pipeline.drawing.grid_plots import BAR_TICKS, draw_bar
from pipeline.drawing.plot_data import Floats, drawable_on_log
from pipeline.points.point import Point
from pipeline.studies.grids import PointsByBackend
from pipeline.studies.landscapes import LossOnRows, Plane, plane_of
from pipeline.studies.stability import by_networks
from pipeline.system.errors import LabError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Maximum number of trainings that have a panel, and of panels in a row.
MOST_PANELS = 6
COLUMNS = 3
# Places of each axis, and of the line from the start to the end.
PLACES = 61
# The room around the start, the end and the path, as a share of the way from the start to the end; and the farthest
# that is drawn of a path.
ROOM = 0.3
FARTHEST = 3.0
# Losses above this multiple of the largest one at a start have the last colour, and those below this share the first.
HIGHEST = 3.0
LOWEST = 1e-6
LEVELS = 25
PATH = "#ff5c5c"
NOTE = (
    "red: the snapshots, projected on the plane; circle: start; star: end; up: a random direction in which the weights "
    "into each unit have the norm that they have at the end"
)


class Landscape(NamedTuple):
    """The loss on the plane of a training.

    Attributes:
        plane: the plane; None if the network has not moved.
        losses: (up, right) the losses, inf or NaN where they overflow; empty if there is no plane, or no data.
    """

    plane: Plane | None
    losses: Floats


def show_landscapes(points: Sequence[Point]) -> bool:
    """Whether the config of these points asks for this picture, and they are dense networks."""
    configs = [point.config for point in points]
    asked = all(one.report.picture == "loss_landscape" for one in configs)
    return asked and all(one.kind == "network" and not isinstance(one.model, KerasModel) for one in configs)


def drawn_points(points: Sequence[Point]) -> dict[str, Point]:
    """Return the points that are drawn by name, such as `rate 0.1`: the first seed of each, at most `MOST_PANELS`."""
    return dict(list(_first_seeds(points).items())[:MOST_PANELS])


def _first_seeds(points: Sequence[Point]) -> dict[str, Point]:
    networks = by_networks(points)
    found = {}
    for name, rates in networks.items():
        for rate, members in rates.items():
            label = f"rate {rate:g}"
            if len(networks) > 1:
                label = f"{name}, {label}"
            found[label] = members[0]
    return found


def loss_on_rows(point: Point, places: int) -> LossOnRows | None:
    """Return the loss of a point as a function of weights; None if its data is not prepared here."""
    try:
        return LossOnRows(point.config, places, Path())
    except LabError:
        return None


def landscape_study(study: str, backends: PointsByBackend) -> Figure:
    """Draw the loss on the plane of each rate, with the path of its snapshots.

    Args:
        study: the study's name, for the title.
        backends: the points of each backend; those of the first are drawn.
    """
    points = next(iter(backends.values()))
    drawn = drawn_points(points)
    note = NOTE
    every = len(_first_seeds(points))
    if every > len(drawn):
        note = f"the first {len(drawn)} of {every} networks; {note}"
    planes = {name: plane_of(point) for name, point in drawn.items()}
    right, up = _axes([plane.path for plane in planes.values() if plane is not None])
    places = np.stack([axis.ravel() for axis in np.meshgrid(right, up)], axis=1)
    landscapes = {name: _landscape(drawn[name], plane, places) for name, plane in planes.items()}
    low, high = _limits([one.losses for one in landscapes.values()], list(drawn.values()))
    columns = min(COLUMNS, len(drawn))
    rows = -(-len(drawn) // columns)
    title = f"{study} ({points[0].config.backend.name}): the loss around the path of each training"
    figure, axes = axes_grid(rows, columns, title, width=3.9, height=3.3, note=note)
    for number, (ax, (name, landscape)) in enumerate(zip(axes, landscapes.items(), strict=False)):
        with_bar = number == min(columns, len(drawn)) - 1
        _draw(ax, landscape, (right, up), (low, high), with_bar)
        name_axes(ax, f"{name}: {drawn[name].diagnosis.label}")
    for ax in axes[len(drawn) :]:
        ax.set_visible(False)
    return figure


def _axes(paths: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Return the places of both axes: around the start, the end and all paths, as far as `FARTHEST`."""
    corners = np.array([[0.0, -0.5], [1.0, 0.5]])
    every = np.clip(np.concatenate([corners, *paths]), -FARTHEST, FARTHEST)
    left, below = every.min(axis=0) - ROOM
    right, above = every.max(axis=0) + ROOM
    return np.linspace(left, right, PLACES), np.linspace(below, above, PLACES)


def _landscape(point: Point, plane: Plane | None, places: Floats) -> Landscape:
    losses = np.empty((0, 0))
    if plane is not None:
        of_weights = loss_on_rows(point, len(places))
        if of_weights is not None:
            losses = of_weights.on(plane, places).reshape(PLACES, PLACES)
    return Landscape(plane, losses)


def _limits(losses: Sequence[Floats], points: Sequence[Point]) -> tuple[float, float]:
    """Return the losses at both ends of the colour scale."""
    every = np.concatenate([one.ravel() for one in losses] or [np.empty(0)])
    shown = drawable_on_log(every[np.isfinite(every) & (every > 0)])
    if not len(shown):
        return 0.1, 1.0
    starts = [first[0] for point in points if len(first := point.history.series("train/loss")[1])]
    high = float(shown.max())
    if starts and max(starts) > 0:
        high = min(high, HIGHEST * max(starts))
    high = float(drawable_on_log(np.array([max(high, float(shown.min()))]))[0])
    low = max(float(shown.min()), LOWEST * high)
    return low, max(high, low * 2)


def _draw(
    ax: Axes, landscape: Landscape, places: tuple[Floats, Floats], limits: tuple[float, float], with_bar: bool
) -> None:
    from matplotlib.colors import LogNorm

    right, up = places
    ax.grid(False)
    ax.set_xlim(right[0], right[-1])
    ax.set_ylim(up[0], up[-1])
    ax.set_xlabel("from start to end")
    ax.set_ylabel("random direction")
    if landscape.plane is None:
        ax.text(0.5, 0.5, "the weights have not moved", transform=ax.transAxes, ha="center", color=INK)
        return
    if landscape.losses.size:
        low, high = limits
        levels = np.geomspace(low, high, LEVELS)
        norm = LogNorm(low, high)
        shown = np.ma.masked_invalid(np.clip(landscape.losses, low, high))
        image = ax.pcolormesh(right, up, shown, cmap=colour_map("cividis"), norm=norm, shading="nearest")
        if shown.count() and shown.min() < shown.max():
            ax.contour(right, up, shown, levels=levels[::2], colors="white", linewidths=0.4, alpha=0.6)
        if with_bar:
            draw_bar(ax, image, [float(level) for level in np.geomspace(low, high, BAR_TICKS)], "training loss")
    else:
        ax.text(0.5, 0.9, "the data is not prepared here", transform=ax.transAxes, ha="center", color=INK)
    path = np.clip(landscape.plane.path, -10 * FARTHEST, 10 * FARTHEST)
    ax.plot(path[:, 0], path[:, 1], color=PATH, linewidth=1.6, marker="o", markersize=3)
    ax.plot(*path[0], marker="o", markersize=9, markerfacecolor="none", markeredgecolor=PATH, markeredgewidth=1.8)
    ax.plot(*path[-1], marker="*", markersize=12, color=PATH, markeredgecolor="white", markeredgewidth=0.6)
