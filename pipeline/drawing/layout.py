"""Save figures as PNG files, with margins sized to fit their text.

matplotlib's constrained layout measures a figure twice and draws it once before it is saved. Here a figure is measured
once and drawn once. The results differ by a pixel or two.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.system.files import write_file

if TYPE_CHECKING:
    from typing import IO

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.backend_bases import RendererBase
    from matplotlib.figure import Figure

# Space around each of the axes, the title and the note.
PAD_INCHES = 3 / 72


def write_png(file: Path, figure: Figure) -> None:
    """Arrange a figure and write it atomically as a PNG file.

    Raises:
        OSError: the file cannot be written.
    """
    write_file(file, partial(save_png, figure))


def save_png(figure: Figure, stream: Path | IO[bytes]) -> None:
    """Arrange a figure and save it as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    arrange(figure, canvas.get_renderer())  # type: ignore[no-untyped-call]
    canvas.draw()  # type: ignore[no-untyped-call]
    # PIL writes the pixels, because Figure.savefig would measure and draw everything again. Nothing is transparent,
    # so the fourth channel is dropped.
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", compress_level=4, dpi=(figure.dpi, figure.dpi))


def arrange(figure: Figure, renderer: RendererBase) -> None:
    """Give all axes of a grid the same size, as large as their titles, labels and ticks allow.

    Axes that were placed by hand stay where they are.
    """
    cells = [(ax, cell) for ax in figure.axes if (cell := ax.get_subplotspec()) is not None]
    if not cells:
        return
    grid = cells[0][1].get_gridspec()
    pad = PAD_INCHES * figure.dpi
    size = figure.get_size_inches() * figure.dpi
    # The space that text needs on each side of a column or a row, pixels.
    left, right = np.full((2, grid.ncols), pad)
    top, bottom = np.full((2, grid.nrows), pad)
    for ax, cell in cells:
        _skip_empty_labels(ax)
        if not ax.get_visible():
            continue
        tight = ax.get_tightbbox(renderer, for_layout_only=True)
        if tight is None:
            continue
        row = cell.rowspan.start
        column = cell.colspan.start
        left[column] = max(left[column], ax.bbox.x0 - tight.x0 + pad)
        right[column] = max(right[column], tight.x1 - ax.bbox.x1 + pad)
        top[row] = max(top[row], tight.y1 - ax.bbox.y1 + pad)
        bottom[row] = max(bottom[row], ax.bbox.y0 - tight.y0 + pad)
        _keep_labels(figure, ax)
    # The title, and the note below it.
    used = pad
    for text in figure.texts:
        text.set_y(1 - used / size[1])
        used += text.get_window_extent(renderer).height + pad
    if figure.texts:
        top[0] += used
    # The axes keep at least half an inch; if long text leaves no room, the text is cut off.
    least = figure.dpi / 2
    width = max((size[0] - left.sum() - right.sum()) / grid.ncols, least)
    height = max((size[1] - top.sum() - bottom.sum()) / grid.nrows, least)
    for ax, cell in cells:
        row = cell.rowspan.start
        column = cell.colspan.start
        x = left[: column + 1].sum() + right[:column].sum() + column * width
        # Rows count from the top, positions from the bottom.
        y = size[1] - top[: row + 1].sum() - bottom[:row].sum() - (row + 1) * height
        ax.set_position((x / size[0], y / size[1], width / size[0], height / size[1]))


def _skip_empty_labels(ax: Axes) -> None:
    """Fix the positions of axis labels without text, because matplotlib measures all ticks to place even those."""
    for axis in (ax.xaxis, ax.yaxis):
        if not axis.get_label_text():
            axis.set_label_coords(0, 0)


def _keep_labels(figure: Figure, ax: Axes) -> None:
    """Fix the distance between each axis and its label, because the ticks have been measured already."""
    from matplotlib.transforms import ScaledTranslation

    # The measured position of a label is a share of the axes along its axis, and pixels of the figure across it.
    x, label_y = ax.xaxis.label.get_position()
    label_x, y = ax.yaxis.label.get_position()
    labels: tuple[tuple[Axis, tuple[float, float], tuple[float, float]], ...] = (
        (ax.xaxis, (x, 0.0), (0.0, label_y - ax.bbox.y0)),
        (ax.yaxis, (0.0, y), (label_x - ax.bbox.x0, 0.0)),
    )
    for axis, position, (right, up) in labels:
        if axis.get_label_text():
            offset = ScaledTranslation(right / figure.dpi, up / figure.dpi, figure.dpi_scale_trans)
            axis.set_label_coords(*position, transform=ax.transAxes + offset)
