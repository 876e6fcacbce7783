"""Adaptive weighted SGD: minibatches of rows that are drawn from a learned distribution; see `row_sampling.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.contract import Checkpoints, Report, State
from pipeline.backends.numpy.evaluation import Measures
from pipeline.backends.numpy.losses import Targets, loss_and_slope, measure
from pipeline.backends.numpy.methods.row_sampling import RowSampling
from pipeline.backends.numpy.network import SLOPES, Array, Parameters, forward
from pipeline.backends.numpy.stack import Stack
from pipeline.backends.numpy.threads import Threads, side_by_side
from pipeline.backends.numpy.training import last_update, record
from pipeline.backends.shared.history import History, note_update
from pipeline.backends.shared.initial_weights import draw
from pipeline.backends.shared.measures import baseline_measures
from pipeline.backends.shared.recorder import Recorder
from pipeline.config.model import Model
from pipeline.config.optimizer import AwSgd, Sgd
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays

# Up to this many rows, all of them are measured, and the table `sampling` has the final probability of each.
FEW_ROWS = 1000


def train(
    points: Sequence[Config],
    arrays: Arrays,
    histories: Sequence[History],
    report: Report,
    checkpoints: Checkpoints | None = None,
) -> None:
    """Train points that differ only in values that can vary along the grid axis; see `training.train`.

    An epoch draws as many rows as there are, with replacement. The random stream [seed, epoch] gives one number for
    each draw. The number and the distribution at that time determine the row.

    Raises:
        ValueError: the optimizer is not `aw_sgd`.
    """
    recorder = Recorder(points, histories, report, checkpoints, baseline_measures(points[0].loss, arrays))
    with side_by_side(points[0]) as threads, np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        drawing = _Drawing(points, arrays, recorder, threads)
        stack = drawing.stack
        if not recorder.begun:
            record(0, recorder, stack.progress, stack.evaluate())
        for _, epoch in recorder.stops():
            measures = drawing.train_epoch(epoch)
            if recorder.due(epoch):
                if drawing.few:
                    # An epoch may not have drawn some of the rows.
                    measures |= _all_rows(stack)
                measures |= last_update(stack) | stack.evaluate(recorder.last(epoch))
                lowest = float(np.min(measures["train/loss"][list(recorder.under_way())]))
                record(epoch, recorder, stack.progress, measures)
                recorder.report(epoch, lowest)
            recorder.keep(epoch, drawing.states)
    if drawing.few:
        for history, sampling in zip(histories, drawing.samplings, strict=True):
            shares = enumerate(sampling.probabilities().tolist())
            history.tables["sampling"] = [{"row": float(row), "probability": share} for row, share in shares]
    recorder.note_seconds()


class _Drawing:
    """The points in training.

    Args:
        points: their configs.
        arrays: the data.
        recorder: has their histories, and the states to continue from.
        threads: what computes the points.

    Attributes:
        stack: the networks.
        samplings: the distribution of each point.
        few: whether all rows are measured after an epoch.
    """

    def __init__(self, points: Sequence[Config], arrays: Arrays, recorder: Recorder, threads: Threads) -> None:
        optimizers = [point.optimizer for point in points if isinstance(point.optimizer, AwSgd)]
        if len(optimizers) < len(points):
            raise ValueError(f"expected aw_sgd, received {points[0].optimizer.name}")
        # The weighted gradient updates the weights as in plain SGD.
        rates = [optimizer.learning_rate for optimizer in optimizers]
        plain = [Sgd(name="sgd", learning_rate=rate, output_learning_rate=None) for rate in rates]
        initial = [draw(p.dense, arrays.features, arrays.outputs, p.seed, p.dtype) for p in points]
        networks = [point.model_copy(update={"optimizer": sgd}) for point, sgd in zip(points, plain, strict=True)]
        self.stack = Stack(networks, arrays, initial, threads)
        self.samplings = [RowSampling(optimizer, arrays.train_targets) for optimizer in optimizers]
        self.few = len(arrays.train_inputs) <= FEW_ROWS
        self._points = points
        self._recorder = recorder
        rows = points[0].training.batch_size or len(arrays.train_inputs)
        self._threads = threads.for_products(rows * self.stack.progress.parameters.flat.shape[1])
        if recorder.begun:
            self.stack.restore(recorder.states)
            for sampling, state in zip(self.samplings, recorder.states, strict=True):
                sampling.tau = state["sampling/tau"].copy()

    def states(self) -> list[State]:
        """Return the state of each point."""
        state_of = self.stack.progress.state_of
        taus = [sampling.tau for sampling in self.samplings]
        return [state_of(index) | {"sampling/tau": tau.copy()} for index, tau in enumerate(taus)]

    def train_epoch(self, epoch: int) -> Measures:
        """Draw as many rows as there are for each point that has not ended, and train on them batch by batch.

        Returns:
            Means over the draws of the training measures, weighted like the gradients, (points,) each, and two measures
            of the distribution. `sampling/second_moment` is the second moment of the weighted gradients over that of
            unweighted gradients of uniform draws: below 1 the gradient varies less than in plain SGD.
        """
        points = self._points
        progress = self.stack.progress
        rows = len(self.stack.arrays.train_inputs)
        size = points[0].training.batch_size or rows
        under_way = list(self._recorder.under_way())
        uniform = {index: np.random.default_rng([points[index].seed, epoch]).random(rows) for index in under_way}
        losses = np.zeros(len(points))
        totals: Measures = {}
        moments = np.zeros((2, len(points)))
        for start in range(0, rows, size):
            learned: dict[int, tuple[NDArray[np.integer], NDArray[np.float64]]] = {}

            def one(number: int, start: int = start, learned: dict[int, Any] = learned) -> None:
                index = under_way[number]
                sampling = self.samplings[index]
                drawn = sampling.draw(uniform[index][start : start + size])
                counts = sampling.weights(drawn)
                losses[index], squares = self._differentiate(index, drawn, counts, totals)
                # Sums over the draws estimate both moments: of c g under q by c^2 |g|^2, and of g under p by c |g|^2.
                moments[0, index] += counts * counts @ squares
                moments[1, index] += counts @ squares
                learned[index] = drawn, counts * counts * squares

            self._threads.each(one, len(under_way))
            progress.see_losses(losses.copy())
            for index in under_way:
                if points[index].recording.update_losses:
                    rate = points[index].optimizer.learning_rate
                    note_update(self._recorder.histories[index], progress.updates, rate, float(losses[index]))
            self.stack.move()
            for index, (drawn, squares) in learned.items():
                self.samplings[index].learn(drawn, squares)
        totals["sampling/effective_rows"] = np.array([sampling.effective_rows() for sampling in self.samplings])
        totals["sampling/second_moment"] = moments[0] / moments[1]
        return totals

    def _differentiate(
        self, index: int, drawn: NDArray[np.integer], counts: NDArray[np.float64], totals: Measures
    ) -> tuple[float, NDArray[np.float64]]:
        """Compute loss and gradient of a point on the rows that it has drawn, and add its measures to `totals`.

        Returns:
            The loss, and the squared norm of the gradient of each drawn row.
        """
        config = self.stack.config
        arrays = self.stack.arrays
        # A summed loss needs the sum over the drawn rows, other losses the mean.
        summed = config.loss == "half_summed_squared_error"
        shares = counts
        if not summed:
            shares = counts / len(drawn)
        inputs = arrays.scaled(arrays.train_inputs[drawn])
        targets = arrays.train_targets[drawn]
        parameters = self.stack.progress.parameters
        # Contiguous in memory, as `matmul` needs it.
        own = {
            name: parameters.module.ascontiguousarray(array[index : index + 1])
            for name, array in parameters.arrays.items()
        }
        found = weighted_gradient(config.loss, config.dense, own, inputs, targets, shares)
        for name, gradient in found.gradients.items():
            # A single point has a copy of itself in some stacks, which gets the same gradient.
            self.stack.gradient.arrays[name][index :: len(self._points)] = gradient
        by_row = measure(
            config.loss, config.dense.output_activation, found.sums[:, None], targets[:, None], arrays.task
        )
        for name, values in by_row.items():
            total = counts @ values
            if summed and name == "loss":
                total = len(drawn) * total
            mean = total / counts.sum() * (len(drawn) / len(arrays.train_inputs))
            totals.setdefault(f"train/{name}", np.zeros(len(self._points)))[index] += mean
        return float(shares @ found.losses), found.squares


def _all_rows(stack: Stack) -> Measures:
    """Measure all training rows, (1,) each."""
    config = stack.config
    arrays = stack.arrays
    parameters = stack.progress.parameters.by_point()
    sums = forward(config.dense, parameters, arrays.scaled(arrays.train_inputs))[-1]
    values = measure(config.loss, config.dense.output_activation, sums, arrays.train_targets, arrays.task)
    return {f"train/{name}": value for name, value in values.items()}


class RowGradients(NamedTuple):
    """Losses and gradients of some rows, for one network.

    Attributes:
        losses: the loss of each row, (rows,).
        squares: |g_i|^2, the squared norm of each row's gradient, (rows,) in float64.
        gradients: sum_i share_i g_i, by name.
        sums: the last layer's sums, (rows, outputs).
    """

    losses: Array
    squares: NDArray[np.float64]
    gradients: Parameters
    sums: Array


def weighted_gradient(
    loss: str,
    model: Model,
    parameters: Mapping[str, Array],
    inputs: Array,
    targets: Targets,
    shares: NDArray[np.float64],
) -> RowGradients:
    """Compute the weighted sum of the rows' gradients, and the norm of each row's own gradient.

    With a_i the input of a layer for row i, and d_i the derivative of the row's loss with respect to the layer's sums,
    the row's gradient is the product a_i d_i^T for the weights, whose squared norm is |a_i|^2 |d_i|^2, and d_i for the
    bias. So |g_i|^2 = sum over layers of (|a_i|^2 + 1) |d_i|^2, exactly, without computing any row's gradient.

    Args:
        loss: its name in the config.
        model: the network's model.
        parameters: a stack of one network.
        inputs: (rows, features).
        targets: in the form that `losses.loss_and_slope` accepts.
        shares: the weight of each row's gradient, (rows,).
    """
    first, *others = forward(model, parameters, inputs)
    layers = [first, *(one[0] for one in others)]
    # For the losses each row is a network of its own that sees one row.
    losses, slopes = loss_and_slope(loss, model.output_activation, layers[-1][:, None], targets[:, None])
    delta = slopes[:, 0]
    weighted = shares.astype(first.dtype)[:, None]
    squares = np.zeros(len(inputs))
    gradients: Parameters = {}
    for layer in reversed(range(len(layers) - 1)):
        values = layers[layer]
        scaled = delta * weighted
        gradients[f"layer_{layer}/weights"] = values.T @ scaled
        if model.bias:
            gradients[f"layer_{layer}/bias"] = scaled.sum(axis=0)
        # `bias` is 1 or 0: without a bias the term |d_i|^2 is missing.
        squares += (_squared(values) + model.bias) * _squared(delta)
        if layer:
            delta = delta @ parameters[f"layer_{layer}/weights"][0].T * SLOPES[model.hidden_activation](values)
    return RowGradients(losses, squares, gradients, layers[-1])


def _squared(vectors: Array) -> NDArray[np.float64]:
    """Compute the squared norm of each row, in float64."""
    result: NDArray[np.float64] = np.einsum("ij,ij->i", vectors, vectors).astype(np.float64)
    return result
