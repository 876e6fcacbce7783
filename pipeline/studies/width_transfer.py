"""Does the best rate stay where it is as a network grows? Loss over rates and hidden sizes, by parametrization.

Networks are compared by the training loss, as in Yang et al. 2022 (arXiv:2203.03466, figure 3): that of the last epoch.
In the study it is the only one: the loss is the mean over its minibatches, each of rows not seen before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.drawing.axes import INK, Line, label_ends, name_panel, panels, rate_axis, rate_colour
from pipeline.drawing.plot_data import Curve, Floats
from pipeline.points.point import Point
from pipeline.studies.grids import Backends

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STAYS = 0.25
"""A best rate that moves by less than so many decades, half of a step of the study's grid, stays where it is."""


class Best(NamedTuple):
    """The loss of one hidden size over the rates, and where it is smallest.

    Attributes:
        size: the hidden size.
        rates: (rates,) ascending.
        losses: (rates,) of the training rows in the last epoch; inf where training diverged.
        rate: the vertex of the parabola through the smallest loss and its two neighbours, over log(rate) and log(loss);
            the rate of the smallest loss where it has no two finite neighbours; NaN where all diverged.
    """

    size: int
    rates: Floats
    losses: Floats
    rate: float


def parametrizations(points: Sequence[Point]) -> dict[str, list[Best]]:
    """The hidden sizes of each parametrization, ascending; nothing where the points have only one, or too few rates."""
    found: dict[str, dict[int, dict[float, float]]] = {}
    for point in points:
        model = point.config.model
        rate = point.learning_rate
        if model.hidden_size is not None:
            sizes = found.setdefault(model.parametrization, {})
            sizes.setdefault(model.hidden_size, {})[rate] = _training_loss(point)
    if len(found) < 2 or len({point.learning_rate for point in points}) < 3:
        return {}
    return {name: [_best(size, sizes[size]) for size in sorted(sizes)] for name, sizes in found.items()}


def _training_loss(point: Point) -> float:
    return math.inf if point.diverged else point.outcome.final.get("train/loss", math.inf)


def _best(size: int, by_rate: dict[float, float]) -> Best:
    rates = np.array(sorted(by_rate))
    losses = np.array([by_rate[rate] for rate in rates])
    if not np.isfinite(losses).any():
        return Best(size, rates, losses, math.nan)
    place = int(np.argmin(losses))
    near = slice(place - 1, place + 2)
    if 0 < place < len(rates) - 1 and np.isfinite(losses[near]).all() and losses[place] > 0:
        bend, slope, _ = np.polyfit(np.log(rates[near]), np.log(losses[near]), 2)
        if bend > 0:
            return Best(size, rates, losses, float(np.exp(-slope / (2 * bend))))
    return Best(size, rates, losses, float(rates[place]))


def moved(sizes: Sequence[Best]) -> float:
    """By how many decades the best rate moves from the smallest to the largest size; NaN where one has none."""
    return math.log10(sizes[-1].rate / sizes[0].rate)


def transfer_sentences(points: Sequence[Point]) -> list[str]:
    """Where the best rate is at each size, and whether it moves."""
    told = []
    for name, sizes in parametrizations(points).items():
        decades = moved(sizes)
        at = ", ".join(f"{best.rate:.2g} at {best.size:,}" for best in sizes)
        how = "stays" if abs(decades) < STAYS else "moves" if math.isfinite(decades) else "cannot be told"
        by = f" ({decades:+.1f} decades)" if math.isfinite(decades) else ""
        told.append(f"{name.replace('_', '-')} parametrization: the best rate {how}{by}: {at}.")
    return told


def transfer_study(study: str, backends: Backends) -> Figure:
    """A panel for each parametrization: training loss against rate, a line for each size, its best rate marked."""
    points = next(iter(backends.values()))
    backend = points[0].config.backend.name
    found = parametrizations(points)
    title = f"{study} ({backend}): training loss against the rate; circles: the best rate"
    figure, axes = panels(1, len(found), title, width=4.6, height=3.2)
    losses = np.concatenate([best.losses for sizes in found.values() for best in sizes])
    finite = losses[np.isfinite(losses)]
    low, high = (finite.min() / 1.15, min(finite.max(), 30 * finite.min()) * 1.15) if len(finite) else (0.1, 1.0)
    for panel, (name, sizes) in zip(axes, found.items(), strict=True):
        panel.set_yscale("log")
        panel.set_ylim(low, high)
        rate_axis(panel, [float(rate) for rate in sizes[0].rates])
        panel.tick_params(axis="x", labelrotation=45)
        lines = []
        for rank, best in enumerate(sizes):
            grey = 0.75 - 0.7 * rank / max(len(sizes) - 1, 1)
            inside = best.losses < high
            panel.plot(best.rates[inside], best.losses[inside], color=(grey, grey, grey), linewidth=1.5, zorder=2)
            if math.isfinite(best.rate):
                panel.plot([best.rate], [best.losses.min()], marker="o", markersize=8, color=rate_colour(best.rate),
                           markeredgecolor=INK, zorder=3)  # fmt: skip
            ends = Curve(np.arange(int(inside.sum())), best.losses[inside], False)
            lines.append(Line(ends, f"hidden {best.size:,}", (grey, grey, grey, 1.0)))
        label_ends(panel, lines)
        panel.set_ylabel("training loss")
        name_panel(panel, f"{name.replace('_', '-')} parametrization")
    return figure
