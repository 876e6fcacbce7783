"""Draw a study of warm-ups: the final loss against the warm-up, and the breaking rate beside the rate that rises."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.drawing.axes import Line, axes_grid, label_ends, name_axes
from pipeline.drawing.colours import INK, Colour, rate_colours
from pipeline.drawing.plot_data import Axis, Curve, Floats, drawable_on_log, on_log_axis
from pipeline.drawing.scales import plain_log_ticks, value_axis
from pipeline.studies.grids import PointsByBackend
from pipeline.studies.variants.variants import TARGET, final_loss, loss_rows, target
from pipeline.studies.warm_ups.warm_ups import BREAKING, WarmUp, told, warm_ups

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Upper limit of the loss, as a multiple of the baseline.
MOST = 3.0
# Lower limit of the rates, as a share of the smallest one: a warm-up begins at 0.
LEAST_RATE = 0.1
# Places along a warm-up at which its rate is drawn: a straight line is curved on a logarithmic axis.
PLACES = 50
NOTE = (
    "lines: medians over seeds; left, dots: seeds, crosses: diverged or beyond the axis, dashed: the target; right, "
    "solid: the breaking rate, dashed: the rate, with the shortest warm-up that trains, otherwise the longest"
)


def warm_up_study(study: str, backends: PointsByBackend) -> Figure:
    """Draw the points of the first backend.

    Args:
        study: the study's name, for the title.
        backends: the points of each backend.
    """
    points = next(iter(backends.values()))
    found = warm_ups(points)
    title = f"{study} ({points[0].config.backend.name}): which warm-up trains, and why"
    figure, (losses, rates) = axes_grid(1, 2, title, width=5.6, height=3.4, note=NOTE)
    colours = rate_colours(found)
    _draw_losses(losses, found, colours)
    losses.set_ylabel(f"final {loss_rows(points)} loss")
    _draw_breaking(rates, found, colours)
    return figure


def _draw_losses(ax: Axes, found: Mapping[float, Sequence[WarmUp]], colours: Mapping[float, Colour]) -> None:
    """Draw the final losses of each rate against the length of the warm-up."""
    every = [warm_up for along in found.values() for warm_up in along]
    wanted = target(every[0].points[0])
    ceiling = MOST * wanted / TARGET
    finals = np.array([final_loss(point) for warm_up in every for point in warm_up.points])
    positive = finals[np.isfinite(finals) & (finals > 0)]
    floor = max(min(positive.min(initial=wanted), wanted) / 1.5, 1e-12 * ceiling)
    shares = sorted({warm_up.share for warm_up in every})
    ticks = [f"{share:g}" for share in shares]
    value_axis(ax, Axis("warm-up, as a share of the updates", ticks, ticks, shares, False, False, True))
    ax.set_yscale("log")
    ax.set_ylim(floor, ceiling * 1.1)
    plain_log_ticks(ax)
    ax.axhline(wanted, color=INK, linewidth=0.8, linestyle="--", zorder=1)
    lines = []
    for rate, along in found.items():
        medians = []
        for warm_up in along:
            values = _clipped([final_loss(point) for point in warm_up.points], floor, ceiling)
            medians.append(float(np.median(values)))
            for inside, marker in ((values < ceiling, "."), (values >= ceiling, "x")):
                ax.plot([warm_up.share] * int(inside.sum()), values[inside], color=colours[rate], linestyle="",
                        marker=marker, markersize=6, zorder=3)  # fmt: skip
        ax.plot([warm_up.share for warm_up in along], medians, color=colours[rate], linewidth=1.6, zorder=2)
        lines.append(Line(Curve(np.arange(len(medians)), np.array(medians), False), f"rate {rate:g}", colours[rate]))
    label_ends(ax, lines)
    name_axes(ax, "final loss")


def _clipped(values: Sequence[float], floor: float, ceiling: float) -> Floats:
    """Return losses within the axis; a point that diverged or has no loss is at its upper end."""
    limited: Floats = np.clip(np.nan_to_num(values, nan=ceiling, posinf=ceiling), floor, ceiling)
    return limited


def _draw_breaking(ax: Axes, found: Mapping[float, Sequence[WarmUp]], colours: Mapping[float, Colour]) -> None:
    """Draw the breaking rate of each rate over the epochs, and the rate itself, which rises."""
    epochs = next(iter(found.values()))[0].points[0].config.training.epochs
    drawn = {rate: _medians(told(along)) for rate, along in found.items()}
    values = np.concatenate([median for _, median in drawn.values()])
    low = LEAST_RATE * on_log_axis(min([*found, *values]))
    high = 2 * on_log_axis(max([*found, *values]))
    ax.set_xlim(0, epochs)
    ax.set_yscale("log")
    ax.set_ylim(low, high)
    plain_log_ticks(ax)
    lines = []
    for rate, (steps, median) in drawn.items():
        ax.plot(steps, drawable_on_log(median), color=colours[rate], linewidth=1.6, marker=".", zorder=3)
        ends = told(found[rate]).share * epochs
        rising = np.linspace(0, ends, PLACES)
        ramp = np.clip(rate * (rising / max(ends, math.ulp(1.0))), low, high)
        ax.plot([*rising, ends, epochs], [*ramp, on_log_axis(rate), on_log_axis(rate)], color=colours[rate],
                linewidth=1.1, linestyle="--", zorder=2)  # fmt: skip
        lines.append(Line(Curve(np.arange(1), np.array([on_log_axis(rate)]), False), f"rate {rate:g}", colours[rate]))
    label_ends(ax, lines)
    ax.set_xlabel("epoch")
    ax.set_ylabel("breaking rate, and rate")
    name_axes(ax, "breaking rate, and the rate that rises")


def _medians(warm_up: WarmUp) -> tuple[Floats, Floats]:
    """Return the epochs of the records and the median of the breaking rate over seeds, each (records,)."""
    by_epoch: dict[int, list[float]] = {}
    for point in warm_up.points:
        for step, value in zip(*point.history.series(BREAKING), strict=True):
            # A saddle without any curvature has no breaking rate.
            if value > 0:
                by_epoch.setdefault(int(step), []).append(float(value))
    epochs = sorted(by_epoch)
    return np.array(epochs, float), np.array([np.median(by_epoch[epoch]) for epoch in epochs], float)
