"""Balls that roll down a curve, all at once: x -= learning_rate * slope(x), or what another optimizer makes of it.

A ball whose place is inf or NaN, or further from the middle of the curve than `FAR` times its width, has diverged and
stays where it is. It rests in a minimum while it and its last step are within `NEAR` of the width. How it ends, when it
does neither, is told from its last step:

    swinging    it has overshot: it stands uphill of where it came from, and turns round at the next update
    stuck       as many updates again at this pace would move it by less than `PACE` of the width; where a schedule
                has made the rate small, at the pace of the whole rate
    moving      all others
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.contract import State
from pipeline.backends.numpy.curves.shape import Curve
from pipeline.backends.numpy.descent import formula_knobs, initial_value
from pipeline.backends.numpy.optimizers import OPTIMIZERS
from pipeline.backends.shared.schedules import factors
from pipeline.config.expressions import Array
from pipeline.config.optimizer import Constant, Optimizer, Schedule

FAR = 1e6
NEAR = 1e-3
PACE = 5e-2
OUTCOMES = ("settled", "swinging", "moving", "stuck", "diverged")
"""How a ball ends; tables hold the index here."""
SETTLED, SWINGING, MOVING, STUCK, DIVERGED = range(len(OUTCOMES))
CONSTANT = Constant(name="constant")


class Rolling:
    """Balls on their way.

    Args:
        curve: what they roll on.
        starts: (balls,), in the dtype that they are held in.
        optimizer: its name and its knobs.
        rates: the learning rate of each ball, (balls,); None: the optimizer's.
        schedule: what they are multiplied by at each update; one that does not go by the loss.
        planned: the number of updates that the schedule is spread over.

    Attributes:
        factors: what the rates are multiplied by, (planned,); None where the schedule is constant.
        x, change: where they are, and their last step, (balls,).
        updates: the number of updates made.
        lost: (balls,) the update at which a ball diverged, -1 where it did not.
        settled: (balls,) the update since which a ball has rested in a minimum, -1 where it does not.
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
        constant = isinstance(schedule, Constant)
        self.factors = None if constant else factors(schedule, planned).astype(dtype)
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
        """One update of every ball that has not diverged."""
        self.updates += 1
        if self.factors is not None:
            self._optimizer.scale_rate(self.factors[self.updates - 1])
        slopes = np.ascontiguousarray(self.curve.at(self.x).slope)
        self._optimizer.update(slopes, self.x, self.updates)
        self.change[self.lost >= 0] = 0
        moved = self.x + self.change
        middle = (self.curve.lowest + self.curve.highest) / 2
        gone = ~(np.abs(moved - middle) <= FAR * self.curve.width)
        self.lost[gone & (self.lost < 0)] = self.updates
        np.copyto(self.x, moved, where=np.isfinite(moved))
        resting = self._resting()
        self.settled[~resting] = -1
        self.settled[resting & (self.settled < 0)] = self.updates

    def _resting(self) -> NDArray[np.bool_]:
        if not len(self.curve.minima):
            return np.zeros(len(self.x), dtype=np.bool_)
        near = NEAR * self.curve.width
        away = np.abs(self.x - self.curve.minima[self.curve.nearest(self.x)])
        resting: NDArray[np.bool_] = (away <= near) & (np.abs(self.change) <= near) & (self.lost < 0)
        return resting

    def minimum(self) -> NDArray[np.intp]:
        """In which minimum each ball rests; -1 where it does not."""
        if not len(self.curve.minima):
            return np.full(len(self.x), -1, dtype=np.intp)
        return np.where(self.settled >= 0, self.curve.nearest(self.x), -1)

    def outcomes(self) -> NDArray[np.intp]:
        """How each ball ends: indices into `OUTCOMES`."""
        slopes = self.curve.at(self.x).slope
        share = 1.0 if self.factors is None else self.factors[self.updates - 1]
        slow = np.abs(self.change) * self.updates < PACE * self.curve.width * share
        cases = [self.lost >= 0, self.settled >= 0, slow, np.sign(slopes) == np.sign(self.change)]
        return np.select(cases, [DIVERGED, SETTLED, STUCK, SWINGING], MOVING)

    def ended(self) -> NDArray[np.int64]:
        """After how many updates each ball settled for good or diverged; else the number of updates made."""
        return np.select([self.lost >= 0, self.settled >= 0], [self.lost, self.settled], self.updates)

    def state(self) -> State:
        """All of this as arrays that a checkpoint keeps."""
        state = {name: array.copy() for name, array in self._arrays().items()}
        return state | {"updates": np.asarray(self.updates)}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self.updates = int(state["updates"])
        for name, array in self._arrays().items():
            np.copyto(array, state[name])

    def _arrays(self) -> State:
        """All arrays that change from update to update."""
        slots = {f"slots/{name}": array for name, array in self._slots.items()}
        return {"x": self.x, "change": self.change, "lost": self.lost, "settled": self.settled} | slots
