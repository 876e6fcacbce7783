"""What prepare prints of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.own_data import prepared

ROWS = "a,colour,y\n1,red,100\n2,,300\n3,red,100\n4,blue,300\n"


def printed(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, **settings: Any) -> list[str]:
    prepared(tmp_path, content, test_share=0, **settings)
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


def test_each_column_is_told_with_what_it_became(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(tmp_path, capsys, ROWS, missing="mean")
    assert "predicted: y: mean 200, standard deviation 100 (training rows)" in lines
    assert "a: numbers, mean 2.5, standard deviation 1.118" in lines
    assert "colour: text, 3 values: (no text), blue, red" in lines


def test_numbers_to_predict_in_unusual_units_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert any(line.startswith("note: y: far from") for line in printed(tmp_path, capsys, ROWS, missing="mean"))
    usual = ROWS.replace("00\n", "\n")
    assert not any("far from" in line for line in printed(tmp_path, capsys, usual, missing="mean"))


def test_classes_have_their_shares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = "a,b\n1,no\n2,yes\n3,no\n4,no\n5,yes\n"
    for task in ("binary", "classification"):
        lines = printed(tmp_path, capsys, content, target="b", task=task)
        assert "predicted: b: no 60.0%, yes 40.0% (training rows)" in lines


def test_of_many_columns_the_first_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"c{number}" for number in range(25)]
    rows = [",".join(str(row * (number + 1)) for number in range(25)) + f",{row % 3}" for row in range(6)]
    lines = printed(tmp_path, capsys, "\n".join([",".join([*names, "y"]), *rows]) + "\n")
    assert sum(": numbers" in line for line in lines) == 20
    assert "and 5 more columns: all are in data.json" in lines
