"""Images of the curvature: what they draw, and of whom there are any."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.drawing import pixels
from pipeline.drawing.pixels import Path2D
from pipeline.studies.images import curvature
from pipeline.studies.images.stepped import image_keys, stepped_images
from tests.support.trained import config, trained

RECORDED = "recording.curvature=true"
LINE = ("experiment=line_y3x", "gradient=backpropagation", "training.epochs=40", RECORDED)


def drawn(point: Config, history: History, monkeypatch: pytest.MonkeyPatch) -> tuple[list[list[Path2D]], list[str]]:
    """What is drawn on the plot at each epoch, and the headings."""
    lines: list[list[Path2D]] = []
    headings: list[str] = []
    plain, write = pixels.with_lines, pixels.write

    def with_lines(plot: Any, paths: list[Path2D]) -> Any:
        lines.append(list(paths))
        return plain(plot, paths)

    def noted(image: Any, position: tuple[float, float], text: str) -> None:
        headings.append(text)
        write(image, position, text)

    monkeypatch.setattr(curvature, "with_lines", with_lines)
    monkeypatch.setattr(curvature, "write", noted)
    images = list(curvature.draw_curvature(point, history, sorted(history.snapshots)))
    assert len({image.size for image in images}) == 1
    return lines, headings


def test_points_have_it_where_the_curvature_is_recorded() -> None:
    assert "curvature" in image_keys(config(*LINE))
    assert "curvature" not in image_keys(config("experiment=line_y3x"))
    point = config("experiment=three_bits", "training.epochs=30", RECORDED)
    history = trained(point)[0]
    assert {key for key, _, _ in stepped_images(point, history)} == set(image_keys(point))


def test_the_curve_grows_and_the_dashes_are_where_the_rate_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    point = config(*LINE, "optimizer.learning_rate=0.1")
    history = trained(point)[0]
    lines, headings = drawn(point, history, monkeypatch)
    assert headings[-1] == "curvature 16.7, the rate allows 20"
    *dashes, curve, dot = lines[-1]
    heights = {round(float(height), 9) for dash in dashes for height in dash.points[:, 1]}
    # The axis is from 10 to 100, from the top.
    assert heights == {round(1 - np.log10(2.0), 9)}
    np.testing.assert_allclose(curve.points[:, 1], 1 - np.log10(1.670060973), rtol=1e-6)
    assert curve.points[-1, 0] == 1
    assert dot.points.tolist() == curve.points[-1:].tolist()
    lengths = [len(paths[-2].points) for paths in lines]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_a_schedule_moves_the_dashes(monkeypatch: pytest.MonkeyPatch) -> None:
    point = config(*LINE, "schedule=cosine", "schedule.warm_up=0", "schedule.final=0.1")
    lines, _ = drawn(point, trained(point)[0], monkeypatch)
    *dashes, _, _ = lines[-1]
    assert dashes[0].points[0, 1] > dashes[-1].points[-1, 1] + 0.3  # it allows more as the rate falls


def test_adaptive_methods_begin_after_their_first_update(monkeypatch: pytest.MonkeyPatch) -> None:
    point = config("experiment=three_bits", "optimizer=adam", "training.epochs=30", RECORDED)
    lines, headings = drawn(point, trained(point)[0], monkeypatch)
    assert headings[0] == "no curvature recorded"
    assert len(lines[0]) < len(lines[-1])
    assert "the rate allows" in headings[-1]


@pytest.mark.parametrize("override", ["optimizer=lion", "training.clip_norm=1"])
def test_without_a_breaking_rate_there_are_no_dashes(override: str, monkeypatch: pytest.MonkeyPatch) -> None:
    point = config("experiment=three_bits", override, "training.epochs=30", RECORDED)
    lines, headings = drawn(point, trained(point)[0], monkeypatch)
    assert all(len(paths) == 2 for paths in lines)
    assert "allows" not in headings[-1]


def test_a_saturated_network_leaves_room_for_what_came_before() -> None:
    point = config(*LINE, "optimizer.learning_rate=2")
    history = History()
    for epoch, value in ((0, 10.0), (20, 1e-40), (40, 1e-44)):
        history.record(epoch, {"curvature/largest": value, "train/loss": 1.0})
        history.snapshot(epoch, {"layer_0/weights": np.ones((1, 1)), "layer_0/bias": np.ones(1)})
    history.epochs = 40
    first, *_, last = curvature.draw_curvature(point, history, [0, 20, 40])
    assert first.size == last.size
    # From 10 down to 1e-7: the first value is at the top.
    column = np.asarray(first.convert("L"))[:, pixels.AXIS + 2]
    assert column[pixels.TOP : pixels.TOP + 8].min() < 200


@pytest.mark.parametrize("value", [0.0, 1e-300, 1e300, -5.0])
def test_any_curvature_can_be_drawn(value: float) -> None:
    point = config(*LINE)
    history = History()
    for epoch in (0, 40):
        history.record(epoch, {"curvature/largest": value, "train/loss": 1.0})
        history.snapshot(epoch, {"layer_0/weights": np.ones((1, 1)), "layer_0/bias": np.ones(1)})
    history.epochs = 40
    assert len(list(curvature.draw_curvature(point, history, [0, 40]))) == 2


@pytest.mark.parametrize("rate", [5e-324, 1.7e308])
def test_curvatures_and_rates_as_large_and_small_as_floats_go_are_drawn(
    rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = config(*LINE, "dtype=float64", f"optimizer.learning_rate={rate}")
    history = History(epochs=2)
    for epoch, largest in enumerate((1.7e308, 5e-324, 1.0)):
        history.record(epoch, {"curvature/largest": largest})
        history.snapshot(epoch, {"layer_0/weights": np.zeros((1, 1))})
    lines, _ = drawn(point, history, monkeypatch)
    assert all(np.isfinite(line.points).all() for line in lines[-1])
