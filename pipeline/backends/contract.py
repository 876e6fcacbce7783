"""What the backends and those who call them agree on: how points are trained, stopped and gone on with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays

State = dict[str, NDArray[Any]]
"""What a backend needs to go on with one point, as arrays by name."""
Report = Callable[[int, float], None]
"""Called with a recorded epoch and the training loss, of several points the smallest."""


class Checkpoints(Protocol):
    """What a backend's `train` is given to begin from a checkpoint and to leave others behind.

    Attributes:
        epoch: how many epochs the points have trained; 0: none.
        states: their states after it, in the order of the points; empty where the epoch is 0.
    """

    epoch: int
    states: Sequence[State]

    def due(self) -> bool:
        """Whether `keep` is to be called at the end of this epoch; cheap enough to be asked after each."""

    def keep(self, epoch: int, states: Sequence[State]) -> None:
        """Keep the points' states after an epoch. `history.seconds` must be up to date.

        Raises:
            KeyboardInterrupt: the command was asked to stop; the states are kept.
        """


class Train(Protocol):
    """Trains a stack of points: fills a history for each, reports as it goes on, begins where a checkpoint ends."""

    def __call__(
        self,
        points: Sequence[Config],
        arrays: Arrays,
        histories: Sequence[History],
        report: Report,
        checkpoints: Checkpoints | None = None,
    ) -> None: ...
