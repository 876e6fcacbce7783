"""Many small networks at once, against the plain reference."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends.numpy.many_networks import SPREAD, GridLast, suits
from pipeline.backends.numpy.packed import Packed
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays
from tests.support.plain_network import backpropagation
from tests.support.trained import config

KINDS = [
    ("half_summed_squared_error", "sigmoid"),
    ("mean_squared_error", "sigmoid"),
    ("mean_squared_error", "identity"),
    ("half_summed_squared_error", "identity"),
]


def of(loss: str, output: str, hidden: str | None, bias: bool, units: int = 5, dtype: str = "float64") -> Config:
    base = config("experiment=three_bits")
    model = {"output_activation": output, "hidden_activation": hidden or "relu", "bias": bias}
    model |= {"hidden_size": units if hidden else None}
    return base.model_copy(update={"loss": loss, "dtype": dtype, "model": base.model.model_copy(update=model)})


def stack(point: Config, features: int, outputs: int, grid: int) -> Packed:
    random = np.random.default_rng(3)
    hidden = point.model.hidden_size
    shapes = {}
    for layer, shape in enumerate(pairwise([features, *([] if hidden is None else [hidden]), outputs])):
        shapes[f"layer_{layer}/weights"] = shape
        if point.dense.bias:
            shapes[f"layer_{layer}/bias"] = (1, shape[1])
    packed = Packed(shapes, grid, point.dtype, grid_last=True)
    packed.flat[...] = random.normal(size=packed.flat.shape)
    return packed


def run(point: Config, inputs: np.ndarray, targets: np.ndarray, parameters: Packed) -> tuple[np.ndarray, Packed]:
    gradient = parameters.like(point.dtype)
    network = GridLast(point, inputs, targets, parameters, gradient)
    for _ in range(2):  # the second time with buffers that are full
        for call in network.program:
            call()
    return network.losses(), gradient


@pytest.mark.parametrize("grid", [2, 7, SPREAD + 3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("hidden", [None, "sigmoid", "relu"])
@pytest.mark.parametrize(("loss", "output"), KINDS)
@pytest.mark.parametrize("outputs", [1, 3])
def test_it_computes_what_the_plain_twin_computes(
    loss: str, output: str, hidden: str | None, bias: bool, grid: int, outputs: int
) -> None:
    point = of(loss, output, hidden, bias)
    random = np.random.default_rng(1)
    inputs, targets = random.normal(size=(4, 3)), random.uniform(size=(4, outputs))
    parameters = stack(point, 3, outputs, grid)
    losses, gradient = run(point, inputs, targets, parameters)
    expected, gradients, _ = backpropagation(loss, point.dense, parameters.by_point(), inputs, targets)
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    for name, array in gradients.items():
        np.testing.assert_allclose(gradient.arrays[name], array, rtol=1e-11, atol=1e-14)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 9), st.integers(1, 2), st.integers(3, 9), st.booleans())
def test_a_point_is_the_same_in_any_stack(
    rows: int, features: int, units: int, outputs: int, grid: int, bias: bool
) -> None:
    point = of("half_summed_squared_error", "sigmoid", "sigmoid", bias, units)
    random = np.random.default_rng(rows)
    inputs, targets = random.normal(size=(rows, features)), random.uniform(size=(rows, outputs))
    wide = stack(point, features, outputs, grid)
    narrow = stack(point, features, outputs, 2)
    narrow.flat[...] = wide.flat[:, [grid - 1, 0]]
    (losses, gradient), (two, own) = run(point, inputs, targets, wide), run(point, inputs, targets, narrow)
    assert two.tolist() == [losses[grid - 1], losses[0]]
    assert np.array_equal(own.flat, gradient.flat[:, [grid - 1, 0]])


def test_a_wide_stack_computes_what_a_narrow_one_does() -> None:
    """Beyond SPREAD points other calls are made, and the numbers are the same."""
    point = of("half_summed_squared_error", "sigmoid", "sigmoid", bias=True)
    inputs, targets = np.eye(4, 3), np.ones((4, 1))
    wide, narrow = stack(point, 3, 1, SPREAD + 1), stack(point, 3, 1, 3)
    narrow.flat[...] = wide.flat[:, :3]
    (losses, gradient), (few, own) = run(point, inputs, targets, wide), run(point, inputs, targets, narrow)
    assert few.tolist() == losses[:3].tolist()
    assert np.array_equal(own.flat, gradient.flat[:, :3])


def test_it_stays_in_float32() -> None:
    point = of("mean_squared_error", "sigmoid", "sigmoid", bias=True, dtype="float32")
    inputs, targets = np.eye(4, 3, dtype=np.float32), np.ones((4, 1), np.float32)
    parameters = stack(point, 3, 1, 2)
    losses, gradient = run(point, inputs, targets, parameters)
    assert losses.dtype == gradient.flat.dtype == np.float32
    plain = GridLast(point, inputs, targets, parameters, gradient).program
    constants = [argument for call in plain for argument in call.args if isinstance(argument, np.ndarray)]  # type: ignore[attr-defined]
    assert {array.dtype for array in constants} == {np.dtype(np.float32)}


def test_one_point_alone_is_refused() -> None:
    point = of("mean_squared_error", "sigmoid", None, bias=False)
    one = stack(point, 3, 1, 1)
    with pytest.raises(ValueError, match="at least two points"):
        GridLast(point, np.eye(4, 3), np.ones((4, 1)), one, one.like("float64"))


def test_what_it_suits() -> None:
    table = Arrays(np.eye(4, 3), np.ones((4, 1)), None, None, 1, {})
    small = config("experiment=three_bits", "model.hidden_size=4")
    assert suits(small, table)
    for loss in ("huber", "mean_absolute_error", "binary_cross_entropy"):
        assert not suits(config("experiment=three_bits", "model.hidden_size=4", f"loss={loss}"), table)
    assert not suits(config("experiment=three_bits", "model.hidden_size=4000"), table)
    assert not suits(config("experiment=three_bits", "model.hidden_size=4", "training.batch_size=2"), table)
    assert not suits(config("experiment=line_y3x"), table)
    assert suits(config("experiment=line_y3x", "gradient=backpropagation"), table)
