"""The metrics of a stack on all rows of a split, from those of batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.array_modules import to_host
from pipeline.backends.numpy.batches import Batch
from pipeline.backends.numpy.losses import Targets, measure
from pipeline.backends.numpy.network import ACTIVATIONS, Array
from pipeline.backends.numpy.threads import Threads
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


class Seen(NamedTuple):
    """What the metrics of all rows need of a batch.

    Attributes:
        measures: means over its rows, (points,) each.
        targets: (rows, ...).
        answers: for described data, the labels (points, rows) of the largest outputs or, without classes, the outputs
            (points, rows, outputs).
    """

    measures: Measures
    targets: NDArray[Any]
    answers: NDArray[Any] | None


def seen(config: Config, task: Task | None, stacks: Sequence[Array], targets: Targets) -> Seen:
    """Measure a batch; the arguments are those of `measured`."""
    answers = None
    if task is not None:
        outputs = [to_host(ACTIVATIONS[config.output_activation](sums)) for sums in stacks]
        answers = np.concatenate(outputs)
        if task == "classification":
            answers = answers.argmax(axis=-1)
    return Seen(measured(config, task, stacks, targets), to_host(targets), answers)


def of_batches(task: Task | None, batches: Sequence[Seen]) -> Measures:
    """Return the metrics of all rows, from those of batches in the order of the rows."""
    totals: Measures = {}
    for one in batches:
        for name, value in one.measures.items():
            totals[name] = totals.get(name, 0) + value * len(one.targets)
    rows = sum(len(one.targets) for one in batches)
    found: Measures = {name: total / rows for name, total in totals.items()}
    if task is None:
        return found
    answers = np.concatenate([one.answers for one in batches if one.answers is not None], axis=1)
    targets = np.concatenate([one.targets for one in batches])
    points = [of_all_rows(task, own, targets) for own in answers]
    return found | {name: np.array([point[name] for point in points]) for name in points[0]}


def of_rows(
    config: Config,
    task: Task | None,
    threads: Threads,
    batches: Sequence[Callable[[], Batch]],
    sums: Callable[[Batch], Sequence[Array]],
) -> Measures:
    """Return the metrics of all rows of some batches, which threads share.

    Args:
        config: loss and activation.
        task: what described data predicts; None for other data.
        threads: what computes the batches.
        batches: each makes one.
        sums: computes the last layer's sums for a batch, as `measured` takes them.
    """
    found: dict[int, Seen] = {}

    def one(number: int) -> None:
        rows = batches[number]()
        found[number] = seen(config, task, sums(rows), rows.targets)

    threads.each(one, len(batches))
    return of_batches(task, [found[number] for number in range(len(batches))])
