"""The contract between the backends and their callers: how points are trained, stopped and continued."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays

# Everything that a backend needs to continue the training of one point, as arrays by name.
State = dict[str, NDArray[Any]]
# Called with a recorded epoch and the training loss; for several points, with the smallest of their losses.
Report = Callable[[int, float], None]


class Checkpoints(Protocol):
    """Where a backend's `train` starts, and where it leaves checkpoints.

    Attributes:
        epoch: number of epochs that the points have trained; 0 for a fresh start.
        states: the points' states after that epoch, in the order of the points; empty if the epoch is 0.
    """

    epoch: int
    states: Sequence[State]

    def due(self) -> bool:
        """Return whether `keep` should be called at the end of this epoch; cheap enough to call after each one."""

    def keep(self, epoch: int, states: Sequence[State]) -> None:
        """Keep the points' states after an epoch. `history.seconds` must be up to date.

        Raises:
            KeyboardInterrupt: the command was asked to stop; the states have been kept.
        """


class Train(Protocol):
    """A function that trains a stack of points."""

    def __call__(
        self,
        points: Sequence[Config],
        arrays: Arrays,
        histories: Sequence[History],
        report: Report,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        """Train points, and fill in the history of each.

        Args:
            points: their configs.
            arrays: the data.
            histories: one for each point. With a checkpoint they already hold what was recorded before it.
            report: called during training with each recorded epoch and the training loss.
            checkpoints: where to start, and where to leave checkpoints; None: train from epoch 0 and leave none.
        """
