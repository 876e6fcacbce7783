"""A batch normalization of a stack in training form, and how it changes along a direction of the weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.backends.numpy.network import EPSILON, Array


def _mean(array: Array) -> Array:
    """Return the mean over the rows, (grid, 1, units)."""
    mean: Array = array.mean(axis=-2, keepdims=True)
    return mean


def _sum(array: Array) -> Array:
    total: Array = array.sum(axis=-2, keepdims=True)
    return total


class MovedNormalization(NamedTuple):
    """How a batch normalization changes along a direction of the weights.

    Attributes:
        values: the change of n, (grid, rows, units).
        share: that of r, (grid, 1, units).
        scale: that of the scale, (grid, 1, units).
    """

    values: Array
    share: Array
    scale: Array


class Normalization:
    """z = scale * n + shift, with n = (s - mean(s)) / sqrt(variance(s) + epsilon); means are over the rows.

    With r = 1 / sqrt(variance + epsilon), a change s' of the sums changes n by n' = r (s' - mean(s') - n mean(n s')),
    and r by r' = -r^2 mean(n s').

    Args:
        sums: s, (grid, rows, units).
        scale: (grid, 1, units).
    """

    def __init__(self, sums: Array, scale: Array) -> None:
        centred = sums - _mean(sums)
        self._scale = scale
        self._share = 1 / np.sqrt(_mean(centred * centred) + EPSILON)
        self._values = centred * self._share

    def output(self, shift: Array) -> Array:
        """Return z, (grid, rows, units)."""
        output: Array = self._values * self._scale + shift
        return output

    def backward(self, delta: Array) -> Array:
        """Turn the derivative with respect to z into that with respect to s; see `layers.normalize_backward`."""
        by_sums: Array = self._scale * self._share * self._centred(delta)
        return by_sums

    def _centred(self, delta: Array) -> Array:
        centred: Array = delta - _mean(delta) - self._values * _mean(delta * self._values)
        return centred

    def gradient(self, delta: Array) -> dict[str, Array]:
        """Return the derivatives with respect to the parameters, (grid, 1, units), for that with respect to z."""
        return {"scale": _sum(delta * self._values), "shift": _sum(delta)}

    def move(self, sums: Array, scale: Array) -> MovedNormalization:
        """Differentiate n and r along a direction, in which the sums and the scale change by the arguments."""
        pull = _mean(self._values * sums)
        values = self._share * (sums - _mean(sums) - self._values * pull)
        return MovedNormalization(values, -self._share * self._share * pull, scale)

    def moved_output(self, moved: MovedNormalization, shift: Array) -> Array:
        """Return the change of z, where the shift changes by the argument."""
        output: Array = moved.scale * self._values + self._scale * moved.values + shift
        return output

    def moved_backward(self, delta: Array, moved_delta: Array, moved: MovedNormalization) -> Array:
        """Return the change of what `backward` returns for a delta, which changes too."""
        factor = self._scale * self._share
        moved_factor = moved.scale * self._share + self._scale * moved.share
        by_values = _mean(delta * self._values)
        moved_by_values = _mean(moved_delta * self._values + delta * moved.values)
        moved_centred = moved_delta - _mean(moved_delta) - moved.values * by_values - self._values * moved_by_values
        by_sums: Array = moved_factor * self._centred(delta) + factor * moved_centred
        return by_sums

    def moved_gradient(self, delta: Array, moved_delta: Array, moved: MovedNormalization) -> dict[str, Array]:
        """Return the change of what `gradient` returns for a delta, which changes too."""
        return {"scale": _sum(moved_delta * self._values + delta * moved.values), "shift": _sum(moved_delta)}
