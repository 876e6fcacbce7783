"""Draw a study of how the best rate moves: loss against rate for each group, and the best rate along the knob."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.drawing.axes import Line, axes_grid, label_ends, name_axes
from pipeline.drawing.colours import FAINT, INK, rank_colour
from pipeline.drawing.plot_data import Curve, Floats, drawable_on_log, on_log_axis
from pipeline.drawing.scales import plain_log_ticks, rate_axis
from pipeline.points.point import Point
from pipeline.studies.breaking import networks
from pipeline.studies.grids import PointsByBackend
from pipeline.studies.transfer.best_rates import Best, best_rates
from pipeline.studies.transfer.powers import usable
from pipeline.studies.transfer.rows import Law, Transfer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CIRCLE = "the vertex of a parabola through the lowest loss and its neighbours"


def transfer_study(row: Transfer, study: str, backends: PointsByBackend) -> Figure:
    """Draw training loss versus rate for each group: a line for each value of the knob, with its best rate marked.

    Where theory expects a power, the best rate against the knob is beside them, with the slopes that it expects.
    """
    points = next(iter(backends.values()))
    backend = points[0].config.backend.name
    found = best_rates(row, points)
    title = f"{study} ({backend}): training loss against the rate"
    note = f"circle: the best rate of a {row.name}, {CIRCLE}"
    if row.laws:
        laws = " and ".join(f"{law.name} ({law.power:g})" for law in row.laws)
        note += f"; right: it alone, with the range over seeds; dashed: the powers {laws}"
    predicted = _predicted(row, points)
    if predicted:
        note += "; triangle: the predicted breaking rate"
    columns = len(found) + bool(row.laws)
    figure, axes = axes_grid(1, columns, title, width=4.6, height=3.2, note=note)
    low, high = _loss_limits(found.values())
    for ax, (name, along) in zip(axes, found.items(), strict=False):
        ax.set_yscale("log")
        ax.set_ylim(low, high)
        rate_axis(ax, [float(rate) for rate in along[0].rates])
        plain_log_ticks(ax)
        _draw_values(ax, along, row.label, high)
        _draw_predicted(ax, along, predicted.get(name, {}))
        ax.set_ylabel("training loss")
        name_axes(ax, name)
    if row.laws:
        _draw_powers(axes[-1], row, found)
    return figure


def _loss_limits(found: Iterable[Sequence[Best]]) -> tuple[float, float]:
    """Return the plot limits of the loss; exploding losses are cut off, because they would flatten the rest."""
    losses = np.concatenate([best.losses for along in found for best in along])
    # A loss of 0 is not on a logarithmic axis.
    shown = drawable_on_log(losses[np.isfinite(losses) & (losses > 0)])
    if not len(shown):
        return 0.1, 1.0
    return shown.min() / 1.15, min(shown.max(), 30 * shown.min()) * 1.15


def _draw_values(ax: Axes, along: Sequence[Best], label: str, high: float) -> None:
    """Draw the losses at each value of the knob below the upper limit `high`; larger values are darker."""
    lines = []
    for rank, best in enumerate(along):
        grey = _grey(rank, len(along))
        inside = best.losses < high
        places = drawable_on_log(best.rates[inside])
        ax.plot(places, best.losses[inside], color=grey, linewidth=1.5, zorder=2)
        if math.isfinite(best.rate):
            # The vertex is slightly below the smallest loss, but the circle should be on the line.
            place = on_log_axis(best.rate)
            ax.plot([place], [best.losses.min()], marker="o", markersize=8, color=grey,
                    markeredgecolor=INK, markeredgewidth=1.4, zorder=3)  # fmt: skip
        ends = Curve(np.arange(int(inside.sum())), best.losses[inside], False)
        lines.append(Line(ends, f"{label} {best.value:,}", (*grey, 1.0)))
    label_ends(ax, lines)


def _predicted(row: Transfer, points: Sequence[Point]) -> dict[str, dict[int, float]]:
    """Return the predicted breaking rate by group and value of the knob, where there is one."""
    found: dict[str, dict[int, float]] = {}
    for network in networks(points):
        config = network.points[0].config
        value = row.value(config)
        if network.predicted is not None and value is not None:
            found.setdefault(row.group(config), {})[value] = network.predicted
    return found


def _draw_predicted(ax: Axes, along: Sequence[Best], predicted: Mapping[int, float]) -> None:
    """Mark at the lower edge where each value of the knob is predicted to break, if that is on the axis."""
    low, high = ax.get_xlim()
    for rank, best in enumerate(along):
        rate = predicted.get(best.value)
        if rate is not None and low < rate < high:
            grey = _grey(rank, len(along))
            ax.plot([rate], [0.03], marker="^", markersize=7, color=grey, markeredgecolor=INK, markeredgewidth=0.8,
                    transform=ax.get_xaxis_transform(), zorder=3)  # fmt: skip


def _grey(rank: int, of: int) -> tuple[float, float, float]:
    """Return the grey of a value of the knob; larger values are darker."""
    grey = 0.75 - 0.7 * rank / max(of - 1, 1)
    return grey, grey, grey


def _draw_powers(ax: Axes, row: Transfer, found: Mapping[str, Sequence[Best]]) -> None:
    """Draw the best rate against the knob, a line for each group, and through the first of each what theory expects."""
    known = {name: usable(along) for name, along in found.items()}
    rates = np.array([rate for along in known.values() for best in along for rate in (best.rate, *_range(best))])
    low = 0.1
    high = 1.0
    if len(rates):
        low, high = (on_log_axis(float(end)) for end in (rates.min(), rates.max()))
    rate_axis(ax, sorted({float(best.value) for along in found.values() for best in along}), row.name)
    ax.set_yscale("log")
    ax.set_ylim(low / 1.5, high * 1.5)
    plain_log_ticks(ax)
    lines = []
    for rank, (name, along) in enumerate(known.items()):
        colour = rank_colour(rank, len(known) + 1)
        values = np.array([best.value for best in along], float)
        best_of = drawable_on_log(np.array([best.rate for best in along]))
        ax.plot(values, best_of, color=colour, marker="o", markersize=5, linewidth=1.6, zorder=3)
        for best in along:
            ends = [on_log_axis(end) for end in _range(best)]
            ax.plot([best.value] * len(ends), ends, color=colour, linewidth=1.2, marker="_", markersize=6, zorder=3)
        for law in row.laws[: len(along)]:
            _draw_law(ax, law, values, float(best_of[0]))
        lines.append(Line(Curve(np.arange(len(along)), best_of, False), name, colour))
    label_ends(ax, lines)
    ax.set_ylabel("best rate")
    name_axes(ax, f"best rate against {row.name}")


def _range(best: Best) -> list[float]:
    """Return the smallest and the largest best rate of the seeds; empty if no seed has one."""
    rates = [rate for rate in best.by_seed.values() if math.isfinite(rate)]
    if not rates:
        return []
    return [min(rates), max(rates)]


def _draw_law(ax: Axes, law: Law, values: Floats, first: float) -> None:
    """Draw the power of a law through the first best rate, as far as the axes go."""
    expected = drawable_on_log(first * (values / values[0]) ** law.power)
    ax.plot(values, expected, color=FAINT, linewidth=1, linestyle="--", zorder=1)
