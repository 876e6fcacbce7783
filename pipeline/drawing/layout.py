"""Figures as PNG files, with margins as wide as what stands in them.

matplotlib's constrained layout measures a figure twice and draws it once before it is saved; here it is measured once
and drawn once. The result is the same to a pixel or two.
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

PAD_INCHES = 3 / 72
"""Room around each panel and the title."""


def write_png(file: Path, figure: Figure) -> None:
    """Arrange the panels of a figure, draw it, and write it as PNG, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    write_file(file, partial(save_png, figure))


def save_png(figure: Figure, stream: Path | IO[bytes]) -> None:
    """Arrange the panels of a figure, draw it, and save it as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    arrange(figure, canvas.get_renderer())  # type: ignore[no-untyped-call]
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", compress_level=4, dpi=(figure.dpi, figure.dpi))


def arrange(figure: Figure, renderer: RendererBase) -> None:
    """Give the panels of a grid one size, as large as titles, labels and ticks around them leave room for.

    Axes that were placed by hand stay where they are.
    """
    placed = [(axes, place) for axes in figure.axes if (place := axes.get_subplotspec()) is not None]
    if not placed:
        return
    grid = placed[0][1].get_gridspec()
    pad = PAD_INCHES * figure.dpi
    size = figure.get_size_inches() * figure.dpi
    left, right = np.full((2, grid.ncols), pad)
    top, bottom = np.full((2, grid.nrows), pad)
    for axes, place in placed:
        for axis in (axes.xaxis, axes.yaxis):
            if not axis.get_label_text():
                axis.set_label_coords(0, 0)  # matplotlib measures all ticks to place a label, even one without text
        tight = axes.get_tightbbox(renderer, for_layout_only=True) if axes.get_visible() else None
        if tight is not None:
            row, column = place.rowspan.start, place.colspan.start
            left[column] = max(left[column], axes.bbox.x0 - tight.x0 + pad)
            right[column] = max(right[column], tight.x1 - axes.bbox.x1 + pad)
            top[row] = max(top[row], tight.y1 - axes.bbox.y1 + pad)
            bottom[row] = max(bottom[row], axes.bbox.y0 - tight.y0 + pad)
            for axis in (axes.xaxis, axes.yaxis):
                if axis.get_label_text():
                    _keep_label(figure, axes, axis)
    for title in figure.texts:
        title.set_y(1 - pad / size[1])
        top[0] += title.get_window_extent(renderer).height + 2 * pad
    least = figure.dpi / 2  # where words leave no room they are cut off, but a panel is never empty
    wide = max((size[0] - left.sum() - right.sum()) / grid.ncols, least)
    high = max((size[1] - top.sum() - bottom.sum()) / grid.nrows, least)
    for axes, place in placed:
        row, column = place.rowspan.start, place.colspan.start
        x = left[: column + 1].sum() + right[:column].sum() + column * wide
        y = size[1] - top[: row + 1].sum() - bottom[:row].sum() - (row + 1) * high
        axes.set_position((x / size[0], y / size[1], wide / size[0], high / size[1]))


def _keep_label(figure: Figure, axes: Axes, axis: Axis) -> None:
    """Let the label of an axis stand as far from it as it does now, instead of measuring all ticks again."""
    from matplotlib.transforms import ScaledTranslation

    x, y = axis.label.get_position()
    if axis is axes.xaxis:
        place, right, up = (x, 0.0), 0.0, y - axes.bbox.y0
    else:
        place, right, up = (0.0, y), x - axes.bbox.x0, 0.0
    away = ScaledTranslation(right / figure.dpi, up / figure.dpi, figure.dpi_scale_trans)
    axis.set_label_coords(*place, transform=axes.transAxes + away)
