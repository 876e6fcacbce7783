"""The picture of a map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as array_of
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh

from pipeline.backends.shared.history import History
from pipeline.drawing.layout import arrange
from pipeline.studies.maps import PALEST, colour_ticks, edges, map_figure, ranked
from tests.studies.test_plots import png, texts
from tests.support.maps import listed, map_config, trained_map


@pytest.fixture(scope="module")
def history() -> History:
    return trained_map(map_config("training.epochs=200"))


Measures = array_of(np.float64, (4, 5), elements=st.floats(1, 1e300) | st.floats(-1e300, -1))


@given(Measures)
def test_colours_keep_the_sign_and_the_order_of_sizes(measures: np.ndarray) -> None:
    colours = ranked(measures)
    assert (np.sign(colours) == np.sign(measures)).all()
    assert (np.abs(colours) >= PALEST).all()
    assert (np.abs(colours) <= 1).all()
    for side in (measures > 0, measures < 0):
        order = np.argsort(measures[side])
        assert (np.diff(colours[side][order]) >= 0).all()
        assert ((np.diff(colours[side][order]) == 0) == (np.diff(measures[side][order]) == 0)).all()


def test_a_missing_point_has_no_side() -> None:
    assert ranked(np.array([[0.0, 3.0, -2.0]])).tolist() == [[0, 1, -1]]


def test_cells_end_half_way_to_their_neighbours() -> None:
    assert edges(np.array([1.0, 2.0, 4.0]), False).tolist() == [0.5, 1.5, 3, 5]
    np.testing.assert_allclose(edges(np.array([1.0, 100.0]), True), [0.1, 10, 1000])


def test_the_bar_has_ticks_at_the_smallest_the_median_and_the_largest_number_of_each_side() -> None:
    ticks, names = colour_ticks(np.array([[1.0, 2.0, 30_000.0], [-1.0, -5.0, -9.0]]))
    assert names == ["-1", "-5", "-9", "+1", "+2", "+3e+04"]
    assert ticks == pytest.approx([-PALEST, -(1 + PALEST) / 2, -1, PALEST, (1 + PALEST) / 2, 1])


def test_the_picture_shows_every_number_on_logarithmic_axes_and_marks_the_best(history: History) -> None:
    figure = map_figure(map_config("training.epochs=200"), history.map_arrays)
    ax = figure.axes[0]
    (mesh,) = (artist for artist in ax.collections if isinstance(artist, QuadMesh))
    shown = np.asarray(mesh.get_array()).reshape(7, 9)
    assert (np.sign(shown) == np.sign(history.map_arrays["measure"])).all()
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    final = history.final()
    (star,) = ax.lines
    assert (star.get_xdata(), star.get_ydata()) == (
        final["map/best_learning_rate"],
        final["map/best_output_learning_rate"],
    )
    written = " ".join(texts(figure))
    assert "learning rate of the last layer (step per unit of gradient)" in written
    assert f"{final['map/converged_share']:.1%} of 63 points converge in 200 steps" in written
    assert f"the smallest loss, {final['map/best_loss']:.3g}" in written
    assert "blue, +: converged" in written
    assert "red, -: not converged" in written


def test_a_zoom_and_a_map_over_hidden_sizes_and_seeds_can_be_drawn() -> None:
    zoom = map_config("training.epochs=5", "grid.x.logspace.start=3", "grid.x.logspace.stop=4")
    sizes = map_config("training.epochs=5", *listed("x", "model.hidden_size", "[1,2,9]"), *listed("y", "seed", "[1,2]"))
    for one in (zoom, sizes):
        figure = map_figure(one, trained_map(one).map_arrays)
        assert len(png(figure)) > 5000
        labels = [label.get_text() for label in figure.axes[0].get_xticklabels() if label.get_text()]
        assert len(set(labels)) > 2


def test_a_map_of_which_no_point_converged_has_no_star(history: History) -> None:
    arrays = history.map_arrays | {"measure": np.full((7, 9), -3.0)}
    assert not map_figure(map_config(), arrays).axes[0].lines


def test_of_a_very_large_map_every_second_point_is_drawn(monkeypatch: pytest.MonkeyPatch, history: History) -> None:
    monkeypatch.setattr("pipeline.studies.maps.MOST", 5)
    figure = map_figure(map_config(), history.map_arrays)
    (mesh,) = (artist for artist in figure.axes[0].collections if isinstance(artist, QuadMesh))
    assert np.asarray(mesh.get_array()).size == 4 * 5


def test_the_map_fills_the_picture_beside_its_colour_bar(history: History) -> None:
    figure = map_figure(map_config("training.epochs=200"), history.map_arrays)
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    arrange(figure, renderer)
    (ax,) = figure.axes
    (bar,) = ax.child_axes
    width, height = figure.bbox.size
    box = ax.get_window_extent(renderer)
    beside = bar.get_tightbbox(renderer)
    assert box.width > 0.6 * width
    assert box.height > 0.7 * height
    assert beside is not None
    assert box.x1 < beside.x0
    assert beside.x1 <= width
