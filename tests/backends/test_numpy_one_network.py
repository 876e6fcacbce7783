"""One network at a time: against the plain reference, against differences, on its own and in a stack.

Shortcuts for pixels and biases change no result.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.backends.numpy import one_network
from pipeline.backends.numpy.batches import WIDE, batch
from pipeline.backends.numpy.layers import mask
from pipeline.backends.numpy.network import Array
from pipeline.backends.numpy.one_network import OneNetwork
from pipeline.backends.numpy.stack import Stack
from pipeline.backends.numpy.threads import Threads
from pipeline.backends.shared.initial_weights import Weights, draw
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays
from tests.backends.test_numpy_training import assert_same
from tests.support.plain_network import backpropagation
from tests.support.trained import config, trained

ROWS, FEATURES, UNITS, CLASSES = 9, WIDE + 6, 5, 4
DARK = [0, 3, 4, WIDE, FEATURES - 1]
PLAIN = ("experiment=mnist", "dtype=float64", f"model.hidden_size={UNITS}")
IMAGES = (*PLAIN, "model.further_hidden_sizes=[4]")
BY_CHANCE = ("model.dropout=0.4", "model.drop_connect=0.3", "model.batch_normalization=true")
NETWORKS = {
    "no hidden layer": (*PLAIN, "model.hidden_size=null"),
    **{f"one layer, {name}": (*PLAIN, f"model.hidden_activation={name}") for name in ("sigmoid", "relu", "tanh")},
    **{
        f"two layers, {name}": (*IMAGES, f"model.hidden_activation={name}")
        for name in ("sigmoid", "relu", "tanh", "leaky_relu", "softplus")
    },
}


def images(kind: str) -> Arrays:
    random = np.random.default_rng(4)
    inputs = random.integers(1, 256, (ROWS, FEATURES)).astype(np.uint8)
    if kind != "no pixel is dark":
        inputs[:, DARK] = 0
    dtype = "float64"
    scaled = inputs.astype(np.float32) / np.float32(255)
    held = inputs if kind == "bytes" else scaled.astype(dtype)
    return Arrays(held, random.integers(0, CLASSES, ROWS), None, None, CLASSES, {}, dtype)


def stack(points: list[Config], arrays: Arrays) -> Stack:
    return Stack(points, arrays, [random_weights(point, arrays) for point in points])


def random_weights(point: Config, arrays: Arrays) -> Weights:
    drawn = draw(point.dense, arrays.features, arrays.outputs, point.seed, point.dtype)
    random = np.random.default_rng(point.seed)
    return {name: np.abs(random.normal(size=a.shape)) * (1 if "variance" in name else random.choice([-1, 1], a.shape))
            for name, a in drawn.items()}  # fmt: skip


def network(points: Stack) -> OneNetwork:
    return OneNetwork(points.config, [1, 2], ROWS, points.progress, points.gradient, Threads())


@pytest.mark.parametrize("bias", ["true", "false"])
@pytest.mark.parametrize("study", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("kind", ["bytes", "numbers", "no pixel is dark"])
def test_it_computes_what_the_plain_twin_computes(kind: str, study: tuple[str, ...], bias: str) -> None:
    point, arrays = config(*study, f"model.bias={bias}"), images(kind)
    points = stack([point, point.model_copy(update={"seed": 2})], arrays)
    one = network(points)
    assert one.extended is (bias == "true" and point.dense.plain)
    points.gradient.flat[...] = np.nan  # what stands there before must not stay
    plain, parameters = arrays.scaled(arrays.train_inputs).astype(np.float64), points.progress.parameters.by_point()
    for part in (slice(None), slice(2, 7)):
        rows = batch(arrays, arrays.train_inputs[part], arrays.train_targets[part], one.extended)
        assert (rows.used is None) is (kind == "no pixel is dark")
        assert rows.idle.tolist() == ([] if rows.used is None else DARK)
        expected, gradients, sums = backpropagation(
            "cross_entropy", point.dense, parameters, plain[part], arrays.train_targets[part]
        )
        for place in range(2):
            loss, own = one(place, rows)
            assert loss == pytest.approx(expected[place], rel=1e-12)
            np.testing.assert_allclose(own, sums[place], rtol=1e-10)
            np.testing.assert_allclose(one.sums(place, rows), sums[place], rtol=1e-10)
        for name, array in gradients.items():
            np.testing.assert_allclose(points.gradient.arrays[name], array, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("hidden", ["gelu", "relu"])
@pytest.mark.parametrize("bias", ["true", "false"])
def test_with_all_that_chance_and_batches_do_it_is_the_derivative(hidden: str, bias: str) -> None:
    """Masks stay the same while the number of the update does."""
    point = config(*IMAGES, *BY_CHANCE, f"model.hidden_activation={hidden}", f"model.bias={bias}")
    arrays = images("bytes")
    points = stack([point], arrays)
    deep, rows = network(points), batch(arrays, arrays.train_inputs, arrays.train_targets, bias=False)
    deep(0, rows)
    gradient = {name: array[0].copy() for name, array in points.gradient.arrays.items()}
    for name, array in points.progress.parameters.arrays.items():
        places = list(np.ndindex(array.shape[1:]))
        for place in places[:: max(1, len(places) // 25)]:
            kept, losses = array[(0, *place)], []
            for step in (1e-6, -1e-6):
                array[(0, *place)] = kept + step
                losses.append(deep(0, rows)[0])
            array[(0, *place)] = kept
            expected = (losses[0] - losses[1]) / 2e-6
            np.testing.assert_allclose(gradient[name][place], expected, rtol=1e-5, atol=1e-8, err_msg=name)
    assert set(points.gradient.shapes) == {
        *(f"layer_{layer}/{kind}" for layer in (0, 1) for kind in ("weights", "scale", "shift")),
        "layer_2/weights",
        *(["layer_2/bias"] if bias == "true" else []),
    }


def test_inference_takes_all_units_and_the_moving_statistics() -> None:
    point, arrays = config(*IMAGES, *BY_CHANCE), images("no pixel is dark")
    points = stack([point], arrays)
    rows = batch(arrays, arrays.train_inputs, arrays.train_targets, bias=False)
    own, values = points.progress.network(0), rows.inputs
    for layer in (0, 1):
        name = f"layer_{layer}"
        sums = (values @ own[f"{name}/weights"] - own[f"{name}/moving_mean"]) / np.sqrt(
            own[f"{name}/moving_variance"] + 0.001
        )
        values = np.maximum(sums * own[f"{name}/scale"] + own[f"{name}/shift"], 0)
    before = {name: array.copy() for name, array in own.items()}
    expected = values @ own["layer_2/weights"] + own["layer_2/bias"]
    np.testing.assert_allclose(network(points).sums(0, rows), expected, rtol=1e-10)
    assert all(np.array_equal(before[name], array) for name, array in points.progress.network(0).items())


@pytest.mark.parametrize("size", ["16", "null"])
def test_a_point_in_a_stack_is_the_point_alone(size: str, tiny_images: Arrays) -> None:
    study = ("experiment=mnist", "model.hidden_size=5", "training.epochs=2", f"training.batch_size={size}",
             "model.further_hidden_sizes=[4]", *BY_CHANCE, "training.l1=0.01", "training.clip_norm=0.5")  # fmt: skip
    points = [config(*study, *own) for own in (["seed=3"], ["seed=4"], ["optimizer.learning_rate=0.1"], ["seed=3"])]
    together = trained(*points, arrays=tiny_images)
    for point, history in zip(points, together, strict=True):
        (alone,) = trained(point, arrays=tiny_images)
        alone.points_in_stack = history.points_in_stack
        assert_same(history, alone)
    assert together[0].final() != together[1].final()
    assert together[0].final() == together[3].final()


def test_what_is_left_out_changes_with_the_update_and_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    point = config(*IMAGES, "model.dropout=0.5", "model.further_hidden_sizes=[5]")
    arrays = images("no pixel is dark")
    points = stack([point], arrays)
    deep = network(points)
    rows = batch(arrays, arrays.train_inputs, arrays.train_targets, bias=False)
    drawn: list[Array] = []

    def noted(*arguments: Any) -> Array:
        drawn.append(mask(*arguments))
        return drawn[-1]

    monkeypatch.setattr(one_network, "mask", noted)
    first = deep(0, rows)[1]
    # Both hidden layers have the same width, so that their masks can be compared.
    lower, upper = drawn
    assert lower.shape == upper.shape
    assert not np.array_equal(lower, upper)
    assert np.array_equal(first, deep(0, rows)[1])
    points.progress.updates += 1
    assert not np.array_equal(first, deep(0, rows)[1])


def test_idle_pixels_are_looked_for_here_too(tiny_images: Arrays) -> None:
    wide = np.hstack([tiny_images.train_inputs, np.zeros((50, WIDE), np.float32)])
    arrays = replace(tiny_images, train_inputs=wide, test_inputs=None, test_targets=None)
    (history,) = trained(config(*IMAGES, "dtype=float32", "training.epochs=2"), arrays=arrays)
    weights = [history.snapshots[epoch]["layer_0/weights"] for epoch in (0, 2)]
    assert np.array_equal(weights[0][6:], weights[1][6:])
    assert not np.array_equal(weights[0][:6], weights[1][:6])
