from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageColor import getrgb

from pipeline.drawing import pixels
from pipeline.drawing.colours import INK, rate_colour
from pipeline.drawing.plot_data import Floats
from pipeline.system.project import PROJECT

RED = (255, 0, 0)
BLUE = (0, 0, 255)


def array(image: Image.Image) -> NDArray[np.uint8]:
    """An image as (height, width, 3)."""
    return np.asarray(image)


def lightness(colours: NDArray[np.uint8]) -> Floats:
    """CIE L* of colours (..., 3), 0 to 100, approximately: the gamma of sRGB is taken to be 2.2."""
    luminance = (colours / 255) ** 2.2 @ np.array([0.2126, 0.7152, 0.0722])
    light: Floats = np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)
    return light


def test_the_settings_of_a_user_change_no_colour_and_no_style(tmp_path: Path) -> None:
    """Those that cannot be kept from being read: in a matplotlibrc in the folder where a command is typed."""
    (tmp_path / "matplotlibrc").write_text("image.lut: 4\nlines.linewidth: 9\naxes.facecolor: red\n")
    code = """
import sys
from pipeline.drawing.axes import axes_grid
from pipeline.drawing.pixels import palette
_, (ax,) = axes_grid(1, 1, "")
line, = ax.plot([0, 1])
sys.stdout.buffer.write(palette("RdBu_r").tobytes())
assert (line.get_linewidth(), ax.get_facecolor()) == (1.5, (1, 1, 1, 1))
"""
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == pixels.palette("RdBu_r").tobytes()


def test_palette_of_weights_is_neutral_at_zero_and_darker_to_both_sides() -> None:
    colours = pixels.palette("RdBu_r")
    assert colours.shape == (256, 3)
    assert colours[0].tolist() == [200, 200, 200]
    assert np.ptp(colours[128]) <= 2
    assert colours[128].min() > 240
    assert colours[1, 2] > colours[1, 0]
    assert colours[255, 0] > colours[255, 2]
    light = lightness(colours)
    assert (np.diff(light[1:129:8]) > 0).all()
    assert (np.diff(light[128::8]) < 0).all()


def test_palette_of_losses_gets_lighter_all_the_way() -> None:
    assert (np.diff(lightness(pixels.palette("cividis")[1::8])) > 0).all()


def test_hexadecimal() -> None:
    assert pixels.hexadecimal((1, 0.5, 0, 1)) == "#ff8000"
    assert pixels.hexadecimal(rate_colour(1)) == "#e84f47"


def test_enlarged_pixels_are_rectangles() -> None:
    image = pixels.enlarged(np.array([[RED, BLUE]], dtype=np.uint8), (6, 4))
    assert image.size == (6, 4)
    assert array(image)[:, :3].tolist() == [[list(RED)] * 3] * 4
    assert array(image)[:, 3:].tolist() == [[list(BLUE)] * 3] * 4


def test_text_is_at_its_position() -> None:
    image = pixels.blank(40, 200)
    pixels.write(image, (190, 20), "12345", anchor="rm")
    rows, columns = np.nonzero(array(image).min(axis=2) < 100)
    assert array(image).min() >= min(getrgb(INK)) - 1
    assert 185 <= columns.max() <= 190
    assert columns.min() == pytest.approx(190 - pixels.font(pixels.TEXT).getlength("12345"), abs=3)
    assert rows.mean() == pytest.approx(20, abs=2)


def test_scale_runs_from_its_low_colour_to_its_high_one() -> None:
    image = pixels.blank(30)
    pixels.scale(image, 8, "cividis", "0", "1")
    coloured = np.ptp(array(image)[15].astype(int), axis=1) > 40
    (columns,) = np.nonzero(coloured)
    bar = array(image)[15, columns[0] : columns[-1] + 1]
    assert abs(len(bar) - pixels.BAR) < 20  # the middle of the palette is grey
    colours = pixels.palette("cividis")
    np.testing.assert_allclose(bar[0], colours[1], atol=12)
    np.testing.assert_allclose(bar[-1], colours[255], atol=12)
    assert columns[-1] == pytest.approx(
        image.width - pixels.MARGIN - 6 - pixels.font(pixels.TEXT).getlength("1"), abs=2
    )
    assert (array(image)[:7] == 255).all()
    assert (array(image)[23:] == 255).all()


def test_heat_map_has_a_cell_for_each_value() -> None:
    colours = np.array([[RED, BLUE, RED], [BLUE, RED, BLUE]], dtype=np.uint8)
    values = np.arange(6.0).reshape(2, 3)
    plain = array(pixels.heat_map(colours, values, (60, 30)))
    assert plain.shape == (30, 60, 3)
    assert plain[7::15, 10::20].tolist() == colours.tolist()
    line = list(getrgb(pixels.BETWEEN))
    assert plain[0, 5].tolist() == plain[15, 5].tolist() == plain[5, 20].tolist() == plain[-1, -1].tolist() == line
    written = array(pixels.heat_map(colours, values, (300, 100)))
    cell = written[5:45, 105:195]
    assert ((cell == 255).all(axis=2)).any(), "the value is written in white on blue"
    assert written[25, 104].tolist() == list(BLUE)


def test_heat_map_of_many_cells_has_no_lines() -> None:
    colours = np.tile(np.array([RED, BLUE], dtype=np.uint8), (100, 50, 1))
    image = array(pixels.heat_map(colours, np.zeros((100, 100)), (300, 100)))
    assert {tuple(colour) for colour in image.reshape(-1, 3).tolist()} == {RED, BLUE}


def test_lines_are_drawn_on_a_copy() -> None:
    plot = pixels.blank(100, 200)
    across = pixels.Path2D(np.array([[0.0, 0.25], [1.0, 0.25]]), "#ff0000", 4)
    dots = pixels.Path2D(np.array([[0.5, 0.75]]), "#0000ff", 0, 6)
    image = array(pixels.with_lines(plot, [across, dots]))
    assert image.shape == (100, 200, 3)
    assert (image[25] == RED).all()
    assert image[75, 100].tolist() == list(BLUE)
    assert image[75, 94].min() > 100, "the dot has a white edge"
    assert (image[35:65] == 255).all()
    assert (array(plot) == 255).all()


def test_slanted_lines_are_smooth() -> None:
    image = pixels.with_lines(pixels.blank(100, 100), [pixels.Path2D(np.array([[0.0, 0.1], [1.0, 0.4]]), "#000000", 2)])
    assert len(np.unique(array(image))) > 5


@pytest.mark.parametrize("far", [10, 1e6, 1e12, 1e300])
def test_lines_that_come_from_far_pass_where_they_should(far: float) -> None:
    line = pixels.Path2D(np.array([[0.5, -far], [0.5, far]]), "#ff0000", 2)
    image = array(pixels.with_lines(pixels.blank(20, 30), [line]))
    assert (image[:, 15] == RED).all()
    assert (image[:, [10, 20]] == 255).all()


@given(hnp.arrays(np.float64, (5, 2), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_lines_may_leave_the_plot(points: Floats) -> None:
    lines = [pixels.Path2D(points, "#ff0000", 2, 3)]
    assert pixels.with_lines(pixels.blank(20, 30), lines).size == (30, 20)
