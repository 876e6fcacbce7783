"""How a config names columns of a file."""

from __future__ import annotations

import pytest

from pipeline.config.data import FileData
from pipeline.config.reading import read_config
from pipeline.system.errors import LabError
from tests.support.trained import config

ROWS = {"kind": "file", "name": "own", "path": "own.csv", "task": "regression", "target": "y"}


@pytest.mark.parametrize("target", ["y", 3, ["y", "z"], [0, 1]])
def test_columns_are_names_or_numbers(target: object) -> None:
    data = FileData.model_validate({**ROWS, "target": target})
    assert data.model_dump(mode="json")["target"] == target


@pytest.mark.parametrize("key", ["target", "features", "split_column", "group_column"])
def test_what_yaml_makes_of_a_name_without_quotes_is_one_message(key: str) -> None:
    value: object = True
    if key == "features":
        value = ["a", True]
    plain = {**config("loss=mean_squared_error", "data=three_bits", "model.output_activation=identity").model_dump()}
    with pytest.raises(LabError) as raised:
        read_config({**plain, "data": {**ROWS, key: value}})
    told = [line for line in str(raised.value).splitlines() if "data." in line]
    assert len(told) == 1
    assert "expected the name of a column, or its number from 0, received True" in told[0]
    assert "needs quotes" in told[0]
    assert "function" not in told[0]
