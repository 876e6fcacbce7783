"""The picture of a learning-rate range test: loss against rate, the suggested rate marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.diagnosis.range_test import RangeTest, range_test
from pipeline.drawing.axes import FAINT, INK, SMALL, Figures, panels, rate_colour
from pipeline.points.point import Point
from pipeline.studies.grids import Backends
from pipeline.studies.network_figures import network_figures, title_of
from pipeline.studies.study_pictures import network_study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def range_figures(point: Point) -> Figures:
    """The figures of one range test by name: those of a network, and `range_test`."""
    yield from network_figures(point)
    test = range_test(point.history)
    if test is not None:
        yield "range_test", range_figure(title_of(point.config), test)


def range_study(study: str, backends: Backends) -> Figure:
    """The picture of a study of range tests: the first one; of one that saw too little, its curves."""
    points = next(iter(backends.values()))
    backend = points[0].config.backend.name
    test = range_test(points[0].history)
    return network_study(study, backends) if test is None else range_figure(f"{study} ({backend})", test)


def range_figure(title: str, test: RangeTest) -> Figure:
    """The loss of each minibatch and its mean against the rate; beyond the end of the test both are pale."""
    figure, (panel,) = panels(1, 1, f"{title}: range test", width=5.6, height=3.4)
    inside = slice(0, test.last)
    panel.plot(test.rates, test.losses, color="#d8d8d8", linewidth=0.8)
    panel.plot(test.rates, test.means, color="#b5b5b5", linewidth=1.2)
    panel.plot(test.rates[inside], test.means[inside], color=INK, linewidth=1.8)
    low = test.means[inside].min()
    high = max(test.means[0], test.losses[: max(test.last // 2, 1)].max())
    panel.set_xscale("log")
    panel.set_xlim(test.rates[0], test.rates[-1])
    panel.set_ylim(low - 0.1 * (high - low), high + 0.15 * (high - low))
    panel.set_xlabel("learning rate")
    panel.set_ylabel("loss of a minibatch; mean (dark)")
    if test.suggested_rate is not None and test.steepest is not None:
        rate = test.suggested_rate
        mean = float(np.interp(test.suggested_rate, test.rates, test.means))
        panel.axvline(rate, color=rate_colour(rate), linewidth=1.2, linestyle="--")
        panel.plot([rate], [mean], marker="o", markersize=8, color=rate_colour(rate), zorder=5)
        panel.annotate(f"suggested: {rate:.3g}", (rate, mean), xytext=(8, 10), textcoords="offset points",
                       fontsize=SMALL, color=INK)  # fmt: skip
        steep = float(test.rates[test.steepest])
        panel.plot([steep], [test.means[test.steepest]], marker="_", markersize=12, color=FAINT, zorder=5)
        panel.annotate(f"falls fastest: {steep:.3g}", (steep, test.means[test.steepest]), xytext=(9, 4),
                       textcoords="offset points", fontsize=SMALL, color=FAINT)  # fmt: skip
    panel.plot([test.rates[test.lowest]], [test.means[test.lowest]], marker="v", markersize=6, color=FAINT, zorder=5)
    panel.annotate(f"lowest: {test.rates[test.lowest]:.3g}", (test.rates[test.lowest], test.means[test.lowest]),
                   xytext=(-6, -12), textcoords="offset points", ha="right", fontsize=SMALL, color=FAINT)  # fmt: skip
    return figure
