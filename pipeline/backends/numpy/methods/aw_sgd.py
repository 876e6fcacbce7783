"""Adaptive weighted SGD: minibatches of rows that are drawn from a learned distribution; see `row_sampling.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.evaluation import Measures
from pipeline.backends.numpy.losses import Targets, loss_and_slope, measure
from pipeline.backends.numpy.methods.row_sampling import RowSampling
from pipeline.backends.numpy.network import SLOPES, Array, Parameters, forward
from pipeline.backends.numpy.stack import Stack
from pipeline.backends.numpy.training import last_update, record
from pipeline.backends.shared.history import History, note_update
from pipeline.backends.shared.initial_weights import draw
from pipeline.backends.shared.recorder import Recorder, of_one_point
from pipeline.config.model import Model
from pipeline.config.optimizer import AwSgd, Sgd
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays

# Up to this many rows, all of them are measured, and the table `sampling` has the final probability of each.
FEW_ROWS = 1000


@of_one_point
def train(config: Config, arrays: Arrays, recorder: Recorder) -> None:
    """Train the network of one point. An epoch draws as many rows as there are, with replacement.

    The random stream [seed, epoch] gives one number for each draw. The number and the distribution at that time
    determine the row.

    Raises:
        ValueError: the optimizer is not `aw_sgd`.
    """
    (history,) = recorder.histories
    optimizer = config.optimizer
    if not isinstance(optimizer, AwSgd):
        raise ValueError(f"expected aw_sgd, received {optimizer.name}")
    # The weighted gradient updates the weights as in plain SGD.
    sgd = Sgd(name="sgd", learning_rate=optimizer.learning_rate, output_learning_rate=None)
    initial = draw(config.dense, arrays.features, arrays.outputs, config.seed, config.dtype)
    stack = Stack([config.model_copy(update={"optimizer": sgd})], arrays, [initial])
    sampling = RowSampling(optimizer, arrays.train_targets)
    progress = stack.progress
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
                if few:
                    # An epoch may not have drawn some of the rows.
                    measures |= _all_rows(stack)
                measures |= last_update(stack) | stack.evaluate(recorder.last(epoch))
                record(epoch, recorder, progress, measures)
                recorder.report(epoch, float(measures["train/loss"][0]))
            recorder.keep(epoch, lambda: [progress.state_of(0) | {"sampling/tau": sampling.tau.copy()}])
        if few:
            shares = enumerate(sampling.probabilities().tolist())
            history.tables["sampling"] = [{"row": float(row), "probability": share} for row, share in shares]


def _train_epoch(epoch: int, stack: Stack, sampling: RowSampling, point: Config, history: History) -> Measures:
    """Draw as many rows as there are, and train on them batch by batch.

    Returns:
        Means over the draws of the training measures, weighted like the gradients, (1,) each, and two measures of the
        distribution. `sampling/second_moment` is the second moment of the weighted gradients over that of unweighted
        gradients of uniform draws: below 1 the gradient varies less than in plain SGD.
    """
    config = stack.config
    arrays = stack.arrays
    progress = stack.progress
    rows = len(arrays.train_inputs)
    size = config.training.batch_size or rows
    # A summed loss needs the sum over the drawn rows, other losses the mean.
    summed = config.loss == "half_summed_squared_error"
    uniform = np.random.default_rng([point.seed, epoch]).random(rows)
    totals: Measures = {}
    moments = np.zeros(2)
    for start in range(0, rows, size):
        drawn = sampling.draw(uniform[start : start + size])
        counts = sampling.weights(drawn)
        shares = counts
        if not summed:
            shares = counts / len(drawn)
        inputs = arrays.scaled(arrays.train_inputs[drawn])
        targets = arrays.train_targets[drawn]
        parameters = progress.parameters.by_point()
        found = weighted_gradient(config.loss, config.dense, parameters, inputs, targets, shares)
        for name, gradient in found.gradients.items():
            stack.gradient.arrays[name][...] = gradient
        losses = np.atleast_1d(shares @ found.losses)
        progress.see_losses(losses)
        if point.recording.update_losses:
            note_update(history, progress.updates, point.optimizer.learning_rate, float(losses[0]))
        activation = config.dense.output_activation
        by_row = measure(config.loss, activation, found.sums[:, None], targets[:, None], arrays.task)
        for name, values in by_row.items():
            total = counts @ values
            if summed and name == "loss":
                total = len(drawn) * total
            mean = total / counts.sum() * (len(drawn) / rows)
            totals[f"train/{name}"] = totals.get(f"train/{name}", np.zeros(1)) + mean
        # Sums over the draws estimate both moments: of c g under q by c^2 |g|^2, and of g under p by c |g|^2.
        moments[0] += counts * counts @ found.squares
        moments[1] += counts @ found.squares
        stack.move()
        sampling.learn(drawn, counts * counts * found.squares)
    totals["sampling/effective_rows"] = np.full(1, sampling.effective_rows())
    totals["sampling/second_moment"] = moments[:1] / moments[1:]
    return totals


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
