"""The rate with the smallest loss, from a parabola through the losses of trained rates, and how sure it is.

With x = log10(rate), x_i the rates, s the seeds, and y_is the losses, the model is

    y_is = c_s + b x_i + a x_i^2 + e_is,     optimum x* = -b / (2 a) for a > 0,

by least squares. Each seed has a height c_s of its own, because what it adds to every rate says nothing about the best
one.

Far from the best rate a loss is no parabola. So only rates within `WINDOW` of it count, and those beside it that cannot
be told from it (`best_set`) with the next one on each side, as noise hides the parabola between them. Of these the fit
begins with the best, and takes in the next one, on the side where the loss is smaller, as long as it predicts its loss:
with N values, p coefficients, residual variance v, and z the row of the new rate in the design matrix Z, the mean of
its n losses must lie within

    z c ± t sqrt(v (1 / n + z (Z'Z)^-1 z')),     t the quantile of Student's t with N - p degrees of freedom

(Draper and Smith 1998, "Applied Regression Analysis", section 3.1). Beyond one that does not, none counts.

The interval of the optimum is from a bootstrap of residuals (Efron and Tibshirani 1993, "An Introduction to the
Bootstrap", section 9.4). Each of `DRAWS` times, residuals are drawn with replacement, scaled by sqrt(N / (N - p)), and
the parabola is fitted to them. What that adds to its coefficients is multiplied by sqrt(f / chi2_f), f = N - p, with a
random chi2_f, as in Student's t: few residuals estimate the noise badly. The quantiles `OUTSIDE` and 1 - `OUTSIDE` of
the optima are the ends. 2.5 % and 97.5 % hold the true optimum of synthetic sweeps in 93 to 94 % of the cases only, as
rates are tried where the noise of others was low; with 1.5 % and 98.5 % they hold it in about 96 %. Neither the ends
nor the optimum leave the rates that count; of one seed, which does not tell worse rates from the best, those that
trained. Where the parabola has no minimum between them, the best rate is the optimum.

The interval holds if the losses that count are a parabola with noise of one size. Without noise, as of a single seed,
its width says how far from a parabola they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.studies.statistics.best import best_set

LEAST_RATES = 3
# Decades from the best rate.
WINDOW = 0.5
DRAWS = 2000
# The share of the bootstrap beyond each end of the interval.
OUTSIDE = 0.015
# The confidence of a prediction: high, because many are made.
PREDICTED = 0.999
# Its quantile of one degree of freedom, 637, would let a parabola of four rates predict anything.
LARGEST_QUANTILE = 20.0
# A residual of this share of the largest loss is rounding.
ROUNDING = 1e-12

Floats = NDArray[np.float64]
Losses = Mapping[float, Sequence[float]]


class Optimum(NamedTuple):
    """The best rate by a parabola, and the ends of its 95 % interval, within the rates that trained."""

    rate: float
    low: float
    high: float


class Fit(NamedTuple):
    """A parabola by least squares.

    Attributes:
        coefficients: (seeds + 2,), the heights, then b and a.
        inverse: (seeds + 2, N), the pseudo-inverse of the design matrix.
        residuals: (N,).
        freedom: degrees of freedom.
    """

    coefficients: Floats
    inverse: Floats
    residuals: Floats
    freedom: int

    @property
    def variance(self) -> float:
        """The variance of the noise, with at least one degree of freedom."""
        return max(float(self.residuals @ self.residuals) / self.freedom, ROUNDING**2)


def optimum(known: Losses, seed: int = 0) -> Optimum | None:
    """Return where the loss is smallest.

    Args:
        known: for each rate, above 0, the losses by seed, in the same order at each rate; inf: it diverged, NaN: it
            failed. Rates at which a seed diverged are left out, as are seeds that failed.
        seed: of the bootstrap.

    Returns:
        The optimum; None with fewer than three rates. Where no residual is left, as of three rates with one seed each,
        the noise is unknown, and the interval is all rates.
    """
    losses = {rate: by_seed for rate, by_seed in sorted(known.items()) if _trained(by_seed)}
    if len(losses) < LEAST_RATES:
        return None
    rates = list(losses)
    values = np.array([losses[rate] for rate in rates], dtype=np.float64)
    # So that no square overflows.
    values /= np.nanmax(np.abs(values)) or 1.0
    best = int(np.nanmean(values, axis=1).argmin())
    # (rates,) in decades from the best one.
    places = np.log10(rates) - math.log10(rates[best])
    counting = _counting(places, values, best)
    fit = _widest(places, values, best, counting)
    ends = (float(places[0]), float(places[-1]))
    if values.shape[1] > 1:
        # With one seed nothing says which rates are worse than the best.
        ends = (float(places[counting[0]]), float(places[counting[1]]))
    own = fit.coefficients[-2:]
    low, high = ends
    centre = float(_vertices(own[None], ends)[0])
    if not low < centre < high:
        centre = 0.0
    if fit.freedom > 0:
        random = np.random.default_rng(seed)
        number = len(fit.residuals)
        drawn = random.choice(fit.residuals, size=(DRAWS, number)) * math.sqrt(number / fit.freedom)
        scale = np.sqrt(fit.freedom / random.chisquare(fit.freedom, size=(DRAWS, 1)))
        optima = _vertices(own + drawn @ fit.inverse[-2:].T * scale, ends)
        low, high = np.quantile(optima, [OUTSIDE, 1 - OUTSIDE])
    # A power of ten may be beyond the ends by rounding.
    return Optimum(
        *(min(max(rates[best] * 10**place, rates[0]), rates[-1]) for place in map(float, (centre, low, high)))
    )


def _trained(by_seed: Sequence[float]) -> bool:
    """Whether a rate has a loss, and none of its seeds diverged."""
    judged = [loss for loss in by_seed if not math.isnan(loss)]
    return bool(judged) and all(map(math.isfinite, judged))


def _widest(places: Floats, values: Floats, best: int, counting: tuple[int, int]) -> Fit:
    """Return the parabola through the best rate and as many beside it as there is one for.

    Args:
        places: (rates,) ascending, in decades.
        values: (rates, seeds) losses; NaN: that seed failed.
        best: index of the best rate.
        counting: indices of the first and the last rate that may count.
    """
    means = np.nanmean(values, axis=1)
    first = best
    last = best
    lowest, highest = counting
    fit = _fit(places[first : last + 1], values[first : last + 1])
    while first > lowest or last < highest:
        downwards = first > lowest and (last == highest or means[first - 1] <= means[last + 1])
        added = last + 1
        if downwards:
            added = first - 1
        if last - first + 1 >= LEAST_RATES and not _predicts(fit, places[added], values[added]):
            # Beyond it none counts.
            lowest = first if downwards else lowest
            highest = highest if downwards else last
            continue
        first = min(first, added)
        last = max(last, added)
        fit = _fit(places[first : last + 1], values[first : last + 1])
    return fit


def _counting(places: Floats, values: Floats, best: int) -> tuple[int, int]:
    """Return the indices of the first and the last rate that may count; arguments as of `_widest`."""
    points = [{seed: float(loss) for seed, loss in enumerate(row) if not math.isnan(loss)} for row in values]
    alike = best_set(points, larger_is_better=False).members
    first = best
    while first - 1 in alike:
        first -= 1
    last = best
    while last + 1 in alike:
        last += 1
    near = np.flatnonzero(np.abs(places) <= WINDOW)
    nearest = np.sort(np.abs(places).argsort(kind="stable")[:LEAST_RATES])
    lowest = min(max(first - 1, 0), near[0], nearest[0])
    highest = max(min(last + 1, len(places) - 1), near[-1], nearest[-1])
    return int(lowest), int(highest)


def _design(places: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Return the design matrix (N, seeds + 2) and the losses (N,) of all trainings that did not fail."""
    rows, seeds = np.nonzero(np.isfinite(values))
    heights = (seeds[:, None] == np.arange(values.shape[1])).astype(np.float64)
    x = places[rows]
    return np.column_stack([heights, x, x**2]), values[rows, seeds]


def _fit(places: Floats, values: Floats) -> Fit:
    columns, losses = _design(places, values)
    inverse = np.linalg.pinv(columns).astype(np.float64)
    coefficients: Floats = inverse @ losses
    freedom = len(losses) - int(np.linalg.matrix_rank(columns))
    return Fit(coefficients, inverse, losses - columns @ coefficients, freedom)


def _predicts(fit: Fit, place: float, values: Floats) -> bool:
    """Whether a parabola predicts the mean loss of a further rate; one without degrees of freedom predicts all.

    Args:
        fit: the parabola.
        place: of the rate, in decades.
        values: (seeds,) its losses.
    """
    if fit.freedom < 1:
        return True
    # Imported here: it takes a tenth of a second.
    from scipy.special import stdtrit

    columns, losses = _design(np.array([place]), values[None])
    row = columns.mean(axis=0)
    # (Z'Z)^-1 = Z^+ Z^+', of the pseudo-inverse Z^+.
    leverage = float(np.square(row @ fit.inverse).sum())
    off = abs(float(losses.mean() - row @ fit.coefficients))
    quantile = min(float(stdtrit(fit.freedom, (1 + PREDICTED) / 2)), LARGEST_QUANTILE)
    return off <= quantile * math.sqrt(fit.variance * (1 / len(losses) + leverage))


def _vertices(coefficients: Floats, ends: tuple[float, float]) -> Floats:
    """Return where parabolas are smallest between two ends.

    One without a minimum says nothing of its place: half of those are put at either end.

    Args:
        coefficients: (parabolas, 2), b and a of b x + a x^2.
        ends: the first and the last place.

    Returns:
        (parabolas,) places.
    """
    low, high = ends
    upwards = coefficients[:, 1] > 0
    vertices = -coefficients[:, 0] / np.where(upwards, 2 * coefficients[:, 1], 1.0)
    alternating = np.where(np.arange(len(coefficients)) % 2 == 0, low, high)
    return np.where(upwards, np.clip(vertices, low, high), alternating)
