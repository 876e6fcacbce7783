"""Convert raw rows to inputs of a network, by the description of the data that the network was trained on.

Models in MLflow have a copy of this module. It therefore imports nothing of this package, and only NumPy and pandas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def convert(description: Mapping[str, Any], frame: Any) -> Float64:
    """Return the inputs of a network for raw rows.

    A column of numbers becomes (value - mean) / deviation, a missing value its `fill`, and a further input is 1 where a
    value was missing if the column has an `indicator`. A column of text becomes an input of 0 or 1 for each of its
    categories. A pixel becomes its grey value / 255, rounded to float32 as in training.

    Args:
        description: `DataDescription` as a plain dict, for instance read from data.json; its `columns` and `row_shape`
            are used.
        frame: a pandas DataFrame with the raw columns, in any order and perhaps with others; or an array (rows, raw
            columns) in the order of the columns. For images an array of grey values, (rows, height, width, channels),
            (rows, height, width) for one channel, or (rows, features).

    Returns:
        (rows, features), float64.

    Raises:
        ValueError: a column is missing, or a value cannot be converted. The message names the row, counted from 1, and
            the column.

    Example:
        >>> age = {"name": "age", "kind": "number", "mean": 40.0, "deviation": 10.0}
        >>> convert({"columns": [age], "row_shape": [1]}, np.array([[50.0], [35.0]]))
        array([[ 1. ],
               [-0.5]])
    """
    columns = description["columns"]
    if not columns:
        return _pixels(tuple(description["row_shape"]), np.asarray(frame))
    raw = _raw_columns([str(column["name"]) for column in columns], frame)
    inputs = np.zeros((len(frame), sum(width(column) for column in columns)))
    start = 0
    for column in columns:
        end = start + width(column)
        values = raw[str(column["name"])]
        if column["kind"] == "category":
            _write_categories(column, values, inputs[:, start:end])
        else:
            _write_numbers(column, values, inputs[:, start:end])
        start = end
    return inputs


def width(column: Mapping[str, Any]) -> int:
    """Return the number of inputs that a raw column becomes."""
    if column["kind"] == "category":
        return len(column["categories"])
    return 1 + bool(column.get("indicator"))


def as_text(values: Any) -> Any:
    """Return the values of a column of text as a pandas Series of strings; a missing value becomes an empty one."""
    import pandas as pd

    series = pd.Series(values)
    return series.astype(str).mask(series.isna(), "")


def as_numbers(values: Any, name: str) -> Float64:
    """Return the values of a column of numbers, (rows,); NaN where one is missing.

    Args:
        values: a pandas Series or an array.
        name: the column, for the message.

    Raises:
        ValueError: a value is not a number.
    """
    import pandas as pd

    series = pd.Series(values)
    missing = series.isna().to_numpy()
    kind = pd.api.types.infer_dtype(series)
    # pandas would count the nanoseconds of a date.
    if kind.startswith(("date", "time")):
        raise ValueError(f"column {name}: expected numbers, received a {kind}")
    numbers = pd.to_numeric(series.where(~missing, np.nan), errors="coerce")
    result: Float64 = numbers.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    wrong = np.flatnonzero(np.isnan(result) & ~missing)
    if wrong.size:
        raise ValueError(f"row {wrong[0] + 1}, column {name}: expected a number, received {series.iloc[wrong[0]]!r}")
    return result


def _raw_columns(names: list[str], frame: Any) -> dict[str, Any]:
    """Return the raw values by column.

    Raises:
        ValueError: the frame lacks a column, or the array has another number of columns.
    """
    if hasattr(frame, "columns"):
        labels = {str(label): label for label in frame.columns}
        missing = [name for name in names if name not in labels]
        if missing:
            raise ValueError(f"no column {', '.join(missing)}; expected {', '.join(names)}")
        return {name: frame[labels[name]] for name in names}
    array = np.asarray(frame)
    if array.ndim != 2 or array.shape[1] != len(names):
        raise ValueError(
            f"expected rows of {len(names)} values ({', '.join(names)}), received an array of shape {array.shape}"
        )
    return dict(zip(names, array.T, strict=True))


def _write_numbers(column: Mapping[str, Any], values: Any, inputs: Float64) -> None:
    """Write the inputs of a column of numbers to `inputs`, (rows, 1), or (rows, 2) with an indicator."""
    name = column["name"]
    numbers = as_numbers(values, name)
    infinite = np.flatnonzero(np.isinf(numbers))
    if infinite.size:
        raise ValueError(f"row {infinite[0] + 1}, column {name}: expected a finite number, received inf")
    missing = np.isnan(numbers)
    fill = column.get("fill")
    if fill is None and missing.any():
        raise ValueError(f"row {np.flatnonzero(missing)[0] + 1}, column {name}: expected a number, received none")
    if fill is not None:
        numbers[missing] = fill
    inputs[:, 0] = (numbers - column.get("mean", 0.0)) / column.get("deviation", 1.0)
    if inputs.shape[1] > 1:
        inputs[:, 1] = missing


def _write_categories(column: Mapping[str, Any], values: Any, inputs: Float64) -> None:
    """Write 1 to the input of each row's category, of `inputs` (rows, categories) that are 0."""
    import pandas as pd

    # -1 for a value that is not among the categories.
    codes = pd.Index(column["categories"]).get_indexer(as_text(values))
    known = np.flatnonzero(codes >= 0)
    inputs[known, codes[known]] = 1.0


def _pixels(row_shape: tuple[int, ...], images: NDArray[Any]) -> Float64:
    """Return images as rows of grey value / 255.

    Raises:
        ValueError: the images have another shape, or values that are no grey values.
    """
    features = int(np.prod(row_shape))
    shapes = {row_shape, (features,)}
    if row_shape[-1] == 1:
        shapes.add(row_shape[:-1])
    if images.shape[1:] not in shapes:
        raise ValueError(f"expected images of shape {row_shape}, received an array of shape {images.shape}")
    flat = images.reshape(len(images), features)
    grey = np.isfinite(flat) & (flat >= 0) & (flat <= 255)
    if not grey.all():
        row = int(np.flatnonzero(~grey.all(axis=1))[0])
        raise ValueError(
            f"row {row + 1}: expected grey values from 0 to 255, received {flat[row].min()} to {flat[row].max()}"
        )
    scaled: Float64 = np.divide(flat, np.float32(255), dtype=np.float32, casting="unsafe").astype(np.float64)
    return scaled
