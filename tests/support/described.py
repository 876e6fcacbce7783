"""Described data as `python -m pipeline.prepare` writes it, made by hand from what scikit-learn brings."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from pipeline.config.data import LIBRARY_TASKS, Task
from pipeline.config.reading import read_config
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays
from pipeline.data.description import Column, DataDescription
from pipeline.data.prepared_folder import PREPARED
from pipeline.system.project import CONF
from tests.support.trained import composed

TASKS: dict[str, Task] = {name.removeprefix("sklearn:"): task for name, task in LIBRARY_TASKS.items() if "sk" in name}
SMALL = ("model.hidden_size=6", "training.batch_size=32", "training.epochs=2", "optimizer.learning_rate=0.01")


@dataclass(frozen=True)
class Prepared:
    """Arrays by name, in float64, and what they are."""

    arrays: dict[str, NDArray[Any]]
    description: DataDescription

    def loaded(self, dtype: str) -> Arrays:
        """As `data.arrays.load` returns it."""
        cast_to = {name: array.astype(dtype) if array.dtype == float else array for name, array in self.arrays.items()}
        return Arrays(
            cast_to["train_inputs"],
            cast_to["train_targets"],
            cast_to.get("test_inputs"),
            cast_to.get("test_targets"),
            self.description.outputs,
            {"data.json": self.description.checksum},
            dtype,
            description=self.description,
        )

    def write(self, project: Path) -> None:
        """Write data/prepared/NAME."""
        folder = project / PREPARED / self.description.name
        folder.mkdir(parents=True)
        sums = {}
        for name, array in self.arrays.items():
            np.save(folder / f"{name}.npy", array)
            sums[f"{name}.npy"] = hashlib.sha256((folder / f"{name}.npy").read_bytes()).hexdigest()
        described = {"sha256": sums, "description": self.description.model_dump(mode="json")}
        (folder / "data.json").write_text(json.dumps(described))


@cache
def prepared(name: str, test_share: float = 0.2) -> Prepared:
    """Return a data set of scikit-learn, split and standardised."""
    found = getattr(datasets, f"load_{name}")()
    task = TASKS[name]
    inputs = found.data.astype(np.float64)
    targets = found.target
    if task != "classification":
        targets = targets.astype(np.float64)[:, None]
    if task == "regression":
        targets = (targets - targets.mean()) / targets.std()
    train, test = np.arange(len(inputs)), np.empty(0, int)
    if test_share:
        stratify = None if task == "regression" else found.target
        train, test = train_test_split(train, test_size=test_share, random_state=1, stratify=stratify)
    scaler = StandardScaler().fit(inputs[train])
    arrays = {"train_inputs": scaler.transform(inputs[train]), "train_targets": targets[train]}
    if len(test):
        arrays |= {"test_inputs": scaler.transform(inputs[test]), "test_targets": targets[test]}
    classes = () if task == "regression" else tuple(map(str, found.target_names))
    columns = tuple(
        Column(name=str(column), kind="number", mean=float(mean), deviation=float(deviation))
        for column, mean, deviation in zip(found.feature_names, scaler.mean_, scaler.scale_, strict=True)
    )
    description = DataDescription(
        name=name,
        task=task,
        source=f"sklearn:{name}",
        sha256=hashlib.sha256(inputs.tobytes()).hexdigest(),
        train_rows=len(train),
        test_rows=len(test),
        row_shape=(inputs.shape[1],),
        columns=columns,
        targets=("target",),
        classes=classes,
    )
    return Prepared(arrays, description)


def config_of(name: str, *overrides: str, test_share: float = 0.2) -> Config:
    """Compose the config of a point on one of these data sets, without validation rows; `loss=auto` fits it."""
    plain = composed(CONF, overrides)
    shares = {"test_share": test_share, "validation_share": 0}
    data = {"kind": "library", "name": name, "source": f"sklearn:{name}", **shares}
    return read_config({**plain, "data": data})
