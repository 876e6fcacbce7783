"""Does the best rate stay the same as a network grows? Loss over rates and hidden sizes, by parametrization.

Networks are compared by the training loss of the last epoch, as in Yang et al. 2022 (arXiv:2203.03466, figure 3). The
study trains for a single epoch: its loss is the mean over minibatches of rows that the network has not seen before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.drawing.axes import INK, Line, axes_grid, label_ends, name_axes, rate_axis, rate_colour
from pipeline.drawing.plot_data import Curve, Floats
from pipeline.points.point import Point
from pipeline.studies.grids import Backends

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Decades. A best rate that moves by less counts as unmoved: this is half a step of the study's grid of rates.
STAYS = 0.25


class Best(NamedTuple):
    """The loss of one hidden size over the rates, and where it is smallest.

    Attributes:
        size: the hidden size.
        rates: (rates,) ascending.
        losses: (rates,) of the training rows in the last epoch; inf where training diverged.
        rate: the vertex of the parabola through the smallest loss and its two neighbours, over log(rate) and log(loss);
            the rate of the smallest loss if it does not have two finite neighbours; NaN if all rates diverged.
    """

    size: int
    rates: Floats
    losses: Floats
    rate: float


def parametrizations(points: Sequence[Point]) -> dict[str, list[Best]]:
    """Return the best rate of each hidden size, ascending, for each parametrization.

    Returns:
        By name of the parametrization; empty if there is only one, or fewer than three rates.
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
    # The logarithm of a loss of 0 does not exist, and a parabola needs three points.
    if 0 < lowest < len(rates) - 1 and np.isfinite(losses[near]).all() and losses[lowest] > 0:
        # log(loss) = bend * log(rate)^2 + slope * log(rate) + constant
        bend, slope, _ = np.polyfit(np.log(rates[near]), np.log(losses[near]), 2)
        # Three equal losses make a straight line, which has no vertex.
        if bend > 0:
            return Best(size, rates, losses, float(np.exp(-slope / (2 * bend))))
    return Best(size, rates, losses, float(rates[lowest]))


def moved(sizes: Sequence[Best]) -> float:
    """Return by how many decades the best rate moves from the smallest to the largest size; NaN if one has none."""
    return math.log10(sizes[-1].rate / sizes[0].rate)


def transfer_sentences(points: Sequence[Point]) -> list[str]:
    """Say where the best rate is at each size, and whether it moves."""
    sentences = []
    for name, sizes in parametrizations(points).items():
        decades = moved(sizes)
        if not math.isfinite(decades):
            what = "cannot be determined"
        elif abs(decades) < STAYS:
            what = f"hardly moves ({decades:+.1f} decades)"
        else:
            what = f"moves ({decades:+.1f} decades)"
        at = ", ".join(f"{best.rate:.2g} at {best.size:,}" for best in sizes)
        sentences.append(f"{name.replace('_', '-')} parametrization: the best rate {what}: {at}.")
    return sentences


def transfer_study(study: str, backends: Backends) -> Figure:
    """Draw training loss against rate for each parametrization: a line for each size, with its best rate marked."""
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
    """Return the lowest and the highest loss that is drawn: explosions would flatten the rest."""
    losses = np.concatenate([best.losses for sizes in found for best in sizes])
    finite = losses[np.isfinite(losses)]
    if not len(finite):
        return 0.1, 1.0
    return finite.min() / 1.15, min(finite.max(), 30 * finite.min()) * 1.15


def _draw_sizes(ax: Axes, sizes: Sequence[Best], high: float) -> None:
    """Draw the losses of each hidden size below the upper edge `high`, the larger the size the darker."""
    lines = []
    for rank, best in enumerate(sizes):
        grey = 0.75 - 0.7 * rank / max(len(sizes) - 1, 1)
        inside = best.losses < high
        ax.plot(best.rates[inside], best.losses[inside], color=(grey, grey, grey), linewidth=1.5, zorder=2)
        if math.isfinite(best.rate):
            # The vertex lies a little below the smallest loss, but the circle should be on the line.
            ax.plot([best.rate], [best.losses.min()], marker="o", markersize=8, color=rate_colour(best.rate),
                    markeredgecolor=INK, zorder=3)  # fmt: skip
        ends = Curve(np.arange(int(inside.sum())), best.losses[inside], False)
        lines.append(Line(ends, f"hidden {best.size:,}", (grey, grey, grey, 1.0)))
    label_ends(ax, lines)
