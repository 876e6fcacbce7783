"""Figures are arranged so that nothing is cut off or covered, and all axes have the same size."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pipeline.drawing.axes import axes_grid, epoch_axis, name_axes
from pipeline.drawing.layout import save_png


def crowded() -> Figure:
    """Two rows of three axes with long words around them, one of them hidden."""
    figure, axes = axes_grid(2, 3, "A title")
    for index, ax in enumerate(axes):
        ax.plot([0, 100], [1, 10 ** (3 * index)])
        ax.set_yscale("log")
        epoch_axis(ax, 100, full_batch=index == 1)
        name_axes(ax, f"axes {index}")
        ax.text(1.04, 0.5, "m" * (2 + 3 * index), transform=ax.transAxes)
    axes[3].set_ylabel("weight")
    axes[5].set_visible(False)
    return figure


def saved(figure: Figure) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    buffer = io.BytesIO()
    save_png(figure, buffer)
    return np.asarray(Image.open(buffer))


def test_a_picture_has_the_size_of_its_figure_and_white_edges() -> None:
    figure = crowded()
    pixels = saved(figure)
    width, height = figure.get_size_inches() * figure.dpi
    assert pixels.shape == (round(height), round(width), 3)
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    assert all((edge == 255).all() for edge in edges)
    assert (pixels < 128).any()


def test_axes_have_one_size_and_the_text_around_them_does_not_overlap() -> None:
    figure = crowded()
    saved(figure)
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    sizes = [ax.bbox.size for ax in figure.axes]
    np.testing.assert_allclose(sizes, [sizes[0]] * 6)
    taken = [ax.get_tightbbox(renderer) for ax in figure.axes if ax.get_visible()]
    taken += [text.get_window_extent(renderer) for text in figure.texts]
    boxes = [box for box in taken if box is not None]
    assert len(boxes) == 6
    assert not any(a.overlaps(b) for index, a in enumerate(boxes) for b in boxes[:index])
    assert all(figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1 for box in boxes)
    assert all(figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1 for box in boxes)


def test_labels_are_as_far_from_their_axis_as_matplotlib_puts_them() -> None:
    figure, (ax,) = axes_grid(1, 1, "")
    ax.plot([0, 3], [-12345, 5])
    ax.set(xlabel="epoch", ylabel="weight")
    saved(figure)
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    labels = [ax.xaxis.label, ax.yaxis.label]
    ours = [label.get_window_extent(renderer).bounds for label in labels]
    again, (other,) = axes_grid(1, 1, "")
    other.plot([0, 3], [-12345, 5])
    other.set(xlabel="epoch", ylabel="weight", position=ax.get_position())
    FigureCanvasAgg(again).draw()  # type: ignore[no-untyped-call]
    theirs = [label.get_window_extent(renderer).bounds for label in (other.xaxis.label, other.yaxis.label)]
    np.testing.assert_allclose(ours, theirs, atol=1)


def test_very_long_text_leaves_axes_that_can_be_seen() -> None:
    figure, (ax,) = axes_grid(1, 1, "")
    ax.text(1.04, 0.5, "m" * 500, transform=ax.transAxes)
    saved(figure)
    assert ax.bbox.width == pytest.approx(figure.dpi / 2)


def test_axes_placed_by_hand_stay_there() -> None:
    figure = Figure()
    figure.add_axes((0.1, 0.2, 0.3, 0.4))
    saved(figure)
    assert figure.axes[0].get_position().bounds == pytest.approx((0.1, 0.2, 0.3, 0.4))
