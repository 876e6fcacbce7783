"""Small data with a description, prepared without the code that prepares it, and points trained on it."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.backends.choose import trainer
from pipeline.backends.shared.history import History
from pipeline.config.data import Task
from pipeline.config.reading import read_config
from pipeline.config.schema import Config
from pipeline.data.arrays import load
from pipeline.data.description import Column, DataDescription
from pipeline.points.point import Point, outcome_of
from tests.support.trained import config

COLUMNS = (
    Column(name="age", kind="number", mean=40.25, deviation=10.5, fill=41.0, indicator=True),
    Column(name="net income", kind="number", mean=3000.0, deviation=800.0),
    Column(name="city", kind="category", categories=("", "Bern", "Köln")),
)
"""Inputs: age, whether it is missing, income, and for each of three cities whether it is that one."""
OUTPUTS: dict[str, dict[str, Any]] = {
    "classification": {"targets": ("size",), "classes": ("large", "middle", "small")},
    "binary": {"targets": ("stays",), "classes": ("no", "yes")},
    "regression": {"targets": ("price", "weight")},
}
LOSSES = {
    "classification": ("cross_entropy", "softmax"),
    "binary": ("mean_squared_error", "sigmoid"),
    "regression": ("mean_squared_error", "identity"),
}
PIXELS = (4, 3, 1)
Inputs = NDArray[np.float64]


def people(rows: int, seed: int = 0) -> pd.DataFrame:
    """Raw rows, of which some have no age and some no city."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": random.integers(18, 90, rows).astype(float),
            "net income": random.uniform(1000, 6000, rows).round(2),
            "city": random.choice(["Bern", "Köln"], rows),
        }
    )
    frame.loc[random.random(rows) < 0.2, "age"] = math.nan
    frame.loc[random.random(rows) < 0.2, "city"] = None
    return frame


def inputs_of(frame: pd.DataFrame) -> Inputs:
    """The inputs of raw rows, written out value by value."""
    rows = []
    for age, income, city in zip(frame["age"], frame["net income"], frame["city"], strict=True):
        no_age = bool(pd.isna(age))
        known = [pd.isna(city), city == "Bern", city == "Köln"]
        rows.append([((41.0 if no_age else age) - 40.25) / 10.5, no_age, (income - 3000) / 800, *known])
    return np.array(rows, np.float64)


def images(rows: int, seed: int = 0) -> NDArray[np.uint8]:
    """Images of bytes."""
    return np.random.default_rng(seed).integers(0, 256, (rows, *PIXELS), np.uint8)


def targets_of(task: Task) -> NDArray[Any]:
    """The targets of 50 rows: classes, 0 or 1, or two numbers."""
    random = np.random.default_rng(1)
    if task == "classification":
        return random.integers(0, 3, 50)
    if task == "binary":
        return random.integers(0, 2, (50, 1)).astype(float)
    return random.normal(size=(50, 2))


def prepared(project: Path, task: Task, pixels: bool = False) -> DataDescription:
    """Write data/prepared/people, or data/prepared/pixels, with 40 training rows and 10 test rows."""
    name = "pixels" if pixels else "people"
    description = DataDescription(
        name=name,
        task=task,
        source=f"{name}.csv",
        sha256="5" * 64,
        train_rows=40,
        test_rows=10,
        row_shape=PIXELS if pixels else (6,),
        columns=() if pixels else COLUMNS,
        notes=("The column age has no value in 9 rows.", "The column x is constant."),
        **OUTPUTS[task],
    )
    inputs = images(50).reshape(50, -1) if pixels else inputs_of(people(50))
    targets = targets_of(task)
    folder = project / "data" / "prepared" / name
    folder.mkdir(parents=True)
    sums = {}
    for split, part in (("train", slice(40)), ("test", slice(40, 50))):
        for role, array in (("inputs", inputs[part]), ("targets", targets[part])):
            np.save(folder / f"{split}_{role}.npy", array, allow_pickle=False)
            sums[f"{split}_{role}.npy"] = hashlib.sha256((folder / f"{split}_{role}.npy").read_bytes()).hexdigest()
    content = {"description": description.model_dump(mode="json"), "sha256": sums}
    (folder / "data.json").write_text(json.dumps(content))
    return description


def described(description: DataDescription, *overrides: str) -> Config:
    """The config of a point on prepared data."""
    composed = config("model.hidden_size=5", "training.epochs=3", *overrides).model_dump(mode="json")
    loss, activation = LOSSES[description.task]
    composed["data"] = {"kind": "file", "path": "people.csv", "target": list(description.targets)}
    if not description.columns:
        composed["data"] = {"kind": "images", "path": "pixels.npz", "standardise": False}
    composed["data"] |= {"name": description.name, "task": description.task}
    composed["loss"] = loss
    composed["model"]["output_activation"] = activation
    return read_config(composed)


def trained_point(project: Path, point: Config) -> Point:
    """Train a point, without its folder."""
    arrays = load(point.data, point.dtype, project)
    history = History()
    trainer(point)([point], arrays, [history], lambda epoch, loss: None)
    return Point("learning_rate=1", Path(), point, history, outcome_of(history), arrays.description)
