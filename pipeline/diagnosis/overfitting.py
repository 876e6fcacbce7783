"""Find overfitting: since some epoch the loss of the held-out rows rises, while that of the training rows falls."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pipeline.config.metrics import best_of, judged_by, last_part
from pipeline.diagnosis.run import HELD_OUT, Run
from pipeline.diagnosis.thresholds import RISE, RISE_OVER_NOISE, RISING_RECORDS


class Overfitting(NamedTuple):
    """The rise of the loss of the held-out rows.

    Attributes:
        rows: `validation` or `test`.
        since: the epoch with their lowest loss.
        lowest: their loss then.
        end: their loss at the end, the median of the last records.
        trained_from: the training loss at that epoch.
        trained_to: the lowest training loss since.
        metric: the metric of the held-out rows that judges; empty if that is their loss, or it was not recorded.
        metric_from, metric_to: its value at that epoch and at the end; NaN without one.
    """

    rows: str
    since: int
    lowest: float
    end: float
    trained_from: float
    trained_to: float
    metric: str
    metric_from: float
    metric_to: float

    @property
    def harms(self) -> bool:
        """Whether the metric that judges has not got better since.

        For classes, the loss of the held-out rows often rises while their accuracy still does: wrong answers are given
        with more confidence, but there are fewer of them.
        """
        if not self.metric:
            return True
        return best_of(self.metric, (self.metric_from, self.metric_to)) == self.metric_from


def overfitting(run: Run) -> Overfitting | None:
    """Return the overfitting of a run; None if its records do not show any.

    The loss of the held-out rows must end above its lowest value by the share RISE and by RISE_OVER_NOISE standard
    deviations of the noise, which is that of the differences d between neighbouring records after the lowest one:
    sqrt(mean (d - mean d)^2 / 2). The training loss must have fallen by RISE since, and not be higher again at the end.
    """
    for rows in HELD_OUT:
        steps, losses = run.history.series(f"{rows}/loss")
        if not len(losses):
            continue
        lowest = int(np.argmin(losses))
        after = losses[lowest + 1 :]
        if len(after) < RISING_RECORDS:
            return None
        end = float(np.median(after[-RISING_RECORDS:]))
        rise = end - float(losses[lowest])
        # Scaled: squares of large losses overflow.
        largest = float(losses.max()) or 1.0
        noise = float(np.std(np.diff(losses[lowest:] / largest))) / math.sqrt(2) * largest
        if rise <= RISE * losses[lowest] or rise <= RISE_OVER_NOISE * noise:
            return None
        since = int(steps[lowest])
        trained = run.losses[run.steps >= since]
        # A single bad epoch at the end does not hide that training went on.
        if not len(trained) or trained.min() > (1 - RISE) * trained[0] or run.end > trained[0]:
            return None
        metric, metric_from, metric_to = _judged(run, rows, since)
        return Overfitting(
            rows=rows,
            since=since,
            lowest=float(losses[lowest]),
            end=end,
            trained_from=float(trained[0]),
            trained_to=float(trained.min()),
            metric=metric,
            metric_from=metric_from,
            metric_to=metric_to,
        )
    return None


def _judged(run: Run, rows: str, since: int) -> tuple[str, float, float]:
    """Return the metric that judges, and its value at an epoch and at the end, if it is one of these rows."""
    metric = judged_by(run.config)
    steps, values = run.history.series(metric)
    at = np.flatnonzero(steps == since)
    if not metric.startswith(rows) or last_part(metric) == "loss" or not len(at):
        return "", math.nan, math.nan
    return metric, float(values[at[0]]), float(values[-1])
