"""A stack's arrays side by side in memory."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.backends.numpy.packed import Packed

SHAPES = {"layer_0/weights": (3, 2), "layer_0/bias": (1, 2), "layer_1/weights": (2, 1)}


def networks(grid: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(5)
    return [
        {name: random.normal(size=shape if name.endswith("weights") else shape[1]) for name, shape in SHAPES.items()}
        for _ in range(grid)
    ]


@pytest.mark.parametrize("grid_last", [True, False])
@pytest.mark.parametrize("grid", [1, 4])
def test_what_goes_in_comes_out(grid: int, grid_last: bool) -> None:
    given = networks(grid)
    packed = Packed(SHAPES, grid, "float64", grid_last).fill(given)
    assert packed.grid == grid
    assert packed.flat.shape == ((10, grid) if grid_last else (grid, 10))
    for place, network in enumerate(given):
        assert {name: array.tolist() for name, array in packed.network(place).items()} == {
            name: array.tolist() for name, array in network.items()
        }
        assert all(np.array_equal(array[0] if array.shape[0] == 1 and name.endswith("bias") else array, network[name])
                   for name, array in packed.at(place).items())  # fmt: skip
    for name, array in packed.by_point().items():
        assert array.shape == (grid, *SHAPES[name])
        assert array.flags.c_contiguous
        assert np.array_equal(array, packed.arrays[name])


@pytest.mark.parametrize("grid_last", [True, False])
def test_arrays_are_views_of_the_block(grid_last: bool) -> None:
    packed = Packed(SHAPES, 3, "float32", grid_last)
    packed.flat += 1
    assert all(np.all(array == 1) for array in packed.arrays.values())
    packed.arrays["layer_1/weights"][2] = 7
    assert np.count_nonzero(packed.flat == 7) == 2
    assert packed.at(2)["layer_1/weights"].tolist() == [[7], [7]]
    kept = packed.at(2)
    packed.flat[...] = 0
    assert kept["layer_1/weights"].tolist() == [[7], [7]]
    assert packed.like(np.int64).flat.dtype == np.int64


@pytest.mark.parametrize("grid_last", [True, False])
def test_the_norm_is_over_all_arrays_of_a_point(grid_last: bool) -> None:
    given = networks(3)
    packed = Packed(SHAPES, 3, "float64", grid_last).fill(given)
    expected = [np.sqrt(sum(float((array**2).sum()) for array in network.values())) for network in given]
    assert packed.norm() == pytest.approx(expected, rel=1e-14)
