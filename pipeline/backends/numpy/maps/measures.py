"""What a map keeps of each of its points, and what the whole map comes to.

With l_t the loss before update t over the first loss, a point is *converged* where the loss was finite all the way and
the mean of its last `LAST` values is below 1. One signed number tells both whether and how fast, after Sohl-Dickstein
2024, "The boundary of neural network trainability is fractal" (arXiv:2402.06184):

    measure = + sum over t of l_t      converged: small where the loss fell early
    measure = - sum over t of 1 / l_t  not converged: small in size where the loss rose early, or became inf or NaN

Terms that are not finite count 0. As l_0 is 1, no measure lies between -1 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.array_modules import to_host
from pipeline.backends.numpy.network import Array
from pipeline.config.map_axes import GridAxes

LAST = 20
"""How many losses at the end are averaged."""
TOGETHER = 64
"""So many losses of each point are added up at a time."""
NUMBERS = ("first_loss", "final_loss", "last_losses", "sum_of_losses", "measure")
STEP = "diverged_step"
MapArrays = dict[str, NDArray[Any]]
"""`x` (columns,) and `y` (rows,), the values of the axes; `knobs` (2,), their names; and for each point (rows, columns)

- `first_loss`, `final_loss`: before the first update, after the last;
- `last_losses`: the mean of the last `LAST`;
- `sum_of_losses`: the sum of all losses over the first;
- `measure`: the signed number;
- `diverged_step`: how many updates had been made when the loss first was inf or NaN, -1 where it never was.

Of a map in training they hold NaN, and -1, where it has not got yet.
"""


def empty_map(axes: GridAxes) -> MapArrays:
    """A map's arrays before its first point is trained."""
    shape = axes.y.count, axes.x.count
    arrays: MapArrays = {"x": axes.x.values(), "y": axes.y.values(), "knobs": np.array([a.knob for a in axes.axes])}
    return arrays | {name: np.full(shape, np.nan) for name in NUMBERS} | {STEP: np.full(shape, -1, dtype=np.int64)}


class Tally:
    """Takes the losses of a block of points, update by update.

    Args:
        grid: how many points.
        losses: how many losses each will have.
        module: whose arrays the losses are; see array_modules.py.
    """

    def __init__(self, grid: int, losses: int, module: ModuleType = np) -> None:
        self._grid, wide = grid, max(grid, 2)  # a single column NumPy would add up in another order
        self._taken, self._last_from = 0, max(losses - LAST, 0)
        self._waiting, self._rows = 0, module.ones((TOGETHER, wide))
        self._diverged_step = module.full(wide, -1, dtype=np.int64)
        self._first, self._final = module.empty(wide), module.empty(wide)
        self._sum, self._inverses, self._last = (module.zeros(wide) for _ in range(3))

    def see(self, losses: Array) -> None:
        """Take the next loss of each point, (grid,)."""
        self._rows[self._waiting, : self._grid] = losses
        self._waiting += 1
        if self._waiting == TOGETHER:
            self._take()

    def _take(self) -> None:
        """Add up the losses that wait."""
        rows = self._rows[: self._waiting]
        if not len(rows):
            return
        if not self._taken:
            self._first[...] = rows[0]
        self._last += rows[max(self._last_from - self._taken, 0) :].sum(axis=0)
        self._final[...] = rows[-1]
        finite, inverses = np.isfinite(rows), 1 / rows
        if not finite.all():
            new = ~finite.all(axis=0) & (self._diverged_step < 0)
            self._diverged_step[new] = self._taken + finite.argmin(axis=0)[new]
            rows[~finite] = inverses[~finite] = 0
        self._sum += rows.sum(axis=0)
        self._inverses += inverses.sum(axis=0)
        self._taken, self._waiting = self._taken + len(rows), 0

    def arrays(self) -> MapArrays:
        """What is kept of each point, (grid,) each, in memory."""
        self._take()
        scale = np.where(self._first > 0, self._first, 1)  # a network that begins without an error stays there
        last, total = self._last / (self._taken - self._last_from), self._sum / scale
        converged = (last < scale) & (self._diverged_step < 0)
        found: MapArrays = {
            "first_loss": self._first,
            "final_loss": self._final,
            "last_losses": last,
            "sum_of_losses": total,
            "measure": np.where(converged, total, -self._inverses * scale),
            STEP: self._diverged_step,
        }
        return {name: to_host(array[: self._grid]) for name, array in found.items()}


def check_map_arrays(arrays: Mapping[str, NDArray[Any]], axes: GridAxes) -> None:
    """Make sure that arrays are those of a map with these axes.

    Raises:
        ValueError: a name, a shape or a type is another.
    """
    expected = {name: (array.shape, array.dtype.kind) for name, array in empty_map(axes).items()}
    received = {name: (array.shape, array.dtype.kind) for name, array in arrays.items()}
    if received != expected:
        raise ValueError(f"a map of {axes.y.count} rows and {axes.x.count} columns with other arrays: {received}")


def map_metrics(arrays: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """A map in numbers: points trained, the shares that converged and whose loss became inf or NaN, the best point.

    The best is the one with the smallest final loss among those that converged; where none did there is none.
    """
    trained = ~np.isnan(arrays["measure"])
    count = int(trained.sum())
    values = {"map/points": float(count)}
    if not count:
        return values
    values["map/converged_share"] = float((arrays["measure"] > 0).sum() / count)
    values["map/not_finite_share"] = float((arrays[STEP] >= 0).sum() / count)
    place = best_place(arrays)
    if place is not None:
        values["map/best_loss"] = float(arrays["final_loss"][place])
        for knob, axis, at in zip(arrays["knobs"].tolist(), ("x", "y"), place[::-1], strict=True):
            values[f"map/best_{knob.rsplit('.', 1)[-1]}"] = float(arrays[axis][at])
    return values


def best_place(arrays: Mapping[str, NDArray[Any]]) -> tuple[int, int] | None:
    """Row and column of the smallest final loss among the points that converged; None where none did."""
    losses = np.where(arrays["measure"] > 0, arrays["final_loss"], np.inf)
    row, column = np.unravel_index(int(np.argmin(losses)), losses.shape)
    return (int(row), int(column)) if np.isfinite(losses[row, column]) else None
