"""Find overfitting: since some epoch the loss of the held-out rows rises, while that of the training rows falls."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pipeline.backends.shared.history import History
from pipeline.config.metrics import judges, last_part
from pipeline.diagnosis.run import HELD_OUT, Run
from pipeline.diagnosis.thresholds import RISE, RISE_OVER_NOISE, RISING_RECORDS


class Overfitting(NamedTuple):
    """The rise of the loss of the held-out rows.

    Attributes:
        rows: `validation` or `test`.
        since: the epoch with their lowest loss.
        lowest: their loss then.
        end: their loss at the end, the median of the last records.
        trained_from, trained_to: the training loss at that epoch and at the end.
    """

    rows: str
    since: int
    lowest: float
    end: float
    trained_from: float
    trained_to: float


def overfitting(run: Run) -> Overfitting | None:
    """Return the overfitting of a run; None if its records do not show any.

    The loss of the held-out rows must end above its lowest value by the share RISE and by RISE_OVER_NOISE standard
    deviations of the noise, which is that of the differences d between neighbouring records after the lowest one:
    sqrt(mean (d - mean d)^2 / 2). The training loss must have fallen by RISE since.
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
        trained = run.losses[run.steps >= steps[lowest]]
        if not len(trained) or run.end > (1 - RISE) * trained[0]:
            return None
        return Overfitting(rows, int(steps[lowest]), float(losses[lowest]), end, float(trained[0]), run.end)
    return None


def meanwhile(history: History, metric: str, since: int) -> str:
    """Say how a metric of the held-out rows did from an epoch to the end; empty if it is their loss or not recorded."""
    if not metric.startswith(HELD_OUT) or not judges(metric) or last_part(metric) == "loss":
        return ""
    steps, values = history.series(metric)
    at = np.flatnonzero(steps == since)
    if not len(at):
        return ""
    return f"; {metric} meanwhile went from {values[at[0]]:.4g} to {values[-1]:.4g}"
