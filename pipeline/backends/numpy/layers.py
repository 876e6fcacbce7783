"""The layers of one network in training: the forward pass of each, and its backward pass.

Shapes: `inputs` (rows, inputs), `sums` and `values` (rows, units), `weights` (inputs, units), `bias`, `scale` and
`shift` (1, units). A `delta` is the derivative of the loss with respect to a layer's output, in the shape of that
output. A backward function turns it into the derivatives with respect to the layer's input and its parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.backends.numpy.network import ACTIVATIONS, EPSILON, SLOPES, Array, normal_share
from pipeline.backends.numpy.threads import Threads

# The share of a moving statistic that each update keeps: Keras' default.
MOMENTUM = 0.99


def dense(threads: Threads, inputs: Array, weights: Array, bias: Array | None, out: Array | None = None) -> Array:
    """Compute sums = inputs W + b, in `out` if it is given.

    Backwards, dW = inputs^T delta, db = the sum of delta over the rows, and the inputs' derivative is delta W^T.
    """
    sums = threads.product(inputs, weights, out)
    if bias is not None:
        sums += bias
    return sums


def activation(name: str, sums: Array) -> Array:
    """Compute values = f(sums), elementwise. For a rectifier the values overwrite the sums."""
    if name == "relu":
        # In place saves a buffer. The slope of a rectifier needs only the sign of its values.
        values: Array = np.maximum(sums, 0, out=sums)
        return values
    return ACTIVATIONS[name](sums)


def activation_slope(name: str, sums: Array, values: Array) -> Array | NDArray[np.bool_] | float:
    """Compute f'(sums), the factor of a delta in the backward pass.

    The slope of a GELU z P(z) is P(z) + z p(z), where p is the standard normal density. The other slopes can be
    computed from only the values; see `SLOPES`.
    """
    if name == "relu":
        # Booleans can be multiplied directly, without a cast to numbers.
        return values > 0
    if name == "gelu":
        # p(z) = exp(-z^2 / 2) / sqrt(2 pi), with the constant in the dtype of the sums, so that float32 stays float32.
        density = np.exp(-sums * sums / 2) / sums.dtype.type(np.sqrt(2 * np.pi))
        return normal_share(sums) + sums * density
    return SLOPES[name](values)


class Normalized(NamedTuple):
    """Sums with mean 0 and variance 1 over the batch.

    Attributes:
        values: (rows, units), the sums minus their mean, divided by their deviation.
        mean: the mean of the sums over the rows, (1, units).
        variance: the variance of the sums over the rows, (1, units).
        share: 1 / sqrt(variance + epsilon), (1, units).
    """

    values: Array
    mean: Array
    variance: Array
    share: Array


def normalize(sums: Array) -> Normalized:
    """Compute n = (sums - mean) / sqrt(variance + epsilon) over the rows (Ioffe and Szegedy 2015, algorithm 1).

    The layer's output is scale * n + shift. The variance is the mean squared distance from the mean, also for the
    moving statistics, as in Keras. The paper multiplies the variance that it keeps by rows / (rows - 1).
    """
    mean = sums.mean(axis=0, keepdims=True)
    centred = sums - mean
    variance = (centred * centred).mean(axis=0, keepdims=True)
    share = 1 / np.sqrt(variance + EPSILON)
    return Normalized(centred * share, mean, variance, share)


def normalize_backward(delta: Array, normalized: Normalized, scale: Array) -> tuple[Array, Array, Array]:
    """Compute the derivatives with respect to the sums, the scale and the shift.

    With n the normalized sums, and means over the rows:

    dscale = sum over rows of delta * n, dshift = sum over rows of delta,
    dsums = scale / sqrt(variance + epsilon) * (delta - mean(delta) - n * mean(delta * n)).
    """
    rows = len(delta)
    values = normalized.values
    by_scale = (delta * values).sum(axis=0, keepdims=True)
    by_shift = delta.sum(axis=0, keepdims=True)
    # The means of delta and of delta * n are the two sums above over the number of rows.
    by_sums = scale * normalized.share * (delta - by_shift / rows - values * (by_scale / rows))
    return by_sums, by_scale, by_shift


def keep_moving(moving: Array, seen: Array) -> None:
    """Update a moving statistic in place: moving = momentum * moving + (1 - momentum) * seen."""
    moving *= MOMENTUM
    moving += (1 - MOMENTUM) * seen


def mask(shape: Sequence[int], dropped: float, key: Sequence[int], dtype: DTypeLike) -> Array:
    """Draw the factors of hidden units (dropout, Srivastava et al. 2014) or weights (DropConnect, Wan et al. 2013).

    A factor is 0 with probability `dropped`, else 1 / (1 - dropped). The mean is 1, so that inference needs no
    correction. Backwards the delta is multiplied by the same factors.

    Args:
        shape: the shape of the values or weights.
        dropped: the share that is dropped.
        key: the seed of the generator. The same key gives the same mask, regardless of earlier draws.
        dtype: the dtype of the mask.
    """
    # Drawn as float32 for every dtype, so that a point drops the same units in float32 and in float64.
    drawn = np.random.default_rng(key).random(tuple(shape), np.float32)
    return np.where(drawn >= dropped, 1 / (1 - dropped), 0).astype(dtype)
