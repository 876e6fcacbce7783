"""The loader of a NumPy model in MLflow. Each model contains a copy of this module and of the forward pass.

A model therefore loads and predicts with only NumPy, on any machine, and with the code that it was trained with.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

# Relative, so that it finds the copy next to this module, not the installed package.
from .network import Array, Parameters, predict, stack


class Network:
    """One trained network.

    Args:
        knobs: hidden_activation, output_activation and bias, as in the config's `model`.
        parameters: a stack of one network.
    """

    def __init__(self, knobs: Any, parameters: Parameters) -> None:
        self.knobs = knobs
        self.parameters = parameters

    def predict(self, inputs: Array) -> Array:
        """Compute the outputs (rows, outputs) for inputs (rows, features); for classes the probability of each."""
        # A sigmoid of a large negative sum overflows to inf and gives 0, as in training.
        with np.errstate(over="ignore"):
            outputs: Array = predict(self.knobs, self.parameters, inputs)[0]
        return outputs


def _load_pyfunc(path: str) -> Network:
    """Load a network from the folder that holds network.json and weights.npz."""
    knobs = SimpleNamespace(**json.loads((Path(path) / "network.json").read_text()))
    # Pickles could run code; arrays of numbers need none.
    with np.load(Path(path) / "weights.npz", allow_pickle=False) as weights:
        return Network(knobs, stack([dict(weights)]))
