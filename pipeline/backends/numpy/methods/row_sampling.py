"""From which distribution AW-SGD draws rows, and how it learns it (Bouchard, Trouillon, Perez and Gaidon 2016).

Row i is drawn with probability q_i, and its gradient g_i counts c_i = p_i / q_i times, with p_i = 1 / rows. That is the
full gradient on average, whatever q is: sum_i q_i c_i g_i = sum_i p_i g_i. How much it varies depends on q by
V = sum_i q_i |c_i g_i|^2, which is least where q_i is as |g_i|. Its derivative by tau, which q is made of, is
-sum_i q_i |c_i g_i|^2 d log q_i / d tau, so that the rows drawn anyway show the way down.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.numpy.losses import Targets
from pipeline.config.optimizer import AwSgd

Vector = NDArray[np.float64]


class RowSampling:
    """A softmax over bins of rows, mixed with the uniform distribution: q_i = (1 - u) s_i + u / rows.

    The rows of bin b, of which there are n_b, share s_i = softmax(tau)_b / n_b. At first tau_b = log(n_b), and q is
    uniform.

    Args:
        optimizer: its knobs; `sampled_by` row makes each row a bin, target those with the same target.
        targets: of all rows.

    Attributes:
        tau: (bins,).
    """

    def __init__(self, optimizer: AwSgd, targets: Targets) -> None:
        self._optimizer, self._rows = optimizer, len(targets)
        if optimizer.sampled_by == "row":
            self._bin = np.arange(self._rows)
        else:
            self._bin = np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)
        self._sizes = np.bincount(self._bin)
        self.tau: Vector = np.log(self._sizes)

    def probabilities(self) -> Vector:
        """q, (rows,)."""
        share = self._optimizer.uniform_share
        return (1 - share) * self._learned()[self._bin] + share / self._rows

    def weights(self, drawn: NDArray[np.integer]) -> Vector:
        """How much the gradients of some rows count: c, (drawn,)."""
        counts: Vector = 1 / (self._rows * self.probabilities()[drawn])
        return counts

    def draw(self, uniform: Vector) -> NDArray[np.integer]:
        """Rows, one for each number that was drawn uniformly between 0 and 1."""
        cumulated = np.cumsum(self.probabilities())
        places = np.searchsorted(cumulated, uniform * cumulated[-1], side="right")
        rows: NDArray[np.integer] = np.minimum(places, self._rows - 1)
        return rows

    def learn(self, drawn: NDArray[np.integer], squares: Vector) -> None:
        """Tau += sampling_learning_rate * mean over the drawn rows of |c_i g_i|^2 * d log q_i / d tau.

        With the part r_i = (1 - u) s_i / q_i of q_i that is learned, d log q_i / d tau_b is r_i (1 - softmax(tau)_b)
        for the row's own bin b, and -r_i softmax(tau)_b for the others.

        Args:
            drawn: rows.
            squares: |c_i g_i|^2 of each; from one that is no number nothing is learned.
        """
        share, learned, bins = self._optimizer.uniform_share, self._learned(), self._bin[drawn]
        pulls = squares * (1 - share) * learned[bins] / self.probabilities()[drawn]
        step = np.bincount(bins, pulls, len(self.tau)) - learned * self._sizes * pulls.sum()
        tau = self.tau + self._optimizer.sampling_learning_rate / len(drawn) * step
        if np.isfinite(tau).all():
            self.tau = tau

    def effective_rows(self) -> float:
        """1 / sum of q^2: as many rows, drawn uniformly, come twice as often (Kish 1965); all rows at first."""
        return float(1 / np.square(self.probabilities()).sum())

    def _learned(self) -> Vector:
        """S of each bin's rows, (bins,)."""
        shifted = np.exp(self.tau - self.tau.max())
        each: Vector = shifted / (shifted.sum() * self._sizes)
        return each
