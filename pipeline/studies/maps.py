"""What a map says, and its picture: the signed number of every point, over the two axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.maps.measures import LAST, best_place, map_metrics
from pipeline.backends.numpy.maps.rate_map import map_axes
from pipeline.config.map_axes import Axis
from pipeline.config.schema import Config
from pipeline.drawing.axes import INK, SMALL, panels
from pipeline.drawing.plot_data import Floats
from pipeline.points.point import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis as DrawnAxis
    from matplotlib.figure import Figure

MOST = 1024
"""Points along an axis that a picture shows; of more, every second is drawn, or every third."""
PALEST = 0.12
"""Where the palest point of a side stands between 0 and 1, so that the sides are told apart."""
COLOURS = "RdBu"
LABELS = {
    "optimizer.learning_rate": "learning rate (step per unit of gradient)",
    "optimizer.output_learning_rate": "learning rate of the last layer (step per unit of gradient)",
    "model.hidden_size": "hidden size (units)",
    "seed": "seed",
}


def map_sentences(points: Sequence[Point]) -> Iterator[str]:
    """How many points of each map converge, and which is the best."""
    for point in points:
        named = "map" if len(points) == 1 else f"`{point.name}`"
        yield f"{named}: {point.diagnosis.evidence}."


def map_headline(points: Sequence[Point]) -> str:
    """The same in a line."""
    return "; ".join(point.diagnosis.evidence for point in points)


def map_numbers(points: Sequence[Point]) -> dict[str, float]:
    """What the first map comes to, by metric."""
    return {name: value for name, value in points[0].outcome.final.items() if name.startswith("map/")}


def ranked(measures: Floats) -> Floats:
    """The signed numbers of a map as colours, in the same shape: the sign kept, the size by rank within its side.

    The largest of a side is 1 or -1, the smallest `PALEST` or -`PALEST`; equal numbers are equal colours. By rank, a
    side uses all of its shades, whatever decades its numbers span.
    """
    found = np.zeros(measures.shape)
    for side in (measures > 0, measures < 0):
        if side.any():
            values, places = np.unique(np.abs(measures[side]), return_inverse=True)
            ranks = np.ones(1) if len(values) == 1 else np.linspace(PALEST, 1, len(values))
            found[side] = np.sign(measures[side]) * ranks[places]
    return found


def map_figure(config: Config, arrays: Mapping[str, NDArray[Any]]) -> Figure:
    """The signed number over both axes: blue where training converged, red where not, and the paler, the sooner.

    Args:
        config: of a map.
        arrays: the map's, trained.

    Raises:
        ValueError: the config has no grid.
    """
    axes = map_axes(config)
    every = [-(-len(arrays[name]) // MOST) for name in ("x", "y")]
    x = arrays["x"][:: every[0]]
    y = arrays["y"][:: every[1]]
    measures = arrays["measure"][:: every[1], :: every[0]]
    share = map_metrics(arrays)["map/converged_share"]
    title = f"{config.study}: {share:.1%} of {axes.points:,} points converge in {config.training.epochs:,} steps"
    figure, (panel,) = panels(1, 1, title, width=7.6, height=6.0)
    mesh = panel.pcolormesh(
        edges(x, axes.x.logarithmic), edges(y, axes.y.logarithmic), ranked(measures),
        cmap=COLOURS, vmin=-1, vmax=1, rasterized=True,
    )  # fmt: skip
    panel.grid(False)
    if axes.x.logarithmic:
        panel.set_xscale("log")
    if axes.y.logarithmic:
        panel.set_yscale("log")
    for axis, drawn, values in ((axes.x, panel.xaxis, x), (axes.y, panel.yaxis, y)):
        _ticks(axis, drawn, values)
    panel.set(xlabel=_label(axes.x, axes.y), ylabel=_label(axes.y, axes.x))
    best = best_place(arrays)
    if best is not None:
        _mark_best(panel, arrays, best)
    bar = figure.colorbar(mesh, cax=panel.inset_axes((1.03, 0.05, 0.04, 0.9)))  # a part of the panel for its margins
    ticks, names = colour_ticks(measures)
    bar.set_ticks(ticks, labels=names)
    bar.ax.tick_params(labelsize=SMALL)
    bar.set_label(
        f"blue, +: converged (mean of the last {LAST} losses below the first); sum of losses\n"
        "red, -: not converged; sum of 1 / loss (losses over the first; shades by rank)", fontsize=SMALL,
    )  # fmt: skip
    return figure


def edges(values: Floats, logarithmic: bool) -> Floats:
    """Where the cells of rising values (n,) begin and end, (n + 1,): half way to the neighbours."""
    places = np.log(values) if logarithmic else values
    middles = (places[1:] + places[:-1]) / 2
    ends = np.concatenate([[2 * places[0] - middles[0]], middles, [2 * places[-1] - middles[-1]]])
    result: Floats = np.exp(ends) if logarithmic else ends
    return result


def colour_ticks(measures: Floats) -> tuple[list[float], list[str]]:
    """Where the colour bar has ticks, -1 to 1, and the numbers there: smallest, median and largest of each side."""
    ticks = []
    names = []
    for sign in (-1, 1):
        sizes = np.unique(np.abs(measures[np.sign(measures) == sign]))
        if len(sizes):
            for place in (0, len(sizes) // 2, len(sizes) - 1):
                ticks.append(sign * (PALEST + (1 - PALEST) * place / max(len(sizes) - 1, 1)))
                names.append(f"{sign * sizes[place]:+,.4g}")
    return ticks, names


def _ticks(axis: Axis, drawn: DrawnAxis, values: Floats) -> None:
    """A logarithmic axis has ticks at 1, 2 and 5 where it spans less than three decades; a zoom gets plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    decades = float(np.log10(values[-1] / values[0])) if axis.logarithmic else 0.0
    if axis.logarithmic and decades >= 0.7:
        drawn.set_major_locator(LogLocator(subs=(1.0,) if decades >= 3 else (1.0, 2.0, 5.0)))
    else:
        drawn.set_major_locator(MaxNLocator(6))
    drawn.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    drawn.set_minor_formatter(NullFormatter())


def _label(axis: Axis, other: Axis) -> str:
    """What an axis shows; the rate is that of the first layer where the last one has its own."""
    layer = " of the first layer" if other.knob == "optimizer.output_learning_rate" else ""
    return LABELS[axis.knob].replace("learning rate (", f"learning rate{layer} (")


def _mark_best(panel: Axes, arrays: Mapping[str, NDArray[Any]], best: tuple[int, int]) -> None:
    """A star at the best point, and its values below the picture's name."""
    at = float(arrays["x"][best[1]]), float(arrays["y"][best[0]])
    panel.plot(*at, marker="*", markersize=13, color="#ffd34d", markeredgecolor=INK, linestyle="none")
    loss = float(arrays["final_loss"][best])
    panel.set_title(f"star: the smallest loss, {loss:.3g} at {at[0]:.4g} across, {at[1]:.4g} up", loc="left",
                    fontsize=SMALL, color=INK)  # fmt: skip
