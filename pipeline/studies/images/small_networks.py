"""Draw what a network of one or two weights does: its fit of the data, and its path over the loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.backends.shared.history import History
from pipeline.config.data import TableData
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
    enlarged,
    hexadecimal,
    palette,
    ruled,
    scale,
    with_lines,
    write,
)
from pipeline.studies.images.data import fit_limits, fitted, loss_indices, weight_ticks
from pipeline.studies.network_data import loss_at, loss_surface, weight_lines
from pipeline.studies.network_figures import PATH
from pipeline.system.wording import short

if TYPE_CHECKING:
    from PIL.Image import Image

# Colour map: dark to bright.
LOSSES = "cividis"


def draw_fit(config: Config, history: History, epochs: Sequence[int]) -> Iterator[Image]:
    """Draw the data of a line and the outputs of the network, with earlier outputs in a fainter colour.

    Raises:
        TypeError: the data is not a table.
    """
    if not isinstance(config.data, TableData):
        raise TypeError("a fit can only be drawn for data in a table")
    colour = hexadecimal(rate_colour(config.optimizer.learning_rate))
    (left, right), (low, high) = fit_limits(config.data)
    width = WIDTH - MARGIN - AXIS
    height = 340
    # Shares of the plot's width and height, from the top left.
    across = np.linspace(0, 1, 201)
    outputs = (high - fitted(config, history, epochs, left + across * (right - left))) / (high - low)
    data = np.stack([(np.array(config.data.inputs)[:, 0] - left) / (right - left),
                     (high - np.array(config.data.targets)[:, 0]) / (high - low)], axis=1)  # fmt: skip
    background = blank(TOP + height + 32)
    box = (AXIS, TOP, AXIS + width, TOP + height)
    plot = ruled(background, box, weight_ticks(left, right), weight_ticks(low, high))
    lines: list[Path2D] = []
    for epoch, output in zip(epochs, outputs, strict=True):
        image = background.copy()
        faint = [line._replace(colour="#c4c4c4", width=1) for line in lines]
        lines.append(Path2D(np.stack([across, output], axis=1), colour, 3))
        # The data is drawn last, so that no line hides it.
        image.paste(with_lines(plot, [*faint, lines[-1], Path2D(data, INK, 0, 6)]), (AXIS, TOP))
        values = history.snapshots[epoch]
        text = f"weight {short(float(values['layer_0/weights'][0, 0]))}"
        if config.dense.bias:
            text += f", bias {short(float(values['layer_0/bias'][0]))}"
        write(image, (MARGIN, HEADING), text)
        yield image


def draw_surface(config: Config, history: History, epochs: Sequence[int]) -> Iterator[Image]:
    """Draw the loss over both weights, darker for smaller losses, and the descent path so far."""
    axis, surface = loss_surface(config, count=191)
    span = float(axis[-1])
    side = 2 * len(axis)
    background = blank(TOP + side + 56)
    ticks = weight_ticks(-span, span)
    ruled(background, (AXIS, TOP, AXIS + side, TOP + side), ticks, ticks)
    # The rows of an image are counted from the top, the rows of the surface from the smallest second weight.
    plot = enlarged(palette(LOSSES)[loss_indices(surface[::-1])], (side, side))
    write(background, (MARGIN, TOP + side + 30), "first weight across, second up")
    scale(background, TOP + side + 32, LOSSES, f"loss {surface.min():.1g}", f"{surface.max():.2g}")
    recorded, path = weight_lines(history.snapshots)["layer_0/weights"]
    positions = np.stack([(path[:, 0] + span) / (2 * span), (span - path[:, 1]) / (2 * span)], axis=1)
    for epoch in epochs:
        image = background.copy()
        so_far = positions[recorded <= epoch]
        lines = [Path2D(so_far, PATH, 2, 2.5), Path2D(so_far[-1:], PATH, 0, 7)]
        image.paste(with_lines(plot, lines), (AXIS, TOP))
        weights = path[recorded == epoch]
        first, second = weights[0].tolist()
        # Very large weights make the loss overflow.
        with np.errstate(over="ignore", invalid="ignore"):
            loss = float(loss_at(config, weights)[0])
        write(image, (MARGIN, HEADING), f"weights {short(first)} and {short(second)}, loss {loss:.3g}")
        yield image
