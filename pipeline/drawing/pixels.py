"""Drawing as pixels with PIL: text, colour scales, heat maps, smooth lines. PIL is imported on first use.

A figure of matplotlib takes a tenth of a second; here an image takes a few thousandths.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.drawing.axes import FAINT, INK, Colour
from pipeline.drawing.plot_data import Floats

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

Bytes = NDArray[np.uint8]

WIDTH, MARGIN = 480, 12
"""Width of an image and its margin, pixels."""
AXIS = 70
"""Where a panel begins that has an axis at its left, pixels."""
HEADING, TOP = 36, 66
"""Where the line below the caption stands, and where the picture begins below it, pixels."""
Ticks = Sequence[tuple[float, float]]
"""Values and where they stand on an axis, 0 to 1."""
GRID = "#e6e6e6"
TEXT = 16
"""Size of text in pixels; MLflow shows the images half as large."""
BETWEEN = "#c8c8c8"
BAR = 64
"""Width of the colour bar of a scale, pixels."""
SMOOTH = 3
"""Slanted lines are drawn this many times larger and then made smaller; PIL draws them with steps."""


class Path2D(NamedTuple):
    """A line of straight pieces on a panel: points (points, 2) as shares of its width and height, from the top left.

    `dot` is the radius in pixels of a dot on each of its points, 0 for none; `width` 0 draws the dots alone.
    """

    points: Floats
    colour: str
    width: float
    dot: float = 0


@functools.cache
def font(size: int) -> FreeTypeFont:
    """The typeface of the plots in a size in pixels."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


@functools.cache
def palette(name: str) -> Bytes:
    """A colour map of matplotlib as 255 colours (256, 3), preceded by the grey of what has no value."""
    from matplotlib import colormaps

    colours = np.rint(colormaps[name](np.linspace(0, 1, 255))[:, :3] * 255).astype(np.uint8)
    return np.vstack([np.full((1, 3), 200, np.uint8), colours])


def hexadecimal(colour: Colour) -> str:
    """A colour as `#rrggbb`."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour[:3])


def blank(height: int, width: int = WIDTH) -> Image:
    """A white image."""
    from PIL import Image as Images

    return Images.new("RGB", (width, height), "white")


def enlarged(colours: Bytes, size: tuple[int, int]) -> Image:
    """Pixels (rows, columns, 3) as an image of a size (width, height), each a rectangle of one colour."""
    from PIL import Image as Images

    return Images.fromarray(colours).resize(size, Images.Resampling.NEAREST)


def write(
    image: Image, place: tuple[float, float], text: str, size: int = TEXT, colour: str = INK, anchor: str = "la"
) -> None:
    """Write a line of text; `anchor` is PIL's: which point of the text stands at the place."""
    from PIL import ImageDraw

    ImageDraw.Draw(image).text(place, text, colour, font(size), anchor)


def scale(image: Image, top: float, name: str, low: str, high: str) -> None:
    """A colour bar at the right margin, 14 pixels high, between the texts of its ends."""
    right = image.width - MARGIN
    write(image, (right, top + 7), high, anchor="rm")
    right -= round(font(TEXT).getlength(high)) + 6
    image.paste(enlarged(palette(name)[None, 1:], (BAR, 14)), (right - BAR, round(top)))
    write(image, (right - BAR - 6, top + 7), low, anchor="rm")


def heat_map(colours: Bytes, values: NDArray[np.floating], size: tuple[int, int]) -> Image:
    """Cells of one colour each, with lines between them and their values in them where there is room.

    Args:
        colours: (rows, columns, 3).
        values: (rows, columns).
        size: width and height, pixels.
    """
    from PIL import ImageDraw

    image = enlarged(colours, size)
    draw = ImageDraw.Draw(image)
    rows, columns = values.shape
    across, high = size[0] / columns, size[1] / rows
    if min(across, high) >= 6:
        for x in range(columns + 1):
            draw.line([min(x * across, size[0] - 1), 0, min(x * across, size[0] - 1), size[1]], BETWEEN)
        for y in range(rows + 1):
            draw.line([0, min(y * high, size[1] - 1), size[0], min(y * high, size[1] - 1)], BETWEEN)
    if across >= 56 and high >= 20:
        for (row, column), value in np.ndenumerate(values):
            ink = INK if int(colours[row, column].sum()) > 380 else "white"
            write(image, ((column + 0.5) * across, (row + 0.5) * high), f"{value:.2g}", colour=ink, anchor="mm")
    return image


def with_lines(panel: Image, lines: Sequence[Path2D]) -> Image:
    """A copy of a panel with lines drawn on it; what lies beyond its edges is cut off."""
    from PIL import Image as Images
    from PIL import ImageDraw

    size = np.array(panel.size) * SMOOTH
    large = panel.resize((int(size[0]), int(size[1])), Images.Resampling.NEAREST)
    draw = ImageDraw.Draw(large)
    for points, colour, width, dot in lines:
        places = [(float(x), float(y)) for x, y in np.clip(points, -1, 2) * size]  # PIL counts pixels in 32 bits
        if width:
            draw.line(places, colour, round(width * SMOOTH), joint="curve")
        for x, y in places if dot else []:
            edge = "white" if dot > 4 else colour
            draw.ellipse([x - dot * SMOOTH, y - dot * SMOOTH, x + dot * SMOOTH, y + dot * SMOOTH], colour, edge, SMOOTH)
    return large.reduce(SMOOTH)


def ruled(image: Image, box: tuple[int, int, int, int], across: Ticks, up: Ticks) -> Image:
    """Draw the grid of a panel with left, top, right and bottom `box`, and its labels around it; returns the panel."""
    from PIL import ImageDraw

    draw = ImageDraw.Draw(image)
    left, top, right, bottom = box
    for value, place in up:
        y = round(bottom - place * (bottom - top))
        draw.line([left, y, right, y], FAINT if value == 0 else GRID)
        write(image, (left - 6, y), f"{value:g}", anchor="rm")
    for value, place in across:
        x = round(left + place * (right - left))
        draw.line([x, top, x, bottom], FAINT if value == 0 else GRID)
        write(image, (x, bottom + 6), f"{value:g}", anchor="ma")
    return image.crop(box)
