"""Draw images of balls on their curve, one per step of MLflow's slider: the balls roll as the slider moves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.backends.numpy.curves.descent import FEW, POSITIONS
from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.diagnosis.curves import ending
from pipeline.drawing.pixels import AXIS, HEADING, MARGIN, TOP, WIDTH, Path2D, blank, ruled, with_lines, write
from pipeline.studies.curves.pictures import Floats, ball_colours, ball_positions, height_limits
from pipeline.studies.images.data import Draw, weight_ticks

if TYPE_CHECKING:
    from PIL.Image import Image

# Height of the plot in pixels.
HIGH = 320


def balls_images(config: Config) -> Mapping[str, Draw]:
    """Return the drawing functions for balls on a curve, by image key."""
    return {"balls": draw_balls}


def draw_balls(config: Config, history: History, epochs: Sequence[int]) -> Iterator[Image]:
    """Draw the curve and its balls, one image for each epoch; with few balls, also the path so far of each."""
    found = ending(config, history)
    curve = found.curve
    colours = ball_colours(found)
    low, high = height_limits(curve)
    width = WIDTH - MARGIN - AXIS

    def on_plot(x: Floats) -> Floats:
        """Return points of the curve as shares of the plot's width and height, from the top left, (points, 2)."""
        # Balls far outside of the plot overflow; `with_lines` moves them closer.
        with np.errstate(over="ignore"):
            return np.stack([(x - curve.lowest) / curve.width, (high - curve.at(x).value) / (high - low)], axis=1)

    background = blank(TOP + HIGH + 32)
    box = (AXIS, TOP, AXIS + width, TOP + HIGH)
    plot = ruled(background, box, weight_ticks(curve.lowest, curve.highest), weight_ticks(low, high))
    plot = with_lines(plot, [Path2D(on_plot(np.linspace(curve.lowest, curve.highest, 401)), "#6a6a6a", 2)])
    steps, positions = ball_positions(history)
    few = positions.shape[1] <= FEW
    radius = 7 if few else 5
    for epoch in epochs:
        image = background.copy()
        now = history.snapshots[epoch][POSITIONS].astype(np.float64)
        lines = []
        # The paths of many balls would cover each other and the curve.
        if few:
            so_far = positions[steps <= epoch]
            lines += [Path2D(on_plot(path), colour, 1, 2) for path, colour in zip(so_far.T, colours, strict=True)]
        for colour in dict.fromkeys(colours):
            lines.append(Path2D(on_plot(now[np.array(colours) == colour]), colour, 0, radius))
        image.paste(with_lines(plot, lines), (AXIS, TOP))
        write(image, (MARGIN, HEADING), _heading(curve.lowest, curve.highest, now, curve.at(now).value))
        yield image


def _heading(lowest: float, highest: float, now: Floats, heights: Floats) -> str:
    """Return the line above the plot: the position of a single ball, or the number of balls."""
    if len(now) == 1:
        return f"x {now[0]:.4g}, height {heights[0]:.4g}"
    outside = int(((now < lowest) | (now > highest)).sum())
    if outside:
        return f"{len(now)} balls, {outside} outside the plot"
    return f"{len(now)} balls"
