"""Batches: rows of the training data in the form that the first layer multiplies.

For images, most of the time of an update goes into the first layer's product. It skips pixels that are zero in every
row of a batch, and in a plain network the bias of the first layer is the weight of an input that is always 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.losses import Targets
from pipeline.data.arrays import EVALUATION_ROWS, Arrays, epoch_order

# Fewer features are not searched for zeros: the search would cost more than the smaller product saves.
WIDE = 64


class Batch(NamedTuple):
    """Rows in the form that the first layer multiplies.

    Attributes:
        inputs: (rows, used); if the first layer's bias is one of its weights, the last column is 1.
        used: indices of the rows of the first layer's weights, with the bias as the last row, that are multiplied;
            None: all.
        idle: indices of the other rows.
        targets: in the form that `losses.loss_and_slope` accepts.
    """

    inputs: NDArray[np.floating]
    used: NDArray[np.intp] | None
    idle: NDArray[np.intp]
    targets: Targets


def batch(arrays: Arrays, inputs: NDArray[Any], targets: Targets, bias: bool) -> Batch:
    """Make a batch without the features that are zero in all of its rows.

    Args:
        arrays: the data set, which scales the rows.
        inputs: (rows, features), as in the data set.
        targets: in the form that `losses.loss_and_slope` accepts.
        bias: whether to append the column of ones.
    """
    used = None
    idle = np.empty(0, np.intp)
    if inputs.shape[1] >= WIDE:
        # For bytes the maximum is faster than `any`, and equivalent, because no byte is below 0.
        seen = inputs.max(axis=0) > 0 if inputs.dtype == np.uint8 else inputs.any(axis=0)
        if not seen.all():
            idle = np.flatnonzero(~seen)
            # Every batch uses the column of ones.
            used = np.flatnonzero(np.append(seen, True) if bias else seen)
            inputs = inputs[:, seen]
    if not bias:
        return Batch(arrays.scaled(inputs), used, idle, targets)
    dtype: Any = inputs.dtype
    if dtype == np.uint8:
        dtype = arrays.dtype
    # Scaled into the wider array directly, which saves a copy of all rows.
    extended = np.empty((len(inputs), inputs.shape[1] + 1), dtype)
    arrays.scaled(inputs, out=extended[:, :-1])
    extended[:, -1] = 1
    return Batch(extended, used, idle, targets)


class Batches:
    """The batches of a stack: its training rows epoch by epoch, and the rows that it is evaluated on.

    Args:
        size: the number of rows in a batch; None: all rows.
        arrays: the data set as arrays of `module`.
        seeds: the points' seeds, which determine the order of the rows in each epoch.
        trimmed: whether features that are zero in a whole batch are skipped.
        extended: whether a batch has the column of ones.
        module: NumPy or CuPy; see array_modules.py.
    """

    def __init__(
        self,
        size: int | None,
        arrays: Arrays,
        seeds: Sequence[int],
        trimmed: bool,
        extended: bool,
        module: ModuleType,
    ) -> None:
        self._size = size
        self._arrays = arrays
        # Points with the same seed see the rows in the same order, and share their batches.
        self._seeds = seeds
        if len(set(seeds)) == 1:
            self._seeds = seeds[:1]
        self._trimmed = trimmed
        self._extended = extended
        self._module = module
        self._whole: Batch | None = None

    def of_epoch(self, epoch: int) -> Iterator[Sequence[Batch]]:
        """Yield the batches of an epoch: one for all points, or one for each point if their seeds differ."""
        if self._size is None:
            yield [self.all_rows()]
            return
        rows = len(self._arrays.train_inputs)
        orders = [self._module.asarray(epoch_order(seed, epoch, rows)) for seed in self._seeds]
        chosen = [[order[start : start + self._size] for order in orders] for start in range(0, rows, self._size)]
        if self._arrays.features < WIDE or self._module is not np:
            yield from map(self._gather, chosen)
            return
        # Wide rows take long to gather: a thread gathers the next batch while this one is computed.
        with ThreadPoolExecutor(1) as ahead:
            following = ahead.submit(self._gather, chosen[0])
            for rows_of_next in chosen[1:]:
                ready = following.result()
                following = ahead.submit(self._gather, rows_of_next)
                yield ready
            yield following.result()

    def all_rows(self) -> Batch:
        """Return the training rows as one batch. It is made once, because every full-batch update needs it."""
        if self._whole is None:
            self._whole = self._of_rows(self._arrays.train_inputs, self._arrays.train_targets)
        return self._whole

    def in_blocks(self, inputs: NDArray[Any], targets: Targets) -> list[Callable[[], Batch]]:
        """Return functions that make batches of rows of the data set, (rows, features), in their order.

        The batches are blocks, which bound the memory of the hidden values.
        """
        starts = range(0, len(inputs), EVALUATION_ROWS)
        blocks = [slice(start, start + EVALUATION_ROWS) for start in starts]
        return [partial(self._of_rows, inputs[block], targets[block]) for block in blocks]

    def _of_rows(self, inputs: NDArray[Any], targets: Targets) -> Batch:
        """Make a batch of rows of the data set, (rows, features)."""
        if self._trimmed:
            return batch(self._arrays, inputs, targets, self._extended)
        return Batch(self._arrays.scaled(inputs), None, np.empty(0, np.intp), targets)

    def _gather(self, chosen: Sequence[NDArray[np.integer]]) -> list[Batch]:
        """Make a batch of the chosen rows for each order of the rows."""
        return [self._of_rows(self._arrays.train_inputs[rows], self._arrays.train_targets[rows]) for rows in chosen]
