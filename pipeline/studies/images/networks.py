"""Draw images of the weights of a network at selected epochs.

All images of a run under one key have the same colours and axes, so that the slider shows the growth of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.shared.history import History
from pipeline.config.data import TableData
from pipeline.config.model import Model
from pipeline.config.schema import Config
from pipeline.drawing.colours import FAINT, rate_colour
from pipeline.drawing.pixels import (
    AXIS,
    HEADING,
    MARGIN,
    TOP,
    WIDTH,
    blank,
    enlarged,
    heat_map,
    hexadecimal,
    palette,
    ruled,
    scale,
    write,
)
from pipeline.studies.images.curvature import draw_curvature
from pipeline.studies.images.data import (
    EXPLOSION,
    Draw,
    bar_heights,
    bars,
    colour_indices,
    colour_limit,
    count_ticks,
    largest_units,
    shows_tiles,
    tiles,
    weight_ticks,
)
from pipeline.studies.images.small_networks import draw_fit, draw_surface
from pipeline.studies.network_data import kernels

if TYPE_CHECKING:
    from PIL.Image import Image

# Colour map: blue to red with white at zero.
WEIGHTS = "RdBu_r"
# Pixels between the histograms of two layers: labels below one and the heading above the next.
GAP = 64
# Maximum number of layers in one image.
MOST_LAYERS = 12


def network_images(config: Config) -> Mapping[str, Draw]:
    """Return the drawing functions for a network, by image key, in order of importance.

    - `first_layer`: if there is a hidden layer;
    - `error_surface`: if the network has only two weights;
    - `fit`: for a network of one weight, with or without a bias;
    - `weight_histograms`: for all other networks, including those with the first two keys and models of one's own;
    - `curvature`: where it is recorded.
    """
    images = _of_weights(config)
    if config.recording.curvature:
        images["curvature"] = draw_curvature
    return images


def _of_weights(config: Config) -> dict[str, Draw]:
    """Return the drawing functions for the weights of a network."""
    histograms: dict[str, Draw] = {"weight_histograms": draw_histograms}
    if not isinstance(config.model, Model):
        return histograms
    if config.model.hidden_size is not None:
        return {"first_layer": draw_first_layer, **histograms}
    data = config.data
    if not isinstance(data, TableData):
        return histograms
    shape = (len(data.inputs[0]), len(data.targets[0]))
    if shape == (1, 1):
        return {"fit": draw_fit}
    if shape == (2, 1) and not config.model.bias:
        return {"error_surface": draw_surface, **histograms}
    return histograms


def draw_first_layer(config: Config, history: History, epochs: Sequence[int]) -> Iterator[Image]:
    """Draw the weights of the hidden units: as tiles if the inputs are pixels, otherwise as heat maps."""
    features = len(history.snapshots[epochs[0]]["layer_0/weights"])
    if shows_tiles(config, features):
        return draw_tiles(config, history, epochs)
    return draw_heat_maps(config, history, epochs)


def _units_heading(shown: int, units: int) -> str:
    """Return the heading for hidden units, with a note if only some are shown."""
    if shown == units:
        return "hidden units"
    return f"the {shown} of {units:,} hidden units with largest final weights"


def _weight_scale(image: Image, top: int, limit: float) -> None:
    """Draw the scale of weights from -limit to limit."""
    name = "weight"
    if limit > EXPLOSION:
        name = "log weight"
    scale(image, top, WEIGHTS, f"{name} {-limit:.3g}", f"{limit:.3g}")


def draw_tiles(config: Config, history: History, epochs: Sequence[int]) -> Iterator[Image]:
    """Draw each hidden unit's weights as a tile with one pixel per input; one image for each epoch."""
    final = history.snapshots[epochs[-1]]["layer_0/weights"]
    # The units are chosen by their final weights, so that all images show the same units.
    units = largest_units(final)
    arrays = [history.snapshots[epoch]["layer_0/weights"][:, units] for epoch in epochs]
    limit = colour_limit(arrays)
    rows, columns = tiles(arrays[0]).shape
    # Integer multiples keep all pixels the same size.
    times = max(1, WIDTH // columns)
    size = (columns * times, rows * times)
    background = blank(TOP + size[1] + 30, max(WIDTH, size[0]))
    write(background, (MARGIN, HEADING), _units_heading(len(units), final.shape[1]))
    _weight_scale(background, TOP + size[1] + 8, limit)
    for array in arrays:
        image = background.copy()
        pixels = enlarged(palette(WEIGHTS)[colour_indices(tiles(array), limit)], size)
        image.paste(pixels, ((image.width - size[0]) // 2, TOP))
        yield image


class _HeatMap(NamedTuple):
    """The heat map of one layer, at the same position in all images.

    Attributes:
        arrays: the weights at each epoch, (rows, units).
        names: names of the rows.
        limit: the weight with the full colour.
        top: position of the upper edge, pixels.
        size: width and height, pixels.
    """

    arrays: Sequence[NDArray[np.floating]]
    names: Sequence[str]
    limit: float
    top: int
    size: tuple[int, int]


def _heat_map(arrays: Sequence[NDArray[np.floating]], names: Sequence[str], top: int) -> _HeatMap:
    """Plan the heat map of a layer: cells of at most 44 pixels, with integer sizes if all rows fit into 240 pixels."""
    rows, units = arrays[0].shape
    width = (WIDTH - AXIS - 2 * MARGIN) // units * units
    height = min(44, 240 // rows) * rows or 240
    return _HeatMap(arrays, names, colour_limit(arrays), top, (width, height))


def draw_heat_maps(config: Config, history: History, epochs: Sequence[int]) -> Iterator[Image]:
    """Draw the first two layers of a small network: a column is a hidden unit, a row an input, a bias or an output."""
    final = history.snapshots[epochs[-1]]
    inputs, all_units = final["layer_0/weights"].shape
    # The units are chosen by their final weights, so that all images show the same units.
    units = largest_units(final["layer_0/weights"])
    # The biases of the hidden units are the last row of the first layer.
    into = [name for name in ("layer_0/weights", "layer_0/bias") if name in final]
    before = [np.vstack([history.snapshots[epoch][name] for name in into])[:, units] for epoch in epochs]
    names = [*(f"input {row}" for row in range(inputs)), "bias"]
    first = _heat_map(before, names[: len(before[0])], TOP)
    after = [history.snapshots[epoch]["layer_1/weights"][units].T for epoch in epochs]
    kind = "unit" if config.dense.further_hidden_sizes else "output"
    names = [f"{kind} {row}" for row in range(len(after[0]))]
    second = _heat_map(after, names, first.top + first.size[1] + 40)
    bottom = second.top + second.size[1]
    chosen = len(units) < all_units
    # The line at the bottom is needed only if some units are not shown.
    background = blank(bottom + (36 if chosen else 12))
    if chosen:
        write(background, (MARGIN, bottom + 10), _units_heading(len(units), all_units))
    for layer, drawn in enumerate((first, second)):
        write(background, (MARGIN, drawn.top - 30), f"layer {layer}")
        _weight_scale(background, drawn.top - 28, drawn.limit)
        cell = drawn.size[1] / len(drawn.names)
        # Names of rows with less height would overlap.
        if cell >= 14:
            for row, name in enumerate(drawn.names):
                write(background, (AXIS + 6, drawn.top + (row + 0.5) * cell), name, anchor="rm")
    for index in range(len(epochs)):
        image = background.copy()
        for drawn in (first, second):
            array = drawn.arrays[index]
            colours = palette(WEIGHTS)[colour_indices(array, drawn.limit)]
            image.paste(heat_map(colours, array, drawn.size), (AXIS + MARGIN, drawn.top))
        yield image


def draw_histograms(config: Config, history: History, epochs: Sequence[int]) -> Iterator[Image]:
    """Draw histograms of the weights of each layer; biases are skipped."""
    from PIL import ImageDraw

    colour = hexadecimal(rate_colour(config.optimizer.learning_rate))
    names = kernels(history.snapshots[epochs[0]])[:MOST_LAYERS]
    # A single layer gets twice the height.
    height = 140 if len(names) > 1 else 280
    right = WIDTH - MARGIN
    background = blank(TOP + len(names) * (height + GAP) - 32)
    # For each layer, in pixels: the lower edge of its histogram, and the heights of the bars (steps, bins).
    layers = []
    for layer, name in enumerate(names):
        arrays = [history.snapshots[epoch][name] for epoch in epochs]
        counted = bars(arrays)
        top = TOP + layer * (height + GAP)
        shape = " x ".join(f"{count:,}" for count in arrays[0].shape)
        title = f"layer {layer}"
        if not name.startswith("layer_"):
            title = name
        write(background, (MARGIN, top - 30), f"{title}: {shape} weights")
        counts = count_ticks(int(counted.counts.max()), arrays[0].size)
        edges = weight_ticks(counted.low, counted.high, counted.signed_log)
        ruled(background, (AXIS, top, right, top + height), edges, counts)
        ImageDraw.Draw(background).line([AXIS, top + height, right, top + height], FAINT)
        layers.append((top + height, bar_heights(counted.counts, arrays[0].size) * height))
    for step in range(len(epochs)):
        image = background.copy()
        draw = ImageDraw.Draw(image)
        for bottom, heights in layers:
            edges = np.rint(np.linspace(AXIS, right, heights.shape[1] + 1)).tolist()
            for (left, end), bar in zip(pairwise(edges), heights[step].tolist(), strict=True):
                # PIL includes both corners of a rectangle; this leaves one pixel between the bars. A bar of one weight
                # among many is lower than a pixel.
                if bar:
                    draw.rectangle([left, bottom - max(bar, 1), end - 2, bottom - 1], colour)
        yield image
