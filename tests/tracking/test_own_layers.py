"""The MLflow model of a network that has layers of a person's own: it has their code, as it was in training."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.pyfunc import load_model
from numpy.typing import NDArray

from pipeline.backends.keras.training import train
from pipeline.backends.shared.history import History
from pipeline.backends.shared.initial_weights import Weights
from pipeline.config.own_model import KerasModel
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays
from pipeline.tracking.model_files import write_model
from tests.support.trained import config

CODE = """
import keras

class Times(keras.layers.Layer):
    def call(self, inputs):
        from factors import FACTOR
        return inputs * FACTOR

def build(input_shape, outputs):
    return keras.Sequential([keras.Input(input_shape), Times(), keras.layers.Dense(outputs)])
"""
ROWS = np.random.default_rng(2).random((5, 4), np.float32)
Trained = Callable[[str, float], tuple[Config, History]]


@pytest.fixture
def trained(tmp_path: Path) -> Trained:
    """Return a function that trains a network whose inputs are multiplied by a factor."""

    def run(name: str, factor: float) -> tuple[Config, History]:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "net.py").write_text(CODE)
        (folder / "factors.py").write_text(f"FACTOR = {factor}\n")
        model = KerasModel.model_validate({"_target_": "net.build", "_folder_": str(folder)})
        small = config("experiment=convnet", "training.epochs=1", "training.batch_size=16", "training.rows=null")
        one = small.model_copy(update={"model": model})
        history = History()
        labels = np.arange(40) % 3
        inputs = np.random.default_rng(0).random((40, 4), np.float32)
        train([one], Arrays(inputs, labels, None, None, 3, {}), [history], lambda epoch, loss: None)
        return one, history

    return run


def written(folder: Path, one: Config, history: History) -> str:
    write_model(folder, one, history.snapshots[1], architecture=history.architecture)
    return str(folder)


def expected(weights: Weights, factor: float) -> NDArray[Any]:
    """The softmax of the sums, from the arrays."""
    kernel, bias = weights.values()
    powers = np.exp(factor * ROWS @ kernel + bias)
    shares: NDArray[Any] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def test_a_model_has_the_code_that_it_was_trained_with(trained: Trained, tmp_path: Path) -> None:
    one, history = trained("mine", 3.0)
    (tmp_path / "mine" / "factors.py").write_text("FACTOR = 500.0\n")
    (tmp_path / "mine" / "net.py").unlink()
    model = load_model(written(tmp_path / "model", one, history))
    np.testing.assert_allclose(model.predict(ROWS), expected(history.snapshots[1], 3.0), rtol=1e-5)


def test_two_models_in_one_process_keep_their_own_modules_of_one_name(trained: Trained, tmp_path: Path) -> None:
    found = [(factor, *trained(str(factor), factor)) for factor in (2.0, 5.0)]
    models = [load_model(written(tmp_path / f"model_{factor}", one, history)) for factor, one, history in found]
    taken = {name: sys.modules.get(name) for name in ("net", "factors")}
    for (factor, _, history), model in [*zip(found, models, strict=True)] * 2:
        np.testing.assert_allclose(model.predict(ROWS), expected(history.snapshots[1], factor), rtol=1e-5)
    assert {name: sys.modules.get(name) for name in taken} == taken


def test_it_is_loaded_with_the_engine_that_it_was_trained_with(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras is imported already, so only the variable is looked at."""
    path = written(tmp_path / "model", *trained("mine", 1.0))
    [file] = Path(path).rglob("classes.json")
    content = json.loads(file.read_text())
    assert content["engine"] == "tensorflow"
    file.write_text(json.dumps({**content, "engine": "jax"}))
    monkeypatch.setenv("KERAS_BACKEND", "")  # so that the variable is as before when the test ends
    monkeypatch.delenv("KERAS_BACKEND")
    load_model(path)
    assert os.environ["KERAS_BACKEND"] == "jax"
