"""The distribution that AW-SGD draws rows from, and how it is learned (Bouchard, Trouillon, Perez and Gaidon 2016).

Row i is drawn with probability q_i, and its gradient g_i is weighted by c_i = p_i / q_i with p_i = 1 / rows. On average
this is the full gradient for any q: sum_i q_i c_i g_i = sum_i p_i g_i. Its variance depends on q through
V = sum_i q_i |c_i g_i|^2, which is smallest when q_i is proportional to |g_i|. The derivative of V with respect to
tau, the parameters of q, is -sum_i q_i |c_i g_i|^2 d log q_i / d tau: a mean over drawn rows, which can be estimated
from the rows that training draws anyway.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.losses import Targets
from pipeline.config.optimizer import AwSgd

Vector = NDArray[np.float64]


class RowSampling:
    """A softmax over bins of rows, mixed with the uniform distribution: q_i = (1 - u) s_i + u / rows.

    The n_b rows of bin b share the probability of their bin, s_i = softmax(tau)_b / n_b. At first tau_b = log(n_b),
    and q is uniform.

    Args:
        optimizer: its settings. With `sampled_by` row each row is a bin, with target all rows with the same target are.
        targets: the targets of all rows.

    Attributes:
        tau: the parameters of the softmax, (bins,).
    """

    def __init__(self, optimizer: AwSgd, targets: Targets) -> None:
        self._optimizer = optimizer
        self._rows = len(targets)
        if optimizer.sampled_by == "row":
            self._bin = np.arange(self._rows)
        else:
            # NumPy 2.0 returns the inverse of rows with one more axis than other versions.
            self._bin = np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)
        self._sizes = np.bincount(self._bin)
        self.tau: Vector = np.log(self._sizes)

    def probabilities(self) -> Vector:
        """Return q, (rows,)."""
        share = self._optimizer.uniform_share
        return (1 - share) * self._learned()[self._bin] + share / self._rows

    def weights(self, drawn: NDArray[np.integer]) -> Vector:
        """Return the weights of the gradients of some rows: c, (drawn,)."""
        # c_i = p_i / q_i = 1 / (rows * q_i)
        counts: Vector = 1 / (self._rows * self.probabilities()[drawn])
        return counts

    def draw(self, uniform: Vector) -> NDArray[np.integer]:
        """Return one row for each number drawn uniformly between 0 and 1."""
        # The inverse of the cumulative distribution. Rounding leaves its last value near 1, not at 1.
        cumulated = np.cumsum(self.probabilities())
        positions = np.searchsorted(cumulated, uniform * cumulated[-1], side="right")
        rows: NDArray[np.integer] = np.minimum(positions, self._rows - 1)
        return rows

    def learn(self, drawn: NDArray[np.integer], squares: Vector) -> None:
        """Update tau += sampling_learning_rate * mean over the drawn rows of |c_i g_i|^2 * d log q_i / d tau.

        With r_i = (1 - u) s_i / q_i, the learned part of q_i, d log q_i / d tau_b is r_i (1 - softmax(tau)_b) for the
        row's own bin b, and -r_i softmax(tau)_b for the other bins.

        Args:
            drawn: rows.
            squares: |c_i g_i|^2 of each row; if one is inf or NaN, tau stays as it is.
        """
        share = self._optimizer.uniform_share
        learned = self._learned()
        bins = self._bin[drawn]
        # |c_i g_i|^2 r_i of each drawn row: added to its own bin, and subtracted from all bins in proportion to their
        # softmax, which is `learned * sizes`.
        pulls = squares * (1 - share) * learned[bins] / self.probabilities()[drawn]
        step = np.bincount(bins, pulls, len(self.tau)) - learned * self._sizes * pulls.sum()
        tau = self.tau + self._optimizer.sampling_learning_rate / len(drawn) * step
        if np.isfinite(tau).all():
            self.tau = tau

    def effective_rows(self) -> float:
        """Return 1 / sum of q^2, the number of rows whose uniform distribution repeats rows as often (Kish 1965).

        At first it is the number of all rows.
        """
        return float(1 / np.square(self.probabilities()).sum())

    def _learned(self) -> Vector:
        """Return the learned probability s of one row of each bin, (bins,)."""
        # Shifted by the maximum, so that exp cannot overflow.
        shifted = np.exp(self.tau - self.tau.max())
        each: Vector = shifted / (shifted.sum() * self._sizes)
        return each
