"""The arrays of a stack in one block of memory, so that one NumPy call changes all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.backends.numpy.array_modules import to_host
from pipeline.backends.numpy.network import Array, Parameters


class Packed:
    """Arrays by name, for every point of a stack, in one block of memory.

    Args:
        shapes: (inputs, outputs) by name; all arrays but weights are (1, outputs).
        grid: the number of points.
        dtype: the dtype of all arrays.
        grid_last: whether the grid axis is last in memory, so that the same weight of all points is contiguous;
            otherwise all weights of a point are.
        module: NumPy or CuPy; see array_modules.py.

    Attributes:
        flat: (weights, grid) if the grid axis is last in memory, else (grid, weights); zeros at first.
        arrays: views (grid, inputs, outputs) by name, in both cases.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, int]],
        grid: int,
        dtype: DTypeLike,
        grid_last: bool,
        module: ModuleType = np,
    ) -> None:
        self.shapes = dict(shapes)
        self.grid_last = grid_last
        self.module = module
        weights = sum(rows * columns for rows, columns in shapes.values())
        flat_shape = (weights, grid) if grid_last else (grid, weights)
        self.flat: NDArray[Any] = module.zeros(flat_shape, dtype)
        self.arrays: Parameters = {}
        start = 0
        for name, (rows, columns) in shapes.items():
            part = slice(start, start + rows * columns)
            if grid_last:
                self.arrays[name] = np.moveaxis(self.flat[part].reshape(rows, columns, grid), -1, 0)
            else:
                self.arrays[name] = self.flat[:, part].reshape(grid, rows, columns)
            start = part.stop

    @property
    def grid(self) -> int:
        """The number of points."""
        first, last = self.flat.shape
        if self.grid_last:
            return int(last)
        return int(first)

    def like(self, dtype: DTypeLike) -> Packed:
        """Return zeros of the same shapes."""
        return Packed(self.shapes, self.grid, dtype, self.grid_last, self.module)

    def on_host(self, dtype: DTypeLike) -> Packed:
        """Return zeros of the same shapes in memory, also if these arrays are on a GPU."""
        return Packed(self.shapes, self.grid, dtype, self.grid_last)

    def fill(self, networks: Sequence[Mapping[str, NDArray[Any]]]) -> Packed:
        """Copy the arrays of each point into the block, and return it; biases may be (outputs,) or (1, outputs)."""
        if self.module is not np:
            # Filled in memory first: one copy of the whole block to the GPU, not one for each array of each point.
            self.flat[...] = self.module.asarray(self.on_host(self.flat.dtype).fill(networks).flat)
            return self
        for name, array in self.arrays.items():
            for index, network in enumerate(networks):
                array[index] = network[name]
        return self

    def network(self, index: int) -> dict[str, NDArray[Any]]:
        """Return views of one point's arrays: weights (inputs, outputs), all others (outputs,)."""
        views = {}
        for name, array in self.arrays.items():
            view = array[index]
            if not name.endswith("weights"):
                view = view[0]
            views[name] = view
        return views

    def at(self, index: int) -> dict[str, NDArray[Any]]:
        """Return copies of one point's arrays in memory, (inputs, outputs)."""
        return {name: to_host(array[index].copy()) for name, array in self.arrays.items()}

    def by_point(self) -> Parameters:
        """Return the arrays with each point's own numbers contiguous in memory, as `matmul` needs them."""
        return {name: self.module.ascontiguousarray(array) for name, array in self.arrays.items()}

    def norm(self) -> Array:
        """Compute the Euclidean norm over all arrays of each point: (grid,), float64, in memory."""
        squares = [np.square(array, dtype=np.float64).sum(axis=(1, 2)) for array in self.by_point().values()]
        # Python's sum adds one array after the other. For a single point, np.sum adds eight or more in a different
        # order, and the norm of a point would depend on its stack.
        total = sum(squares)
        return to_host(np.sqrt(total))


def shapes_of(network: Mapping[str, NDArray[Any]]) -> dict[str, tuple[int, int]]:
    """Return the shape of each array of a network as (inputs, outputs); for arrays with one axis it is (1, outputs)."""
    shapes = {}
    for name, array in network.items():
        rows, columns = np.atleast_2d(array).shape
        shapes[name] = (rows, columns)
    return shapes
