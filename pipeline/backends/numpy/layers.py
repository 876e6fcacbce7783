"""The layers of one network in training: what each computes, and how a derivative goes back through it.

Shapes: `inputs` (rows, inputs), `sums` and `values` (rows, units), `weights` (inputs, units), `bias`, `scale`, `shift`
(1, units). A `delta` is the loss's derivative by what a layer gave, in its shape; a backward function turns it into the
derivatives by what the layer got and by its parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.backends.numpy.network import ACTIVATIONS, EPSILON, SLOPES, Array, normal_share

MOMENTUM = 0.99
"""How much of a moving statistic stays at each update: Keras' default."""


def dense(inputs: Array, weights: Array, bias: Array | None, out: Array | None = None) -> Array:
    """Sums = inputs W + b, in `out` where there is one.

    Backwards dW = inputs^T delta, db = the sum over rows of delta, and the inputs get delta W^T.
    """
    sums: Array = np.matmul(inputs, weights, out=out)
    if bias is not None:
        sums += bias
    return sums


def activation(name: str, sums: Array) -> Array:
    """Values = f(sums), elementwise; those of a rectifier, whose slope they tell, are put in the place of the sums."""
    if name == "relu":
        values: Array = np.maximum(sums, 0, out=sums)
        return values
    return ACTIVATIONS[name](sums)


def activation_slope(name: str, sums: Array, values: Array) -> Array | NDArray[np.bool_] | float:
    """f'(sums), what a delta is multiplied by on its way back.

    A GELU z P(z) has the slope P(z) + z p(z), with p the standard normal density; see `SLOPES`.
    """
    if name == "relu":
        return values > 0  # a product takes it as it is, without a copy as numbers
    if name == "gelu":
        density = np.exp(-sums * sums / 2) / sums.dtype.type(np.sqrt(2 * np.pi))
        return normal_share(sums) + sums * density
    return SLOPES[name](values)


class Normalized(NamedTuple):
    """Sums with mean 0 and variance 1 over the batch.

    Attributes:
        values: (rows, units), what is left when mean and deviation are taken out.
        mean, variance: of the sums over the rows, (1, units).
        share: 1 / sqrt(variance + epsilon), (1, units).
    """

    values: Array
    mean: Array
    variance: Array
    share: Array


def normalize(sums: Array) -> Normalized:
    """N = (sums - mean) / sqrt(variance + epsilon), over the rows (Ioffe and Szegedy 2015, algorithm 1).

    The layer gives scale * n + shift. The variance is the mean squared distance, for the moving statistics too, as in
    Keras; the paper multiplies what it keeps of it by rows / (rows - 1).
    """
    mean = sums.mean(axis=0, keepdims=True)
    centred = sums - mean
    variance = (centred * centred).mean(axis=0, keepdims=True)
    share = 1 / np.sqrt(variance + EPSILON)
    return Normalized(centred * share, mean, variance, share)


def normalize_backward(delta: Array, normalized: Normalized, scale: Array) -> tuple[Array, Array, Array]:
    """By sums, scale and shift. With n the normalized sums, and means over the rows:

    dscale = sum over rows of delta * n, dshift = sum over rows of delta,
    dsums = scale / sqrt(variance + epsilon) * (delta - mean(delta) - n * mean(delta * n)).
    """
    rows, values = len(delta), normalized.values
    by_scale = (delta * values).sum(axis=0, keepdims=True)
    by_shift = delta.sum(axis=0, keepdims=True)
    return scale * normalized.share * (delta - by_shift / rows - values * (by_scale / rows)), by_scale, by_shift


def keep_moving(moving: Array, seen: Array) -> None:
    """Moving = momentum * moving + (1 - momentum) * seen, in place."""
    moving *= MOMENTUM
    moving += (1 - MOMENTUM) * seen


def mask(shape: Sequence[int], dropped: float, key: Sequence[int], dtype: DTypeLike) -> Array:
    """What hidden units (dropout, Srivastava et al. 2014) or weights (DropConnect, Wan et al. 2013) are multiplied by.

    0 for a share `dropped` of them, by chance, and 1 / (1 - dropped) for the others, so that the mean is 1 and nothing
    changes for inference. Backwards the delta is multiplied by the same.

    Args:
        shape: of the values or the weights.
        dropped: which share of them is left out.
        key: what the generator is seeded with: the same key gives the same mask, whatever was drawn before.
        dtype: of the mask.
    """
    drawn = np.random.default_rng(key).random(tuple(shape), np.float32)
    return np.where(drawn >= dropped, 1 / (1 - dropped), 0).astype(dtype)
