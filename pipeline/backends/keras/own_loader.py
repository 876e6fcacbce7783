"""Load a Keras model that has layers of a person's own, outside this project: a copy of this file is part of the model.

Beside the file model.keras lies classes.json: the engine that the model was trained with, and the module of each class
that Keras does not have. The modules lie in code/, as they were when the model was trained.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

# Python's modules are those of the whole process.
_LOCK = threading.RLock()


class Code:
    """The modules that a model has, which are Python's only within a block: another model may have others so named.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tops = {path.stem for path in folder.iterdir()}
        self._modules: dict[str, ModuleType] = {}

    @contextmanager
    def importable(self) -> Iterator[None]:
        """Let imports find these modules within the block, and then those that they found before."""
        with _LOCK:
            others = self._taken_out()
            sys.modules.update(self._modules)
            sys.path.insert(0, str(self.folder))
            try:
                yield
            finally:
                sys.path.remove(str(self.folder))
                self._modules = self._taken_out()
                sys.modules.update(others)

    def _taken_out(self) -> dict[str, ModuleType]:
        """Remove the modules of these names from Python's, and return them."""
        names = [name for name in sys.modules if name.partition(".")[0] in self._tops]
        return {name: sys.modules.pop(name) for name in names}


class Predictor:
    """A loaded model, with the method that MLflow calls.

    Args:
        model: from inputs (rows, features) to outputs (rows, outputs).
        code: the modules of its layers.
    """

    def __init__(self, model: keras.Model, code: Code) -> None:
        self.model = model
        self.code = code

    def predict(self, inputs: Any, params: dict[str, Any] | None = None) -> Any:  # noqa: ARG002 - MLflow's signature
        """Return the outputs (rows, outputs) of inputs (rows, features)."""
        # A layer may import something when it is called.
        with self.code.importable():
            return self.model.predict(np.asarray(inputs), verbose=0)


def _load_pyfunc(data_path: str) -> Predictor:
    """Load a model: the function that MLflow calls."""
    folder = Path(data_path)
    content = json.loads((folder / "classes.json").read_text("utf-8"))
    # Otherwise Keras would look for TensorFlow, which a model trained with JAX does not need.
    os.environ.setdefault("KERAS_BACKEND", content["engine"])
    import keras

    code = Code(folder / "code")
    with code.importable():
        classes = {name: getattr(importlib.import_module(module), name) for name, module in content["classes"].items()}
        model = keras.models.load_model(folder / "model.keras", custom_objects=classes, compile=False)
    return Predictor(model, code)
