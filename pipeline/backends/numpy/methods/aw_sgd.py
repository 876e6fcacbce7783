"""Adaptive weighted SGD: minibatches of rows that are drawn from a learned distribution; see `row_sampling.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.losses import Targets, loss_and_slope, measure
from pipeline.backends.numpy.methods.row_sampling import RowSampling
from pipeline.backends.numpy.network import SLOPES, Array, Parameters, forward
from pipeline.backends.numpy.stack import Measures, Stack
from pipeline.backends.numpy.training import last_update, record
from pipeline.backends.shared.history import History, note_update
from pipeline.backends.shared.initial_weights import draw
from pipeline.backends.shared.recorder import Recorder, of_one_point
from pipeline.config.model import Model
from pipeline.config.optimizer import AwSgd, Sgd
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays

FEW_ROWS = 1000
"""Up to so many rows all are measured, and the table `sampling` has the probability of each at the end."""


@of_one_point
def train(config: Config, arrays: Arrays, recorder: Recorder) -> None:
    """Train the network of one point; an epoch draws as many rows as there are, with replacement.

    What decides the rows are numbers from the stream [seed, epoch], one for each, and the distribution at the time.

    Raises:
        ValueError: the optimizer is not `aw_sgd`.
    """
    (history,), optimizer = recorder.histories, config.optimizer
    if not isinstance(optimizer, AwSgd):
        raise ValueError(f"expected aw_sgd, received {optimizer.name}")
    sgd = Sgd(name="sgd", learning_rate=optimizer.learning_rate, output_learning_rate=None)
    initial = draw(config.model, arrays.features, arrays.outputs, config.seed, config.dtype)
    stack = Stack([config.model_copy(update={"optimizer": sgd})], arrays, [initial])
    sampling, progress = RowSampling(optimizer, arrays.train_targets), stack.progress
    if recorder.begun:
        stack.restore(recorder.states)
        sampling.tau = recorder.states[0]["sampling/tau"].copy()
    few = len(arrays.train_inputs) <= FEW_ROWS
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if not recorder.begun:
            record(0, recorder, progress, stack.evaluate())
        for _, epoch in recorder.stops():
            measures = _train_epoch(epoch, stack, sampling, config, history)
            if recorder.due(epoch):
                if few:  # an epoch may have drawn some of them never
                    measures |= _all_rows(stack)
                measures |= last_update(stack) | stack.evaluate()
                record(epoch, recorder, progress, measures)
                recorder.report(epoch, float(measures["train/loss"][0]))
            recorder.keep(epoch, lambda: [progress.state_of(0) | {"sampling/tau": sampling.tau.copy()}])
        if few:
            shares = enumerate(sampling.probabilities().tolist())
            history.tables["sampling"] = [{"row": float(row), "probability": share} for row, share in shares]


def _train_epoch(epoch: int, stack: Stack, sampling: RowSampling, point: Config, history: History) -> Measures:
    """Draw and learn from as many rows as there are; returns what was measured on the way, (1,) each.

    The measures of the training rows are means over the draws, weighted as the gradients are. `sampling/second_moment`
    is that of the weighted gradients over that of plain ones drawn uniformly: below 1 the gradient varies less.
    """
    config, arrays, progress = stack.config, stack.arrays, stack.progress
    rows, size = len(arrays.train_inputs), config.training.batch_size or len(arrays.train_inputs)
    summed = config.loss == "half_summed_squared_error"
    uniform, totals, moments = np.random.default_rng([point.seed, epoch]).random(rows), Measures(), np.zeros(2)
    for start in range(0, rows, size):
        drawn = sampling.draw(uniform[start : start + size])
        counts = sampling.weights(drawn)
        shares = counts if summed else counts / len(drawn)
        inputs, targets = arrays.scaled(arrays.train_inputs[drawn]), arrays.train_targets[drawn]
        parameters = progress.parameters.by_point()
        found = weighted_gradient(config.loss, config.model, parameters, inputs, targets, shares)
        for name, gradient in found.gradients.items():
            stack.gradient.arrays[name][...] = gradient
        losses = np.atleast_1d(shares @ found.losses)
        progress.see_losses(losses)
        if point.recording.update_losses:
            note_update(history, progress.updates, point.optimizer.learning_rate, float(losses[0]))
        by_row = measure(config.loss, config.model.output_activation, found.sums[:, None], targets[:, None])
        for name, values in by_row.items():
            batch = len(drawn) if summed and name == "loss" else 1
            mean = batch * (counts @ values) / counts.sum() * (len(drawn) / rows)
            totals[f"train/{name}"] = totals.get(f"train/{name}", np.zeros(1)) + mean
        moments += counts * counts @ found.squares, counts @ found.squares
        stack.move()
        sampling.learn(drawn, counts * counts * found.squares)
    totals["sampling/effective_rows"] = np.full(1, sampling.effective_rows())
    totals["sampling/second_moment"] = moments[:1] / moments[1:]
    return totals


def _all_rows(stack: Stack) -> Measures:
    """The measures of all training rows, (1,) each."""
    config, arrays, parameters = stack.config, stack.arrays, stack.progress.parameters.by_point()
    sums = forward(config.model, parameters, arrays.scaled(arrays.train_inputs))[-1]
    values = measure(config.loss, config.model.output_activation, sums, arrays.train_targets)
    return {f"train/{name}": value for name, value in values.items()}


class RowGradients(NamedTuple):
    """What some rows say of one network.

    Attributes:
        losses: of each row alone, (rows,).
        squares: |g_i|^2, the squared length of each row's gradient, (rows,) in float64.
        gradients: sum_i share_i g_i, by name.
        sums: the last layer's, (rows, outputs).
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
    """Backpropagation that gives each row its share, and the length of each row's own gradient.

    With a_i what a layer gets of row i, and d_i the derivative of the row's loss by the layer's sums, the row's
    gradient by the weights is the product a_i d_i^T, whose squared length is |a_i|^2 |d_i|^2, and by the bias d_i. So
    |g_i|^2 = sum over layers of (|a_i|^2 + 1) |d_i|^2, exactly, and no row's gradient is ever written out.

    Args:
        loss, model: names as in the config.
        parameters: a stack of one network.
        inputs, targets: (rows, features), and as `losses.loss_and_slope` takes them.
        shares: what the gradient of each row is multiplied by.
    """
    first, *others = forward(model, parameters, inputs)
    layers = [first, *(one[0] for one in others)]
    # To the losses each row is a network of its own that sees one row.
    losses, slopes = loss_and_slope(loss, model.output_activation, layers[-1][:, None], targets[:, None])
    delta, weighted = slopes[:, 0], shares.astype(first.dtype)[:, None]
    squares, gradients = np.zeros(len(inputs)), Parameters()
    for layer in reversed(range(len(layers) - 1)):
        values, scaled = layers[layer], delta * weighted
        gradients[f"layer_{layer}/weights"] = values.T @ scaled
        if model.bias:
            gradients[f"layer_{layer}/bias"] = scaled.sum(axis=0)
        squares += (_squared(values) + model.bias) * _squared(delta)
        if layer:
            delta = delta @ parameters[f"layer_{layer}/weights"][0].T * SLOPES[model.hidden_activation](values)
    return RowGradients(losses, squares, gradients, layers[-1])


def _squared(vectors: Array) -> NDArray[np.float64]:
    """The squared length of each row, in float64."""
    result: NDArray[np.float64] = np.einsum("ij,ij->i", vectors, vectors).astype(np.float64)
    return result
