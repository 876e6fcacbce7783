"""The interface between backends and their callers: training, stopping and resuming points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays

# The state that a backend needs to resume the training of one point, as arrays by name.
State = dict[str, NDArray[Any]]
# Called with a recorded epoch and the training loss; for several points, with the smallest of their losses.
Report = Callable[[int, float], None]


class Checkpoints(Protocol):
    """The checkpoint that a backend's `train` resumes from, and a way to keep new ones.

    Attributes:
        epoch: number of epochs that the points have been trained for; 0 for a fresh start.
        states: the points' states after that epoch, in the order of the points; empty if the epoch is 0.
    """

    epoch: int
    states: Sequence[State]

    def due(self) -> bool:
        """Return whether to call `keep` after this epoch; cheap enough to be called after every epoch."""

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
            histories: one for each point. When resuming, they already contain the records up to the checkpoint.
            report: called during training with each recorded epoch and the training loss.
            checkpoints: the checkpoint to resume from, and where to keep new ones; None: train from epoch 0 and keep
                none.
        """
