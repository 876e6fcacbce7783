"""The forward and backward passes of a stack: the sums of its last layers, its losses, and its gradient.

There are three ways to compute them. Small networks that see a whole table are computed together, with the grid axis
last in memory. Other networks are computed one at a time, minibatch by minibatch. If the config selects forward
differences, the gradient is computed weight by weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.backends.numpy.array_modules import to_host
from pipeline.backends.numpy.batches import Batch
from pipeline.backends.numpy.evaluation import Measures, measured
from pipeline.backends.numpy.gradients import forward_differences
from pipeline.backends.numpy.losses import Targets
from pipeline.backends.numpy.many_networks import GridLast
from pipeline.backends.numpy.network import Array, forward
from pipeline.backends.numpy.one_network import OneNetwork
from pipeline.backends.numpy.packed import Packed
from pipeline.backends.numpy.state import Progress
from pipeline.backends.numpy.threads import Threads
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays


class Passes:
    """Computes sums, losses and gradient of a stack; penalties are added only by forward differences.

    Args:
        points: their configs.
        arrays: the data.
        progress: the state of training; its weights are read.
        gradient: receives the gradient.
        threads: what computes networks that are computed one at a time.

    Attributes:
        together: computes all networks at once; None: they are computed in another way.
        single: computes one network at a time; None: they are computed in another way.
        sharing: the threads that share a minibatch.
    """

    def __init__(
        self, points: Sequence[Config], arrays: Arrays, progress: Progress, gradient: Packed, threads: Threads
    ) -> None:
        self.together: GridLast | None = None
        self.single: OneNetwork | None = None
        self.sharing = threads
        self._config = points[0]
        self._arrays = arrays
        self._progress = progress
        self._gradient = gradient
        self._threads = threads
        self._points = len(points)
        parameters = progress.parameters
        if parameters.grid_last:
            inputs = arrays.scaled(arrays.train_inputs)
            self.together = GridLast(self._config, inputs, arrays.train_targets, parameters, gradient)
        elif self._config.gradient != "finite_difference":
            rows = len(arrays.train_inputs)
            most = min(self._config.training.batch_size or rows, rows)
            self.sharing = threads.for_products(most * parameters.flat.shape[1])
            seeds = [point.seed for point in points]
            self.single = OneNetwork(self._config, seeds, most, progress, gradient, self.sharing)

    def differentiate(self, batches: Sequence[Batch], measured: bool) -> tuple[Array, Measures]:
        """Compute losses and gradient, without the penalty unless forward differences are used.

        The arguments and what is returned are those of `Stack.differentiate`.
        """
        if self.together is not None:
            for call in self.together.program:
                call()
            return to_host(self.together.losses()), {}
        network = self.single
        if network is None:
            return self._by_differences(batches[0], measured)
        losses = np.empty(self._points)
        measures: dict[int, Measures] = {}

        def one(index: int) -> None:
            # One batch for all points, or one for each.
            rows = batches[index % len(batches)]
            losses[index], sums = network(index, rows)
            if measured:
                measures[index] = self._measure(sums[None], rows.targets)

        self.sharing.each(one, self._points)
        return losses, _joined([measures[index] for index in sorted(measures)])

    def _by_differences(self, rows: Batch, measured: bool) -> tuple[Array, Measures]:
        parameters = self._progress.parameters.arrays
        losses, gradients, sums = forward_differences(self._config, parameters, rows.inputs, rows.targets)
        for name, gradient in gradients.items():
            self._gradient.arrays[name][...] = gradient
        if not measured:
            return losses, {}
        return losses, self._measure(sums, rows.targets)

    def sums(self, rows: Batch) -> list[Array]:
        """Compute the last layer's sums of all points, or a stack of one for each point."""
        if self.single is None:
            parameters = self._progress.parameters.by_point()
            return [forward(self._config.dense, parameters, rows.inputs)[-1]]
        network = self.single
        sums: dict[int, Array] = {}

        def one(index: int) -> None:
            sums[index] = network.sums(index, rows)[None]

        self._threads.each(one, self._points)
        return [sums[index] for index in range(self._points)]

    def _measure(self, sums: Array, targets: Targets) -> Measures:
        return measured(self._config, self._arrays.task, [sums], targets)


def _joined(points: Sequence[Measures]) -> Measures:
    """Join measures of single points, (1,) each, to those of a stack."""
    if not points:
        return {}
    return {name: np.concatenate([one[name] for one in points]) for name in points[0]}
