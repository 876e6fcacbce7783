"""Keras' optimizers, extended to record norms of gradient and update, and changes of direction."""

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
    Adam,
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

# The comparison with 0 that says whether a value increases a weight, if it is added (1) or subtracted (-1).
MOVES_UP = {1: ops.greater, -1: ops.less}


class Watched(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Mixin that measures updates for a History, inside the compiled training step.

    An update is observed when the optimizer adds it to the weight: its size and sign are exact there, even if the
    rounded weight does not change. `watch` must be called once before training.

    Attributes:
        scales: factors of the learning rate, by index of the trainable variable; 1 for an index that is missing.
        limits: has clip_value and clip_norm; None: no clipping. Norms are measured before clipping.
        due: number of the update, counted from 1, whose norms are wanted.
        norms: (2,) float64, the Euclidean norms of the gradient and of the update numbered `due`, over all weights.
    """

    limits: Training | None = None
    scales: Mapping[int, float] = MappingProxyType({})

    def watch(self, variables: Sequence[Any], count_directions: bool) -> None:
        """Build the optimizer for the trainable `variables`; with `count_directions` it counts changes of direction."""
        self.build(list(variables))
        last_layer = variables[-1].path.rpartition("/")[0]
        self._of_last_layer = {self._var_key(v) for v in variables if v.path.rpartition("/")[0] == last_layer}
        self._count_directions = count_directions
        # Filled and emptied while the step is traced: by variable, the tensor of its update and its sign.
        self._seen: dict[Any, tuple[Any, int]] = {}
        # Checkpoints hold the optimizer's variables in the order in which they are added here.
        self.due = self.add_variable((), dtype="int", name="due")
        self.norms = self.add_variable((2,), dtype="float64", name="norms")
        counted: Sequence[Any] = ()
        if count_directions:
            counted = variables
        self._upwards = [self.add_variable(v.shape, dtype="bool", name="upwards") for v in counted]
        self._changes = [self.add_variable(v.shape, dtype="int32", name="changes") for v in counted]
        if isinstance(self._learning_rate, OnPlateau):
            self._learning_rate.prepare(self.add_variable)

    def direction_changes(self) -> list[NDArray[np.integer]]:
        """Return each weight's number of changes between positive and non-positive updates, in variable order."""
        return [changes.numpy() for changes in self._changes]

    def end_epoch(self, loss: Any) -> None:
        """Pass the mean training loss of an epoch to a schedule that depends on it."""
        if isinstance(self._learning_rate, OnPlateau):
            self._learning_rate.see(loss)

    def learning_rate_of(self, update: int) -> float | None:
        """Return the rate of the last update, number `update` counted from 1; None if the rate is constant."""
        if not isinstance(self._learning_rate, Scheduled):
            return None
        return self._learning_rate.rate_of(update)

    def scale_of(self, variable: Any) -> float:
        """Return the factor of a trainable variable's learning rate."""
        return self.scales.get(self._trainable_variables_indices[self._var_key(variable)], 1.0)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable at its own rate: Keras' step, with the rate multiplied by the variable's scale."""
        scale = self.scale_of(variable)
        if scale != 1:
            learning_rate = learning_rate * scale
        super().update_step(gradient, variable, learning_rate)

    def assign_add(self, variable: Any, value: Any) -> None:
        """Add a value to a variable, and note it if it is an update."""
        self._see(variable, value, sign=1)
        super().assign_add(variable, value)

    def assign_sub(self, variable: Any, value: Any) -> None:
        """Subtract a value from a variable, and note it if it is an update."""
        self._see(variable, value, sign=-1)
        super().assign_sub(variable, value)

    def _see(self, variable: Any, value: Any, sign: int) -> None:
        # Keras changes the optimizer's own variables, such as momenta, by the same two methods.
        key = self._var_key(variable)
        if key in self._trainable_variables_indices:
            self._seen[key] = (value, sign)

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Make an update, and keep its norms and changes of direction if they are wanted."""
        super().apply(grads, trainable_variables)
        updates = [self._seen.pop(self._var_key(variable)) for variable in self._trainable_variables]
        # Both branches are traced, and only one is computed: norms cost a pass over all weights.
        norms = ops.cond(
            ops.equal(self._iterations.value, self.due.value),
            lambda: ops.stack([_norm(grads), _norm([value for value, _ in updates])]),
            lambda: ops.convert_to_tensor(self.norms),
        )
        self.norms.assign(norms)
        if self._count_directions:
            self._count(updates)

    def _clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        """Clip every component to [-clip_value, clip_value], then scale all together to a norm of at most clip_norm.

        Keras' own optimizers accept only one of the two.
        """
        if self.limits is None or not self.limits.clipped:
            return grads
        limit = self.limits.clip_value
        if limit is not None:
            grads = [ops.clip(gradient, -limit, limit) for gradient in grads]
        longest = self.limits.clip_norm
        if longest is not None:
            # min(1, longest / |g|), written so that a gradient of 0 is not divided by.
            share = longest / ops.maximum(_norm(grads), longest)
            grads = [gradient * ops.cast(share, gradient.dtype) for gradient in grads]
        return grads

    def _count(self, updates: Sequence[tuple[Any, int]]) -> None:
        # The first update has no predecessor to differ from.
        has_one_before = ops.greater(self._iterations.value, 1)
        for (value, sign), before, changes in zip(updates, self._upwards, self._changes, strict=True):
            upwards = MOVES_UP[sign](value, 0)
            changed = ops.logical_and(ops.not_equal(upwards, before.value), has_one_before)
            changes.assign_add(ops.cast(changed, "int32"))
            before.assign(upwards)


class WatchedSGD(Watched, keras.optimizers.SGD):  # type: ignore[misc]
    """Keras' SGD, with or without momentum.

    Attributes:
        output_rate: learning rate of the last layer; None: the same as for the other layers.
    """

    output_rate: np.floating | float | None = None

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable; the last layer uses its own rate, if it has one."""
        if self.output_rate is not None and self._var_key(variable) in self._of_last_layer:
            learning_rate = self.output_rate
            if isinstance(self._learning_rate, Scheduled):
                learning_rate = self._learning_rate.scale(self.output_rate, self._iterations)
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
    """Keras' AdamW, with decay and step as one update, so that both are observed."""

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Do nothing: `assign_sub` applies the decay. Adam's step does not read the weight, so the order is free."""

    def assign_sub(self, variable: Any, value: Any) -> None:
        """Subtract a value from a variable, and from a weight also its decay: w -= value + w * rate * decay."""
        if self._var_key(variable) in self._trainable_variables_indices:
            rate = ops.cast(self.learning_rate, variable.dtype) * self.scale_of(variable)
            value = ops.add(value, ops.multiply(variable, ops.multiply(rate, self.weight_decay)))
        super().assign_sub(variable, value)


class WatchedNadam(Watched, keras.optimizers.Nadam):  # type: ignore[misc]
    """Keras' Nadam. Even in float64, some of its code uses 0.96 rounded to float32."""


class WatchedLion(Watched, keras.optimizers.Lion):  # type: ignore[misc]
    """Keras' Lion."""


def _norm(tensors: Sequence[Any]) -> Any:
    """Return the Euclidean norm over all tensors, in float64: squares of float32 numbers overflow early."""
    return ops.sqrt(sum(ops.sum(ops.square(ops.cast(tensor, "float64"))) for tensor in tensors))


def build(knobs: Optimizer, schedule: Schedule, updates: int) -> Watched:
    """Build the optimizer that the config names, for weights in `keras.config.floatx()`.

    Args:
        knobs: name and settings of the optimizer.
        schedule: schedule of its learning rate.
        updates: total number of updates of the training run.

    Raises:
        ValueError: only the NumPy backend has this optimizer.
    """
    if isinstance(knobs, AwSgd | Bfgs | LBfgs | Annealing):
        raise ValueError(f"expected one of Keras' optimizers, received {knobs.name}")
    rate = scheduled(float(knobs.learning_rate), schedule, updates)
    if isinstance(knobs, Sgd | Momentum):
        return _descent(knobs, rate)
    return _adaptive(knobs, rate)


# If Keras casts a setting to the weights' dtype, it first rounds a Python float to float32, but keeps the precision of
# a NumPy float64: such settings go through `_exact`. If Keras multiplies a variable by a setting, a Python float is
# exact, and a NumPy float64 is rejected: such settings go through `float`.


def _exact(knob: float) -> np.floating | float:
    """Return a setting as a number that Keras casts to the weights' dtype without loss of precision."""
    if keras.config.floatx() == "float64":
        return np.float64(knob)
    return float(knob)


def _descent(knobs: Sgd | Momentum, rate: float | Scheduled) -> WatchedSGD:
    """Build an optimizer whose step follows the gradient or its running mean."""
    if isinstance(knobs, Momentum):
        return WatchedSGD(rate, _exact(knobs.momentum), nesterov=knobs.name == "nesterov")
    optimizer = WatchedSGD(rate)
    if knobs.output_learning_rate is not None:
        optimizer.output_rate = _exact(knobs.output_learning_rate)
    return optimizer


def _adaptive(knobs: AdaGrad | AdaDelta | RmsProp | Adam | AdamW | Lion, rate: float | Scheduled) -> Watched:
    """Build an optimizer that adapts the step of each weight."""
    if isinstance(knobs, Lion):
        return WatchedLion(rate, _exact(knobs.beta_1), _exact(knobs.beta_2))
    epsilon = float(knobs.epsilon)
    if isinstance(knobs, AdaGrad):
        return WatchedAdagrad(rate, _exact(knobs.initial_accumulator_value), epsilon)
    if isinstance(knobs, AdaDelta):
        return WatchedAdadelta(rate, float(knobs.rho), epsilon)
    if isinstance(knobs, RmsProp):
        return WatchedRMSprop(rate, float(knobs.rho), float(knobs.momentum), epsilon)
    betas = (_exact(knobs.beta_1), _exact(knobs.beta_2))
    if isinstance(knobs, AdamW):
        return WatchedAdamW(rate, float(knobs.weight_decay), *betas, epsilon)
    if knobs.name == "nadam":
        return WatchedNadam(rate, *betas, epsilon)
    return WatchedAdam(rate, *betas, epsilon, amsgrad=knobs.name == "amsgrad")
