"""Keras' optimizers, made to tell what they do: norms of gradient and update, changes of direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pipeline.model_sections import Training
from pipeline.optimizer_sections import Momentum, Optimizer, Sgd


class Watched(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Mixin that keeps what a History records of updates, inside the compiled training step.

    An update is seen where the optimizer adds it to the weight: it has its own size and sign even where the rounded
    weight does not move. `watch` must be called once before training.

    Attributes:
        limits: has clip_value and clip_norm; None: the gradient is left as it is. The norms are of what it was before.
        due: the update (counted from 1) whose norms are wanted.
        norms: (2,) float64: Euclidean norms over all weights, of the gradient and of the update, at `due`.
    """

    limits: Training | None = None

    def watch(self, variables: Sequence[Any], count_directions: bool) -> None:
        """Build the optimizer for the trainable `variables`, with room for the counts where they are wanted."""
        self.build(list(variables))
        last_layer = variables[-1].path.rpartition("/")[0]
        self._of_last_layer = {self._var_key(v) for v in variables if v.path.rpartition("/")[0] == last_layer}
        self._count_directions = count_directions
        self._seen: dict[Any, tuple[Any, int]] = {}
        self.due = self.add_variable((), dtype="int", name="due")
        self.norms = self.add_variable((2,), dtype="float64", name="norms")
        counted = variables if count_directions else []
        self._upwards = [self.add_variable(v.shape, dtype="bool", name="upwards") for v in counted]
        self._changes = [self.add_variable(v.shape, dtype="int32", name="changes") for v in counted]

    def direction_changes(self) -> list[NDArray[np.integer]]:
        """For each weight how often its update went from above 0 to not above 0 or back; in the variables' order."""
        return [changes.numpy() for changes in self._changes]

    def assign_add(self, variable: Any, value: Any) -> None:
        self._see(variable, value, sign=1)
        super().assign_add(variable, value)

    def assign_sub(self, variable: Any, value: Any) -> None:
        self._see(variable, value, sign=-1)
        super().assign_sub(variable, value)

    def _see(self, variable: Any, value: Any, sign: int) -> None:
        # The optimizer's own variables (momenta) pass here too.
        key = self._var_key(variable)
        if key in self._trainable_variables_indices:
            self._seen[key] = value, sign

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        super().apply(grads, trainable_variables)
        updates = [self._seen.pop(self._var_key(variable)) for variable in self._trainable_variables]
        norms = ops.cond(
            ops.equal(self._iterations.value, self.due.value),
            lambda: ops.stack([_norm(grads), _norm([value for value, _ in updates])]),
            lambda: ops.convert_to_tensor(self.norms),
        )
        self.norms.assign(norms)
        if self._count_directions:
            self._count(updates)

    def _clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        """Every component between -clip_value and clip_value, then all together no longer than clip_norm.

        Keras' own optimizers take one of the two.
        """
        if self.limits is None or not self.limits.clipped:
            return grads
        value, length = self.limits.clip_value, self.limits.clip_norm
        if value is not None:
            grads = [ops.clip(gradient, -value, value) for gradient in grads]
        if length is not None:
            share = length / ops.maximum(_norm(grads), length)
            grads = [gradient * ops.cast(share, gradient.dtype) for gradient in grads]
        return grads

    def _count(self, updates: Sequence[tuple[Any, int]]) -> None:
        has_one_before = ops.greater(self._iterations.value, 1)
        for (value, sign), before, changes in zip(updates, self._upwards, self._changes, strict=True):
            upwards = ops.greater(value, 0) if sign > 0 else ops.less(value, 0)
            changed = ops.logical_and(ops.not_equal(upwards, before.value), has_one_before)
            changes.assign_add(ops.cast(changed, "int32"))
            before.assign(upwards)


class WatchedSGD(Watched, keras.optimizers.SGD):  # type: ignore[misc]
    """Keras' SGD, with momentum or without.

    Attributes:
        output_rate: the learning rate of the last layer; None: that of the others.
    """

    output_rate: np.floating | float | None = None

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        own = self.output_rate is not None and self._var_key(variable) in self._of_last_layer
        super().update_step(gradient, variable, self.output_rate if own else learning_rate)


class WatchedAdam(Watched, keras.optimizers.Adam):  # type: ignore[misc]
    """Keras' Adam."""


def _norm(tensors: Sequence[Any]) -> Any:
    """Euclidean norm over all tensors, in float64: squares of float32 numbers overflow early."""
    return ops.sqrt(sum(ops.sum(ops.square(ops.cast(tensor, "float64"))) for tensor in tensors))


def build(knobs: Optimizer) -> Watched:
    """The optimizer that the config names, for weights in `keras.config.floatx()`."""
    # Keras turns a Python float into a float32 tensor before it casts it to float64; NumPy's float64 keeps its digits.
    exact = np.float64 if keras.config.floatx() == "float64" else float
    rate = float(knobs.learning_rate)
    if isinstance(knobs, Sgd):
        optimizer = WatchedSGD(rate)
        if knobs.output_learning_rate is not None:
            optimizer.output_rate = exact(knobs.output_learning_rate)
        return optimizer
    if isinstance(knobs, Momentum):
        return WatchedSGD(rate, exact(knobs.momentum), nesterov=knobs.name == "nesterov")
    return WatchedAdam(rate, exact(knobs.beta_1), exact(knobs.beta_2), float(knobs.epsilon))
