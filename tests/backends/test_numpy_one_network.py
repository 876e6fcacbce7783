"""One network at a time, against the plain twin: short cuts for pixels and biases change nothing."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.backends.numpy.one_network import WIDE, OneNetwork, batch
from pipeline.backends.numpy.packed import Packed
from pipeline.data.arrays import Arrays
from tests.support.plain_network import backpropagation
from tests.support.trained import config

ROWS, FEATURES, UNITS, CLASSES = 9, WIDE + 6, 5, 4
DARK = [0, 3, 4, WIDE, FEATURES - 1]


def images(kind: str) -> Arrays:
    random = np.random.default_rng(4)
    inputs = random.integers(1, 256, (ROWS, FEATURES)).astype(np.uint8)
    if kind != "no pixel is dark":
        inputs[:, DARK] = 0
    dtype = "float64"
    scaled = inputs.astype(np.float32) / np.float32(255)
    held = inputs if kind == "bytes" else scaled.astype(dtype)
    return Arrays(held, random.integers(0, CLASSES, ROWS), None, None, CLASSES, {}, dtype)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("hidden", [None, "sigmoid", "relu"])
@pytest.mark.parametrize("kind", ["bytes", "numbers", "no pixel is dark"])
def test_it_computes_what_the_plain_twin_computes(kind: str, hidden: str | None, bias: bool) -> None:
    base = config("experiment=mnist", "dtype=float64")
    model = {"hidden_size": UNITS if hidden else None, "hidden_activation": hidden or "relu", "bias": bias}
    point = base.model_copy(update={"model": base.model.model_copy(update=model)})
    arrays = images(kind)
    sizes = [FEATURES, UNITS, CLASSES] if hidden else [FEATURES, CLASSES]
    shapes = {}
    for layer in range(len(sizes) - 1):
        shapes[f"layer_{layer}/weights"] = (sizes[layer], sizes[layer + 1])
        if bias:
            shapes[f"layer_{layer}/bias"] = (1, sizes[layer + 1])
    parameters = Packed(shapes, 2, "float64", grid_last=False)
    parameters.flat[...] = np.random.default_rng(2).normal(size=parameters.flat.shape)
    gradient = parameters.like("float64")
    gradient.flat[...] = np.nan  # what stands there before must not stay
    network = OneNetwork(point, ROWS, parameters, gradient)
    plain = arrays.scaled(arrays.train_inputs).astype(np.float64)
    for part in (slice(None), slice(2, 7)):
        rows = batch(arrays, arrays.train_inputs[part], arrays.train_targets[part], bias)
        assert (rows.used is None) is (kind == "no pixel is dark")
        assert rows.idle.tolist() == ([] if rows.used is None else DARK)
        expected, gradients, sums = backpropagation(
            "cross_entropy", point.model, parameters.by_point(), plain[part], arrays.train_targets[part]
        )
        for place in range(2):
            loss, own = network(place, rows)
            assert loss == pytest.approx(expected[place], rel=1e-12)
            np.testing.assert_allclose(own, sums[place], rtol=1e-10)
            np.testing.assert_allclose(network.sums(place, rows), sums[place], rtol=1e-10)
        for name, array in gradients.items():
            np.testing.assert_allclose(gradient.arrays[name], array, rtol=1e-9, atol=1e-13)
