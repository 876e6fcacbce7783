"""Images of the weights of a network at some epochs.

Colours and axes are the same for all images under one key of a run, so that the slider shows growth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from pipeline.backends.shared.history import History
from pipeline.config.data import TableData
from pipeline.config.schema import Config
from pipeline.drawing.axes import FAINT, INK, rate_colour
from pipeline.drawing.pixels import (
    AXIS,
    HEADING,
    MARGIN,
    TOP,
    WIDTH,
    Path2D,
    blank,
    enlarged,
    heat_map,
    hexadecimal,
    palette,
    ruled,
    scale,
    with_lines,
    write,
)
from pipeline.studies.images.data import (
    EXPLOSION,
    Draw,
    bar_heights,
    bars,
    colour_limit,
    colour_places,
    count_ticks,
    fit_limits,
    fitted,
    largest_units,
    loss_places,
    shows_tiles,
    tiles,
    weight_ticks,
)
from pipeline.studies.network_data import loss_at, loss_surface, weight_lines
from pipeline.studies.network_figures import PATH
from pipeline.system.wording import short

if TYPE_CHECKING:
    from PIL.Image import Image

WEIGHTS, LOSSES = "RdBu_r", "cividis"
"""Colour maps: from blue over white at zero to red, and from dark to bright."""


def network_images(config: Config) -> Mapping[str, Draw]:
    """What draws the images of a network, by key, in the order of what they tell.

    `first_layer` where there is a hidden layer, `error_surface` where there are two weights and nothing else, `fit` of
    a network of one weight, with or without a bias, and `weight_histograms` of all others.
    """
    if config.model.hidden_size is not None:
        return {"first_layer": draw_first_layer, "weight_histograms": draw_histograms}
    data = config.data
    shape = (len(data.inputs[0]), len(data.targets[0])) if isinstance(data, TableData) else None
    if shape == (1, 1):
        return {"fit": draw_fit}
    surface = {"error_surface": draw_surface} if shape == (2, 1) and not config.model.bias else {}
    return {**surface, "weight_histograms": draw_histograms}


def draw_first_layer(config: Config, history: History, epochs: Sequence[int]) -> Iterator[Image]:
    """The weights of the hidden units: as pictures where the inputs are the pixels of one, else as heat maps."""
    features = len(history.snapshots[epochs[0]]["layer_0/weights"])
    draw = draw_tiles if shows_tiles(config, features) else draw_heat_maps
    return draw(config, history, epochs)


def _chosen(shown: int, units: int) -> str:
    """What a heading says of the hidden units when only some are shown."""
    return "" if shown == units else f": the {shown} of {units:,} largest in the end"


def _weight_scale(image: Image, top: int, limit: float) -> None:
    kind = "log weight" if limit > EXPLOSION else "weight"
    scale(image, top, WEIGHTS, f"{kind} {-limit:.3g}", f"{limit:.3g}")


def draw_tiles(config: Config, history: History, epochs: Sequence[int]) -> Iterator[Image]:
    """The weights from the pixels of a picture to each hidden unit, as a picture; one image for each epoch."""
    final = history.snapshots[epochs[-1]]["layer_0/weights"]
    units = largest_units(final)
    arrays = [history.snapshots[epoch]["layer_0/weights"][:, units] for epoch in epochs]
    limit = colour_limit(arrays)
    rows, columns = tiles(arrays[0]).shape
    times = max(1, WIDTH // columns)
    size = (columns * times, rows * times)
    background = blank(TOP + size[1] + 30, max(WIDTH, size[0]))
    write(background, (MARGIN, HEADING), f"hidden units{_chosen(len(units), final.shape[1])}")
    _weight_scale(background, TOP + size[1] + 8, limit)
    for array in arrays:
        image = background.copy()
        pixels = enlarged(palette(WEIGHTS)[colour_places(tiles(array), limit)], size)
        image.paste(pixels, ((image.width - size[0]) // 2, TOP))
        yield image


def draw_heat_maps(config: Config, history: History, epochs: Sequence[int]) -> Iterator[Image]:
    """The first two layers of a small network: a column is a hidden unit, a row an input, a bias or an output."""
    final = history.snapshots[epochs[-1]]["layer_0/weights"]
    units = largest_units(final)
    into = [name for name in ("layer_0/weights", "layer_0/bias") if name in history.snapshots[epochs[-1]]]
    before = [np.vstack([history.snapshots[epoch][name] for name in into])[:, units] for epoch in epochs]
    after = [history.snapshots[epoch]["layer_1/weights"][units].T for epoch in epochs]
    names = [f"input {row}" for row in range(len(final))] + ["bias"] * (len(into) - 1)
    outputs = [f"{'unit' if config.model.further_hidden_sizes else 'output'} {row}" for row in range(len(after[0]))]
    across = (WIDTH - AXIS - 2 * MARGIN) // len(units) * len(units)
    high = [min(44, 240 // len(rows)) * len(rows) or 240 for rows in (names, outputs)]
    tops = [TOP, TOP + high[0] + 40]
    chosen = _chosen(len(units), final.shape[1])
    background = blank(tops[1] + high[1] + (36 if chosen else 12))
    write(background, (MARGIN, tops[1] + high[1] + 10), f"hidden units{chosen}" if chosen else "")
    limits = [colour_limit(before), colour_limit(after)]
    for layer, rows in enumerate((names, outputs)):
        write(background, (MARGIN, tops[layer] - 30), f"layer {layer}")
        _weight_scale(background, tops[layer] - 28, limits[layer])
        cell = high[layer] / len(rows)
        for row, name in enumerate(rows if cell >= 14 else []):
            write(background, (AXIS + 6, tops[layer] + (row + 0.5) * cell), name, anchor="rm")
    for arrays in zip(before, after, strict=True):
        image = background.copy()
        for layer, array in enumerate(arrays):
            colours = palette(WEIGHTS)[colour_places(array, limits[layer])]
            image.paste(heat_map(colours, array, (across, high[layer])), (AXIS + MARGIN, tops[layer]))
        yield image


def draw_histograms(config: Config, history: History, epochs: Sequence[int]) -> Iterator[Image]:
    """The weights of each layer, counted; biases are left out."""
    from PIL import ImageDraw

    colour = hexadecimal(rate_colour(config.optimizer.learning_rate))
    names = [name for name in history.snapshots[epochs[0]] if name.endswith("weights")]
    high, wide = (140 if len(names) > 1 else 280), WIDTH - MARGIN - AXIS
    background = blank(TOP + len(names) * (high + 64) - 32)
    panels = []
    for place, name in enumerate(names):
        arrays = [history.snapshots[epoch][name] for epoch in epochs]
        counted, top = bars(arrays), TOP + place * (high + 64)
        write(background, (MARGIN, top - 30), f"layer {place}: {' x '.join(f'{n:,}' for n in arrays[0].shape)} weights")
        counts = count_ticks(int(counted.counts.max()), arrays[0].size)
        edges = weight_ticks(counted.low, counted.high, counted.signed_log)
        ruled(background, (AXIS, top, AXIS + wide, top + high), edges, counts)
        ImageDraw.Draw(background).line([AXIS, top + high, AXIS + wide, top + high], FAINT)
        panels.append((top + high, bar_heights(counted.counts, arrays[0].size) * high))
    for step in range(len(epochs)):
        image = background.copy()
        draw = ImageDraw.Draw(image)
        for bottom, heights in panels:
            edges = np.rint(np.linspace(AXIS, AXIS + wide, heights.shape[1] + 1)).tolist()
            for (left, right), height in zip(pairwise(edges), heights[step].tolist(), strict=True):
                if height:
                    draw.rectangle([left, bottom - height, right - 2, bottom - 1], colour)
        yield image


def draw_fit(config: Config, history: History, epochs: Sequence[int]) -> Iterator[Image]:
    """The data of a line and what the network answers now; fainter what it answered before."""
    if not isinstance(config.data, TableData):
        raise TypeError("a fit is drawn through data written in a table")
    colour = hexadecimal(rate_colour(config.optimizer.learning_rate))
    (left, right), (low, high) = fit_limits(config.data)
    wide, tall = WIDTH - MARGIN - AXIS, 340
    across = np.linspace(0, 1, 201)
    answers = (high - fitted(config, history, epochs, left + across * (right - left))) / (high - low)
    data = np.stack([(np.array(config.data.inputs)[:, 0] - left) / (right - left),
                     (high - np.array(config.data.targets)[:, 0]) / (high - low)], axis=1)  # fmt: skip
    background = blank(TOP + tall + 32)
    box = (AXIS, TOP, AXIS + wide, TOP + tall)
    panel = ruled(background, box, weight_ticks(left, right), weight_ticks(low, high))
    lines: list[Path2D] = []
    for epoch, answer in zip(epochs, answers, strict=True):
        image = background.copy()
        now = np.stack([across, answer], axis=1)
        faint = [line._replace(colour="#c4c4c4", width=1) for line in lines]
        lines.append(Path2D(now, colour, 3))
        image.paste(with_lines(panel, [*faint, lines[-1], Path2D(data, INK, 0, 6)]), (AXIS, TOP))
        values = history.snapshots[epoch]
        text = f"weight {short(float(values['layer_0/weights'][0, 0]))}"
        text += f", bias {short(float(values['layer_0/bias'][0]))}" if config.model.bias else ""
        write(image, (MARGIN, HEADING), text)
        yield image


def draw_surface(config: Config, history: History, epochs: Sequence[int]) -> Iterator[Image]:
    """The loss over both weights, dark where it is small, and the way down it so far."""
    axis, surface = loss_surface(config, count=191)
    span, side = float(axis[-1]), 2 * len(axis)
    background = blank(TOP + side + 56)
    ticks = weight_ticks(-span, span)
    ruled(background, (AXIS, TOP, AXIS + side, TOP + side), ticks, ticks)
    panel = enlarged(palette(LOSSES)[loss_places(surface[::-1])], (side, side))
    write(background, (MARGIN, TOP + side + 30), "first weight across, second up")
    scale(background, TOP + side + 32, LOSSES, f"loss {surface.min():.1g}", f"{surface.max():.2g}")
    recorded, path = weight_lines(history.snapshots)["layer_0/weights"]
    places = np.stack([(path[:, 0] + span) / (2 * span), (span - path[:, 1]) / (2 * span)], axis=1)
    for epoch in epochs:
        image = background.copy()
        so_far = places[recorded <= epoch]
        way = [Path2D(so_far, PATH, 2, 2.5), Path2D(so_far[-1:], PATH, 0, 7)]
        image.paste(with_lines(panel, way), (AXIS, TOP))
        weights = path[recorded == epoch]
        first, second = weights[0].tolist()
        with np.errstate(over="ignore", invalid="ignore"):
            loss = float(loss_at(config, weights)[0])
        write(image, (MARGIN, HEADING), f"weights {short(first)} and {short(second)}, loss {loss:.3g}")
        yield image
