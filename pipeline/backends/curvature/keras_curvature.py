"""The curvature of a network in training on the Keras backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.backends.curvature.breaking import ADAPTIVE
from pipeline.backends.curvature.curved import joined, sample
from pipeline.backends.curvature.keras_loss import KerasLoss
from pipeline.backends.curvature.measures import curvature_measures, method_factors
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays

# The ends of the names of Keras' variables, by the names that both backends give the arrays of a method's state.
KERAS_SLOTS: Mapping[str, Mapping[str, str]] = {
    "adagrad": {"squares": "accumulator"},
    "adadelta": {"squares": "accumulated_grad", "steps": "accumulated_delta_var"},
    "rmsprop": {"squares": "velocity"},
    "adam": {"v": "velocity"},
    "adamw": {"v": "velocity"},
    "amsgrad": {"v": "velocity", "largest_v": "velocity_hat"},
    "nadam": {"v": "velocity"},
}


class KerasCurvature:
    """Measures the curvature of one point; on TensorFlow.

    Args:
        config: the point.
        arrays: its data.
    """

    def __init__(self, config: Config, arrays: Arrays) -> None:
        self._config = config
        self._loss = KerasLoss(config, arrays)
        self._rows = sample(config, arrays, config.curvature.rows)

    def measure(self, network: Any) -> dict[str, float]:
        """Return the metrics of `curvature_measures` at the weights of a network in training."""
        weights = joined(network.trainable_variables)
        if not np.isfinite(weights).all():
            return {}
        self._loss.move_to(weights)
        optimizer = network.optimizer
        factors = method_factors([self._config], self._loss.sizes, [self._state(optimizer)], int(optimizer.iterations))
        measures = curvature_measures([self._config], self._loss.hessian(*self._rows), factors)
        return {name: float(values[0]) for name, values in measures.items()}

    def _state(self, optimizer: Any) -> dict[str, Any]:
        """Return the state of an adaptive method by the names of both backends, (weights,) each."""
        if self._config.optimizer.name not in ADAPTIVE:
            return {}
        slots = KERAS_SLOTS[self._config.optimizer.name]
        return {
            name: joined([variable for variable in optimizer.variables if variable.path.endswith(f"_{end}")])
            for name, end in slots.items()
        }
