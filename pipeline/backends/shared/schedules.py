"""What a schedule multiplies the learning rate by, at each update of a training run.

Both backends read the same table. Only `reduce_on_plateau` has none: it goes by the losses that training finds.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.config.model import Training
from pipeline.config.optimizer import Constant, Cosine, Exponential, OneCycle, ReduceOnPlateau, Schedule, Step

Factors = NDArray[np.float64]


def updates_per_epoch(training: Training, rows: int) -> int:
    """How many batches an epoch over `rows` has."""
    return math.ceil(rows / (training.batch_size or rows))


def factors(schedule: Schedule, updates: int) -> Factors:
    """The table of a schedule: (updates,), for the first update to the last.

    Raises:
        ValueError: the schedule goes by the losses.
    """
    if isinstance(schedule, ReduceOnPlateau):
        raise ValueError("reduce_on_plateau goes by the losses, and has no table")
    t = np.arange(updates)
    if isinstance(schedule, Constant):
        return np.ones(updates)
    if isinstance(schedule, Step):
        falls = np.floor(np.round(t / (schedule.every * updates), 9))  # 7 / (0.07 * 100) is less than 1
        return np.asarray(np.power(schedule.factor, falls))
    if isinstance(schedule, Exponential):
        return np.asarray(np.power(schedule.final, t / updates))
    return _cosine(schedule, t) if isinstance(schedule, Cosine) else _one_cycle(schedule, t)


def _cosine(schedule: Cosine, t: NDArray[np.int_]) -> Factors:
    """Up in a straight line from 0, then down half a cosine (Loshchilov and Hutter 2017), as Keras' CosineDecay.

    The warm-up is a whole number of updates.
    """
    rising = round(schedule.warm_up * len(t))
    up, down = t / max(rising, 1), (t - rising) / ((len(t) - rising) or 1)
    return np.where(t < rising, up, _between(1, schedule.final, down))


def _one_cycle(schedule: OneCycle, t: NDArray[np.int_]) -> Factors:
    """Up half a cosine, then down another (Smith and Topin 2018), as PyTorch's OneCycleLR in two phases.

    The rate is the schedule's `initial` share at the first update, whole at update `rising * updates - 1`, counted from
    0, and the `final` share at the last.
    """
    last = len(t) - 1
    peak = schedule.rising * len(t) - 1
    up, down = t / (peak or 1), (t - peak) / ((last - peak) or 1)
    return np.where(t <= peak, _between(schedule.initial, 1, up), _between(1, schedule.final, down))


def _between(start: float, stop: float, share: NDArray[np.floating]) -> Factors:
    """Half a cosine from `start`, at share 0, to `stop`, at share 1."""
    return np.asarray(stop + (start - stop) * (1 + np.cos(np.pi * share)) / 2)
