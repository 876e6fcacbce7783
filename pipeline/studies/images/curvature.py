"""Draw images of the curvature of a network over its training, with the curvature that its rate allows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.drawing.colours import INK, rate_colour
from pipeline.drawing.pixels import (
    AXIS,
    HEADING,
    MARGIN,
    TOP,
    WIDTH,
    Path2D,
    blank,
    hexadecimal,
    ruled,
    with_lines,
    write,
)
from pipeline.drawing.plot_data import drawable_on_log
from pipeline.studies.stability import allowed_curvature
from pipeline.system.wording import three_digits

if TYPE_CHECKING:
    from PIL.Image import Image

HEIGHT = 300
# Number of dashes and gaps of the line of what the rate allows.
DASHES = 41
# The powers of ten that have a grid line, at most; and those that the axis covers: saturated sigmoids have next to no
# curvature, and would leave no room for the rest.
MOST_LINES = 7
MOST_POWERS = 8


def draw_curvature(config: Config, history: History, epochs: Sequence[int]) -> Iterator[Image]:
    """Draw the largest curvature up to each epoch on a logarithmic axis, and dashed what the rate allows.

    Above the dashed line, 2 / rate for gradient descent, the next steps along the most curved direction grow. For an
    adaptive method both are those of the preconditioned Hessian.
    """
    name = "curvature/largest"
    if "curvature/preconditioned" in history.names():
        name = "curvature/preconditioned"
    steps, values = history.series(name)
    shown = values > 0
    steps, values = steps[shown], values[shown]
    allowed = allowed_curvature(config, history, steps)
    known = drawable_on_log(np.concatenate([values, allowed[np.isfinite(allowed)], [1.0] * (not len(values))]))
    high = math.ceil(np.log10(known.max()))
    low = min(max(math.floor(np.log10(known.min())), high - MOST_POWERS), high - 1)
    last = max(epochs[-1], 1)
    background = blank(TOP + HEIGHT + 32)
    # Half of the last label stands to the right of the plot.
    box = (AXIS, TOP, WIDTH - 3 * MARGIN, TOP + HEIGHT)
    each = math.ceil((high - low) / MOST_LINES)
    up = [(10.0**power, (power - low) / (high - low)) for power in range(low, high + 1, each)]
    across = [(float(round(last * share)), share) for share in (0, 0.5, 1)]
    plot = ruled(background, box, across, up)

    def places(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        heights = (high - np.log10(drawable_on_log(numbers))) / (high - low)
        return np.stack([steps / last, heights], axis=1)

    limit = _dashes(places(allowed)[np.isfinite(allowed)])
    curve = places(values)
    colour = hexadecimal(rate_colour(config.optimizer.learning_rate))
    for epoch in epochs:
        image = background.copy()
        so_far = curve[steps <= epoch]
        lines = [*limit]
        # An adaptive method has no state before its first update.
        if len(so_far):
            lines += [Path2D(so_far, colour, 3), Path2D(so_far[-1:], colour, 0, 6)]
        image.paste(with_lines(plot, lines), (AXIS, TOP))
        write(image, (MARGIN, HEADING), _heading(values[steps <= epoch], allowed[steps <= epoch]))
        yield image


def _dashes(line: NDArray[np.float64]) -> list[Path2D]:
    """Return a line as dashes."""
    if not len(line):
        return []
    edges = np.linspace(line[0, 0], max(line[-1, 0], line[0, 0] + 1e-6), DASHES + 1)
    heights = np.interp(edges, line[:, 0], line[:, 1])
    pieces = list(pairwise(zip(edges.tolist(), heights.tolist(), strict=True)))
    return [Path2D(np.array(piece), INK, 2) for piece in pieces[::2]]


def _heading(values: NDArray[np.float64], allowed: NDArray[np.float64]) -> str:
    if not len(values):
        return "no curvature recorded"
    text = f"curvature {three_digits(float(values[-1]))}"
    if np.isfinite(allowed[-1]):
        text += f", the rate allows {three_digits(float(allowed[-1]))}"
    return text
