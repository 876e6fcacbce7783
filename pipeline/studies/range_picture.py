"""Draw learning-rate range tests: smoothed loss versus rate, one line for each seed, with the suggested rate marked."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pipeline.diagnosis.range_test import RangeTest
from pipeline.drawing.axes import LETTERS_PER_INCH, SMALL, Drawings, axes_grid, name_axes
from pipeline.drawing.colours import FAINT, INK, rate_colour
from pipeline.drawing.plot_data import Floats, drawable, drawable_on_log, on_log_axis
from pipeline.points.point import Point
from pipeline.studies.grids import PointsByBackend
from pipeline.studies.network_figures import network_figures, title_of
from pipeline.studies.range_tests import SeedTests, minimum_counts, seed_tests, two_digits
from pipeline.studies.study_pictures import network_study
from pipeline.studies.sweep_figures import network_sweep_figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Maximum number of panels next to each other.
MOST_COLUMNS = 2
# Inches of a panel, its legend included.
WIDTH = 7.6
HEIGHT = 3.9
SINGLE = "#b5b5b5"
MINIBATCH = "#dedede"


def range_figures(point: Point) -> Drawings:
    """Return the figures of one range test: the figures of a network, and `range_test`."""
    yield from network_figures(point)
    groups = _drawn([point])
    if groups:
        yield "range_test", partial(range_figure, title_of(point.config), groups)


def range_sweep_figures(points: Sequence[Point]) -> Drawings:
    """Return `range_test` with all seeds, or the figures of networks if there is too little data.

    Curves over epochs say nothing of range tests: the rate of each epoch is another one.
    """
    groups = _drawn(points)
    if groups:
        yield "range_test", partial(range_figure, points[0].config.study, groups)
    else:
        yield from network_sweep_figures(points)


def range_study(study: str, backends: PointsByBackend) -> Figure:
    """Draw the range tests of a study's first backend, or their curves if they have too little data."""
    points = next(iter(backends.values()))
    groups = _drawn(points)
    if not groups:
        return network_study(study, backends)
    return range_figure(f"{study} ({points[0].config.backend.name})", groups)


def range_figure(title: str, groups: Sequence[SeedTests]) -> Figure:
    """Draw range tests, a panel for each group of tests that differ in nothing but the seed.

    Args:
        title: title of the figure, without `range test`.
        groups: at least one, each with at least one test.
    """
    columns = min(len(groups), MOST_COLUMNS)
    rows = -(-len(groups) // columns)
    figure, axes = axes_grid(rows, columns, f"{title}: range test", width=WIDTH, height=HEIGHT)
    for ax, group in zip(axes, groups, strict=False):
        _draw_seeds(ax, group)
    for ax in axes[len(groups) :]:
        ax.set_visible(False)
    return figure


def median_by_rate(tests: Sequence[RangeTest]) -> tuple[Floats, Floats]:
    """Return all rates of some tests, ascending, and the median over the tests of the smoothed loss at each rate.

    A test counts up to its last finite loss.
    """
    rates = np.unique(np.concatenate([test.rates for test in tests]))
    means = np.full((len(tests), len(rates)), np.nan)
    for row, test in zip(means, tests, strict=True):
        row[np.searchsorted(rates, test.rates)] = test.means
    return rates, np.nanmedian(means, axis=0)


def _drawn(points: Sequence[Point]) -> list[SeedTests]:
    """Return the groups of which at least one test has enough data to be drawn."""
    return [group for group in seed_tests(points) if any(test is not None for test in group.tests)]


def _draw_seeds(ax: Axes, group: SeedTests) -> None:
    """Draw the tests of several seeds in one panel."""
    tests = [_drawable(test) for test in group.tests if test is not None]
    first = min(float(test.rates[0]) for test in tests)
    last = max(float(test.rates[-1]) for test in tests)
    # Limits come before the scale, and equal rates still need an axis of some width.
    ax.set_xlim(first, max(last, 1.01 * first))
    ax.set_xscale("log")
    if len(tests) == 1:
        ax.plot(tests[0].rates, tests[0].losses, color=MINIBATCH, linewidth=0.8, label="each minibatch")
    else:
        for number, test in enumerate(tests):
            label = "" if number else "each seed, smoothed"
            # One update more shows that the loss diverges.
            ax.plot(test.rates[: test.last + 1], test.means[: test.last + 1], color=SINGLE, linewidth=0.9, label=label)
    rates, middle = median_by_rate(tests)
    # The line ends where half of the tests have diverged; beyond that the median says nothing.
    inside = rates <= np.median([test.rates[test.last - 1] for test in tests])
    label = "smoothed" if len(tests) == 1 else f"median of {len(tests)} seeds"
    ax.plot(rates[inside], middle[inside], color=INK, linewidth=1.8, label=label)
    lowest = [(test.rates[test.lowest], test.means[test.lowest]) for test in tests]
    label = "lowest smoothed loss" if len(tests) == 1 else "lowest of each seed"
    ax.plot(*zip(*lowest, strict=True), color=FAINT, linestyle="", marker="v", markersize=5, zorder=5, label=label)
    _set_heights(ax, tests)
    ax.set_xlabel("learning rate")
    ax.set_ylabel("training loss of minibatches (smoothed)")
    _mark_rate(ax, group)
    ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0, frameon=False, fontsize=SMALL)
    _name(ax, group)


def _drawable(test: RangeTest) -> RangeTest:
    return replace(test, rates=drawable_on_log(test.rates), losses=drawable(test.losses), means=drawable(test.means))


def _set_heights(ax: Axes, tests: Sequence[RangeTest]) -> None:
    """Fit the y axis to the part of each test before the loss diverges."""
    low = min(float(test.means[: test.last].min()) for test in tests)
    # The losses of the second half may explode; showing them would flatten the rest.
    shown = [test.means[: max(test.last // 2, 1)] for test in tests]
    if len(tests) == 1:
        shown = [tests[0].losses[: max(tests[0].last // 2, 1)]]
    high = max(max(float(test.means[0]) for test in tests), *(float(values.max()) for values in shown))
    # Losses that are all equal still need an axis of some height.
    height = (high - low) or abs(high) or 1.0
    ax.set_ylim(low - 0.1 * height, high + 0.15 * height)


def _mark_rate(ax: Axes, group: SeedTests) -> None:
    """Mark the suggested rate by a dashed line, and its interval by a band."""
    found = group.suggested
    if found is None:
        return
    colour = rate_colour(found.rate)
    if found.seeds > 1:
        low, high = on_log_axis(found.low), on_log_axis(found.high)
        # A band that is wider than the axes must not widen them.
        limits = ax.get_xlim()
        text = f"95 % interval of the suggested rate:\n{two_digits(found.low)} to {two_digits(found.high)}"
        ax.axvspan(low, high, color=colour, alpha=0.2, linewidth=0, label=text)
        ax.set_xlim(limits)
    text = f"suggested rate: {two_digits(found.rate)}"
    if found.seeds == 1:
        text += "\n(one seed: the spread is unknown)"
    ax.axvline(on_log_axis(found.rate), color=colour, linewidth=1.4, linestyle="--", label=text)


def _name(ax: Axes, group: SeedTests) -> None:
    """Write above the panel which points it shows, and what seeds without a clear minimum do instead."""
    parts = [group.name] if group.name else []
    if group.unclear:
        parts.append(minimum_counts(group))
    lines = [line for part in parts for line in textwrap.wrap(part, int(LETTERS_PER_INCH * WIDTH))]
    if lines:
        name_axes(ax, "\n".join(lines))
