"""The curvature of a stack in training on the NumPy backend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.curvature.curved import joined, sample
from pipeline.backends.curvature.eigenvalues import WHOLE
from pipeline.backends.curvature.hessian import Hessian
from pipeline.backends.curvature.measures import Numbers, curvature_measures, method_factors
from pipeline.backends.numpy.state import Progress
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, Targets


class StackCurvature:
    """Measures the curvature of dense networks that train as a stack.

    Args:
        points: their configs.
        arrays: the data, in memory.
    """

    def __init__(self, points: Sequence[Config], arrays: Arrays) -> None:
        self._points = points
        members: dict[int | None, list[int]] = {}
        for index, point in enumerate(points):
            members.setdefault(_seed_of_sample(point, arrays), []).append(index)
        self._samples = [
            (indices, *sample(points[indices[0]], arrays, points[0].curvature.rows)) for indices in members.values()
        ]

    def measure(self, progress: Progress, wanted: Iterable[int]) -> Numbers:
        """Return the metrics of `curvature_measures`, (points,) each; NaN for a point whose weights are inf or NaN.

        Args:
            progress: the state of the stack.
            wanted: indices of the points to measure; the others are NaN.
        """
        measures: Numbers = {}
        chosen = set(wanted)
        for sampled, inputs, targets in self._samples:
            members = [index for index in sampled if index in chosen]
            groups = [[index] for index in members]
            # Small networks are measured together. The hidden values of many large ones would fill the memory.
            if sum(rows * columns for rows, columns in progress.parameters.shapes.values()) <= WHOLE:
                groups = [members] if members else []
            for indices in groups:
                for name, values in self._of_group(indices, progress, inputs, targets).items():
                    measures.setdefault(name, np.full(len(self._points), np.nan))[indices] = values
        return measures

    def _of_group(
        self, indices: Sequence[int], progress: Progress, inputs: NDArray[np.float64], targets: Targets
    ) -> Numbers:
        configs = [self._points[index] for index in indices]
        networks = [progress.parameters.at(index) for index in indices]
        weights = {name: np.stack([one[name] for one in networks]).astype(np.float64) for name in networks[0]}
        sizes = {name: array[0].size for name, array in weights.items()}
        states = [{name: joined(slot.at(index).values()) for name, slot in progress.slots.items()} for index in indices]
        factors = method_factors(configs, sizes, states, progress.updates)
        return curvature_measures(configs, Hessian(configs, weights, inputs, targets), factors)


def _seed_of_sample(config: Config, arrays: Arrays) -> int | None:
    """Return the seed that chooses the rows of a point; None: it has all of them."""
    if config.training.batch_size is None or len(arrays.train_inputs) <= config.curvature.rows:
        return None
    return config.seed
