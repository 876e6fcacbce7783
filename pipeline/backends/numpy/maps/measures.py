"""The numbers that are stored for each point of a map, and the metrics of the whole map.

With l_t the loss before update t over the first loss, a point has *converged* if all its losses are finite and the
mean of the last `LAST` values of l is below 1. One signed number encodes both whether and how fast it converged, after
Sohl-Dickstein 2024, "The boundary of neural network trainability is fractal" (arXiv:2402.06184):

    measure = + sum over t of l_t      converged: small if the loss fell early
    measure = - sum over t of 1 / l_t  not converged: small in magnitude if the loss rose early, or became inf or NaN

Terms that are not finite count as 0. Because l_0 is 1, no measure is between -1 and 1.
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

# The number of losses at the end of training that are averaged.
LAST = 20
# The number of losses of each point that are added in one call: enough that the call itself costs little.
TOGETHER = 64
NUMBERS = ("first_loss", "final_loss", "last_losses", "sum_of_losses", "measure")
STEP = "diverged_step"
# The arrays of a map: `x` (columns,) and `y` (rows,), the values of the axes; `knobs` (2,), their names; and for each
# point (rows, columns)
#
# - `first_loss`, `final_loss`: before the first update, after the last update;
# - `last_losses`: the mean of the last `LAST` losses;
# - `sum_of_losses`: the sum of all losses over the first loss;
# - `measure`: the signed number;
# - `diverged_step`: the number of updates made when the loss first was inf or NaN, -1 if it never was.
#
# During training, points that have not been trained yet hold NaN, and a `diverged_step` of -1.
MapArrays = dict[str, NDArray[Any]]


def empty_map(axes: GridAxes) -> MapArrays:
    """Return the arrays of a map before its first point is trained."""
    shape = (axes.y.count, axes.x.count)
    arrays: MapArrays = {"x": axes.x.values(), "y": axes.y.values(), "knobs": np.array([a.knob for a in axes.axes])}
    return arrays | {name: np.full(shape, np.nan) for name in NUMBERS} | {STEP: np.full(shape, -1, dtype=np.int64)}


class Tally:
    """The sums over the losses of a block of points, computed while the points train.

    Args:
        grid: the number of points.
        losses: the number of losses that each point will have.
        module: NumPy or CuPy, whose arrays the losses are; see array_modules.py.
    """

    def __init__(self, grid: int, losses: int, module: ModuleType = np) -> None:
        self._grid = grid
        # NumPy would sum a single column in a different order, and a point's sums would depend on its block.
        wide = max(grid, 2)
        self._last_from = max(losses - LAST, 0)
        self._added = 0
        self._waiting = 0
        self._rows = module.ones((TOGETHER, wide))
        self._diverged_step = module.full(wide, -1, dtype=np.int64)
        self._first = module.empty(wide)
        self._final = module.empty(wide)
        self._sum = module.zeros(wide)
        self._inverses = module.zeros(wide)
        self._last = module.zeros(wide)

    def see(self, losses: Array) -> None:
        """Add the next loss of each point, (grid,)."""
        self._rows[self._waiting, : self._grid] = losses
        self._waiting += 1
        if self._waiting == TOGETHER:
            self._add_waiting()

    def _add_waiting(self) -> None:
        """Add the waiting losses to the sums."""
        rows = self._rows[: self._waiting]
        if not len(rows):
            return
        if not self._added:
            self._first[...] = rows[0]
        # The first of these rows is loss number `_added`; an empty slice before the last losses adds 0.
        self._last += rows[max(self._last_from - self._added, 0) :].sum(axis=0)
        self._final[...] = rows[-1]
        finite = np.isfinite(rows)
        inverses = 1 / rows
        if not finite.all():
            new = ~finite.all(axis=0) & (self._diverged_step < 0)
            # `argmin` finds the first False, which is the first loss that is not finite.
            self._diverged_step[new] = self._added + finite.argmin(axis=0)[new]
            rows[~finite] = 0
            inverses[~finite] = 0
        self._sum += rows.sum(axis=0)
        self._inverses += inverses.sum(axis=0)
        self._added += len(rows)
        self._waiting = 0

    def arrays(self) -> MapArrays:
        """Return the numbers of each point, (grid,) each, in memory."""
        self._add_waiting()
        # A network whose first loss is 0 stays there; a division by 0 would make its measure NaN.
        scale = np.where(self._first > 0, self._first, 1)
        last = self._last / (self._added - self._last_from)
        total = self._sum / scale
        converged = (last < scale) & (self._diverged_step < 0)
        found: MapArrays = {
            "first_loss": self._first,
            "final_loss": self._final,
            "last_losses": last,
            "sum_of_losses": total,
            # The sum of 1 / l_t is first loss * sum of 1 / loss.
            "measure": np.where(converged, total, -self._inverses * scale),
            STEP: self._diverged_step,
        }
        return {name: to_host(array[: self._grid]) for name, array in found.items()}


def check_map_arrays(arrays: Mapping[str, NDArray[Any]], axes: GridAxes) -> None:
    """Check that arrays are those of a map with these axes.

    Raises:
        ValueError: a name, a shape or a type differs.
    """
    expected = {name: (array.shape, array.dtype.kind) for name, array in empty_map(axes).items()}
    received = {name: (array.shape, array.dtype.kind) for name, array in arrays.items()}
    if received != expected:
        raise ValueError(
            f"expected the arrays of a map of {axes.y.count} rows and {axes.x.count} columns, received {received}"
        )


def map_metrics(arrays: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Return the metrics of a map: points trained, shares converged and not finite, and the best point.

    The best point has the smallest final loss of those that converged; if none did, its metrics are omitted.
    """
    trained = ~np.isnan(arrays["measure"])
    count = int(trained.sum())
    values = {"map/points": float(count)}
    if not count:
        return values
    values["map/converged_share"] = float((arrays["measure"] > 0).sum() / count)
    values["map/not_finite_share"] = float((arrays[STEP] >= 0).sum() / count)
    best = best_position(arrays)
    if best is not None:
        values["map/best_loss"] = float(arrays["final_loss"][best])
        # A position is (row, column): y comes before x.
        for knob, axis, index in zip(arrays["knobs"].tolist(), ("x", "y"), best[::-1], strict=True):
            values[f"map/best_{knob.rsplit('.', 1)[-1]}"] = float(arrays[axis][index])
    return values


def best_position(arrays: Mapping[str, NDArray[Any]]) -> tuple[int, int] | None:
    """Return row and column of the smallest final loss among the points that converged; None if none did."""
    losses = np.where(arrays["measure"] > 0, arrays["final_loss"], np.inf)
    row, column = np.unravel_index(int(np.argmin(losses)), losses.shape)
    if not np.isfinite(losses[row, column]):
        return None
    return int(row), int(column)
