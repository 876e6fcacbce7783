"""The arrays that the points of a command train on: shared by all points with the same rows, one data set at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, load

# A data set and the number of its rows: points with equal keys train on the same numbers.
RowsKey = tuple[str, int | None]


def rows_key(config: Config) -> RowsKey:
    """Identify the rows that a point trains on."""
    return config.data.model_dump_json(), config.training.rows


class SharedArrays:
    """Reads data sets, and keeps the rows that were needed last in memory.

    Args:
        project: folder that contains data/.

    Raises:
        LabError: from both methods, if the data is missing or is not what was prepared.

    Example:
        data = SharedArrays(project)
        checksums = data.outline(config).checksums
        rows = data.load(config).train_inputs
    """

    def __init__(self, project: Path) -> None:
        self._project = project
        self._outlines: dict[str, Arrays] = {}
        self._key: RowsKey | None = None
        self._arrays: Arrays | None = None

    def outline(self, config: Config) -> Arrays:
        """Return arrays with the shapes and the checksums of a point's data, but with zeros that take no memory.

        So a command can hold them for each of its points, on however many data sets.
        """
        data, rows = rows_key(config)
        if data not in self._outlines:
            # Most commands have one data set, so the rows read here are those that are trained on next.
            self.load(config)
        whole = self._outlines[data]
        # Zeros are the same in any row, and a slice of them takes no memory.
        return replace(whole, train_inputs=whole.train_inputs[:rows], train_targets=whole.train_targets[:rows])

    def load(self, config: Config) -> Arrays:
        """Return the rows that a point trains on and those that it is tested on, from memory if they are there."""
        key = rows_key(config)
        arrays = self._arrays
        if arrays is None or self._key != key or not _serves(arrays, config.dtype):
            # Freed first: two data sets are never in memory together.
            arrays = self._arrays = None
            arrays = self._read(config)
            self._key = key
            self._arrays = arrays
        return replace(arrays, dtype=config.dtype)

    def _read(self, config: Config) -> Arrays:
        data, rows = rows_key(config)
        arrays = load(config.data, config.dtype, self._project)
        self._outlines[data] = _outline(arrays)
        part = arrays.at_most(rows)
        if part is arrays:
            return arrays
        # Copies, because the first rows alone would still hold all the others in memory.
        return replace(part, train_inputs=part.train_inputs.copy(), train_targets=part.train_targets.copy())


def _serves(arrays: Arrays, dtype: str) -> bool:
    """Whether arrays that were read for one dtype are the same for another: grey values are bytes for either."""
    return arrays.dtype == dtype or arrays.train_inputs.dtype == np.uint8


def _outline(arrays: Arrays) -> Arrays:
    fields = [f"{split}_{part}" for split in ("train", "validation", "test") for part in ("inputs", "targets")]
    zeros: dict[str, Any] = {name: _zeros_like(getattr(arrays, name)) for name in fields}
    return replace(arrays, **zeros)


def _zeros_like(array: NDArray[Any] | None) -> NDArray[Any] | None:
    """Return zeros of the same shape and dtype, all of which are one number in memory."""
    if array is None:
        return None
    return np.broadcast_to(np.zeros((), array.dtype), array.shape)
