"""Every file that nothing can be learned from is refused with one message that names the row and the column."""

from __future__ import annotations

import codecs
import gzip
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.prepare import prepare
from pipeline.system import limits
from pipeline.system.errors import LabError
from tests.data.test_data import Trap
from tests.support.own_data import file_data

GOOD = "".join(f"{row},{row % 7},{3 * row}\n" for row in range(20))


def table(row: str, names: str = "a,b,y", at: int = 10) -> str:
    """Twenty good rows, one of them replaced, so that the row is `at` + 2 in the file."""
    rows = GOOD.splitlines()
    rows[at] = row
    return "\n".join([names, *rows]) + "\n"


def classes(*labels: str) -> str:
    return "a,y\n" + "".join(f"{row},{label}\n" for row, label in enumerate(labels))


LATIN = table("10,é,30").encode("latin-1")

CASES: dict[str, tuple[str | bytes, dict[str, Any], list[str]]] = {
    "an empty file": ("", {}, ["own.csv has no rows", "an empty file"]),
    "only names": ("a,b,y\n", {}, ["own.csv has no rows", "only the row of names"]),
    "no such column": (
        "a,b,price\n" + GOOD, {"target": "prices"},
        ["row 1: no column prices", "a, b, price", "did you mean target: price?"],
    ),
    "a name in other letters": ("Age,b,y\n" + GOOD, {"features": ["age"]}, ["no column age", "features: Age?"]),
    "text among numbers": (table("ten,3,30"), {}, ["row 12, column a", "text in a column of numbers", "'ten'"]),
    "text in a target of numbers": (table("10,3,many"), {}, ["row 12, column y", "'many'"]),
    "a missing number": (table("10,,30"), {}, ["row 12, column b", "a missing value", "1 of 20 rows", "missing: mean"]),
    "a text that is no value": (
        table("10,NA,30"), {}, ["row 12, column b", "a missing value", "NA, N/A, NaN and null are missing values too"],
    ),
    "a value of megabytes": (f"a,y\n1,2\n{20_000_000 * 'x'},3\n", {}, ["own.csv cannot be read"]),
    "a missing row after empty lines": ("\n\na,b,y\n1,2,3\n1,,3\n", {}, ["row 5, column b"]),
    "NaN": (table("10,NaN,30"), {}, ["row 12, column b", "a missing value"]),
    "infinity": (table("10,-inf,30"), {}, ["row 12, column b", "-inf"]),
    "a number that float32 has not": (table("10,1e300,30"), {}, ["row 12, column b", "1e+300"]),
    "an infinite target": (table("10,3,inf"), {}, ["row 12, column y", "inf"]),
    "a missing target": (table("10,3,"), {}, ["row 12, column y", "a missing value in the target"]),
    "a target that no mean fills": (table("10,3,"), {"missing": "mean"}, ["row 12, column y", "the target"]),
    "a missing class": (classes("p", "q", "", "q"), {"task": "binary"}, ["row 4, column y", "the target"]),
    "no complete row": ("a,b,y\n,1,2\n1,,3\n", {"missing": "drop"}, ["no row is complete", "2 rows"]),
    "no values": ("a,b,y\n" + ",1,2\n,3,5\n" * 9, {"missing": "mean"}, ["column a", "no values in the training rows"]),
    "a class that occurs once": (classes(*"pqpqpqr"), {"task": "classification"}, ["column y", "occurs once", "'r'"]),
    "one class only": (classes(*"pppp"), {"task": "binary"}, ["column y", "only one class", "'p' in all 4 rows"]),
    "three classes for two": (classes(*"pqrpqr"), {"task": "binary"}, ["more than two classes", "p, q, r"]),
    "more classes than rows": (classes(*"pqrs"), {"task": "classification"}, ["4 classes in 4 rows", "regression"]),
    "two targets of classes": (
        "a,b,y\n" + GOOD, {"task": "binary", "target": ["b", "y"]}, ["The task binary has one target", "b, y"],
    ),
    "duplicate names": ("a,b,a,y\n1,2,3,4\n", {}, ["two columns of the same name", "row 1, columns 1 and 3", "'a'"]),
    "a column without a name": (",a,y\n0,1,2\n1,5,3\n", {}, ["row 1, column 1", "index=False"]),
    "a row that is too long": (table("10,3,30,4"), {}, ["row 12", "3 values", "4 values: 10,3,30,4"]),
    "a row that is too short": (table("10,3"), {}, ["row 12", "2 values: 10,3"]),
    "a long row after a newline in quotes": (
        'a,b,y\n"x\ny",1,2\n3,4,5,6\n', {}, ["row 4", "4 values"],
    ),
    "a wrong encoding": (LATIN, {}, ["row 12", "0xe9", f"position {LATIN.index(233)}", "iconv"]),
    "UTF-16": (table("10,3,30").encode("utf-16"), {}, ["row 1", "0xff", "position 0"]),
    "bytes that are no text": (b"a,y\n1,\x002\n", {}, ["row 2", "0x00", "position 6"]),
    "a character that is cut off": (b"a,y\n1,2\n" + "é".encode()[:1], {}, ["row 3", "0xc3", "position 8"]),
    "a column that leaks": ("a,b,y\n1,2,2\n2,5,5\n4,1,1\n", {}, ["row 2, column b", "leaks", "target y"]),
    "text that leaks": (
        "a,b,y\n1,p,p\n2,q,q\n3,p,p\n5,q,q\n", {"task": "binary", "test_share": 0.5}, ["column b", "leaks"],
    ),
    "a column that leaks but for a missing value": (
        "a,b,y\n1,2,2\n2,,5\n4,1,1\n5,8,8\n", {"missing": "mean", "test_share": 0},
        ["row 2, column b", "leaks", "each of its 3 values"],
    ),
    "other names that leak": (
        "a,b,y\n" + "".join(f"{row},{row % 2},{('no', 'yes')[row % 2]}\n" for row in range(30)), {"task": "binary"},
        ["row 2, column b", "leaks", "0 where the target is no"],
    ),
    "the target among the features": ("a,b,y\n" + GOOD, {"features": ["a", "y"]}, ["The column y leaks"]),
    "an excluded column that is not there": (
        "Age,b,y\n" + GOOD, {"exclude": ["age"]}, ["no column age", "did you mean exclude: Age?"],
    ),
    "the target among the excluded": (
        "a,b,y\n" + GOOD, {"exclude": ["a", "y"]}, ["The column y is in target: and in exclude:", "remove y from"],
    ),
    "a feature among the excluded": (
        "a,b,y\n" + GOOD, {"features": ["a"], "exclude": ["b", "a"]}, ["The column a is in features: and in exclude:"],
    ),
    "a split among the excluded": (
        "a,b,y\n" + GOOD, {"split_column": "b", "exclude": ["b"]}, ["The column b is in split_column: and in exclude:"],
    ),
    "all columns excluded": (
        "a,b,y\n" + GOOD, {"exclude": ["a", "b"]}, ["no columns to predict from", "or exclude:"],
    ),
    "nothing to predict from": ("y\n1\n2\n", {}, ["no columns to predict from"]),
    "a column named twice": ("a,b,y\n" + GOOD, {"features": ["a", "a"]}, ["features: names the column a twice"]),
    "dates": (
        "a,y\n2024-01-31,1\n2024-02-01,2\n", {"test_share": 0},
        ["row 2, column a", "dates", "2024-01-31", "days since"],
    ),
    "dates of another country": (
        "a,y\n31.1.2024,1\n1.2.2024,2\n", {"test_share": 0}, ["row 2, column a", "dates", "31.1.2024"],
    ),
    "dates with the name of a month": (
        "a,y\n" + "".join(f"Jan {day} 2024,{day}\n" for day in range(1, 9)), {},
        ["row 2, column a", "dates", "Jan 1 2024"],
    ),
    "dates with the day first": (
        "a,y\n" + "".join(f"{day}-Mar-24,{day}\n" for day in range(1, 9)), {}, ["row 2, column a", "dates", "1-Mar-24"],
    ),
    "thousands separators": (
        "a;y\n" + "".join(f"{row}.000,5;{row}\n" for row in range(1, 9)), {},
        ["row 2, column a", "a number with a thousands separator", "'1.000,5'"],
    ),
    "thousands separators in some rows": (
        "a;y\n1,5;2\n2,5;3\n1.002,5;4\n3,5;7\n", {"test_share": 0},
        ["row 4, column a", "a number with a thousands separator", "'1.002,5'"],
    ),
    "thousands separators in quotes": (
        "a,y\n" + "".join(f'"{row},000",{row}\n' for row in range(1, 9)), {},
        ["row 2, column a", "a number with a thousands separator", "'1,000'"],
    ),
    "text where none is wanted": (
        "a,y\nred,1\nblue,2\nred,3\nblue,4\n", {"categories": "error"}, ["row 2, column a", "'red'"],
    ),
    "names of rows": (
        "a,y\n" + "".join(f"customer {row},{row}\n" for row in range(60)), {},
        ["column a", "48 different texts in 48 training rows", "exclude:"],
    ),
    "a side of the split that is none": (
        "a,side,y\n1,train,3\n2,tset,4\n3,test,7\n", {"split_column": "side"}, ["column side", "'tset'"],
    ),
    "no group": ("a,g,y\n1,p,3\n2,,4\n3,q,7\n", {"group_column": "g"}, ["row 3, column g", "splits the rows"]),
    "a class in test rows only": (
        "a,side,y\n1,0,p\n2,0,q\n3,0,p\n5,0,q\n7,1,r\n9,1,r\n",
        {"split_column": "side", "task": "classification"}, ["column y", "test rows only", "training rows of p, q"],
    ),
    "too few rows": ("a,y\n1,2\n", {}, ["cannot be split with test_share=0.2", "1 rows"]),
    "numbers with a decimal comma that was not found": (
        table("10,3,30").replace(",", ";").replace("0;0;0", "0,5;0;0").replace("3;3;9", "3.5;3;9"), {},
        ["row 2, column a", "'0,5'"],
    ),
}  # fmt: skip


def refusal(project: Path, name: str, **settings: Any) -> str:
    with pytest.raises(LabError) as caught:
        prepare(file_data(name, **settings), project)
    assert not (project / "data" / "prepared").exists()
    return str(caught.value)


@pytest.mark.parametrize(("content", "given", "words"), CASES.values(), ids=CASES)
def test_one_message_says_what_and_where(
    tmp_path: Path, content: str | bytes, given: dict[str, Any], words: list[str]
) -> None:
    if isinstance(content, str):
        content = content.encode()
    (tmp_path / "own.csv").write_bytes(content)
    message = refusal(tmp_path, "own.csv", **given)
    assert [word for word in words if word not in message] == [], message


def test_a_missing_file(tmp_path: Path) -> None:
    assert f"{tmp_path / 'own.csv'} does not exist" in refusal(tmp_path, "own.csv")


def test_a_missing_file_of_test_rows(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("a,b,y\n" + GOOD)
    message = refusal(tmp_path, "own.csv", test_path="none.csv")
    assert "none.csv does not exist" in message
    assert "test_path" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [("a,y\n1,2\n", ["row 1: no column b"]), ("b,a,y\n1,2,3\n1,x,3\n", ["test.csv, row 3, column a", "'x'"])],
)
def test_test_rows_that_do_not_fit(tmp_path: Path, content: str, words: list[str]) -> None:
    (tmp_path / "own.csv").write_text("a,b,y\n" + GOOD)
    (tmp_path / "test.csv").write_text(content)
    message = refusal(tmp_path, "own.csv", test_path="test.csv")
    assert [word for word in words if word not in message] == [], message


def test_a_class_of_test_rows_that_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(classes(*"pqpq"))
    (tmp_path / "test.csv").write_text(classes(*"pqr"))
    message = refusal(tmp_path, "own.csv", test_path="test.csv", task="classification")
    assert "test.csv, column y: a class that no training row has" in message
    assert "received: r" in message
    assert "remove its rows from there" in message
    assert "test_share" not in message


def test_rows_are_counted_as_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text('a,b,y\n\n"two\nlines",1,2\n\nx,,3\nx,3,4\n')
    assert "row 6, column b" in refusal(tmp_path, "own.csv")


@pytest.mark.parametrize("name", ["own.xlsx", "own", "own.json"])
def test_a_file_of_another_format(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("a,y\n1,2\n")
    message = refusal(tmp_path, name)
    assert ".parquet" in message
    assert name in message


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "own.csv").mkdir()
    assert "kind: images" in refusal(tmp_path, "own.csv")


@pytest.mark.parametrize("suffix", [".csv.gz", ".parquet", ".npz", ".npy"])
@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_file_that_is_cut_short(tmp_path: Path, suffix: str, cut: int) -> None:
    frame = pd.DataFrame({"a": np.arange(50.0), "y": np.arange(50.0) ** 2})
    content = io.BytesIO()
    if suffix == ".csv.gz":
        content.write(gzip.compress(frame.to_csv(index=False).encode()))
    elif suffix == ".parquet":
        frame.to_parquet(content)
    elif suffix == ".npz":
        np.savez(content, a=frame["a"], y=frame["y"])
    else:
        np.save(content, frame.to_numpy())
    (tmp_path / f"own{suffix}").write_bytes(content.getvalue()[:-cut])
    message = refusal(tmp_path, f"own{suffix}")
    assert f"own{suffix} cannot be read" in message


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_pickles_are_refused_unopened(tmp_path: Path, suffix: str) -> None:
    trap = tmp_path / "sprung"
    file = tmp_path / f"own{suffix}"
    objects = np.array([Trap(trap)] * 3, dtype=object)
    if suffix == ".npz":
        np.savez(file, a=objects, y=np.arange(3.0))
    else:
        np.save(file, objects, allow_pickle=True)
    message = refusal(tmp_path, file.name)
    assert "pickled objects, which are never read" in message
    file.write_bytes(pickle.dumps(Trap(trap)))
    assert "cannot be read" in refusal(tmp_path, file.name)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros((5, 2)), "y": np.zeros(4)}, ["different numbers of rows", "x_0 5", "y 4"]),
        ({"x": np.zeros((5, 2, 2)), "y": np.zeros(5)}, ["not rows of values", "x (5, 2, 2)", "kind: images"]),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, ["no rows"]),
        ({"x": np.array([1, 2j, 3]), "y": np.arange(3.0)}, ["column x: complex numbers", "two columns"]),
        ({"x": np.array([1, np.nan, 3]), "y": np.arange(3.0)}, ["row 2, column x", "a missing value"]),
        ({"x": np.array(["2024-01-01"] * 3, "datetime64[D]"), "y": np.arange(3.0)}, ["row 1, column x", "dates"]),
    ],
)
def test_arrays_that_are_no_columns(tmp_path: Path, arrays: dict[str, Any], words: list[str]) -> None:
    np.savez(tmp_path / "own.npz", **arrays)
    message = refusal(tmp_path, "own.npz", test_share=0)
    assert [word for word in words if word not in message] == [], message


def test_lists_in_parquet_are_no_columns(tmp_path: Path) -> None:
    pd.DataFrame({"a": [[1, 2], [3, 4]], "y": [1.0, 2.0]}).to_parquet(tmp_path / "own.parquet")
    message = refusal(tmp_path, "own.parquet")
    assert "column a: values that are neither numbers nor text" in message
    assert "list" in message


def test_dates_in_parquet(tmp_path: Path) -> None:
    days = pd.date_range("2024-01-01", periods=6)
    pd.DataFrame({"a": days, "y": np.arange(6.0)}).to_parquet(tmp_path / "own.parquet")
    assert "row 1, column a: a network cannot take dates" in refusal(tmp_path, "own.parquet", test_share=0)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_more_rows_than_the_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    frame = pd.DataFrame(np.arange(60_000.0).reshape(-1, 3), columns=["a", "b", "y"])
    file = tmp_path / f"own{suffix}"
    if suffix == ".csv":
        frame.to_csv(file, index=False)
    elif suffix == ".parquet":
        frame.to_parquet(file)
    else:
        np.save(file, frame.to_numpy())
    monkeypatch.setattr(limits, "memory", lambda: 400 * 2**20 + 1000)
    message = refusal(tmp_path, file.name)
    assert "needs more memory than there is" in message
    assert "0.4 GB for this process" in message


def test_a_small_gzip_file_that_unpacks_to_more_than_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.csv.gz").write_bytes(gzip.compress(b"a,y\n" + b"1,2\n" * 10_000_000))
    blocks: list[int] = []
    decode = codecs.getincrementaldecoder("utf-8")

    class Counting(decode):  # type: ignore[misc, valid-type]
        def decode(self, block: bytes, final: bool = False) -> str:
            blocks.append(len(block))
            return str(super().decode(block, final))

    monkeypatch.setattr(codecs, "getincrementaldecoder", lambda name: Counting)
    monkeypatch.setattr(limits, "memory", lambda: 5 * 2**20)
    assert "needs more memory" in refusal(tmp_path, "own.csv.gz")
    # It was not read to its end.
    assert sum(blocks) < 20 * 2**20
