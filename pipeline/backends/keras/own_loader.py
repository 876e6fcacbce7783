"""Load a Keras model that has layers of a person's own, outside this project: a copy of this file is part of the model.

Beside the file model.keras lies classes.json: the module of each class that Keras does not have. The modules are copied
into the model too, where MLflow puts them on Python's path.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np


class Predictor:
    """A loaded model, with the method that MLflow calls.

    Args:
        model: from inputs (rows, features) to outputs (rows, outputs).
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model

    def predict(self, inputs: Any, params: dict[str, Any] | None = None) -> Any:  # noqa: ARG002 - MLflow's signature
        """Return the outputs (rows, outputs) of inputs (rows, features)."""
        return self.model.predict(np.asarray(inputs), verbose=0)


def _load_pyfunc(data_path: str) -> Predictor:
    """Load a model: the function that MLflow calls."""
    folder = Path(data_path)
    modules = json.loads((folder / "classes.json").read_text("utf-8"))
    classes = {name: getattr(importlib.import_module(module), name) for name, module in modules.items()}
    return Predictor(keras.models.load_model(folder / "model.keras", custom_objects=classes, compile=False))
