"""The loader of an MLflow model that takes raw rows. Each such model has a copy of this module and of `convert`.

It loads from a folder that holds data.json, which says how raw rows become inputs, and network/, an MLflow model from
inputs to outputs. That one is of NumPy or of Keras, so that a NumPy model needs neither TensorFlow nor this package.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import load_model
from numpy.typing import NDArray

# Relative, so that it finds the copy next to this module, not the installed package.
from ..data.convert import as_text, convert

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel


class RawModel:
    """A trained network together with the conversion of raw rows to its inputs.

    Args:
        description: `DataDescription` as a plain dict.
        network: an MLflow model from inputs (rows, features) to outputs (rows, outputs).
    """

    def __init__(self, description: Mapping[str, Any], network: PyFuncModel) -> None:
        self.description = description
        self.network = network
        signature = network.metadata.signature
        self.dtype = signature.inputs.inputs[0].type

    def predict(self, rows: Any) -> pd.DataFrame:
        """Predict raw rows.

        Args:
            rows: a DataFrame with the raw columns, of any types that can be converted; for images an array of grey
                values, (rows, height, width, channels).

        Returns:
            A row for each one. For classes the column `class` and a column `probability_CLASS` for each of them; for
            numbers a column for each target.

        Raises:
            MlflowException: a value cannot be converted; the message names its row, counted from 1, and its column.
        """
        index = pd.RangeIndex(len(rows))
        if self.description["columns"]:
            index = rows.index
        try:
            inputs = self._inputs(rows)
        except ValueError as error:
            # A server shows the message of this exception to its client, and of no other.
            raise MlflowException.invalid_parameter_value(str(error)) from None
        return self._named(self.network.predict(inputs), index)

    def _inputs(self, rows: Any) -> NDArray[np.floating]:
        """Convert raw rows to what the network takes.

        Raises:
            ValueError: a value cannot be converted.
        """
        for column in self.description["columns"]:
            if column["kind"] == "category":
                _check_text(column, rows[column["name"]])
        # In float64 and then in the dtype of the network, as in training.
        with np.errstate(over="ignore"):
            inputs: NDArray[np.floating] = convert(self.description, rows).astype(self.dtype)
        infinite = np.flatnonzero(np.isinf(inputs).any(axis=1))
        if infinite.size:
            raise ValueError(f"row {infinite[0] + 1}: expected numbers that fit in {self.dtype}, received larger ones")
        return inputs

    def _named(self, outputs: NDArray[np.floating], index: pd.Index) -> pd.DataFrame:
        """Name the outputs of a network (rows, outputs)."""
        classes = list(self.description["classes"])
        if self.description["task"] == "regression":
            return pd.DataFrame(outputs, index, list(self.description["targets"]))
        if self.description["task"] == "binary":
            # Without a sigmoid, as a loss of errors has it, an output may lie a little outside.
            outputs = np.clip(np.hstack([1 - outputs, outputs]), 0, 1)
        predicted = pd.DataFrame(outputs, index, [f"probability_{name}" for name in classes])
        predicted.insert(0, "class", [classes[number] for number in outputs.argmax(axis=1)])
        return predicted


def _check_text(column: Mapping[str, Any], values: pd.Series) -> None:
    """Refuse numbers and booleans where text is expected, unless they are known: pandas reads 007 as 7, or as 7.0.

    Raises:
        ValueError: there is one.
    """
    if values.isna().all() or not pd.api.types.is_numeric_dtype(values):
        return
    unknown = np.flatnonzero(values.notna() & ~as_text(values).isin(column["categories"]))
    if unknown.size:
        row = int(unknown[0])
        raise ValueError(
            f"row {row + 1}, column {column['name']}: expected text, received {values.iloc[row]}; a file is read with "
            f"dtype={{{column['name']!r}: str}}"
        )


def _load_pyfunc(path: str) -> RawModel:
    """Load a model from the folder that holds data.json and network/."""
    network = str(Path(path) / "network")
    keras = Model.load(network).flavors.get("keras")
    # A model that has layers of a person's own has a loader of its own, which does the same.
    if keras is not None:
        # Otherwise Keras would look for TensorFlow, which a model trained with JAX does not need.
        os.environ.setdefault("KERAS_BACKEND", keras["keras_backend"])
    description = json.loads((Path(path) / "data.json").read_text(encoding="utf-8"))
    return RawModel(description, load_model(network, suppress_warnings=True))
