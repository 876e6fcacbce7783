"""Balls that roll down a curve, all at once: x -= learning_rate * slope(x), or the change of another optimizer.

A ball has diverged, and no longer moves, if its position is inf or NaN or further from the middle of the curve than
`FAR` times the curve's width. It rests in a minimum while its distance from the minimum and its last step are at most
`NEAR` times the width. The outcome of any other ball is inferred from its last step:

    swinging    it has overshot: the curve rises in the direction of its last step, so it reverses at the next update
    stuck       the same number of updates again, at the pace of its last step, would move it by less than `PACE` times
                the width; if a schedule has reduced the rate, at the pace of the full rate
    moving      all others
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.contract import State
from pipeline.backends.numpy.curves.shape import Curve
from pipeline.backends.numpy.descent import formula_knobs, initial_value
from pipeline.backends.numpy.optimizers.by_name import OPTIMIZERS
from pipeline.backends.shared.schedules import factors
from pipeline.config.expressions import Array
from pipeline.config.optimizer import Constant, Optimizer, Schedule

# Distances as multiples of the width of the curve; see above.
FAR = 1e6
NEAR = 1e-3
PACE = 5e-2
# The outcomes of a ball. Tables contain the index in this list, so its order must not change.
OUTCOMES = ("settled", "swinging", "moving", "stuck", "diverged")
SETTLED, SWINGING, MOVING, STUCK, DIVERGED = range(len(OUTCOMES))
CONSTANT = Constant(name="constant")


class Rolling:
    """The state of balls that roll down a curve.

    Args:
        curve: the curve.
        starts: (balls,), in the dtype of all computations.
        optimizer: its name and its settings.
        rates: the learning rate of each ball, (balls,); None: the optimizer's learning rate.
        schedule: gives the factor of the rates at each update; it must not depend on the loss.
        planned: the number of updates that the schedule is spread over.

    Attributes:
        factors: the factors of the rates, (planned,); None if the schedule is constant.
        x: the positions, (balls,).
        change: the last step, (balls,).
        updates: the number of updates made.
        lost: (balls,) the update at which a ball diverged, -1 if it has not.
        settled: (balls,) the update since which a ball has rested in a minimum, -1 if it does not.
    """

    def __init__(
        self,
        curve: Curve,
        starts: Array,
        optimizer: Optimizer,
        rates: Array | None = None,
        schedule: Schedule = CONSTANT,
        planned: int = 0,
    ) -> None:
        dtype = starts.dtype
        self.factors: Array | None = None
        if not isinstance(schedule, Constant):
            self.factors = factors(schedule, planned).astype(dtype)
        self.curve = curve
        self.x = starts.copy()
        self.change = np.zeros_like(starts)
        self.updates = 0
        self.lost = np.full(len(starts), -1, dtype=np.int64)
        self.settled = np.full(len(starts), -1, dtype=np.int64)
        if rates is None:
            rates = np.array([optimizer.learning_rate])
        formula = OPTIMIZERS[optimizer.name]
        knobs = formula_knobs([optimizer], dtype)
        self._slots: dict[str, Array] = {name: np.full_like(starts, initial_value(optimizer)) for name in formula.slots}
        self._optimizer = formula(knobs, rates.astype(dtype), self._slots, self.change, np.empty_like(starts))

    def step(self) -> None:
        """Update every ball that has not diverged."""
        self.updates += 1
        if self.factors is not None:
            self._optimizer.scale_rate(self.factors[self.updates - 1])
        slopes = np.ascontiguousarray(self.curve.at(self.x).slope)
        self._optimizer.update(slopes, self.x, self.updates)
        # The optimizer computes a change for all balls; those that have diverged stay where they are.
        self.change[self.lost >= 0] = 0
        moved = self.x + self.change
        middle = (self.curve.lowest + self.curve.highest) / 2
        # Not `>`: a position that is NaN counts as gone too.
        gone = ~(np.abs(moved - middle) <= FAR * self.curve.width)
        self.lost[gone & (self.lost < 0)] = self.updates
        np.copyto(self.x, moved, where=np.isfinite(moved))
        resting = self._resting()
        # A ball that leaves its minimum is no longer settled; if it comes back, it settles again.
        self.settled[~resting] = -1
        self.settled[resting & (self.settled < 0)] = self.updates

    def _resting(self) -> NDArray[np.bool_]:
        """Return whether each ball is near a minimum, and its last step was small."""
        if not len(self.curve.minima):
            return np.zeros(len(self.x), dtype=np.bool_)
        near = NEAR * self.curve.width
        away = np.abs(self.x - self.curve.minima[self.curve.nearest(self.x)])
        resting: NDArray[np.bool_] = (away <= near) & (np.abs(self.change) <= near) & (self.lost < 0)
        return resting

    def minimum(self) -> NDArray[np.intp]:
        """Return the index of the minimum that each ball rests in; -1 if it does not rest."""
        if not len(self.curve.minima):
            return np.full(len(self.x), -1, dtype=np.intp)
        return np.where(self.settled >= 0, self.curve.nearest(self.x), -1)

    def outcomes(self) -> NDArray[np.intp]:
        """Return the outcome of each ball, as indices into `OUTCOMES`."""
        slopes = self.curve.at(self.x).slope
        share: Any = 1.0
        if self.factors is not None:
            share = self.factors[self.updates - 1]
        # The last step over the factor of the rate is the pace at the full rate.
        slow = np.abs(self.change) * self.updates < PACE * self.curve.width * share
        # A step in the direction of the slope went uphill. The first case that applies decides.
        cases = [self.lost >= 0, self.settled >= 0, slow, np.sign(slopes) == np.sign(self.change)]
        return np.select(cases, [DIVERGED, SETTLED, STUCK, SWINGING], MOVING)

    def ended(self) -> NDArray[np.int64]:
        """Return the update at which each ball diverged or settled for good; else the number of updates made."""
        return np.select([self.lost >= 0, self.settled >= 0], [self.lost, self.settled], self.updates)

    def state(self) -> State:
        """Return the state as arrays for a checkpoint."""
        state = {name: array.copy() for name, array in self._arrays().items()}
        return state | {"updates": np.asarray(self.updates)}

    def restore(self, state: State) -> None:
        """Resume from a state."""
        self.updates = int(state["updates"])
        for name, array in self._arrays().items():
            np.copyto(array, state[name])

    def _arrays(self) -> State:
        """Return all arrays that an update changes, by their names in a checkpoint."""
        slots = {f"slots/{name}": array for name, array in self._slots.items()}
        return {"x": self.x, "change": self.change, "lost": self.lost, "settled": self.settled} | slots
