from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageColor import getrgb

from pipeline.backends.shared.history import History
from pipeline.backends.shared.initial_weights import Weights
from pipeline.config.schema import Config
from pipeline.drawing import pixels
from pipeline.drawing.colours import FAINT, INK, rate_colour
from pipeline.studies.images import data as image_data
from pipeline.studies.images import networks as network_images
from pipeline.studies.images import small_networks
from pipeline.studies.images import stepped as stepped_images
from pipeline.studies.network_figures import PATH
from tests.support.maps import map_point
from tests.support.trained import config, trained

THREE_BITS = config("experiment=three_bits", "optimizer.learning_rate=10", "model.hidden_size=4", "training.epochs=300")
TWO_BITS = config("experiment=two_bits", "training.epochs=200")
DEEP = config(
    "experiment=three_bits",
    "optimizer.learning_rate=1",
    "model.hidden_size=4",
    "model.further_hidden_sizes=[3,2]",
    "model.batch_normalization=true",
    "model.bias=true",
    "training.epochs=100",
)
LINE = config("experiment=line_y3x", "optimizer.learning_rate=0.1", "training.epochs=40")
MNIST = config("experiment=mnist", "optimizer.learning_rate=0.01", "model.hidden_size=4", "training.epochs=2")


def images(one: Config, history: History) -> dict[str, dict[int, NDArray[np.uint8]]]:
    """The images of a point by key and step, each (height, width, 3)."""
    found: dict[str, dict[int, NDArray[np.uint8]]] = {}
    for key, step, image in stepped_images.stepped_images(one, history):
        assert step not in found.setdefault(key, {})
        found[key][step] = np.asarray(image)
    return found


def history_of(snapshots: dict[int, Weights], diverged_step: int | None = None) -> History:
    """A history that was not trained."""
    history = History(diverged_step=diverged_step, epochs=max(snapshots))
    for epoch, weights in snapshots.items():
        history.snapshot(epoch, weights)
    return history


def digit_network(hidden: NDArray[np.float64]) -> Weights:
    """A network of 784-4-10 with the weights of its hidden layer."""
    return {
        "layer_0/weights": hidden,
        "layer_0/bias": np.zeros(4),
        "layer_1/weights": np.linspace(-1, 1, 40).reshape(4, 10),
        "layer_1/bias": np.zeros(10),
    }


def written(monkeypatch: pytest.MonkeyPatch, one: Config, history: History) -> list[str]:
    """Return everything that is written on the images of a point."""
    texts: list[str] = []

    def write(image: Image.Image, position: tuple[float, float], text: str, *args: Any, **kwargs: Any) -> None:
        texts.append(text)

    for module in (stepped_images, network_images, small_networks):
        monkeypatch.setattr(module, "write", write)
    list(stepped_images.stepped_images(one, history))
    return texts


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (["experiment=three_bits", "model.hidden_size=4"], ["first_layer", "weight_histograms"]),
        (["experiment=mnist"], ["first_layer", "weight_histograms"]),
        (["experiment=two_bits"], ["error_surface", "weight_histograms"]),
        (["experiment=two_bits", "model.bias=true"], ["weight_histograms"]),
        (["experiment=three_bits", "model=linear", "model.output_activation=sigmoid"], ["weight_histograms"]),
        (["experiment=mnist", "model.hidden_size=null"], ["weight_histograms"]),
        (["experiment=line_y2x"], ["fit"]),
        (["experiment=line_y2x", "model.bias=false"], ["fit"]),
        (["experiment=line_y2x", "model.hidden_size=4"], ["first_layer", "weight_histograms"]),
    ],
)
def test_keys(overrides: list[str], keys: list[str]) -> None:
    assert stepped_images.image_keys(config(*overrides, "optimizer.learning_rate=0.01")) == keys


@pytest.mark.parametrize("one", [THREE_BITS, TWO_BITS, DEEP, LINE], ids=["three_bits", "two_bits", "deep", "line"])
def test_images_of_trained_points(one: Config) -> None:
    (history,) = trained(one)
    found = images(one, history)
    assert list(found) == stepped_images.image_keys(one)
    for by_step in found.values():
        assert list(by_step) == list(image_data.image_steps(one, history))
        assert len({image.shape for image in by_step.values()}) == 1
        shown = list(by_step.values())
        assert 400 <= shown[0].shape[1] <= 640
        assert (shown[0][[0, -1]] == 255).all(), "a white edge"
        assert (shown[0] != shown[-1]).any(axis=2).mean() > 0.01, "training is seen"
        for image in shown:
            assert 0.02 < (image < 250).any(axis=2).mean() < 0.9


def test_steps_are_the_same_for_all_rates() -> None:
    points = [LINE.model_copy(update={"optimizer": LINE.optimizer.model_copy(update={"learning_rate": rate})})
              for rate in (0.01, 0.1, 1.0)]  # fmt: skip
    points = [one.model_copy(update={"gradient": "backpropagation"}) for one in points]
    histories = trained(*points)
    assert [history.diverged_step is None for history in histories] == [True, True, False]
    steps = [list(images(one, history)["fit"]) for one, history in zip(points, histories, strict=True)]
    assert steps[0] == steps[1] == steps[2]
    assert (steps[0][0], steps[0][-1]) == (0, 40)


def test_caption(monkeypatch: pytest.MonkeyPatch) -> None:
    one = MNIST.model_copy(update={"model": MNIST.model.model_copy(update={"hidden_size": 100})})
    network = digit_network(np.zeros((784, 4))) | {"layer_0/weights": np.ones((784, 100)),
                                                   "layer_1/weights": np.ones((100, 10))}  # fmt: skip
    texts = written(monkeypatch, one, history_of({0: network, 1: network, 2: network}))
    assert texts.count("rate 0.01, hidden 100, epoch 1") == 2
    assert "the 64 of 100 hidden units with largest final weights" in texts
    assert "layer 0: 784 x 100 weights" in texts
    assert not [text for text in texts if "diverged" in text]
    assert "rate 0.1, iteration 0" in written(monkeypatch, LINE, trained(LINE)[0])


def test_caption_says_where_training_diverged(monkeypatch: pytest.MonkeyPatch) -> None:
    def line(weight: float) -> Weights:
        return {"layer_0/weights": np.array([[weight]]), "layer_0/bias": np.array([0.0])}

    history = history_of({0: line(0.0), 1: line(1e9), 2: line(1e30), 3: line(math.inf)}, diverged_step=3)
    texts = [text for text in written(monkeypatch, LINE, history) if text.startswith("rate")]
    assert texts == ["rate 0.1, iteration 0", "rate 0.1, iteration 1", "rate 0.1, iteration 2, diverged"]
    shown = images(LINE, history)["fit"]
    assert len(shown) > 3
    assert (shown[2] == shown[40]).all()


def test_long_captions_are_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    wordy = THREE_BITS.model_copy(
        update={
            "optimizer": THREE_BITS.optimizer.model_copy(update={"learning_rate": 1.23456e-5}),
            "model": THREE_BITS.model.model_copy(update={"hidden_size": 1000}),
            "training": THREE_BITS.training.model_copy(update={"epochs": 60_000}),
        }
    )
    (history,) = trained(THREE_BITS)
    captions: dict[str, int] = {}

    def write(image: Image.Image, position: Any, text: str, size: int = pixels.TEXT, **kwargs: Any) -> None:
        captions[text] = size

    for module in (stepped_images, network_images, small_networks):
        monkeypatch.setattr(module, "write", write)
    list(stepped_images.stepped_images(wordy, history_of(dict.fromkeys((0, 60_000), history.snapshots[0]), 60_000)))
    assert captions["rate 1.23456e-05, hidden 1000, iteration 0"] == 21
    assert captions["rate 1.23456e-05, hidden 1000, iteration 60,000, diverged"] == 15


def test_tiles_have_the_colours_of_the_weights() -> None:
    hidden = np.zeros((784, 4))
    hidden[28 * 3 + 5, 0] = 2.0  # fourth row, sixth column of the first unit
    hidden[28 * 20 + 27, 3] = -2.0
    hidden[:40, 2] = 1.0
    start, _, end = images(MNIST, history_of({0: digit_network(0 * hidden), 2: digit_network(hidden)}))[
        "first_layer"
    ].values()
    colours = pixels.palette(network_images.WEIGHTS)
    times, left = 8, (480 - 57 * 8) // 2

    def at(image: NDArray[np.uint8], row: int, column: int) -> list[int]:
        colour: list[int] = image[pixels.TOP + row * times + 4, left + column * times + 4].tolist()
        return colour

    limit = image_data.colour_limit([hidden])
    assert limit == 1.0
    assert at(end, 3, 5) == colours[255].tolist()
    assert at(end, 29 + 20, 29 + 27) == colours[1].tolist()
    assert at(end, 29, 0) == colours[255].tolist(), "the third unit is below the first"
    assert at(end, 0, 0) == at(start, 3, 5) == colours[128].tolist()
    assert at(end, 28, 10) == at(end, 10, 28) == colours[0].tolist(), "between the tiles"


def test_heat_maps_have_the_colours_of_the_weights() -> None:
    first = np.array([[3.0, -3, 0, 1.5], [0, 0, 0, 0], [0, 0, 0, 0]])
    last = np.array([[8.0], [-8], [4], [0]])
    network = {"layer_0/weights": first, "layer_1/weights": last}
    image = images(THREE_BITS, history_of({0: network}))["first_layer"][0]
    colours = pixels.palette(network_images.WEIGHTS)
    row = [image[pixels.TOP + 6, 82 + 96 * column + 6].tolist() for column in range(4)]
    assert row == colours[[255, 1, 128, 192]].tolist()
    below = [image[pixels.TOP + 3 * 44 + 40 + 6, 82 + 96 * column + 6].tolist() for column in range(4)]
    assert below == colours[[255, 1, 192, 128]].tolist()


def test_heat_maps_say_which_units_they_show(monkeypatch: pytest.MonkeyPatch) -> None:
    def network(units: int) -> Weights:
        return {"layer_0/weights": np.ones((3, units)), "layer_1/weights": np.ones((units, 1))}

    note = "the 64 of 1,000 hidden units with largest final weights"
    assert note in written(monkeypatch, THREE_BITS, history_of({0: network(1000)}))
    assert not [text for text in written(monkeypatch, THREE_BITS, history_of({0: network(64)})) if "largest" in text]


def test_scale_says_whether_it_is_logarithmic(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[tuple[str, str]] = []
    monkeypatch.setattr(network_images, "scale", lambda image, top, name, low, high: texts.append((low, high)))
    network: Weights = {"layer_0/weights": np.full((3, 4), -2e6), "layer_1/weights": np.full((4, 1), 0.25)}
    list(stepped_images.stepped_images(THREE_BITS, history_of({0: network})))
    assert texts == [("log weight -2e+06", "2e+06"), ("weight -0.25", "0.25")]


def test_histograms_have_bars_as_high_as_their_counts() -> None:
    def network(*weights: float) -> Weights:
        return {
            "layer_0/weights": np.array(weights).reshape(3, 4),
            "layer_1/weights": np.array([[-1.0], [1], [1], [1]]),
        }

    history = history_of({0: network(*[0.0] * 12), 300: network(-2, *[1.0] * 3, *[2.0] * 8)})
    shown = images(THREE_BITS, history)["weight_histograms"]
    colour = np.array(getrgb(pixels.hexadecimal(rate_colour(10))))
    for step, expected in ((0, {12: 12}), (300, {0: 1, 18: 3, 23: 8})):
        plot = shown[step][pixels.TOP : pixels.TOP + 140, pixels.AXIS : 480 - pixels.MARGIN]
        heights = (plot == colour).all(axis=2).sum(axis=0)
        width = plot.shape[1] / 24
        bars = {int((x + 0.51) / width): int(height) for x, height in enumerate(heights) if height}
        assert bars == {index: pytest.approx(140 * count / 12, abs=1) for index, count in expected.items()}


def test_a_bar_lower_than_a_pixel_is_drawn() -> None:
    weights = np.zeros((3, 60))
    weights[0, 0] = 1e6  # one weight of 180 ran away: its bar would be 140 / 179 pixels high
    network: Weights = {"layer_0/weights": weights, "layer_1/weights": np.zeros((60, 1))}
    image = images(THREE_BITS, history_of({0: network}))["weight_histograms"][0]
    colour = np.array(getrgb(pixels.hexadecimal(rate_colour(10))))
    plot = image[pixels.TOP : pixels.TOP + 140, pixels.AXIS : 480 - pixels.MARGIN]
    heights = (plot == colour).all(axis=2).sum(axis=0)
    assert sorted(set(heights.tolist())) == [0, 1, 140]
    assert heights[-4] == 1


def test_an_epoch_before_the_first_finite_weights_shows_these() -> None:
    def line(weight: float) -> Weights:
        return {"layer_0/weights": np.array([[weight]]), "layer_0/bias": np.array([0.0])}

    assert image_data.image_steps(LINE, history_of({0: line(math.inf), 3: line(1.0)}))[0] == 3


def test_fit_goes_through_its_points() -> None:
    high_up: Weights = {"layer_0/weights": np.array([[3.0]]), "layer_0/bias": np.array([6.0])}
    exact: Weights = {"layer_0/weights": np.array([[3.0]]), "layer_0/bias": np.array([0.0])}
    shown = images(LINE, history_of({0: high_up, 40: exact}))["fit"]
    above, through = shown[0], shown[40]
    (left, right), (low, high) = (-0.8, 4.4), (-3.6, 15.6)
    wide, tall = 480 - pixels.MARGIN - pixels.AXIS, 340

    def at(image: NDArray[np.uint8], x: float, y: float) -> list[int]:
        column, row = round((x - left) / (right - left) * wide), round((high - y) / (high - low) * tall)
        colour: list[int] = image[pixels.TOP + row, pixels.AXIS + column].tolist()
        return colour

    colour, ink = list(getrgb(pixels.hexadecimal(rate_colour(0.1)))), list(getrgb(INK))
    for x in (1.0, 2.0, 3.0, 4.0):
        assert at(above, x, 3 * x) == at(through, x, 3 * x) == ink
    assert at(above, 2.5, 13.5) == at(through, 2.5, 7.5) == colour
    assert at(above, 2.5, 7.5) == [255, 255, 255]
    assert 190 < min(at(through, 2.5, 13.5)) < 240, "where the line was is grey"
    assert at(through, 0, -2) == at(through, 3.5, 0) == list(getrgb(FAINT))


def test_error_surface_shows_the_way_so_far() -> None:
    steps = image_data.image_steps(TWO_BITS, history_of({0: {"layer_0/weights": np.zeros((2, 1))}}))
    last = list(steps)[-1]
    history = history_of({0: {"layer_0/weights": np.array([[-5.0], [5.0]])},
                          last: {"layer_0/weights": np.array([[5.0], [-5.0]])}})  # fmt: skip
    shown = images(TWO_BITS, history)["error_surface"]
    path = np.array(getrgb(PATH))

    def near(image: NDArray[np.uint8], first: float, second: float) -> float:
        side = 382
        column = pixels.AXIS + round((first + 10) / 20 * side)
        row = pixels.TOP + round((10 - second) / 20 * side)
        colour = image[row, column].astype(int)
        return float(np.abs(colour - path).max())

    start, end = shown[0], shown[last]
    assert near(start, -5, 5) < 5
    assert near(start, 0, 0) > 50
    assert near(start, 5, -5) > 50
    assert near(end, -5, 5) < 5
    assert near(end, 0, 0) < 40
    assert near(end, 5, -5) < 5
    dark, bright = start[pixels.TOP + 300, 400], start[pixels.TOP + 60, 100]
    assert dark.sum() < 150 < 450 < bright.sum(), "the first bit is the output: small where the first weight is large"


WEIGHTS = hnp.arrays(np.float64, (3, 4), elements=st.floats(-1e308, 1e308))


@given(st.lists(WEIGHTS, min_size=2, max_size=2))
@settings(max_examples=20)
def test_any_weights_can_be_drawn(weights: Sequence[NDArray[np.float64]]) -> None:
    network: list[Weights] = [{"layer_0/weights": array, "layer_1/weights": array[:1].T} for array in weights]
    assert set(images(THREE_BITS, history_of({0: network[0], 300: network[1]}))) == {"first_layer", "weight_histograms"}
    pair: list[Weights] = [{"layer_0/weights": array[:2, :1]} for array in weights]
    images(TWO_BITS, history_of({0: pair[0], 200: pair[1]}))
    line: list[Weights] = [{"layer_0/weights": array[:1, :1], "layer_0/bias": array[0, :1]} for array in weights]
    images(LINE, history_of({0: line[0], 40: line[1]}))


def test_inputs_that_are_not_a_square_picture_are_a_heat_map() -> None:
    network = digit_network(np.zeros((784, 4))) | {"layer_0/weights": np.full((780, 4), 0.5)}
    image = images(MNIST, history_of({0: network}))["first_layer"][0]
    assert image.shape[0] < 640
    full = pixels.palette(network_images.WEIGHTS)[255]
    assert (image == full).all(axis=2).sum() > 240 * 300


def test_without_a_record_there_are_no_images() -> None:
    assert images(LINE, History()) == {}


def test_a_map_has_no_images_of_weights() -> None:
    point = map_point()
    assert images(point.config, point.history) == {}
