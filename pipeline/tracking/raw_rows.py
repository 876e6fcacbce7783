"""What MLflow shows of a model that takes raw rows: its signature, example rows, and the lines that predict them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pipeline.data.description import Column, DataDescription

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, TensorSpec

# Columns that the lines of code spell out; for more, they take the example rows of the model.
SPELLED_OUT = 20
# MLflow's names for NumPy's floats.
FLOATS = {"float32": "float", "float64": "double"}
# The same for the raw columns of a data set.
KINDS = {"number": "double", "category": "string"}

Columns: TypeAlias = "list[ColSpec | TensorSpec]"
Rows = list[dict[str, float | str]]


def signature(data: DataDescription, dtype: str) -> ModelSignature:
    """Return what a model takes and returns.

    Each raw column must be there, so that one whose name is mistyped is not taken for one without values. It may be of
    any type: MLflow would refuse whole numbers and booleans where it expects a double, and a column of text without
    values, which pandas makes of a file. The model itself checks the values (`raw_loader.py`). Images are an array of
    bytes, (rows, height, width, channels).

    Args:
        data: what the network was trained on.
        dtype: dtype of the network's outputs.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec
    from mlflow.types.schema import AnyType

    names = data.targets
    outputs: Columns = []
    if data.task != "regression":
        names = tuple(f"probability_{name}" for name in data.classes)
        outputs = [ColSpec("string", "class")]
    outputs += [ColSpec(FLOATS[dtype], name) for name in names]
    if not data.columns:
        return ModelSignature(Schema([TensorSpec(np.dtype(np.uint8), (-1, *data.row_shape))]), Schema(outputs))
    any_type = AnyType()  # type: ignore[no-untyped-call]
    inputs: Columns = [ColSpec(any_type, column.name) for column in data.columns]
    return ModelSignature(Schema(inputs), Schema(outputs))


def optional(column: Column) -> bool:
    """Return whether values of a raw column may be missing."""
    if column.kind == "category":
        # `convert` reads a missing text as an empty one.
        return "" in column.categories
    return column.fill is not None


def example(data: DataDescription) -> Any:
    """Return two raw rows as the model takes them: a DataFrame, or an array of a black and a white image."""
    import pandas as pd

    if data.columns:
        return pd.DataFrame(_rows(data))
    return np.stack([np.full(data.row_shape, grey, np.uint8) for grey in (0, 255)])


def _rows(data: DataDescription) -> Rows:
    """Return two rows: the means and the first categories, then a deviation above and the second categories."""
    return [{column.name: _value(column, number) for column in data.columns} for number in (0, 1)]


def _value(column: Column, number: int) -> float | str:
    if column.kind == "number":
        # Short numbers are easy to read and to replace.
        return float(f"{column.mean + number * column.deviation:.4g}")
    categories = [category for category in column.categories if category]
    if not categories:
        return ""
    return categories[number % len(categories)]


def prediction(data: DataDescription, store: str, address: str) -> list[str]:
    """Return the lines of Python that load a model and predict rows like the example's.

    Args:
        data: what the network was trained on.
        store: the address of the MLflow store.
        address: the address of the model in the store.
    """
    load = [f'mlflow.set_tracking_uri("{store}")', f'model = mlflow.pyfunc.load_model("{address}")']
    if not data.columns:
        shape = ", ".join(str(size) for size in (1, *data.row_shape))
        return ["import mlflow", "import numpy", "", *load, f'model.predict(numpy.zeros(({shape}), "uint8"))']
    if len(data.columns) > SPELLED_OUT:
        return ["import mlflow", "", *load, "model.predict(model.input_example)"]
    rows = ["rows = [", *(f"    {row!r}," for row in _rows(data)), "]"]
    return ["import mlflow", "import pandas", "", *load, *rows, "model.predict(pandas.DataFrame(rows))"]
