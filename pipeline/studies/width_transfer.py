"""Does the best rate stay constant as a network gets wider? Loss over rates and hidden sizes, by parametrization.

Networks are compared by the training loss of the last epoch, as in Yang et al. 2022 (arXiv:2203.03466, figure 3). The
study trains for only one epoch, so the loss is the mean over minibatches of rows that the network has not seen before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.drawing.axes import Line, axes_grid, label_ends, name_axes, rate_axis
from pipeline.drawing.colours import INK, rate_colour
from pipeline.drawing.plot_data import Curve, Floats, drawable_on_log, on_log_axis
from pipeline.points.point import Point
from pipeline.studies.grids import PointsByBackend

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# If the best rate shifts by less than this many decades, half a step of the study's grid, it counts as unchanged.
UNCHANGED = 0.25


class Best(NamedTuple):
    """The losses of one hidden size over the rates, and the best rate.

    Attributes:
        size: the hidden size.
        rates: (rates,) ascending.
        losses: (rates,) training loss of the last epoch; inf if training diverged.
        rate: the best rate: the vertex of the parabola through the smallest loss and its two neighbours, over log(rate)
            and log(loss); the rate of the smallest loss if it does not have two finite neighbours; NaN if all rates
            diverged.
    """

    size: int
    rates: Floats
    losses: Floats
    rate: float


def parametrizations(points: Sequence[Point]) -> dict[str, list[Best]]:
    """Find the best rate of each hidden size for each parametrization.

    Returns:
        By name of the parametrization, in ascending order of hidden size; empty if there is only one parametrization
        or there are fewer than three rates.
    """
    found: dict[str, dict[int, dict[float, float]]] = {}
    for point in points:
        model = point.config.model
        if model.hidden_size is not None:
            sizes = found.setdefault(model.parametrization, {})
            sizes.setdefault(model.hidden_size, {})[point.learning_rate] = _training_loss(point)
    if len(found) < 2 or len({point.learning_rate for point in points}) < 3:
        return {}
    return {name: [_best(size, sizes[size]) for size in sorted(sizes)] for name, sizes in found.items()}


def _training_loss(point: Point) -> float:
    if point.diverged:
        return math.inf
    return point.outcome.final.get("train/loss", math.inf)


def _best(size: int, by_rate: dict[float, float]) -> Best:
    """Find the best rate of one hidden size, given its losses by rate."""
    rates = np.array(sorted(by_rate))
    losses = np.array([by_rate[rate] for rate in rates])
    if not np.isfinite(losses).any():
        return Best(size, rates, losses, math.nan)
    lowest = int(np.argmin(losses))
    near = slice(lowest - 1, lowest + 2)
    # The parabola needs three points, and the logarithm of a loss of 0 does not exist.
    if 0 < lowest < len(rates) - 1 and np.isfinite(losses[near]).all() and losses[lowest] > 0:
        # log(loss) = bend * log(rate)^2 + slope * log(rate) + constant
        logs = np.log(rates[near])
        bend, slope, _ = np.polyfit(logs, np.log(losses[near]), 2)
        # Three equal losses make a straight line, which has no vertex. If they are almost equal, rounding decides where
        # it is, but it cannot be beyond the neighbours.
        if bend > 0:
            vertex = np.clip(-slope / (2 * bend), logs[0], logs[-1])
            return Best(size, rates, losses, float(np.exp(vertex)))
    return Best(size, rates, losses, float(rates[lowest]))


def shift_in_decades(sizes: Sequence[Best]) -> float:
    """Return the shift of the best rate from the smallest to the largest size, in decades; NaN if either has none."""
    return math.log10(sizes[-1].rate) - math.log10(sizes[0].rate)


def transfer_sentences(points: Sequence[Point]) -> list[str]:
    """Return the best rate at each size, and whether it shifts, in a sentence for each parametrization."""
    sentences = []
    for name, sizes in parametrizations(points).items():
        decades = shift_in_decades(sizes)
        if not math.isfinite(decades):
            result = "cannot be compared"
        elif abs(decades) < UNCHANGED:
            result = f"hardly shifts ({decades:+.1f} decades)"
        else:
            result = f"shifts ({decades:+.1f} decades)"
        at = ", ".join(_best_rate(best) for best in sizes)
        sentences.append(f"{name.replace('_', '-')} parametrization: the best rate {result}: {at}.")
    return sentences


def _best_rate(best: Best) -> str:
    """Return the best rate of a hidden size, which does not exist if every rate diverged."""
    if math.isnan(best.rate):
        return f"none at {best.size:,} (every rate diverged)"
    return f"{best.rate:.2g} at {best.size:,}"


def transfer_study(study: str, backends: PointsByBackend) -> Figure:
    """Draw training loss versus rate for each parametrization: a line for each size, with its best rate marked."""
    points = next(iter(backends.values()))
    backend = points[0].config.backend.name
    found = parametrizations(points)
    title = f"{study} ({backend}): training loss against the rate; circles: the best rate"
    figure, axes = axes_grid(1, len(found), title, width=4.6, height=3.2)
    low, high = _loss_limits(found.values())
    for ax, (name, sizes) in zip(axes, found.items(), strict=True):
        ax.set_yscale("log")
        ax.set_ylim(low, high)
        rate_axis(ax, [float(rate) for rate in sizes[0].rates])
        ax.tick_params(axis="x", labelrotation=45)
        _draw_sizes(ax, sizes, high)
        ax.set_ylabel("training loss")
        name_axes(ax, f"{name.replace('_', '-')} parametrization")
    return figure


def _loss_limits(found: Iterable[Sequence[Best]]) -> tuple[float, float]:
    """Return the plot limits of the loss; exploding losses are cut off, because they would flatten the rest."""
    losses = np.concatenate([best.losses for sizes in found for best in sizes])
    # A loss of 0 is not on a logarithmic axis.
    shown = drawable_on_log(losses[np.isfinite(losses) & (losses > 0)])
    if not len(shown):
        return 0.1, 1.0
    return shown.min() / 1.15, min(shown.max(), 30 * shown.min()) * 1.15


def _draw_sizes(ax: Axes, sizes: Sequence[Best], high: float) -> None:
    """Draw the losses of each hidden size below the upper limit `high`; larger sizes are darker."""
    lines = []
    for rank, best in enumerate(sizes):
        grey = 0.75 - 0.7 * rank / max(len(sizes) - 1, 1)
        inside = best.losses < high
        places = drawable_on_log(best.rates[inside])
        ax.plot(places, best.losses[inside], color=(grey, grey, grey), linewidth=1.5, zorder=2)
        if math.isfinite(best.rate):
            # The vertex is slightly below the smallest loss, but the circle should be on the line.
            place = on_log_axis(best.rate)
            ax.plot([place], [best.losses.min()], marker="o", markersize=8, color=rate_colour(best.rate),
                    markeredgecolor=INK, zorder=3)  # fmt: skip
        ends = Curve(np.arange(int(inside.sum())), best.losses[inside], False)
        lines.append(Line(ends, f"hidden {best.size:,}", (grey, grey, grey, 1.0)))
    label_ends(ax, lines)
