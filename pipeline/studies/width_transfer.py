"""Does the best rate stay constant as a network gets wider? Loss over rates and hidden sizes, by parametrization.

Networks are compared by the training loss of the last epoch, as in Yang et al. 2022 (arXiv:2203.03466, figure 3). The
study trains for only one epoch, so the loss is the mean over minibatches of rows that the network has not seen before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.drawing.axes import Line, axes_grid, label_ends, name_axes
from pipeline.drawing.colours import INK
from pipeline.drawing.plot_data import Curve, Floats, drawable_on_log, on_log_axis
from pipeline.drawing.scales import plain_log_ticks, rate_axis
from pipeline.points.point import Point
from pipeline.studies.certainty import unknown_of
from pipeline.studies.grids import PointsByBackend
from pipeline.studies.statistics.intervals import Estimate, estimate, plus_minus

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
        losses: (rates,) training loss of the last epoch, the mean over the seeds; inf if one of them diverged.
        rate: the best rate: the vertex of the parabola through the smallest loss and its two neighbours, over log(rate)
            and log(loss); the rate of the smallest loss if it does not have two finite neighbours; NaN if all rates
            diverged.
        by_seed: the best rate of each seed alone, of those that were trained at every rate; NaN for one that diverged
            at all of them.
        seeds: (rates,) number of seeds.
    """

    size: int
    rates: Floats
    losses: Floats
    rate: float
    by_seed: Mapping[int, float]
    seeds: Sequence[int]


def parametrizations(points: Sequence[Point]) -> dict[str, list[Best]]:
    """Find the best rate of each hidden size for each parametrization.

    Returns:
        By name of the parametrization, in ascending order of hidden size; empty if there is only one parametrization
        or there are fewer than three rates.
    """
    found: dict[str, dict[int, dict[float, dict[int, float]]]] = {}
    for point in points:
        model = point.config.model
        if model.hidden_size is not None:
            rates = found.setdefault(model.parametrization, {}).setdefault(model.hidden_size, {})
            rates.setdefault(point.learning_rate, {})[point.config.seed] = _training_loss(point)
    if len(found) < 2 or len({point.learning_rate for point in points}) < 3:
        return {}
    return {name: [_best(size, sizes[size]) for size in sorted(sizes)] for name, sizes in found.items()}


def _training_loss(point: Point) -> float:
    if point.diverged:
        return math.inf
    return point.outcome.final.get("train/loss", math.inf)


def _best(size: int, losses: Mapping[float, Mapping[int, float]]) -> Best:
    """Find the best rate of one hidden size, given its losses by rate and seed."""
    rates = np.array(sorted(losses))
    means = np.array([np.mean(list(losses[rate].values())) for rate in rates])
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in losses.values())))
    alone = {seed: np.array([losses[rate][seed] for rate in rates]) for seed in seeds}
    by_seed = {seed: _best_rate(rates, own) for seed, own in alone.items()}
    counts = [len(losses[rate]) for rate in rates]
    return Best(size, rates, means, _best_rate(rates, means), by_seed, counts)


def _best_rate(rates: Floats, losses: Floats) -> float:
    """Return the rate at which the losses are lowest, as `Best.rate` says."""
    if not np.isfinite(losses).any():
        return math.nan
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
            return float(np.exp(np.clip(-slope / (2 * bend), logs[0], logs[-1])))
    return float(rates[lowest])


def shift_in_decades(sizes: Sequence[Best]) -> float:
    """Return the shift of the best rate from the smallest to the largest size, in decades; NaN if either has none."""
    return math.log10(sizes[-1].rate) - math.log10(sizes[0].rate)


def shift_over_seeds(sizes: Sequence[Best]) -> Estimate:
    """Return the mean of that shift over the seeds, each with its own best rates."""
    first = sizes[0].by_seed
    last = sizes[-1].by_seed
    shifts = [math.log10(last[seed]) - math.log10(first[seed]) for seed in first if seed in last]
    return estimate(shifts, "")


def transfer_sentences(points: Sequence[Point]) -> list[str]:
    """Return the best rate at each size, and whether it shifts, in a sentence for each parametrization."""
    sentences = []
    found = parametrizations(points)
    seeds = [count for sizes in found.values() for best in sizes for count in best.seeds]
    several = min(seeds, default=1) > 1
    subject = "the rate with the lowest loss"
    if several:
        subject = "the best rate"
    for name, sizes in found.items():
        at = ", ".join(_rate_at(best) for best in sizes)
        sentences.append(f"{name.replace('_', '-')} parametrization: {subject} {_shift(sizes)}: {at}.")
    if not several:
        sentences.append(f"{unknown_of(seeds)}.")
    elif min(seeds) == max(seeds):
        sentences.append(f"each loss is the mean over {max(seeds)} seeds.")
    else:
        sentences.append(f"each loss is the mean over {min(seeds)} to {max(seeds)} seeds.")
    return sentences


def _shift(sizes: Sequence[Best]) -> str:
    """Say whether the best rate shifts, as far as the seeds agree."""
    decades = shift_in_decades(sizes)
    over_seeds = shift_over_seeds(sizes)
    if not math.isfinite(decades):
        return "cannot be compared"
    text = f"{decades:+.1f} decades"
    unsure = 0.0
    if over_seeds.half_width is not None:
        decades = over_seeds.mean
        unsure = over_seeds.half_width
        text = f"{plus_minus(decades, unsure)} decades"
    least = abs(decades) - unsure
    most = abs(decades) + unsure
    if most < UNCHANGED:
        return f"hardly shifts ({text})"
    if least >= UNCHANGED:
        return f"shifts ({text})"
    return f"may shift, which these seeds do not tell ({text})"


def _rate_at(best: Best) -> str:
    """Return the best rate of a hidden size, which does not exist if every rate diverged."""
    if math.isnan(best.rate):
        return f"none at {best.size:,} (every rate diverged)"
    return f"{best.rate:.2g} at {best.size:,}"


def transfer_study(study: str, backends: PointsByBackend) -> Figure:
    """Draw training loss versus rate for each parametrization: a line for each size, with its best rate marked."""
    points = next(iter(backends.values()))
    backend = points[0].config.backend.name
    found = parametrizations(points)
    title = f"{study} ({backend}): training loss against the rate"
    note = "circle: the best rate of a hidden size, the vertex of a parabola through the lowest loss and its neighbours"
    figure, axes = axes_grid(1, len(found), title, width=4.6, height=3.2, note=note)
    low, high = _loss_limits(found.values())
    for ax, (name, sizes) in zip(axes, found.items(), strict=True):
        ax.set_yscale("log")
        ax.set_ylim(low, high)
        rate_axis(ax, [float(rate) for rate in sizes[0].rates])
        plain_log_ticks(ax)
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
            ax.plot([place], [best.losses.min()], marker="o", markersize=8, color=(grey, grey, grey),
                    markeredgecolor=INK, markeredgewidth=1.4, zorder=3)  # fmt: skip
        ends = Curve(np.arange(int(inside.sum())), best.losses[inside], False)
        lines.append(Line(ends, f"hidden {best.size:,}", (grey, grey, grey, 1.0)))
    label_ends(ax, lines)
