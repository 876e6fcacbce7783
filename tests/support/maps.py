"""Small maps for the tests: the three-bit network over the learning rates of its two layers."""

from __future__ import annotations

from pathlib import Path

from pipeline.backends.contract import Checkpoints
from pipeline.backends.numpy.maps.rate_map import train_map
from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.data.arrays import load
from pipeline.points.point import Point, outcome_of, point_name
from tests.support.trained import config

SMALL = ("experiment=trainability_map", "training.epochs=60", "grid.x.logspace.count=9", "grid.y.logspace.count=7")


def map_config(*overrides: str) -> Config:
    """Return the config of a map: 9 x 7 points and 60 updates, unless overridden."""
    return config(*SMALL, *overrides)


def listed(axis: str, knob: str, values: str) -> tuple[str, ...]:
    """Return the overrides that give an axis a list of values."""
    return f"grid.{axis}.knob={knob}", f"grid.{axis}.logspace=null", f"grid.{axis}.list={values}"


def trained_map(one: Config, checkpoints: Checkpoints | None = None, history: History | None = None) -> History:
    """Train a map."""
    filled = history or History()
    train_map([one], load(one.data, one.dtype, Path()), [filled], lambda block, loss: None, checkpoints)
    return filled


def map_point(*overrides: str) -> Point:
    """Return a trained map; not on disk."""
    one = map_config(*overrides)
    history = trained_map(one)
    return Point(point_name(one, overrides), Path(), one, history, outcome_of(history))
