"""Points that nobody trained, which ended with given values of a metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from pipeline.backends.shared.history import History
from pipeline.points.point import Point, outcome_of, point_name
from tests.support.trained import config

COMMON = ("experiment=three_bits", "model.hidden_size=4")


def ended(value: float, *overrides: str, metric: str = "train/loss", common: Sequence[str] = COMMON) -> Point:
    """A point that ended with this value of a metric, or diverged if it is not finite; not trained."""
    one = config(*common, *overrides)
    history = History(epochs=2)
    history.record(0, {"train/loss": 1.0, metric: 1.0})
    if math.isinf(value):
        history.diverged_step = 3
    else:
        history.record(2, {"train/loss": 0.1, metric: value})
    return Point(point_name(one, overrides), Path(), one, history, outcome_of(history))
