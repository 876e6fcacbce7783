"""Where a stack of points stands in training: as one, and point by point as arrays that a checkpoint keeps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.contract import State
from pipeline.backends.numpy.descent import Plateau
from pipeline.backends.numpy.network import Array
from pipeline.backends.numpy.packed import Packed


@dataclass
class Progress:
    """Where a stack stands.

    Attributes:
        parameters: the stack.
        slots: the optimizer's state, by name.
        updates: how many updates have been made.
        diverged_step: (grid,) updates made when the loss first was inf or NaN, -1 where it never was.
        last_finite_loss: (grid,).
        upwards: for each weight, whether its last update was above 0; None where nobody wants to know.
        direction_changes: for each weight, how often that changed.
        statistics: the moving statistics of batch normalization; None where there is none.
        plateau: of a schedule that goes by the losses.
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

    def network(self, place: int) -> dict[str, NDArray[Any]]:
        """Views of all arrays of one point, by the names and in the order of `initial_weights.array_names`."""
        trained = self.parameters.network(place)
        return trained if self.statistics is None else trained | self.statistics.network(place)

    def see_losses(self, losses: Array) -> None:
        """Note at which update a point's loss stops being finite."""
        if math.isfinite(losses.sum()) and self.diverged_step.max() < 0:
            self.last_finite_loss = losses
            return
        not_yet = self.diverged_step < 0
        going = np.isfinite(losses) & not_yet
        self.last_finite_loss = np.where(going, losses, self.last_finite_loss)
        self.diverged_step[not_yet & ~going] = self.updates

    def see_signs(self, upwards: NDArray[np.bool_]) -> None:
        """Count the weights whose update's sign differs from the one before.

        Args:
            upwards: (updates, *parameters.flat.shape), whether each of the updates after `updates` was above 0.
        """
        if self.upwards is None or self.direction_changes is None:
            return
        if self.updates:
            self.direction_changes.flat += upwards[0] != self.upwards.flat
        if len(upwards) > 1:
            self.direction_changes.flat += np.count_nonzero(upwards[1:] != upwards[:-1], axis=0)
        np.copyto(self.upwards.flat, upwards[-1])

    def state_of(self, place: int) -> State:
        """All of this for one point, as arrays without the grid axis."""
        state: State = {
            "updates": np.asarray(self.updates),
            "diverged_step": self.diverged_step[place].copy(),
            "last_finite_loss": np.asarray(self.last_finite_loss[place]),
        }
        for path, packed in self._packed():
            state |= {f"{path}/{name}": array for name, array in packed.at(place).items()}
        if self.plateau is not None:
            state |= {f"plateau/{name}": np.asarray(array[place]) for name, array in vars(self.plateau).items()}
        return state

    def restore(self, states: Sequence[State]) -> None:
        """Go on from the states of single points."""
        self.updates = int(states[0]["updates"])
        self.diverged_step = np.array([state["diverged_step"] for state in states])
        self.last_finite_loss = np.array([state["last_finite_loss"] for state in states])
        for path, packed in self._packed():
            packed.fill([{name: state[f"{path}/{name}"] for name in packed.arrays} for state in states])
        if self.plateau is not None:
            for name in vars(self.plateau):
                setattr(self.plateau, name, np.array([state[f"plateau/{name}"] for state in states]))

    def _packed(self) -> Iterator[tuple[str, Packed]]:
        yield "parameters", self.parameters
        for name, slot in self.slots.items():
            yield f"slots/{name}", slot
        if self.upwards is not None and self.direction_changes is not None:
            yield "upwards", self.upwards
            yield "direction_changes", self.direction_changes
        if self.statistics is not None:
            yield "statistics", self.statistics
