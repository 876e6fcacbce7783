"""Which points cannot be told from the best one, from repeated trainings.

Points are compared by pairs of trainings with the same seed, which begin with the same weights where shapes are equal
and see the same batches. For points i and j, with d the differences of their values in favour of j over n seeds,

    t = mean(d) / (deviation(d) / sqrt(n)),     p_ij = P(T > t).

From all m points, the one with the smallest p_ij is excluded if p_ij m (m - 1) <= `LEVEL` (Bonferroni, for all ordered
pairs), and so on with those that are left: the model confidence set of Hansen, Lunde and Nason (2011), with t-tests in
the place of their bootstrap. Points that are truly the best, one or several that are tied, all stay in at least 95 % of
all studies, unless many tied ones differ in their noise severalfold.

A few seeds estimate a deviation badly, so a pair borrows from the others: its variance is at least that of the usual
pair, and of the usual pair of either point (medians, corrected for the skew of variances). T has Student's t
distribution; its degrees of freedom are the (m - 1) (n - 1) of all pairs for the usual part of the variance, and the
n - 1 of the pair for what exceeds it. With two points this is the paired t-test.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.studies.statistics.intervals import Estimate

# The largest probability of a wrong exclusion by one test: below 5 %, because the degrees of freedom are approximate.
LEVEL = 0.04
# Differences of values of this relative size are rounding.
ROUNDING = 1e-12
# Values beyond are as bad as this one: their squares would overflow.
LARGEST = 1e100

Floats = NDArray[np.float64]
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
        better_where_trained: those of `partly` that are no candidates, and whose mean over the seeds that trained is
            better than that of the best. With one of them there is no best point.
    """

    best: int | None
    members: tuple[int, ...]
    behind: Mapping[int, Estimate]
    partly: tuple[int, ...]
    tested: bool
    better_where_trained: tuple[int, ...] = ()


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
    means = {index: Estimate(*_counted(finite[index].values())).mean for index in (*candidates, *partly)}
    best = max(candidates, key=means.__getitem__)
    better = tuple(index for index in partly if index not in candidates and means[index] > means[best])
    if any(len(_differences(finite[index], finite[best])) < 2 for index in candidates):
        return BestSet(best, (best,), {}, partly, tested=False, better_where_trained=better)
    left = _not_excluded([finite[index] for index in candidates], resolution)
    members = tuple(index for row, index in enumerate(candidates) if index == best or row in left)
    behind = {}
    for index in candidates:
        if index not in members:
            behind[index] = Estimate(*_counted(_differences(finite[index], finite[best])))
    return BestSet(best, members, behind, partly, tested=True, better_where_trained=better)


def _differences(own: BySeed, other: BySeed) -> NDArray[np.float64]:
    """Return by how much another point is better, for each seed that both have."""
    return np.array([other[seed] - own[seed] for seed in sorted(own.keys() & other.keys())])


def _not_excluded(points: Sequence[BySeed], resolution: float) -> list[int]:
    """Return the points that are left when no other can be excluded."""
    seeds = sorted({seed for point in points for seed in point})
    values = np.array([[point.get(seed, math.nan) for seed in seeds] for point in points])
    values = np.clip(values, -LARGEST, LARGEST)
    # (points, points, seeds): by how much the second point is better than the first.
    differences = values[None] - values[:, None]
    present = np.isfinite(differences)
    differences = np.where(present, differences, 0.0)
    counts = present.sum(axis=-1)
    means = differences.sum(axis=-1) / np.maximum(counts, 1)
    squares = np.where(present, np.square(differences - means[..., None]), 0.0).sum(axis=-1)
    variances = squares / np.maximum(counts - 1, 1)
    # Differences that rounding has made equal have no variance, which would be taken for certainty.
    rounding = ROUNDING * np.abs(differences).max(axis=-1, initial=0.0)
    variances = np.maximum(variances, np.square(np.maximum(resolution, rounding)))
    left = list(range(len(points)))
    while len(left) > 1:
        chosen = np.ix_(left, left)
        better = _p_better(means[chosen], variances[chosen], counts[chosen])
        worst = int(better.min(axis=1).argmin())
        if better[worst].min() * len(left) * (len(left) - 1) > LEVEL:
            break
        del left[worst]
    return left


def _p_better(means: Floats, variances: Floats, counts: NDArray[np.int64]) -> Floats:
    """Return one-sided p-values, (points, points): [i, j] small says that j is better than i. 1 on the diagonal.

    Args:
        means: (points, points) mean differences, by which the second point is better.
        variances: (points, points) of these differences.
        counts: (points, points) number of seeds that both points have.
    """
    # Imported here: it takes a tenth of a second, and with one seed nothing is compared.
    from scipy.special import gammaincinv, stdtr

    points = len(means)
    freedom = np.maximum(counts - 1, 1)
    usual = variances
    if points > 2:
        # The median of a variance with few degrees of freedom is below its mean: that of chi-squared, over them.
        usual = variances / (2 * gammaincinv(freedom / 2, 0.5) / freedom)
    pooled = np.median(usual[np.triu_indices(points, 1)])
    off_diagonal = ~np.eye(points, dtype=np.bool_)
    own = np.median(usual[off_diagonal].reshape(points, points - 1), axis=1)
    borrowed = np.maximum(pooled, (own[:, None] + own) / 2)
    total = np.maximum(variances, borrowed)
    known = off_diagonal & (counts > 1) & (total > 0)
    total = np.where(known, total, 1.0)
    share = np.minimum(pooled / total, 1.0)
    freedoms = freedom * ((points - 1) * share + 1 - share)
    return np.where(known, stdtr(freedoms, -means * np.sqrt(counts / total)), 1.0)


def _counted(found: Iterable[float]) -> tuple[tuple[float, ...], int]:
    values = tuple(float(value) for value in found)
    return values, len(values)
