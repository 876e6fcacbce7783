"""The metrics of a stack on all rows of a split, gathered batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.array_modules import to_host
from pipeline.backends.numpy.losses import Targets, measure
from pipeline.backends.numpy.network import ACTIVATIONS, Array
from pipeline.backends.shared.measures import of_all_rows
from pipeline.config.data import Task
from pipeline.config.schema import Config

# Metrics by name, (points,) each.
Measures = dict[str, Array]


def measured(config: Config, task: Task | None, stacks: Sequence[Array], targets: Targets) -> Measures:
    """Compute the metrics of one batch that are means over its rows.

    Args:
        config: loss and activation.
        task: what described data predicts; None for other data.
        stacks: the last layer's sums, (points, rows, outputs), for all points or split into several parts.
        targets: in the form that `losses.loss_and_slope` accepts.
    """
    parts = [measure(config.loss, config.output_activation, sums, targets, task) for sums in stacks]
    return {name: np.concatenate([to_host(part[name]) for part in parts]) for name in parts[0]}


class Evaluation:
    """Metrics of all rows: means of those of batches and, for described data, those that need all outputs.

    Args:
        config: loss and activation.
        task: what described data predicts; None for other data.
    """

    def __init__(self, config: Config, task: Task | None) -> None:
        self._config = config
        self._task = task
        self._totals: Measures = {}
        self._rows = 0
        self._answers: list[NDArray[Any]] = []
        self._targets: list[NDArray[Any]] = []

    def see(self, stacks: Sequence[Array], targets: Targets) -> None:
        """Add a batch; the arguments are those of `measured`."""
        for name, value in measured(self._config, self._task, stacks, targets).items():
            self._totals[name] = self._totals.get(name, 0) + value * len(targets)
        self._rows += len(targets)
        if self._task is not None:
            self._answers.append(np.concatenate([self._answered(sums) for sums in stacks]))
            self._targets.append(to_host(targets))

    def measures(self) -> Measures:
        """Return the metrics of all batches seen."""
        found: Measures = {name: total / self._rows for name, total in self._totals.items()}
        if self._task is None:
            return found
        answers = np.concatenate(self._answers, axis=1)
        targets = np.concatenate(self._targets)
        points = [of_all_rows(self._task, own, targets) for own in answers]
        return found | {name: np.array([point[name] for point in points]) for name in points[0]}

    def _answered(self, sums: Array) -> NDArray[Any]:
        """Return the labels (points, rows) of the largest outputs or, without classes, the outputs."""
        outputs = to_host(ACTIVATIONS[self._config.output_activation](sums))
        if self._task == "classification":
            labels: NDArray[Any] = outputs.argmax(axis=-1)
            return labels
        return outputs
