"""Initial weights: the random stream of the 13-line network, Glorot's limits, constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import truncnorm

from pipeline.backends.shared.initial_weights import TRUNCATED_DEVIATION, array_names, draw, is_trained
from pipeline.config.model import Model, layer_sizes
from tests.support.plain_network import NO_FEATURES

BASE: dict[str, Any] = {
    "hidden_size": 4,
    "hidden_activation": "sigmoid",
    "output_activation": "sigmoid",
    "bias": False,
    "initializer": "uniform",
    "initial_weight": 0.0,
    "initial_bias": 0.0,
    **NO_FEATURES,
}


def model(**changed: Any) -> Model:
    return Model.model_validate(BASE | changed)


@pytest.mark.parametrize("size", [4, 32])
def test_uniform_is_the_stream_of_the_13_lines_layer_by_layer(size: int) -> None:
    np.random.seed(1)  # noqa: NPY002 - the text's own words
    syn0 = 2 * np.random.random((3, size)) - 1  # noqa: NPY002
    syn1 = 2 * np.random.random((size, 1)) - 1  # noqa: NPY002
    drawn = draw(model(hidden_size=size), 3, 1, 1, "float64")
    assert list(drawn) == ["layer_0/weights", "layer_1/weights"]
    assert np.array_equal(drawn["layer_0/weights"], syn0)
    assert np.array_equal(drawn["layer_1/weights"], syn1)
    assert drawn["layer_0/weights"][0, 0] == pytest.approx(-0.16595599, abs=1e-8)  # as the text prints it


def test_drawing_does_not_touch_the_global_generator() -> None:
    np.random.seed(5)  # noqa: NPY002
    before = np.random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    draw(model(), 3, 1, 1, "float64")
    assert np.random.random() == before  # noqa: NPY002


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_glorot_stays_within_its_limits(features: int, hidden: int, outputs: int, seed: int) -> None:
    drawn = draw(model(hidden_size=hidden, initializer="glorot_uniform"), features, outputs, seed, "float64")
    for name, (fan_in, fan_out) in {"layer_0": (features, hidden), "layer_1": (hidden, outputs)}.items():
        array = drawn[f"{name}/weights"]
        assert array.shape == (fan_in, fan_out)
        assert np.abs(array).max() <= np.sqrt(6 / (fan_in + fan_out))


def test_glorot_fills_its_range_evenly() -> None:
    array = draw(model(hidden_size=300, initializer="glorot_uniform"), 200, 10, 1, "float64")["layer_0/weights"]
    limit = np.sqrt(6 / 500)
    assert array.max() > 0.99 * limit
    assert array.min() < -0.99 * limit
    assert abs(array.mean()) < 0.01 * limit
    assert array.std() == pytest.approx(limit / np.sqrt(3), rel=0.01)


def test_constant_is_its_value_everywhere() -> None:
    drawn = draw(model(initializer="constant", initial_weight=1.477, bias=True, initial_bias=-2), 3, 2, 1, "float64")
    assert np.all(drawn["layer_0/weights"] == 1.477)
    assert np.all(drawn["layer_1/weights"] == 1.477)
    assert np.all(drawn["layer_1/bias"] == -2)


@pytest.mark.parametrize("initializer", ["uniform", "glorot_uniform", "constant"])
def test_biases_have_one_value_for_each_unit_and_follow_their_weights(initializer: str) -> None:
    drawn = draw(model(initializer=initializer, bias=True, initial_bias=0.5), 3, 2, 1, "float32")
    assert {name: array.shape for name, array in drawn.items()} == {
        "layer_0/weights": (3, 4),
        "layer_0/bias": (4,),
        "layer_1/weights": (4, 2),
        "layer_1/bias": (2,),
    }
    assert list(drawn) == ["layer_0/weights", "layer_0/bias", "layer_1/weights", "layer_1/bias"]
    assert np.all(drawn["layer_0/bias"] == 0.5)
    without = draw(model(initializer=initializer), 3, 2, 1, "float32")
    assert all(np.array_equal(array, drawn[name]) for name, array in without.items())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("initializer", ["uniform", "glorot_uniform", "constant"])
def test_dtype(initializer: str, dtype: str) -> None:
    drawn = draw(model(initializer=initializer, bias=True), 3, 2, 1, dtype)
    assert {array.dtype for array in drawn.values()} == {np.dtype(dtype)}
    exact = draw(model(initializer=initializer, bias=True), 3, 2, 1, "float64")
    assert all(np.array_equal(array, exact[name].astype(dtype)) for name, array in drawn.items())


@pytest.mark.parametrize("initializer", ["uniform", "glorot_uniform"])
def test_the_seed_decides(initializer: str) -> None:
    first, again, other = (draw(model(initializer=initializer), 3, 1, seed, "float64") for seed in (1, 1, 2))
    for name in first:
        assert np.array_equal(first[name], again[name])
        assert not np.array_equal(first[name], other[name])


def test_without_a_hidden_layer_there_is_one_array() -> None:
    assert layer_sizes(model(hidden_size=None), 784, 10) == [784, 10]
    assert layer_sizes(model(hidden_size=1000), 784, 10) == [784, 1000, 10]
    drawn = draw(model(hidden_size=None), 2, 1, 1, "float64")
    assert {name: array.shape for name, array in drawn.items()} == {"layer_0/weights": (2, 1)}


def test_further_layers_stand_between_the_first_and_the_outputs() -> None:
    deep = model(hidden_size=4, further_hidden_sizes=(3, 5))
    assert layer_sizes(deep, 7, 2) == [7, 4, 3, 5, 2]
    shapes = [array.shape for array in draw(deep, 7, 2, 1, "float64").values()]
    assert shapes == [(7, 4), (4, 3), (3, 5), (5, 2)]


@pytest.mark.parametrize("bias", [False, True])
def test_batch_normalization_takes_the_place_of_the_bias_in_hidden_layers(bias: bool) -> None:
    normal = model(further_hidden_sizes=(3,), bias=bias, initial_bias=0.5, batch_normalization=True)
    drawn = draw(normal, 2, 1, 1, "float32")
    of_hidden = {"scale": 1.0, "shift": 0.0, "moving_mean": 0.0, "moving_variance": 1.0}
    for layer, size in enumerate((4, 3)):
        for kind, value in of_hidden.items():
            assert drawn[f"layer_{layer}/{kind}"].tolist() == [value] * size
    assert ("layer_2/bias" in drawn) == bias
    assert not {"layer_0/bias", "layer_1/bias", "layer_2/scale"} & set(drawn)
    moving = [name for name in drawn if not is_trained(name)]
    assert moving == list(drawn)[-4:] == [f"layer_{n}/moving_{kind}" for n in (0, 1) for kind in ("mean", "variance")]


def test_the_deviation_of_a_truncated_normal_is_the_one_that_scipy_computes() -> None:
    assert pytest.approx(truncnorm(-2, 2).std(), rel=1e-12) == TRUNCATED_DEVIATION


@pytest.mark.parametrize("batch_normalization", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("hidden", [None, 4])
def test_names_of_the_arrays(hidden: int | None, bias: bool, batch_normalization: bool) -> None:
    network = model(hidden_size=hidden, bias=bias, batch_normalization=batch_normalization)
    assert array_names(network) == list(draw(network, 3, 1, 1, "float64"))
