"""A folder of one's own beside the project, with a model file and its code: `--config-dir` is all that it takes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas
import pytest

from pipeline.points.reading import read_point
from tests.support.once import copy_of_the_project
from tests.support.swept import on_disk, runs_of

YAML = """
_target_: net.build
units: 4
"""
CODE = """
import keras
from layers import Scale

def build(input_shape, outputs, units):
    return keras.Sequential([
        keras.Input(input_shape), keras.layers.Dense(units, activation="tanh"), Scale(), keras.layers.Dense(outputs)])
"""
LAYERS = """
import keras

class Scale(keras.layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, inputs):
        return inputs * self.scale
"""
TYPED = ("-m", "backend=keras", "model=mine", "data=three_bits", "study=mine", "training.batch_size=2",
         "training.epochs=3", "model.units=2,3", "optimizer.learning_rate=0.1")  # fmt: skip


def own_folder(folder: Path) -> Path:
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "conf" / "model" / "mine.yaml").write_text(YAML)
    (folder / "net.py").write_text(CODE)
    (folder / "layers.py").write_text(LAYERS)
    return folder


def train(lab: Path, mine: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline.train", "--config-dir", str(mine / "conf"), *TYPED, *more]
    return subprocess.run(command, cwd=lab, capture_output=True, text=True, env=os.environ)


@pytest.mark.slow
def test_a_model_of_ones_own_trains_here_and_on_workers_and_loads_without_this_project(tmp_path: Path) -> None:
    mine = own_folder(tmp_path / "mine")
    lab = copy_of_the_project(tmp_path / "lab")
    there = copy_of_the_project(tmp_path / "there")
    for place, more in ((lab, ()), (there, ("hydra/launcher=joblib", "hydra.launcher.workers=2"))):
        done = train(place, mine, *more)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert re.search(r"^units .*training loss", done.stdout, re.MULTILINE)
    points = on_disk(lab)
    assert len(points) == 2
    assert on_disk(there) == points
    # A second command has nothing to do; a change of the code that counts has.
    assert "2 points: 2 done" in train(lab, mine).stderr
    (mine / "layers.py").write_text(LAYERS.replace("inputs * self.scale", "2 * inputs * self.scale"))
    assert "2 points: 2 to run" in train(lab, mine, "dry_run=true").stderr
    (run, *_) = [run for run in runs_of(lab, "mine") if run.data.tags["lab.role"] == "point"]
    assert {"model._target_": "net.build"}.items() <= run.data.params.items()
    assert run.outputs is not None
    # Beside the last weights there may be those with the lowest loss.
    (model,) = [output for output in run.outputs.model_outputs if output.step == 3]
    folder = lab / "mlruns" / "artifacts" / "mine" / "models" / model.model_id / "artifacts"
    inputs = np.array([[0, 0, 1], [1, 0, 1]], np.float32)
    predicted = mlflow.pyfunc.load_model(str(folder)).predict(inputs)
    assert predicted == pytest.approx(by_hand(lab, run.data.tags["signature"], inputs), rel=1e-5)


def test_data_in_a_folder_of_ones_own_is_found_beside_its_config(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "conf" / "data").mkdir(parents=True)
    lines = ["kind: file", "name: own", "path: tables/own.csv", "target: y", "task: regression"]
    (mine / "conf" / "data" / "own.yaml").write_text("\n".join(lines) + "\n")
    lab = copy_of_the_project(tmp_path / "lab")

    def run(command: str, *more: str) -> subprocess.CompletedProcess[str]:
        typed = [sys.executable, "-m", f"pipeline.{command}", "--config-dir", "../mine/conf", "data=own", *more]
        return subprocess.run(typed, cwd=lab, capture_output=True, text=True)

    missing_file = run("prepare")
    assert f"{lab}/tables/own.csv does not exist" in missing_file.stderr
    (mine / "tables").mkdir()
    (mine / "tables" / "own.csv").write_text("x,y\n" + "".join(f"{row},{row % 7}\n" for row in range(50)))
    train = ("training.epochs=1", "training.batch_size=8")
    unprepared = run("train", *train)
    assert "python -m pipeline.prepare --config-dir ../mine/conf data=own" in unprepared.stderr
    assert run("prepare").returncode == 0
    done = run("train", *train)
    assert done.returncode == 0, done.stderr
    # A file of that name in the project comes first.
    (lab / "tables").mkdir()
    (lab / "tables" / "own.csv").write_text("x,y\n1,2\n")
    assert "was prepared with other settings" in run("train", *train, "dry_run=true").stderr


@pytest.mark.slow
def test_an_empty_folder_with_a_csv_and_a_model_file_is_all_that_a_person_needs(tmp_path: Path) -> None:
    mine = tmp_path / "my things"
    for name, folder, lines in (
        ("orders", "data", ["kind: file", "name: orders", "path: orders.csv", "target: returned", "task: binary",
                            "exclude: [number]", "missing: mean"]),
        ("mine", "model", ["_target_: net.build", "units: 4"]),
    ):  # fmt: skip
        (mine / folder).mkdir(parents=True)
        (mine / folder / f"{name}.yaml").write_text("\n".join(lines) + "\n")
    (mine / "net.py").write_text(CODE)
    (mine / "layers.py").write_text(LAYERS)
    rows = [
        f"{row},{row % 9 * 10},{'' if row % 8 == 0 else row % 5},{'ny'[row % 2]},{row % 3 == 0}" for row in range(60)
    ]
    (mine / "orders.csv").write_text("\n".join(["number,price,weight,gift,returned", *rows]) + "\n")
    lab = copy_of_the_project(tmp_path / "lab")

    def type_in(command: str, *more: str) -> str:
        typed = [sys.executable, "-m", f"pipeline.{command}", "--config-dir", "../my things", *more, "data=orders"]
        done = subprocess.run(typed, cwd=lab, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "gift: text, 2 values: n, y" in type_in("prepare")
    asked = ("model=mine", "backend=keras", "study=orders", "training.epochs=2", "training.batch_size=8")
    type_in("train", "-m", *asked, "optimizer.learning_rate=0.1", "repeats=2")
    runs = runs_of(lab, "orders")
    again = "Run it again: `python -m pipeline.train --config-dir '../my things' "
    points = [run for run in runs if "lab.point" in run.data.tags]
    # Two seeds, and the point that they are of.
    assert len(points) == 3
    assert all(again in run.data.tags["mlflow.note.content"] for run in points)
    (model, *_) = (lab / "mlruns" / "artifacts" / "orders" / "models").glob("*/artifacts")
    predicted = mlflow.pyfunc.load_model(str(model)).predict(pandas.read_csv(mine / "orders.csv"))
    assert list(predicted.columns) == ["class", "probability_False", "probability_True"]
    assert len(predicted) == 60


def by_hand(lab: Path, signature: str, inputs: np.ndarray) -> np.ndarray:
    """The outputs of the network, from the weights on disk."""
    weights = read_point(lab / ".points" / signature, "").history.snapshots[3]
    kernel, bias, scale, last, shift = weights.values()
    outputs: np.ndarray = np.tanh(inputs @ kernel + bias) * scale @ last + shift
    return outputs
