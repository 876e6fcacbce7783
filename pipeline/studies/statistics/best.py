"""Which points cannot be told from the best one, from repeated trainings.

Points are compared by pairs of trainings with the same seed, which begin with the same weights where shapes are equal
and see the same batches. For points i and j, with d the differences of their values in favour of j over n seeds,

    t = mean(d) / (deviation(d) / sqrt(n)),     p_ij = P(T > t),

where T has Student's t distribution with n - 1 degrees of freedom. Point i is among the best unless some j is better:
p_i = (points - 1) * min_j p_ij, by Bonferroni. Holm's procedure (1979) over these p_i then excludes points such that
probability that any point that is truly (tied for) the best is excluded is at most `LEVEL`, whatever the others do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from pipeline.studies.statistics.intervals import Estimate

# The largest probability of a wrong exclusion.
LEVEL = 0.05
# Differences of values of this relative size are rounding.
ROUNDING = 1e-12

# The values of a point by seed. A seed that diverged has a value that is not finite.
BySeed = Mapping[int, float]


@dataclass(frozen=True)
class BestSet:
    """The points that cannot be told from the best one; all numbers are indices of points.

    Attributes:
        best: the point with the best mean among the candidates; None if no point trained.
        members: those that cannot be told from it, itself included, ascending. Without `tested`, it alone.
        behind: for each excluded candidate by how much it is worse than the best, over the seeds that both have.
        partly: points of which some seeds diverged; they are no candidates where others trained with every seed.
        tested: whether the points have enough seeds to be told apart, two at least.
    """

    best: int | None
    members: tuple[int, ...]
    behind: Mapping[int, Estimate]
    partly: tuple[int, ...]
    tested: bool


def best_set(points: Sequence[BySeed], larger_is_better: bool, resolution: float = 0.0) -> BestSet:
    """Return which of several points cannot be told from the best.

    Args:
        points: the values of each point by seed.
        larger_is_better: whether the best value is the largest.
        resolution: the smallest difference that the metric can show, for instance one row of an accuracy. Seeds whose
            differences are all equal would otherwise seem to have no noise at all.
    """
    sign = 1.0 if larger_is_better else -1.0
    values = [{seed: sign * value for seed, value in point.items()} for point in points]
    finite = [{seed: value for seed, value in point.items() if math.isfinite(value)} for point in values]
    partly = tuple(index for index, point in enumerate(points) if 0 < len(finite[index]) < len(point))
    candidates = [index for index, point in enumerate(points) if point and len(finite[index]) == len(point)]
    if not candidates:
        candidates = list(partly)
    if not candidates:
        return BestSet(None, (), {}, partly, tested=False)
    best = max(candidates, key=lambda index: np.mean(list(finite[index].values())))
    if any(len(_differences(finite[index], finite[best])) < 2 for index in candidates):
        return BestSet(best, (best,), {}, partly, tested=False)
    worse = _excluded(_better([finite[index] for index in candidates], resolution))
    members = tuple(index for row, index in enumerate(candidates) if index == best or not worse[row])
    behind = {}
    for index in candidates:
        if index not in members:
            behind[index] = Estimate(*_counted(_differences(finite[index], finite[best])))
    return BestSet(best, members, behind, partly, tested=True)


def _differences(own: BySeed, other: BySeed) -> NDArray[np.float64]:
    """Return by how much another point is better, for each seed that both have."""
    return np.array([other[seed] - own[seed] for seed in sorted(own.keys() & other.keys())])


def _better(points: Sequence[BySeed], resolution: float) -> NDArray[np.float64]:
    """Return (points, points) one-sided p-values: [i, j] small says that j is better than i. 1 on the diagonal."""
    seeds = sorted({seed for point in points for seed in point})
    values = np.array([[point.get(seed, math.nan) for seed in seeds] for point in points])
    differences = values[None] - values[:, None]
    present = np.isfinite(differences)
    differences = np.where(present, differences, 0.0)
    counts = present.sum(axis=-1)
    means = differences.sum(axis=-1) / np.maximum(counts, 1)
    squares = np.where(present, np.square(differences - means[..., None]), 0.0).sum(axis=-1)
    deviations = np.sqrt(squares / np.maximum(counts - 1, 1))
    # Differences that rounding has made equal have no deviation, which would be taken for certainty.
    least = np.maximum(resolution, ROUNDING * np.abs(differences).max(axis=-1, initial=0.0))
    deviations = np.maximum(deviations, least)
    # Points without two common seeds, and those that are equal in each seed, cannot be told apart.
    known = (counts > 1) & (deviations > 0)
    statistics = means * np.sqrt(counts) / np.where(known, deviations, 1.0)
    return np.where(known, stdtr(np.maximum(counts - 1, 1), -statistics), 1.0)


def _excluded(better: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which points are excluded, by Holm's procedure.

    Args:
        better: (points, points) p-values, from `_better`.
    """
    count = len(better)
    own = np.minimum(1.0, (count - 1) * better.min(axis=1))
    excluded = np.zeros(count, dtype=np.bool_)
    for rank, index in enumerate(np.argsort(own)):
        # Holm: the smallest is compared with LEVEL / count, the next with LEVEL / (count - 1), until one is too large.
        if own[index] * (count - rank) > LEVEL:
            break
        excluded[index] = True
    return excluded


def _counted(differences: NDArray[np.float64]) -> tuple[tuple[float, ...], int]:
    values = tuple(float(value) for value in differences)
    return values, len(values)
