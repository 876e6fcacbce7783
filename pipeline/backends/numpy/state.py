"""Where a stack of points stands in training: as one, and point by point as arrays that a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy import optimizers
from pipeline.backends.numpy.network import Array, Parameters
from pipeline.checkpoints import State


@dataclass
class Progress:
    """Where a pass stands. Arrays carry the grid axis first.

    Attributes:
        parameters, optimizer_state: the stack and its optimizer's state.
        updates: how many updates have been made.
        diverged_step: (grid,) updates made when the loss first was inf or NaN, -1 where it never was.
        last_finite_loss: (grid,).
        upwards: for each weight, whether its last update was above 0.
        direction_changes: for each weight, how often that changed.
    """

    parameters: Parameters
    optimizer_state: optimizers.State
    updates: int
    diverged_step: NDArray[np.int64]
    last_finite_loss: Array
    upwards: dict[str, NDArray[np.bool_]]
    direction_changes: dict[str, NDArray[np.int64]]

    def see_losses(self, losses: Array) -> None:
        """Note at which update a point's loss stops being finite."""
        not_yet = self.diverged_step < 0
        going = np.isfinite(losses) & not_yet
        if going.all():
            self.last_finite_loss = losses
        else:
            self.last_finite_loss = np.where(going, losses, self.last_finite_loss)
            self.diverged_step[not_yet & ~going] = self.updates

    def see_directions(self, changes: Mapping[str, Array]) -> None:
        """Count the weights whose update's sign differs from the one before."""
        for name, change in changes.items():
            upwards = change > 0
            if self.updates:
                self.direction_changes[name] += upwards != self.upwards[name]
            self.upwards[name] = upwards

    def state_of(self, place: int) -> State:
        """All of this for one point, as arrays without the grid axis."""
        return {name: np.asarray(leaf) if isinstance(leaf, int) else leaf[place] for name, leaf in _leaves(vars(self))}


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Arrays and counters of nested dicts by their path, for instance `optimizer_state/m/layer_0/weights`."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{name}/")
        else:
            yield f"{path}{name}", value


def merge(fresh: Progress, states: Sequence[State]) -> Progress:
    """States of single points as the progress of one stack, in the structure of a fresh one."""

    def merged(name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: merged(f"{name}/{key}", inner) for key, inner in value.items()}
        if isinstance(value, int):
            return int(states[0][name])
        return np.stack([state[name] for state in states])

    fields = {name: merged(name, value) for name, value in vars(fresh).items()}
    upwards = [name.removeprefix("upwards/") for name in states[0] if name.startswith("upwards/")]
    fields["upwards"] = {name: merged(f"upwards/{name}", None) for name in upwards}  # there after the first update
    return Progress(**fields)
