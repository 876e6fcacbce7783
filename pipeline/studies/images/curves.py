"""Images of balls on their curve at some steps, for MLflow's slider: they roll as it moves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.backends.numpy.curves.descent import FEW, POSITIONS
from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.diagnosis.curves import ending
from pipeline.drawing.pixels import AXIS, HEADING, MARGIN, TOP, WIDTH, Path2D, blank, ruled, with_lines, write
from pipeline.studies.curves.pictures import Floats, ball_colours, height_limits, positions
from pipeline.studies.images.data import Draw, weight_ticks

if TYPE_CHECKING:
    from PIL.Image import Image

HIGH = 320
"""Of the panel, pixels."""


def balls_images(config: Config) -> Mapping[str, Draw]:
    """What draws the images of balls on a curve."""
    return {"balls": draw_balls}


def draw_balls(config: Config, history: History, epochs: Sequence[int]) -> Iterator[Image]:
    """The curve and its balls, one image for each epoch; of few balls the way so far, fainter."""
    found = ending(config, history)
    curve = found.curve
    colours = ball_colours(found)
    low, high = height_limits(curve)
    wide = WIDTH - MARGIN - AXIS

    def drawn(x: Floats) -> Floats:
        """Places on the panel, as shares of its width and height from the top left, (places, 2)."""
        return np.stack([(x - curve.lowest) / curve.width, (high - curve.at(x).value) / (high - low)], axis=1)

    background = blank(TOP + HIGH + 32)
    box = AXIS, TOP, AXIS + wide, TOP + HIGH
    panel = ruled(background, box, weight_ticks(curve.lowest, curve.highest), weight_ticks(low, high))
    panel = with_lines(panel, [Path2D(drawn(np.linspace(curve.lowest, curve.highest, 401)), "#6a6a6a", 2)])
    steps, places = positions(history)
    few = places.shape[1] <= FEW
    for epoch in epochs:
        image = background.copy()
        now = history.snapshots[epoch][POSITIONS].astype(np.float64)
        so_far = places[steps <= epoch]
        ways = [Path2D(drawn(way), colour, 1, 2) for way, colour in zip(so_far.T, colours, strict=True)] if few else []
        dots = [
            Path2D(drawn(now[np.array(colours) == colour]), colour, 0, 7 if few else 5)
            for colour in dict.fromkeys(colours)
        ]
        image.paste(with_lines(panel, [*ways, *dots]), (AXIS, TOP))
        write(image, (MARGIN, HEADING), _told(curve.lowest, curve.highest, now, curve.at(now).value))
        yield image


def _told(lowest: float, highest: float, now: Floats, heights: Floats) -> str:
    if len(now) == 1:
        return f"x {now[0]:.4g}, height {heights[0]:.4g}"
    outside = int(((now < lowest) | (now > highest)).sum())
    return f"{len(now)} balls" + (f", {outside} outside the picture" if outside else "")
