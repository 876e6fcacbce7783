"""Networks that note when they diverge, and on TensorFlow make many updates in one call."""

from __future__ import annotations

import time
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pipeline.backends.keras.layers import variables
from pipeline.backends.shared.initial_weights import Weights

# The most updates of one call on minibatches: the call itself takes as long as one small update.
UPDATES = 64
# How long a call should take at most, because a signal such as Ctrl-C waits for its end.
SECONDS = 1.0


class Network(keras.Sequential):  # type: ignore[misc]
    """A network that notes the update at which its training loss stops being finite.

    Attributes:
        names: names of its arrays; those of a dense network are the same for both backends.
        updates_per_call: number of updates that a LoopedNetwork makes in one call of its training step.
        updates_made: number of training losses so far. Not the optimizer's count, which JAX compiles in as a constant.
        diverged_step: number of updates made when the loss was inf or NaN for the first time; -1 if it never was.
        last_finite_loss: the last training loss before that; NaN before the first.
    """

    def __init__(self, layers: list[Any], dtype: str, names: list[str]) -> None:
        super().__init__(layers)
        self.names = names
        # Variables of the model, not of Python: the compiled step can assign them, and checkpoints contain them.
        self.updates_per_call = self._add_scalar("updates_per_call", 1, "int32")
        self.updates_made = self._add_scalar("updates_made", 0, "int32")
        self.diverged_step = self._add_scalar("diverged_step", -1, "int32")
        self.last_finite_loss = self._add_scalar("last_finite_loss", float("nan"), dtype)

    def _add_scalar(self, name: str, value: float, dtype: str) -> Any:
        initializer = keras.initializers.Constant(value)
        return self.add_weight(shape=(), initializer=initializer, dtype=dtype, trainable=False, name=name)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Return the loss; in training also note whether it is finite."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if training:
            self.see_loss(loss, self.updates_made.value)
            self.updates_made.assign(self.updates_made.value + 1)
        return loss

    def see_loss(self, loss: Any, updates: Any) -> None:
        """Update `last_finite_loss` and `diverged_step` with a training loss measured after `updates` updates."""
        # `ops.where` and not `if`: this is traced into the compiled step, where the loss has no value yet.
        step = self.diverged_step.value
        finite = ops.isfinite(loss)
        not_diverged = ops.less(step, 0)
        self.last_finite_loss.assign(
            ops.where(ops.logical_and(finite, not_diverged), loss, self.last_finite_loss.value)
        )
        diverges_now = ops.logical_and(ops.logical_not(finite), not_diverged)
        self.diverged_step.assign(ops.where(diverges_now, ops.cast(updates, "int32"), step))

    def weights_by_name(self) -> Weights:
        """Return copies of the arrays by name."""
        return {name: variable.numpy() for name, variable in zip(self.names, variables(self), strict=True)}

    @property
    def trained_names(self) -> list[str]:
        """The names of the arrays that gradients change; the others, such as moving statistics, follow them."""
        return list(self.names[: len(self.trainable_variables)])

    @property
    def seeds(self) -> list[Any]:
        """The states of the random generators of dropout and DropConnect; Keras' own files do not contain them."""
        held = [variable for layer in self.layers for variable in layer.variables]
        return [variable for variable in held if variable.name == "seed_generator_state"]


class LoopedNetwork(Network):
    """A network for TensorFlow that makes many updates on the same rows in one call.

    A call for every update would spend most of its time in Python; in a loop 60,000 updates of a small network take
    seconds. The training step returns the metrics of the rows, measured with the weights after the last update.
    """

    _updating = False

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the metrics of the rows; nothing during the update loop, because they would not be used."""
        if self._updating:
            return {}
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def train_step(self, data: Any) -> Any:
        """Make `updates_per_call` updates (possibly 0) with the rows of `data`, then evaluate these rows."""
        update = super().train_step

        def once_more(made: Any) -> Any:
            update(data)
            # A schedule compares the loss with its best. The last finite loss can stand in for an infinite one:
            # neither is an improvement.
            self.optimizer.end_epoch(self.last_finite_loss)
            return made + 1

        self._updating = True
        ops.while_loop(lambda made: ops.less(made, self.updates_per_call), once_more, 0)
        self._updating = False
        # The metrics have accumulated values at every update of the loop; only those at the last weights are wanted.
        self.reset_metrics()
        measured = self.test_step(data)
        # `test_step` does not train, so `compute_loss` has not noted this loss.
        self.see_loss(measured["loss"], self.optimizer.iterations)
        return measured


class MinibatchNetwork(Network):
    """A network for TensorFlow that makes the updates of many minibatches in one call.

    Args:
        layers: as for every network.
        dtype: dtype of the weights.
        names: names of the arrays.
        size: rows in a minibatch.
        rows: number of training rows.
    """

    def __init__(self, layers: list[Any], dtype: str, names: list[str], size: int, rows: int) -> None:
        super().__init__(layers, dtype, names)
        self._minibatches = _Minibatches(size, rows)
        # The first call, which traces the step as well, makes only one.
        self._most_updates = 1

    def update_on(self, order: NDArray[np.integer], inputs: Any, targets: Any) -> list[dict[str, float]]:
        """Make an update on each minibatch.

        Args:
            order: numbers of rows in the order in which they are used; the last minibatch has what is left of them.
            inputs: all rows, as a tensor.
            targets: their targets, as a tensor.

        Returns:
            The metrics of each minibatch by Keras' names, measured at the weights before its update.
        """
        measured: list[dict[str, float]] = []
        while len(order):
            began = time.perf_counter()
            rows, order = self._minibatches.split(order, self._most_updates)
            updates = self._minibatches.choose(rows)
            columns = self.train_on_batch(inputs, targets, return_dict=True)
            measured += [{name: float(column[index]) for name, column in columns.items()} for index in range(updates)]
            wanted = updates * SECONDS / (time.perf_counter() - began)
            self._most_updates = max(1, min(UPDATES, int(wanted)))
        return measured

    def train_step(self, data: Any) -> Any:
        """Make the updates on the chosen rows of `data`; return the metrics of each, (UPDATES,), 0 where none was."""
        update = super().train_step
        inputs, targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        # Keras makes the variables of metrics when they first see outputs, and it must not do so in a loop.
        names = list(self.compute_metrics(inputs[:1], targets[:1], self(inputs[:1], training=False)))

        def once_more(made: Any, *columns: Any) -> Any:
            rows = self._minibatches.rows(made)
            # As `train_on_batch` does it: the metrics are those of this minibatch alone.
            self.reset_metrics()
            logs = update((ops.take(inputs, rows, axis=0), ops.take(targets, rows, axis=0)))
            now = ops.equal(ops.arange(UPDATES), made)
            return made + 1, *(ops.where(now, logs[name], column) for name, column in zip(names, columns, strict=True))

        columns = [ops.zeros(UPDATES, keras.config.floatx()) for _ in names]
        _, *columns = ops.while_loop(
            lambda made, *_: ops.less(made, self._minibatches.updates.value), once_more, (0, *columns)
        )
        return dict(zip(names, columns, strict=True))


class _Minibatches:
    """The rows that one call of the compiled step uses.

    No part of the network that Keras knows of: its checkpoints would have them too.

    Args:
        size: rows in a minibatch.
        rows: number of training rows.

    Attributes:
        updates: number of minibatches of the call.
    """

    def __init__(self, size: int, rows: int) -> None:
        self._size = size
        self._most_rows = min(UPDATES * size, rows)
        self._chosen = keras.Variable(np.zeros(self._most_rows, np.int32), dtype="int32", trainable=False)
        self._rows = keras.Variable(0, dtype="int32", trainable=False)
        self.updates = keras.Variable(0, dtype="int32", trainable=False)

    def split(self, order: NDArray[np.integer], most: int) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """Return the rows of the next call, which are those of at most `most` minibatches, and the rows after them."""
        end = min(most * self._size, self._most_rows)
        return order[:end], order[end:]

    def choose(self, rows: NDArray[np.integer]) -> int:
        """Set the rows of the next call, and return the number of its minibatches."""
        updates = -(-len(rows) // self._size)
        self._chosen.assign(np.pad(rows, (0, self._most_rows - len(rows))))
        self._rows.assign(len(rows))
        self.updates.assign(updates)
        return updates

    def rows(self, number: Any) -> Any:
        """Return the numbers of the rows of a minibatch, within the compiled step."""
        start = number * self._size
        return self._chosen.value[start : ops.minimum(start + self._size, self._rows.value)]
