"""The colours of figures: ink and paper, the palette of rates, colour maps. matplotlib is imported on first use."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from pipeline.drawing.plot_data import Axis, Floats, palette_position

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

Colour = tuple[float, float, float, float]

INK = "#222222"
# The colour of what has no place on the palette.
NEUTRAL: Colour = (0.3, 0.3, 0.3, 1.0)
FAINT = "#8a8a8a"
# One colour for each decade of rates. The lightness rises from the first to the last, so that the order is visible in
# grey and to colour-blind readers. The last colour is still dark enough for a white background.
RATE_COLOURS = ("#12123a", "#1b3399", "#7d42cf", "#c92f8c", "#e84f47", "#ee7c2b", "#e59a14", "#d8cf3a")


def colour_map(name: str) -> Colormap:
    """Return a colour map of matplotlib with 256 colours, its default; a matplotlibrc may have set another number."""
    from matplotlib import colormaps

    return colormaps[name].resampled(256)


def rate_colour(rate: float) -> Colour:
    """Return the colour of a learning rate that is drawn alone: dark blue is small, yellow is large."""
    return _palette(palette_position(rate))


def axis_colours(axis: Axis) -> list[Colour]:
    """Return the colour of each value of an axis by its rank; a single rate has the colour of `rate_colour`."""
    if not axis.joined:
        return [NEUTRAL] * len(axis.numbers)
    if axis.rates and len(axis.numbers) == 1:
        return [rate_colour(axis.numbers[0])]
    return [rank_colour(rank, len(axis.numbers)) for rank in range(len(axis.numbers))]


def rate_colours(rates: Iterable[float]) -> dict[float, Colour]:
    """Return the colours of several rates that are drawn together, which differ however close the rates are."""
    ranked = sorted(set(rates))
    if len(ranked) == 1:
        return {ranked[0]: rate_colour(ranked[0])}
    return {rate: rank_colour(rank, len(ranked)) for rank, rate in enumerate(ranked)}


def rank_colour(rank: int, count: int) -> Colour:
    """Return the colour of one of `count` values by its rank, from 0: neighbours are equally far apart in colour."""
    positions, lengths = _along_the_palette()
    return _palette(float(np.interp(rank / max(count - 1, 1), lengths, positions)))


@functools.cache
def _along_the_palette() -> tuple[Floats, Floats]:
    """Return positions on the palette, and the length of the path of colours up to each, as a share of all of it."""
    # Not the whole palette: its ends are almost black and almost as light as paper.
    positions = np.linspace(0.06, 0.93, 100)
    colours = np.array([_palette(float(position))[:3] for position in positions])
    lengths = np.concatenate([[0.0], np.linalg.norm(np.diff(colours, axis=0), axis=1).cumsum()])
    return positions, lengths / lengths[-1]


def _palette(position: float) -> Colour:
    """Return the colour at a position of the palette, 0 to 1."""
    from matplotlib.colors import LinearSegmentedColormap

    red, green, blue, alpha = LinearSegmentedColormap.from_list("rates", RATE_COLOURS)(position)
    return (float(red), float(green), float(blue), float(alpha))
