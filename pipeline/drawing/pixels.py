"""Draw images with PIL: text, colour scales, heat maps, smooth lines. PIL is imported on first use.

A matplotlib figure takes a tenth of a second, an image made here a few milliseconds.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.drawing.colours import FAINT, INK, Colour, colour_map
from pipeline.drawing.plot_data import Floats

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

Bytes = NDArray[np.uint8]
# Values with their positions on an axis, 0 to 1.
Ticks = Sequence[tuple[float, float]]

# All sizes are in pixels. Width of an image, and its margin:
WIDTH = 480
MARGIN = 12
# Left edge of a plot that has labels to its left:
AXIS = 70
# Top of the line of text below the caption, and top of the plot below it:
HEADING = 36
TOP = 66
# Height of text; MLflow shows the images half as large:
TEXT = 16
# Width of the colour bar of a scale:
BAR = 64
GRID = "#e6e6e6"
# Colour of the lines between the cells of a heat map.
BETWEEN = "#c8c8c8"
# PIL does not antialias lines, so they are drawn this many times larger and then reduced.
SMOOTH = 3


class Path2D(NamedTuple):
    """A line of straight pieces on a plot.

    Attributes:
        points: (points, 2) as shares of the plot's width and height, from the top left.
        colour: `#rrggbb`.
        width: width of the line, pixels; 0 draws only the dots.
        dot: radius of a dot on each point, pixels; 0 draws none.
    """

    points: Floats
    colour: str
    width: float
    dot: float = 0


@functools.cache
def font(size: int) -> FreeTypeFont:
    """Load the typeface of the plots in a size in pixels."""
    import matplotlib
    from PIL import ImageFont

    # matplotlib comes with a font, so that the images look the same on every machine.
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


@functools.cache
def palette(name: str) -> Bytes:
    """Return a colour map of matplotlib as 255 colours, preceded by a grey for missing values: (256, 3)."""
    colours = np.rint(colour_map(name)(np.linspace(0, 1, 255))[:, :3] * 255).astype(np.uint8)
    return np.vstack([np.full((1, 3), 200, np.uint8), colours])


def hexadecimal(colour: Colour) -> str:
    """Write a colour as `#rrggbb`."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour[:3])


def blank(height: int, width: int = WIDTH) -> Image:
    """Create a white image."""
    from PIL import Image as Images

    return Images.new("RGB", (width, height), "white")


def enlarged(colours: Bytes, size: tuple[int, int]) -> Image:
    """Turn colours (rows, columns, 3) into an image of a size (width, height), each colour a rectangle."""
    from PIL import Image as Images

    return Images.fromarray(colours).resize(size, Images.Resampling.NEAREST)


def write(
    image: Image, position: tuple[float, float], text: str, size: int = TEXT, colour: str = INK, anchor: str = "la"
) -> None:
    """Write a line of text.

    Args:
        image: the image to write on.
        position: x and y, pixels.
        text: the line of text.
        size: height of the text, pixels.
        colour: `#rrggbb`.
        anchor: the point of the text that is at the position, in PIL's notation.
    """
    from PIL import ImageDraw

    ImageDraw.Draw(image).text(position, text, colour, font(size), anchor)


def scale(image: Image, top: float, name: str, low: str, high: str) -> None:
    """Draw a colour bar at the right margin, 14 pixels high, between the labels of its ends."""
    right = image.width - MARGIN
    write(image, (right, top + 7), high, anchor="rm")
    right -= round(font(TEXT).getlength(high)) + 6
    # The first colour is the grey of missing values, which is not part of the scale.
    image.paste(enlarged(palette(name)[None, 1:], (BAR, 14)), (right - BAR, round(top)))
    write(image, (right - BAR - 6, top + 7), low, anchor="rm")


def heat_map(colours: Bytes, values: NDArray[np.floating], size: tuple[int, int]) -> Image:
    """Draw coloured cells with lines between them, and their values inside if there is room.

    Args:
        colours: (rows, columns, 3).
        values: (rows, columns).
        size: width and height, pixels.
    """
    from PIL import ImageDraw

    image = enlarged(colours, size)
    draw = ImageDraw.Draw(image)
    width, height = size
    rows, columns = values.shape
    cell_width = width / columns
    cell_height = height / rows
    # Lines around smaller cells would hide their colours.
    if min(cell_width, cell_height) >= 6:
        # The last line would be just outside the image, so it is moved to the last pixel.
        for x in range(columns + 1):
            draw.line([min(x * cell_width, width - 1), 0, min(x * cell_width, width - 1), height], BETWEEN)
        for y in range(rows + 1):
            draw.line([0, min(y * cell_height, height - 1), width, min(y * cell_height, height - 1)], BETWEEN)
    if cell_width >= 56 and cell_height >= 20:
        for (row, column), value in np.ndenumerate(values):
            ink = "white"
            # The sum of red, green and blue is at most 765; from half of that on, black is easier to read than white.
            if int(colours[row, column].sum()) > 380:
                ink = INK
            centre = ((column + 0.5) * cell_width, (row + 0.5) * cell_height)
            write(image, centre, f"{value:.2g}", colour=ink, anchor="mm")
    return image


def with_lines(plot: Image, lines: Sequence[Path2D]) -> Image:
    """Return a copy of a plot with lines drawn on it; parts beyond its edges are cut off."""
    from PIL import Image as Images
    from PIL import ImageDraw

    size = np.array(plot.size) * SMOOTH
    large = plot.resize((int(size[0]), int(size[1])), Images.Resampling.NEAREST)
    draw = ImageDraw.Draw(large)
    for points, colour, width, dot in lines:
        # PIL stores positions as 32-bit numbers, so distant points are moved closer to the plot, but remain outside.
        positions = [(float(x), float(y)) for x, y in np.clip(points, -1, 2) * size]
        if width:
            draw.line(positions, colour, round(width * SMOOTH), joint="curve")
        if not dot:
            continue
        # A white edge keeps large dots apart.
        edge = "white" if dot > 4 else colour
        for x, y in positions:
            draw.ellipse([x - dot * SMOOTH, y - dot * SMOOTH, x + dot * SMOOTH, y + dot * SMOOTH], colour, edge, SMOOTH)
    return large.reduce(SMOOTH)


def ruled(image: Image, box: tuple[int, int, int, int], across: Ticks, up: Ticks) -> Image:
    """Draw the grid lines of a plot and the labels around it.

    Args:
        image: the image to draw on.
        box: left, top, right and bottom of the plot, pixels.
        across: ticks of the x axis.
        up: ticks of the y axis.

    Returns:
        The plot cut out of the image, without the labels.
    """
    from PIL import ImageDraw

    # The lines at zero are darker than the others.
    colours: dict[float, str] = {0: FAINT}
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = box
    for value, position in up:
        y = round(bottom - position * (bottom - top))
        draw.line([left, y, right, y], colours.get(value, GRID))
        write(image, (left - 6, y), f"{value:g}", anchor="rm")
    for value, position in across:
        x = round(left + position * (right - left))
        draw.line([x, top, x, bottom], colours.get(value, GRID))
        write(image, (x, bottom + 6), f"{value:g}", anchor="ma")
    return image.crop(box)
