"""The figures and the stepped images of balls on a curve."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from pipeline.diagnosis.curves import ending
from pipeline.drawing.layout import save_png
from pipeline.drawing.pixels import AXIS, MARGIN, TOP, WIDTH
from pipeline.points.point import Point
from pipeline.studies.curves.pictures import BASINS as COLOURS
from pipeline.studies.curves.pictures import LOST_COLOUR, UNSETTLED_COLOUR, ball_colours, balls_by_rate, basin_figure
from pipeline.studies.images.stepped import image_keys, stepped_images
from pipeline.studies.kinds import point_figures, study_figure, sweep_figures
from pipeline.tracking.dataset import dataset_of
from pipeline.tracking.pages.views import view_tags
from tests.studies.test_plots import texts
from tests.support.curves import BASINS, ball_point, study
from tests.support.trained import config


def drawn(figure: Figure) -> str:
    """Draw a figure; returns its words."""
    save_png(figure, io.BytesIO())
    return " ".join(texts(figure))


@pytest.fixture(scope="module")
def points() -> list[Point]:
    return study("curve_divergence", *(f"optimizer.learning_rate={rate}" for rate in ("0.1", "1", "1.05")))


def test_the_colour_of_a_ball_is_that_of_its_end(points: list[Point]) -> None:
    colours = [ball_colours(ending(point.config, point.history)) for point in points]
    assert colours == [[COLOURS[0]] * 3, [UNSETTLED_COLOUR] * 3, [LOST_COLOUR] * 3]


def test_a_path_goes_from_start_to_end_on_the_curve(points: list[Point]) -> None:
    ((name, figure),) = point_figures(points[0])
    assert name == "balls"
    words = drawn(figure)
    assert "curve_divergence: rate 0.1, converged" in words
    assert "mean height" in words
    path = figure.axes[0].lines[1]
    x, heights = (np.asarray(data, float) for data in path.get_data())
    assert (x[0], heights[0]) == (-4, 16)
    np.testing.assert_allclose(heights, x**2)
    assert figure.axes[0].get_xlim() == (-5, 5)


def test_a_path_that_leaves_the_picture_ends_there(points: list[Point]) -> None:
    ((_, figure),) = point_figures(points[2])
    assert max(np.abs(np.asarray(line.get_xdata(), float)).max() for line in figure.axes[0].lines) <= 30
    drawn(figure)


def test_a_study_has_axes_for_each_rate(points: list[Point]) -> None:
    ((name, _),) = sweep_figures(points)
    figure = study_figure("curve_divergence", {"numpy": points})
    assert name == "balls_by_rate"
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == ["rate 0.1: converged", "rate 1: oscillating (back and forth)", "rate 1.05: diverged"]
    drawn(figure)


def test_random_starts_are_counted_at_their_minima() -> None:
    point = ball_point("experiment=curve_restarts", "training.epochs=60")
    figure = balls_by_rate([point])
    words = drawn(figure)
    found = ending(point.config, point.history)
    counts = [text.get_text() for text in figure.axes[0].texts]
    assert counts == [str(int((found.minimum == index).sum())) for index in range(5)]
    assert "chance of finding all minima" in words


def test_the_map_has_a_colour_for_each_minimum() -> None:
    point = ball_point(*BASINS)
    ((name, figure),) = point_figures(point)
    assert name == "map"
    words = drawn(figure)
    assert "learning rate (step per unit of slope)" in words
    assert "not settled" in words
    assert "x = -5.87" in words
    (mesh,) = (artist for artist in figure.axes[0].collections if isinstance(artist, QuadMesh))
    assert np.array_equal(np.asarray(mesh.get_array()).reshape(15, 6), point.history.map_arrays["minimum"])
    both = study_figure("curve_basins", {"numpy": [point, ball_point(*BASINS, "optimizer.momentum=0.9")]})
    titles = [ax.get_title(loc="left") for ax in both.axes]
    assert [title.split(":")[0] for title in titles] == ["momentum 0", "momentum 0.9"]
    drawn(both)
    assert "In which minimum does each ball end?" in " ".join(view_tags([point.config], image_keys, 1).values())


def test_a_map_may_have_the_start_across() -> None:
    across = ("grid.x={knob: balls.start, logspace: null, linspace: {start: -8, stop: 8, count: 5}, list: null}",
              "grid.y={knob: optimizer.learning_rate, logspace: {start: 0.01, stop: 1, count: 4}, linspace: null, "
              "list: null}")  # fmt: skip
    point = ball_point("experiment=curve_basins", "training.epochs=60", *across)
    figure = basin_figure([point])
    drawn(figure)
    assert (figure.axes[0].get_xscale(), figure.axes[0].get_yscale()) == ("linear", "log")


def test_the_images_show_the_balls_where_they_are(points: list[Point]) -> None:
    point = points[0]
    images = list(stepped_images(point.config, point.history))
    assert image_keys(point.config) == ["balls"] == list(dict.fromkeys(key for key, _, _ in images))
    steps = [step for _, step, _ in images]
    assert len(images) <= 10
    assert (steps[0], steps[-1]) == (0, 200)
    colour = tuple(int(COLOURS[0][start : start + 2], 16) for start in (1, 3, 5))
    wide = WIDTH - MARGIN - AXIS
    for _, step, image in (images[0], images[-1]):
        pixels = np.asarray(image)[TOP : TOP + 320, AXIS : AXIS + wide]
        across = np.flatnonzero((np.abs(pixels.astype(int) - colour).max(axis=2) < 20).any(axis=0)) / wide * 10 - 5
        for start in (-4, 1, 3):
            at = start * 0.8**step
            assert np.abs(across - at).min() < 0.1, step
    assert len({image.tobytes() for _, _, image in images}) == len(images)


def test_every_kind_of_end_has_images(points: list[Point]) -> None:
    for point in points[1:]:
        assert [step for _, step, _ in stepped_images(point.config, point.history)][-1] == 200


def test_the_data_set_of_a_curve_is_its_expression_or_its_points() -> None:
    dataset = dataset_of(config("experiment=curve_divergence"), {"curve": "0" * 64})
    assert dataset.name == "curve_bowl"
    assert '"expression": "x**2"' in dataset.profile
    spline = config("experiment=curve_divergence", "data=curve_points")
    assert '"points": 9' in dataset_of(spline, {"curve": "0" * 64}).profile
