"""A folder of one's own beside the project, with a model file and its code: `--config-dir` is all that it takes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas
import pytest

import pipeline.prepare
from pipeline.points.reading import read_point
from pipeline.sweep.command import TrainCommand
from pipeline.system import cli
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
         "training.epochs=3", "optimizer.learning_rate=0.1", "recording.figures=none")  # fmt: skip
Here = Callable[..., tuple[str, str]]


def own_folder(folder: Path) -> Path:
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "conf" / "model" / "mine.yaml").write_text(YAML)
    (folder / "net.py").write_text(CODE)
    (folder / "layers.py").write_text(LAYERS)
    return folder


@pytest.fixture
def lab(tmp_path: Path, empty_store: Path) -> Path:
    """A copy of the project with an empty store."""
    return project_with(empty_store, tmp_path / "lab")


def project_with(store: Path, folder: Path) -> Path:
    (copy_of_the_project(folder) / "mlruns").mkdir()
    shutil.copy(store, folder / "mlruns" / "mlflow.db")
    return folder


@pytest.fixture
def here(lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """Return a function that runs a command in this process, which imports TensorFlow once, and returns its output.

    As a process, test_your_own.py runs one with a folder of one's own.
    """
    monkeypatch.chdir(lab)
    for module in ("sweep.command", "prepare"):
        monkeypatch.setattr(f"pipeline.{module}.PROJECT", lab)
    monkeypatch.setattr("pipeline.tracking.sync.process.launch", lambda first: None)

    def command(name: str, *arguments: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        training = TrainCommand()
        code = (
            cli.run(training.train_point, "config", training.finish)
            if name == "train"
            else cli.run(pipeline.prepare.task, "data_stages")
        )
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out, said.err

    return command


def forget(*modules: str) -> None:
    """Forget modules of one's own that a command has imported: a model is to bring its own."""
    for name in modules:
        assert sys.modules.pop(name, None) is not None


@pytest.mark.slow
def test_a_model_of_ones_own_trains_here_and_on_workers_and_loads_without_this_project(
    tmp_path: Path, lab: Path, empty_store: Path, here: Here
) -> None:
    mine = own_folder(tmp_path / "mine")
    typed = ("--config-dir", str(mine / "conf"), *TYPED)
    both = "model.units=2,3"
    assert re.search(r"^units .*training loss", here("train", *typed, both)[0], re.MULTILINE)
    points = on_disk(lab)
    assert len(points) == 2
    # A single point, so that a single worker imports TensorFlow.
    there = project_with(empty_store, tmp_path / "there")
    workers = ("hydra/launcher=joblib", "hydra.launcher.workers=2")
    command = [sys.executable, "-m", "pipeline.train", *typed, "model.units=3", *workers]
    done = subprocess.run(command, cwd=there, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "1 point in 1 unit for 2 workers, by joblib" in done.stderr
    (sent,) = on_disk(there).items()
    assert sent in points.items()
    # A second command has nothing to do; a change of the code that counts has.
    assert "2 points: 2 done" in here("train", *typed, both)[1]
    (mine / "layers.py").write_text(LAYERS.replace("inputs * self.scale", "2 * inputs * self.scale"))
    assert "2 points: 2 to run" in here("train", *typed, both, "dry_run=true")[1]
    (run, *_) = [run for run in runs_of(lab, "mine") if run.data.tags["lab.role"] == "point"]
    assert {"model._target_": "net.build"}.items() <= run.data.params.items()
    assert run.outputs is not None
    # Beside the last weights there may be those with the lowest loss.
    (model,) = [output for output in run.outputs.model_outputs if output.step == 3]
    folder = lab / "mlruns" / "artifacts" / "mine" / "models" / model.model_id / "artifacts"
    inputs = np.array([[0, 0, 1], [1, 0, 1]], np.float32)
    forget("net", "layers")
    predicted = mlflow.pyfunc.load_model(str(folder)).predict(inputs)
    assert predicted == pytest.approx(by_hand(lab, run.data.tags["signature"], inputs), rel=1e-5)


def test_data_in_a_folder_of_ones_own_is_found_beside_its_config(tmp_path: Path, lab: Path, here: Here) -> None:
    mine = tmp_path / "mine"
    (mine / "conf" / "data").mkdir(parents=True)
    lines = ["kind: file", "name: own", "path: tables/own.csv", "target: y", "task: regression"]
    (mine / "conf" / "data" / "own.yaml").write_text("\n".join(lines) + "\n")

    asked = ("--config-dir", "../mine/conf", "data=own")

    def run(command: str, *more: str) -> str:
        typed = [sys.executable, "-m", f"pipeline.{command}", *asked, *more]
        return subprocess.run(typed, cwd=lab, capture_output=True, text=True).stderr

    assert f"{lab}/tables/own.csv does not exist" in run("prepare")
    (mine / "tables").mkdir()
    (mine / "tables" / "own.csv").write_text("x,y\n" + "".join(f"{row},{row % 7}\n" for row in range(50)))
    train = ("training.epochs=1", "training.batch_size=8")
    assert "python -m pipeline.prepare --config-dir ../mine/conf data=own" in run("train", *train)
    here("prepare", *asked)
    here("train", *asked, *train)
    # A file of that name in the project comes first.
    (lab / "tables").mkdir()
    (lab / "tables" / "own.csv").write_text("x,y\n1,2\n")
    assert "was prepared with other settings" in run("train", *train, "dry_run=true")


@pytest.mark.slow
def test_an_empty_folder_with_a_csv_and_a_model_file_is_all_that_a_person_needs(
    tmp_path: Path, lab: Path, here: Here
) -> None:
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
    typed = ("--config-dir", "../my things")
    assert "gift: text, 2 values: n, y" in here("prepare", *typed, "data=orders")[0]
    asked = (
        "model=mine",
        "backend=keras",
        "study=orders",
        "training.epochs=2",
        "training.batch_size=8",
        "recording.figures=none",
    )
    here("train", *typed, "-m", *asked, "optimizer.learning_rate=0.1", "repeats=2", "data=orders")
    runs = runs_of(lab, "orders")
    again = "Run it again: `python -m pipeline.train --config-dir '../my things' "
    points = [run for run in runs if "lab.point" in run.data.tags]
    # Two seeds, and the point that they are of.
    assert len(points) == 3
    assert all(again in run.data.tags["mlflow.note.content"] for run in points)
    (model, *_) = (lab / "mlruns" / "artifacts" / "orders" / "models").glob("*/artifacts")
    forget("net", "layers")
    predicted = mlflow.pyfunc.load_model(str(model)).predict(pandas.read_csv(mine / "orders.csv"))
    assert list(predicted.columns) == ["class", "probability_False", "probability_True"]
    assert len(predicted) == 60


def by_hand(lab: Path, signature: str, inputs: np.ndarray) -> np.ndarray:
    """The outputs of the network, from the weights on disk."""
    weights = read_point(lab / ".points" / signature, "").history.snapshots[3]
    kernel, bias, scale, last, shift = weights.values()
    outputs: np.ndarray = np.tanh(inputs @ kernel + bias) * scale @ last + shift
    return outputs
