"""Learning-rate schedules: the factor of the learning rate at each update of a training run.

Both backends read the same table. Only `reduce_on_plateau` has no table: it depends on the losses during training.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.config.model import Training
from pipeline.config.optimizer import Constant, Cosine, Exponential, OneCycle, ReduceOnPlateau, Schedule, Step

Factors = NDArray[np.float64]


def updates_per_epoch(training: Training, rows: int) -> int:
    """Return the number of batches in an epoch over `rows` rows; the last batch may be smaller."""
    return math.ceil(rows / (training.batch_size or rows))


def factors(schedule: Schedule, updates: int) -> Factors:
    """Return the table of a schedule: (updates,), from the first update to the last.

    Raises:
        ValueError: the schedule depends on the losses.

    Example:
        >>> factors(Step(name="step", every=0.5, factor=0.1), updates=4)
        array([1. , 1. , 0.1, 0.1])
    """
    if isinstance(schedule, ReduceOnPlateau):
        raise ValueError("reduce_on_plateau depends on the losses, and has no table")
    t = np.arange(updates)
    if isinstance(schedule, Constant):
        return np.ones(updates)
    if isinstance(schedule, Step):
        # Without rounding the first step would come an update late: 7 / (0.07 * 100) is less than 1.
        falls = np.floor(np.round(t / (schedule.every * updates), 9))
        return np.asarray(np.power(schedule.factor, falls))
    if isinstance(schedule, Exponential):
        return np.asarray(np.power(schedule.final, t / updates))
    if isinstance(schedule, Cosine):
        return _cosine(schedule, t)
    return _one_cycle(schedule, t)


def _cosine(schedule: Cosine, t: NDArray[np.int_]) -> Factors:
    """Rise linearly from 0, then fall along half a cosine (Loshchilov and Hutter 2017); Keras' CosineDecay.

    The warm-up is a whole number of updates.
    """
    rising = round(schedule.warm_up * len(t))
    # A phase without updates is divided by 1 instead of 0: its shares are not used.
    up = t / max(rising, 1)
    down = (t - rising) / ((len(t) - rising) or 1)
    return np.where(t < rising, up, _between(1, schedule.final, down))


def _one_cycle(schedule: OneCycle, t: NDArray[np.int_]) -> Factors:
    """Rise along half a cosine, then fall along another (Smith and Topin 2018); PyTorch's OneCycleLR in two phases.

    The factor is `initial` at the first update, 1 at update `rising * updates - 1`, counted from 0, and `final` at the
    last.
    """
    last = len(t) - 1
    # As in PyTorch, the peak may be between two updates.
    peak = schedule.rising * len(t) - 1
    up = t / (peak or 1)
    down = (t - peak) / ((last - peak) or 1)
    return np.where(t <= peak, _between(schedule.initial, 1, up), _between(1, schedule.final, down))


def _between(start: float, stop: float, share: NDArray[np.floating]) -> Factors:
    """Return half a cosine from `start`, at share 0, to `stop`, at share 1."""
    return np.asarray(stop + (start - stop) * (1 + np.cos(np.pi * share)) / 2)
