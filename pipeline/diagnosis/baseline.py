"""The baseline of a diagnosis: the loss of the best constant answer."""

from __future__ import annotations

import math

import numpy as np

from pipeline.backends.shared.history import History
from pipeline.backends.shared.measures import best_constant_loss
from pipeline.config.curve import CurveData
from pipeline.config.data import IdxData, TableData
from pipeline.config.schema import Config


def baseline_loss(config: Config, history: History) -> float:
    """Return the loss of the best constant answer, which ignores the inputs.

    Described data has it as a metric, from the training rows. A table is part of the config. The classes of images in
    IDX files count as equally frequent: log(classes).

    Raises:
        TypeError: the data is a curve.
        ValueError: the history of a point on described data has no baseline.
    """
    if isinstance(config.data, CurveData):
        raise TypeError("a curve has no baseline")
    if isinstance(config.data, IdxData):
        return math.log(config.data.classes)
    if isinstance(config.data, TableData):
        return best_constant_loss(config.loss, np.array(config.data.targets))
    _, values = history.series("train/baseline_loss")
    if not len(values):
        raise ValueError("the history has no metric train/baseline_loss")
    return float(values[0])
