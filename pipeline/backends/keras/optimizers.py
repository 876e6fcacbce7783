"""Keras' optimizers, made to tell what they do: norms of gradient and update, changes of direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pipeline.backends.keras.schedules import OnPlateau, Scheduled, scheduled
from pipeline.config.model import Training
from pipeline.config.optimizer import (
    AdaDelta,
    AdaGrad,
    AdamW,
    Annealing,
    AwSgd,
    Bfgs,
    LBfgs,
    Lion,
    Momentum,
    Optimizer,
    RmsProp,
    Schedule,
    Sgd,
)


class Watched(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Mixin that keeps what a History records of updates, inside the compiled training step.

    An update is seen where the optimizer adds it to the weight: it has its own size and sign even where the rounded
    weight does not move. `watch` must be called once before training.

    Attributes:
        scales: what the rate of a variable is multiplied by, by its place among the trainable ones; else 1.
        limits: has clip_value and clip_norm; None: the gradient is left as it is. The norms are of what it was before.
        due: the update (counted from 1) whose norms are wanted.
        norms: (2,) float64: Euclidean norms over all weights, of the gradient and of the update, at `due`.
    """

    limits: Training | None = None
    scales: Mapping[int, float] = MappingProxyType({})

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
        if isinstance(self._learning_rate, OnPlateau):
            self._learning_rate.prepare(self.add_variable)

    def direction_changes(self) -> list[NDArray[np.integer]]:
        """For each weight how often its update went from above 0 to not above 0 or back; in the variables' order."""
        return [changes.numpy() for changes in self._changes]

    def end_epoch(self, loss: Any) -> None:
        """Show the schedule the mean training loss of an epoch."""
        if isinstance(self._learning_rate, OnPlateau):
            self._learning_rate.see(loss)

    def learning_rate_of(self, update: int) -> float | None:
        """The rate of the last update made, which is number `update` from 1; None where it stays the same."""
        return self._learning_rate.rate_of(update) if isinstance(self._learning_rate, Scheduled) else None

    def scale_of(self, variable: Any) -> float:
        """What the rate of a trainable variable is multiplied by."""
        return self.scales.get(self._trainable_variables_indices[self._var_key(variable)], 1.0)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        scale = self.scale_of(variable)
        super().update_step(gradient, variable, learning_rate if scale == 1 else learning_rate * scale)

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
        if own and isinstance(self._learning_rate, Scheduled):
            learning_rate = self._learning_rate.scale(self.output_rate, self._iterations)
        elif own:
            learning_rate = self.output_rate
        super().update_step(gradient, variable, learning_rate)


class WatchedAdagrad(Watched, keras.optimizers.Adagrad):  # type: ignore[misc]
    """Keras' AdaGrad."""


class WatchedAdadelta(Watched, keras.optimizers.Adadelta):  # type: ignore[misc]
    """Keras' AdaDelta."""


class WatchedRMSprop(Watched, keras.optimizers.RMSprop):  # type: ignore[misc]
    """Keras' RMSprop."""


class WatchedAdam(Watched, keras.optimizers.Adam):  # type: ignore[misc]
    """Keras' Adam, and AMSGrad."""


class WatchedAdamW(Watched, keras.optimizers.AdamW):  # type: ignore[misc]
    """Keras' AdamW; decay and step are one update, so that both are seen. Adam's step does not read the weight."""

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Left to `assign_sub`."""

    def assign_sub(self, variable: Any, value: Any) -> None:
        if self._var_key(variable) in self._trainable_variables_indices:
            rate = ops.cast(self.learning_rate, variable.dtype) * self.scale_of(variable)
            value = ops.add(value, ops.multiply(variable, ops.multiply(rate, self.weight_decay)))
        super().assign_sub(variable, value)


class WatchedNadam(Watched, keras.optimizers.Nadam):  # type: ignore[misc]
    """Keras' Nadam. In float64 too it takes 0.96 in places as float32 rounds it."""


class WatchedLion(Watched, keras.optimizers.Lion):  # type: ignore[misc]
    """Keras' Lion."""


def _norm(tensors: Sequence[Any]) -> Any:
    """Euclidean norm over all tensors, in float64: squares of float32 numbers overflow early."""
    return ops.sqrt(sum(ops.sum(ops.square(ops.cast(tensor, "float64"))) for tensor in tensors))


def build(knobs: Optimizer, schedule: Schedule, updates: int) -> Watched:
    """The optimizer that the config names, for weights in `keras.config.floatx()`.

    Args:
        knobs: its name and what belongs to it.
        schedule: of its learning rate.
        updates: how many will be made.

    Raises:
        ValueError: NumPy alone has this optimizer.
    """
    if isinstance(knobs, AwSgd | Bfgs | LBfgs | Annealing):
        raise ValueError(f"expected one of Keras' optimizers, received {knobs.name}")
    # Where Keras casts a knob to the weights' dtype, a Python float becomes float32 first; NumPy's float64 keeps its
    # digits. Where Keras multiplies a variable by a knob, a Python float is exact and NumPy's is not taken.
    exact = np.float64 if keras.config.floatx() == "float64" else float
    rate = scheduled(float(knobs.learning_rate), schedule, updates)
    if isinstance(knobs, Sgd):
        optimizer = WatchedSGD(rate)
        if knobs.output_learning_rate is not None:
            optimizer.output_rate = exact(knobs.output_learning_rate)
        return optimizer
    if isinstance(knobs, Momentum):
        return WatchedSGD(rate, exact(knobs.momentum), nesterov=knobs.name == "nesterov")
    if isinstance(knobs, Lion):
        return WatchedLion(rate, exact(knobs.beta_1), exact(knobs.beta_2))
    epsilon = float(knobs.epsilon)
    if isinstance(knobs, AdaGrad):
        return WatchedAdagrad(rate, exact(knobs.initial_accumulator_value), epsilon)
    if isinstance(knobs, AdaDelta):
        return WatchedAdadelta(rate, float(knobs.rho), epsilon)
    if isinstance(knobs, RmsProp):
        return WatchedRMSprop(rate, float(knobs.rho), float(knobs.momentum), epsilon)
    betas = exact(knobs.beta_1), exact(knobs.beta_2)
    if isinstance(knobs, AdamW):
        return WatchedAdamW(rate, float(knobs.weight_decay), *betas, epsilon)
    if knobs.name == "nadam":
        return WatchedNadam(rate, *betas, epsilon)
    return WatchedAdam(rate, *betas, epsilon, amsgrad=knobs.name == "amsgrad")
