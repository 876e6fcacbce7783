"""The arrays of a stack in one block of memory, so that one call moves all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.backends.numpy.array_modules import to_host
from pipeline.backends.numpy.network import Array, Parameters


class Packed:
    """Arrays by name, for every point of a stack, side by side in memory.

    Args:
        shapes: (inputs, outputs) by name; what is not weights is (1, outputs).
        grid: how many points.
        dtype: of all of them.
        grid_last: whether the points are side by side in memory, or the weights of a point.
        module: whose arrays they are; see array_modules.py.

    Attributes:
        flat: (weights, grid) where the grid axis is last in memory, else (grid, weights); zeros at first.
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
        self.shapes, self.grid_last, self.module = dict(shapes), grid_last, module
        weights = sum(rows * columns for rows, columns in shapes.values())
        self.flat: NDArray[Any] = module.zeros((weights, grid) if grid_last else (grid, weights), dtype)
        self.arrays: Parameters = {}
        start = 0
        for name, (rows, columns) in shapes.items():
            place = slice(start, start + rows * columns)
            if grid_last:
                self.arrays[name] = np.moveaxis(self.flat[place].reshape(rows, columns, grid), -1, 0)
            else:
                self.arrays[name] = self.flat[:, place].reshape(grid, rows, columns)
            start = place.stop

    @property
    def grid(self) -> int:
        """How many points."""
        return int(self.flat.shape[-1 if self.grid_last else 0])

    def like(self, dtype: DTypeLike) -> Packed:
        """Zeros of the same shapes."""
        return Packed(self.shapes, self.grid, dtype, self.grid_last, self.module)

    def on_host(self, dtype: DTypeLike) -> Packed:
        """Zeros of the same shapes in memory."""
        return Packed(self.shapes, self.grid, dtype, self.grid_last)

    def fill(self, networks: Sequence[Mapping[str, NDArray[Any]]]) -> Packed:
        """Copy the arrays of each point in; biases may be (outputs,) or (1, outputs)."""
        if self.module is not np:
            self.flat[...] = self.module.asarray(self.on_host(self.flat.dtype).fill(networks).flat)
            return self
        for name, array in self.arrays.items():
            for place, network in enumerate(networks):
                array[place] = network[name]
        return self

    def network(self, place: int) -> dict[str, NDArray[Any]]:
        """Views of one point's arrays: weights (inputs, outputs), all others (outputs,)."""
        return {n: a[place] if n.endswith("weights") else a[place, 0] for n, a in self.arrays.items()}

    def at(self, place: int) -> dict[str, NDArray[Any]]:
        """Copies of one point's arrays in memory, (inputs, outputs)."""
        return {name: to_host(array[place].copy()) for name, array in self.arrays.items()}

    def by_point(self) -> Parameters:
        """The arrays with each point's own numbers side by side, as a product over the points reads them."""
        return {name: self.module.ascontiguousarray(array) for name, array in self.arrays.items()}

    def norm(self) -> Array:
        """Euclidean norm over all arrays of a point: (grid,), float64, in memory."""
        squares = [np.square(array, dtype=np.float64).sum(axis=(1, 2)) for array in self.by_point().values()]
        total = sum(squares)  # one by one: np.sum adds eight and more in another order for one point
        return to_host(np.sqrt(total))
