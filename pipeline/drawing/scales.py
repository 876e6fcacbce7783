"""Set up the scales and ticks of matplotlib axes for rates, other knobs, and exploding values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from pipeline.drawing.plot_data import LARGEST, Axis, drawable, on_log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# As a share of a linear axis.
LEAST_BETWEEN_TICKS = 0.09
# A name longer than this is cut.
LONGEST_TICK = 22
TICK_LETTERS_PER_INCH = 14
FEW_DECADES = 2.5


def rate_axis(ax: Axes, rates: Sequence[float], title: str = "learning rate") -> None:
    """Set up a logarithmic x axis for learning rates (ascending), with ticks at the rates themselves."""
    from matplotlib.ticker import NullLocator

    # Limits come before the scale: matplotlib cannot find limits for a single rate.
    ax.set_xlim(on_log_axis(rates[0]) / 1.8, on_log_axis(rates[-1]) * 1.8)
    ax.set_xscale("log")
    ax.xaxis.set_minor_locator(NullLocator())
    shown = rates[:: max(1, len(rates) // 10)]
    name_ticks(ax, [on_log_axis(rate) for rate in shown], [f"{rate:g}" for rate in shown])
    ax.set_xlabel(title)


def value_axis(ax: Axes, axis: Axis) -> None:
    """Set up an x axis for the values of a knob, with ticks at the values themselves where they have room."""
    if axis.logarithmic:
        rate_axis(ax, axis.numbers, axis.title)
        return
    places = linear_places(axis)
    low = places[0]
    span = (places[-1] - low) or 1.0
    ax.set_xlim(low - 0.08 * span, places[-1] + 0.08 * span)
    shown: list[int] = []
    for index, place in enumerate(places):
        # Names are not read off between two ticks, as numbers are.
        if not axis.joined or not shown or place - places[shown[-1]] >= LEAST_BETWEEN_TICKS * span:
            shown.append(index)
    name_ticks(ax, [places[index] for index in shown], [axis.ticks[index] for index in shown])
    ax.set_xlabel(axis.title)


def name_ticks(ax: Axes, places: Sequence[float], names: Sequence[str]) -> None:
    """Write the ticks of the x axis, at an angle where they have no room side by side. The limits have been set."""
    names = [shortened(name) for name in names]
    ax.set_xticks(places, names)
    figure = ax.get_figure(root=True)
    cell = ax.get_subplotspec()
    if figure is None or cell is None:
        return
    # Labels at the left and at the right take about a quarter of the width.
    letters = TICK_LETTERS_PER_INCH * 0.75 * figure.get_size_inches()[0] / cell.get_gridspec().ncols
    pixels = [ax.transData.transform((place, ax.get_ylim()[0]))[0] for place in places]
    gaps = np.diff(pixels) / ax.bbox.width * letters
    needed = [1 + (len(one) + len(other)) / 2 for one, other in pairwise(names)]
    if (gaps < needed).any():
        for label in ax.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")


def plain_log_ticks(ax: Axes) -> None:
    """Write ticks as numbers on a logarithmic y axis that spans few powers of ten. The limits have been set."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = ax.get_ylim()
    decades = np.log10(high / low)
    if decades > FEW_DECADES:
        return
    steps: tuple[float, ...] = (1.0, 2.0, 5.0)
    if decades < 1:
        steps = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
    ax.yaxis.set_major_locator(LogLocator(subs=steps))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def shortened(name: str) -> str:
    """Return a name, cut where it is too long for a tick; its end is kept, which tells it from others like it."""
    if len(name) <= LONGEST_TICK:
        return name
    half = LONGEST_TICK // 2
    return f"{name[: half - 1]}…{name[-half:]}"


def linear_places(axis: Axis) -> list[float]:
    """Return where the values of a linear axis are drawn."""
    return [float(place) for place in drawable(np.array(axis.numbers))]


def signed_log(ax: Axes) -> None:
    """Make the y axis linear up to 10 and logarithmic beyond, for exploding values of both signs that are on it."""
    from matplotlib.ticker import SymmetricalLogLocator

    # Clipped, so that doubling the limits below does not overflow.
    low, high = np.clip(ax.dataLim.intervaly, -LARGEST, LARGEST)
    decades = np.log10(max(abs(low), abs(high), 100) / 10)
    # Limits come before the scale: the margins that matplotlib would add on this scale overflow.
    ax.set_ylim(min(2 * low, -10), max(2 * high, 10))
    # Each half of the linear part is as high as a fifth of the decades beyond it, and at least as high as one decade.
    ax.set_yscale("symlog", linthresh=10, linscale=max(1.0, decades / 5))
    locator = SymmetricalLogLocator(base=10, linthresh=10)
    locator.set_params(numticks=7)
    ax.yaxis.set_major_locator(locator)
