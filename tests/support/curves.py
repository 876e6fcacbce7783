"""Balls on curves for the tests; nothing on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pipeline.backends.choose import trainer
from pipeline.backends.contract import Checkpoints
from pipeline.backends.numpy.curves.shape import Curve, curve_of
from pipeline.backends.shared.history import History
from pipeline.config.curve import CurveData
from pipeline.config.reading import read_config
from pipeline.config.schema import Config
from pipeline.data.arrays import load
from pipeline.points.point import Point, outcome_of, point_name
from tests.support.trained import config


def curve(expression: str, lowest: float = -5, highest: float = 5) -> Curve:
    """Return a curve by its expression."""
    data = CurveData(
        kind="curve", name="c", expression=expression, points=None, lowest=lowest, highest=highest
    )  # fmt: skip
    return curve_of(data)


def changed(experiment: str, changes: dict[str, Any]) -> Config:
    """Return the config of an experiment with some keys replaced; the conf folder is read only once."""
    plain: dict[str, Any] = config(f"experiment={experiment}").model_dump(mode="json")
    for key, value in changes.items():
        *sections, last = key.split(".")
        place = plain
        for section in sections:
            place = place[section]
        place[last] = value
    return read_config(plain)


def rolled(one: Config, checkpoints: Checkpoints | None = None, history: History | None = None) -> History:
    """Let the balls of a config roll; for a map, all of its balls."""
    filled = history or History()
    trainer(one)([one], load(one.data, one.dtype, Path()), [filled], lambda step, loss: None, checkpoints)
    return filled


def ball_point(experiment: str, *overrides: str) -> Point:
    """Return a point whose balls have rolled; overrides of an experiment are plain `key=value`."""
    pairs = [override.split("=", 1) for override in overrides]
    one = changed(experiment.removeprefix("experiment="), {key: yaml.safe_load(value) for key, value in pairs})
    history = rolled(one)
    return Point(point_name(one, overrides), Path(), one, history, outcome_of(history))


def study(name: str, *grid: str) -> list[Point]:
    """Return the points of a study, one for each override."""
    return [ball_point(name, *own.split()) for own in grid]


BASINS = ("experiment=curve_basins", "training.epochs=60", "grid.x.linspace.count=6", "grid.y.linspace.count=15")
"""A small map."""
