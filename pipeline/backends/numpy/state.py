"""The state of a stack in training: for all points together, and for each point as arrays in a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.contract import State
from pipeline.backends.numpy.descent import Descent, Plateau
from pipeline.backends.numpy.network import Array
from pipeline.backends.numpy.packed import Packed


@dataclass
class Progress:
    """The state of a stack.

    Attributes:
        parameters: the stack's weights and biases.
        slots: the optimizer's state, by name.
        updates: the number of updates made.
        diverged_step: (grid,) the number of updates made when the loss first was inf or NaN, -1 if it never was.
        last_finite_loss: (grid,) the training loss just before that, or the last one; NaN if there was none.
        upwards: for each weight, whether its last update was above 0; None if changes of direction are not counted.
        direction_changes: for each weight, the number of sign changes of its update.
        statistics: the moving statistics of batch normalization; None without batch normalization.
        plateau: the state of a schedule that depends on the losses.
    """

    parameters: Packed
    slots: dict[str, Packed]
    updates: int
    diverged_step: NDArray[np.int64]
    last_finite_loss: Array
    upwards: Packed | None = None
    direction_changes: Packed | None = None
    statistics: Packed | None = None
    plateau: Plateau | None = None

    def network(self, index: int) -> dict[str, NDArray[Any]]:
        """Return views of all arrays of one point, in the order of `initial_weights.array_names`."""
        arrays = self.parameters.network(index)
        if self.statistics is not None:
            arrays |= self.statistics.network(index)
        return arrays

    def see_losses(self, losses: Array) -> None:
        """Note the update at which the loss of a point stops being finite."""
        # A sum is finite only if all losses are: the usual case costs one call, because this runs at every update.
        if math.isfinite(losses.sum()) and self.diverged_step.max() < 0:
            self.last_finite_loss = losses
            return
        not_yet = self.diverged_step < 0
        going = np.isfinite(losses) & not_yet
        self.last_finite_loss = np.where(going, losses, self.last_finite_loss)
        self.diverged_step[not_yet & ~going] = self.updates

    def see_signs(self, upwards: NDArray[np.bool_]) -> None:
        """Count, for each weight, the updates whose sign differs from the previous update.

        Args:
            upwards: (updates, *parameters.flat.shape), whether each of the updates after `updates` was above 0.
        """
        if self.upwards is None or self.direction_changes is None:
            return
        # The very first update has no predecessor.
        if self.updates:
            self.direction_changes.flat += upwards[0] != self.upwards.flat
        if len(upwards) > 1:
            self.direction_changes.flat += np.count_nonzero(upwards[1:] != upwards[:-1], axis=0)
        np.copyto(self.upwards.flat, upwards[-1])

    def state_of(self, index: int) -> State:
        """Return the state of one point, as arrays without the grid axis."""
        state: State = {
            "updates": np.asarray(self.updates),
            "diverged_step": self.diverged_step[index].copy(),
            "last_finite_loss": np.asarray(self.last_finite_loss[index]),
        }
        for path, packed in self._packed():
            state |= {f"{path}/{name}": array for name, array in packed.at(index).items()}
        if self.plateau is not None:
            state |= {f"plateau/{name}": np.asarray(array[index]) for name, array in vars(self.plateau).items()}
        return state

    def restore(self, states: Sequence[State]) -> None:
        """Resume from the states of single points."""
        # All points of a stack have made the same number of updates.
        self.updates = int(states[0]["updates"])
        self.diverged_step = np.array([state["diverged_step"] for state in states])
        self.last_finite_loss = np.array([state["last_finite_loss"] for state in states])
        for path, packed in self._packed():
            packed.fill([{name: state[f"{path}/{name}"] for name in packed.arrays} for state in states])
        if self.plateau is not None:
            for name in vars(self.plateau):
                setattr(self.plateau, name, np.array([state[f"plateau/{name}"] for state in states]))

    def _packed(self) -> Iterator[tuple[str, Packed]]:
        """Yield all packed arrays with the prefix of their names in a checkpoint."""
        yield "parameters", self.parameters
        for name, slot in self.slots.items():
            yield f"slots/{name}", slot
        if self.upwards is not None and self.direction_changes is not None:
            yield "upwards", self.upwards
            yield "direction_changes", self.direction_changes
        if self.statistics is not None:
            yield "statistics", self.statistics


def initial_progress(parameters: Packed, statistics: Packed, descent: Descent, counted: bool) -> Progress:
    """Return the state of a stack before its first update.

    Args:
        parameters: the initial weights and biases.
        statistics: the initial moving statistics; without arrays if the networks have none.
        descent: has the state of optimizer and schedule.
        counted: whether changes of direction are counted.
    """
    progress = Progress(
        parameters,
        descent.slots,
        updates=0,
        diverged_step=np.full(parameters.grid, -1),
        last_finite_loss=np.full(parameters.grid, np.nan),
        plateau=descent.plateau,
    )
    if statistics.arrays:
        progress.statistics = statistics
    if counted:
        progress.upwards = parameters.like(np.bool_)
        progress.direction_changes = parameters.like(np.int64)
    return progress
