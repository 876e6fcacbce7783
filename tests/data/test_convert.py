"""Raw rows become inputs by the description alone, in any form in which a user may have them."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.data import convert as module
from pipeline.data.checks import Rows
from pipeline.data.columns import learn_numbers
from pipeline.data.convert import convert

AGE = {"name": "age", "kind": "number", "mean": 40.0, "deviation": 8.0, "fill": 44.0, "indicator": True}
PLAN = {"name": "plan", "kind": "category", "categories": ["", "basic", "plus"]}
DESCRIPTION = {"columns": [AGE, PLAN], "row_shape": [5]}
EXPECTED = [[1.0, 0, 0, 1, 0], [0.5, 1, 1, 0, 0], [-0.5, 0, 0, 0, 1], [0.0, 0, 0, 0, 0]]

FRAMES = {
    "a frame": pd.DataFrame({"age": [48, np.nan, 36, 40], "plan": ["basic", None, "plus", "other"]}),
    "other order and columns": pd.DataFrame(
        {"id": [1, 2, 3, 4], "plan": ["basic", None, "plus", "other"], "age": [48, np.nan, 36, 40]}
    ),
    "nullable types": pd.DataFrame(
        {"age": pd.array([48, None, 36, 40], "Int64"), "plan": pd.Categorical(["basic", None, "plus", "other"])}
    ),
    "text from JSON": pd.DataFrame({"age": ["48", None, "36", 40], "plan": ["basic", None, "plus", "other"]}),
    "an array": np.array([[48, "basic"], [None, None], [36, "plus"], [40, "other"]], dtype=object),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_any_form_of_the_rows_gives_the_same_inputs(frame: Any) -> None:
    inputs = convert(DESCRIPTION, frame)
    assert inputs.dtype == np.float64
    assert inputs.tolist() == EXPECTED


def test_categories_that_are_numbers_are_found_as_text() -> None:
    codes = {"columns": [{"name": "code", "kind": "category", "categories": ["1", "2"]}], "row_shape": [2]}
    assert convert(codes, pd.DataFrame({"code": [2, 1, 3]})).tolist() == [[0, 1], [1, 0], [0, 0]]


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pd.DataFrame({"age": [1.0]}), ["no column plan", "age, plan"]),
        (pd.DataFrame({"age": [1.0, np.inf], "plan": ["a", "b"]}), ["row 2, column age", "finite"]),
        (pd.DataFrame({"age": ["1", "x"], "plan": ["a", "b"]}), ["row 2, column age", "'x'"]),
        (pd.DataFrame({"age": [datetime.date(2024, 1, 1)], "plan": ["a"]}), ["column age", "date"]),
        (pd.DataFrame({"age": pd.to_datetime(["2024-01-01"]), "plan": ["a"]}), ["column age", "date"]),
        (np.zeros((2, 3)), ["2 values", "(2, 3)"]),
    ],
)
def test_rows_that_cannot_be_converted_are_named(frame: Any, words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"column|values") as caught:
        convert(DESCRIPTION, frame)
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_missing_number_without_a_fill_is_refused() -> None:
    column = {"name": "age", "kind": "number", "mean": 0.0, "deviation": 1.0, "fill": None}
    with pytest.raises(ValueError, match="row 2, column age"):
        convert({"columns": [column], "row_shape": [1]}, pd.DataFrame({"age": [1.0, None]}))


@pytest.mark.parametrize("shape", [(2, 2, 3, 1), (2, 2, 3), (2, 6)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64])
def test_pixels_are_scaled_as_in_training(shape: tuple[int, ...], dtype: type) -> None:
    grey: Any = np.array([0, 1, 7, 100, 254, 255] * 2, dtype=dtype).reshape(shape)
    by_hand = [float(np.float32(value) / np.float32(255)) for value in (0, 1, 7, 100, 254, 255)]
    assert convert({"columns": [], "row_shape": [2, 3, 1]}, grey).tolist() == [by_hand, by_hand]


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((1, 3, 2)), "expected images of shape"),
        (np.full((1, 6), -1.0), "row 1: expected grey values"),
        (np.full((1, 6), 256), "row 1: expected grey values"),
        (np.full((1, 6), np.nan), "row 1: expected grey values"),
    ],
)
def test_images_that_are_none_are_refused(images: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        convert({"columns": [], "row_shape": [2, 3, 1]}, images)


numbers = arrays(np.float64, st.integers(2, 40), elements=st.floats(-1e6, 1e6, width=32))


@given(numbers)
def test_training_rows_have_mean_0_and_deviation_1(values: Any) -> None:
    rows = Rows(pd.DataFrame({"x": values}), "x", lambda index: index + 1)
    column, _ = learn_numbers("x", rows, standardise=True, missing="error")
    inputs = convert({"columns": [column.model_dump()], "row_shape": [1]}, rows.frame)[:, 0]
    assert abs(inputs.mean()) < 1e-6
    spread = values.max() - values.min()
    if spread > 1e-6 * np.abs(values).max():
        assert inputs.std() == pytest.approx(1, abs=1e-6)


@given(numbers)
def test_numbers_that_are_not_standardised_stay_as_they_are(values: Any) -> None:
    rows = Rows(pd.DataFrame({"x": values}), "x", lambda index: index + 1)
    column, _ = learn_numbers("x", rows, standardise=False, missing="error")
    assert np.array_equal(convert({"columns": [column.model_dump()], "row_shape": [1]}, rows.frame)[:, 0], values)


def test_a_copy_of_the_module_works_without_this_package(tmp_path: Path) -> None:
    (tmp_path / "copied.py").write_text(Path(module.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    code = (
        "import sys, numpy as np, copied\n"
        "age = {'name': 'age', 'kind': 'number', 'mean': 40.0, 'deviation': 10.0}\n"
        "print(copied.convert({'columns': [age], 'row_shape': [1]}, np.array([[50.0]])).tolist())\n"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] in ('pipeline', 'pydantic')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[[1.0]]", "[]"]
