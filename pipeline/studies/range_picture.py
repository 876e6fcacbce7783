"""Draw a learning-rate range test: loss versus rate, with the suggested rate marked."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pipeline.diagnosis.range_test import RangeTest, range_test
from pipeline.drawing.axes import SMALL, Drawings, axes_grid
from pipeline.drawing.colours import FAINT, INK, rate_colour
from pipeline.drawing.plot_data import drawable, drawable_on_log
from pipeline.points.point import Point
from pipeline.studies.grids import PointsByBackend
from pipeline.studies.network_figures import network_figures, title_of
from pipeline.studies.study_pictures import network_study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def range_figures(point: Point) -> Drawings:
    """Return the figures of one range test: the figures of a network, and `range_test`."""
    yield from network_figures(point)
    test = range_test(point.history)
    if test is not None:
        yield "range_test", partial(range_figure, title_of(point.config), test)


def range_study(study: str, backends: PointsByBackend) -> Figure:
    """Draw the first range test of a study, or its curves if it has too little data."""
    points = next(iter(backends.values()))
    backend = points[0].config.backend.name
    test = range_test(points[0].history)
    if test is None:
        return network_study(study, backends)
    return range_figure(f"{study} ({backend})", test)


def range_figure(title: str, test: RangeTest) -> Figure:
    """Draw the loss of each minibatch and its mean versus rate; both are faded after the end of the test."""
    figure, (ax,) = axes_grid(1, 1, f"{title}: range test", width=5.6, height=3.4)
    inside = slice(0, test.last)
    test = replace(test, rates=drawable_on_log(test.rates), losses=drawable(test.losses), means=drawable(test.means))
    ax.plot(test.rates, test.losses, color="#d8d8d8", linewidth=0.8)
    ax.plot(test.rates, test.means, color="#b5b5b5", linewidth=1.2)
    ax.plot(test.rates[inside], test.means[inside], color=INK, linewidth=1.8)
    low = test.means[inside].min()
    # The losses of the second half may explode; showing them would flatten the rest.
    high = max(test.means[0], test.losses[: max(test.last // 2, 1)].max())
    # Losses that are all equal still need an axis of some height, and equal rates an axis of some width.
    height = (high - low) or abs(high) or 1.0
    ax.set_xlim(test.rates[0], max(test.rates[-1], 1.01 * test.rates[0]))
    ax.set_xscale("log")
    ax.set_ylim(low - 0.1 * height, high + 0.15 * height)
    ax.set_xlabel("learning rate")
    ax.set_ylabel("loss of a minibatch; mean (dark)")
    _mark_rates(ax, test)
    return figure


def _mark_rates(ax: Axes, test: RangeTest) -> None:
    """Mark the suggested rate, the rate at which the mean falls fastest, and the rate at which it is lowest."""
    if test.suggested_rate is not None and test.steepest is not None:
        rate = test.suggested_rate
        # The suggested rate is between the rates of two updates.
        mean = float(np.interp(test.suggested_rate, test.rates, test.means))
        ax.axvline(rate, color=rate_colour(rate), linewidth=1.2, linestyle="--")
        ax.plot([rate], [mean], marker="o", markersize=8, color=rate_colour(rate), zorder=5)
        ax.annotate(f"suggested: {rate:.3g}", (rate, mean), xytext=(8, 10), textcoords="offset points",
                    fontsize=SMALL, color=INK)  # fmt: skip
        steep = float(test.rates[test.steepest])
        ax.plot([steep], [test.means[test.steepest]], marker="_", markersize=12, color=FAINT, zorder=5)
        ax.annotate(f"falls fastest: {steep:.3g}", (steep, test.means[test.steepest]), xytext=(9, 4),
                    textcoords="offset points", fontsize=SMALL, color=FAINT)  # fmt: skip
    ax.plot([test.rates[test.lowest]], [test.means[test.lowest]], marker="v", markersize=6, color=FAINT, zorder=5)
    ax.annotate(f"lowest: {test.rates[test.lowest]:.3g}", (test.rates[test.lowest], test.means[test.lowest]),
                xytext=(-6, -12), textcoords="offset points", ha="right", fontsize=SMALL, color=FAINT)  # fmt: skip
