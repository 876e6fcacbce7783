"""What MLflow calls to load a NumPy model. A copy of this module and of the forward pass goes with each model.

So a model is loaded and predicts with NumPy alone, wherever it is, and as it did on the day it was trained.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from .network import Array, Parameters, predict, stack


class Network:
    """One trained network.

    Args:
        knobs: hidden_activation, output_activation and bias, as in the config's `model`.
        parameters: a stack of one network.
    """

    def __init__(self, knobs: Any, parameters: Parameters) -> None:
        self.knobs, self.parameters = knobs, parameters

    def predict(self, inputs: Array) -> Array:
        """The outputs (rows, outputs) for inputs (rows, features): for classes the probability of each."""
        with np.errstate(over="ignore"):  # a sigmoid far from 0, as in training
            outputs: Array = predict(self.knobs, self.parameters, inputs)[0]
        return outputs


def _load_pyfunc(path: str) -> Network:
    """Load a network from the folder that holds network.json and weights.npz."""
    knobs = SimpleNamespace(**json.loads((Path(path) / "network.json").read_text()))
    with np.load(Path(path) / "weights.npz", allow_pickle=False) as weights:
        return Network(knobs, stack([dict(weights)]))
