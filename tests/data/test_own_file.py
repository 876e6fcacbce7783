"""A file of one's own becomes arrays: its format is found, and only training rows teach."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.data.arrays import Arrays, load
from pipeline.data.files import text
from pipeline.prepare import prepare
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT
from tests.support.own_data import file_data, prepared

# Two columns of numbers and one of text; y is a + 2 b.
ROWS = [(1.5, 2, "red", 5.5), (2.5, 1, "blue", 4.5), (-3.0, 4, "red", 5.0), (4.0, 0, "green", 4.0)]
FRAME = pd.DataFrame(ROWS, columns=["a", "b", "colour", "y"])
CSV = FRAME.to_csv(index=False)
PLAIN: dict[str, Any] = {"test_share": 0, "standardise": False}
INPUTS = [[1.5, 2, 0, 0, 1], [2.5, 1, 1, 0, 0], [-3.0, 4, 0, 0, 1], [4.0, 0, 0, 1, 0]]
TARGETS = [[5.5], [4.5], [5.0], [4.0]]


def written(file: Path) -> None:
    """Write the frame in the format of a file name."""
    if file.suffix == ".parquet":
        FRAME.to_parquet(file, index=False)
    elif file.suffix == ".npz":
        columns = {name: FRAME[name].to_numpy() for name in ("a", "b", "y")}
        np.savez(file, colour=FRAME["colour"].to_numpy().astype("U8"), **columns)


TEXTS = {
    ".csv": CSV.encode(),
    ".tsv": CSV.replace(",", "\t").encode(),
    ".csv.gz": gzip.compress(CSV.encode()),
    ".txt": CSV.replace(",", "|").encode(),
    "-bom.csv": b"\xef\xbb\xbf" + CSV.encode(),
    "-windows.csv": CSV.replace("\n", "\r\n").encode(),
    "-quoted.csv": FRAME.to_csv(index=False, quoting=1).encode(),
    "-single.csv": FRAME.to_csv(index=False, quoting=1, quotechar="'").encode(),
    "-blank.csv": CSV.replace("\n", "\n\n").encode(),
    "-comma.csv": FRAME.to_csv(index=False, sep=";", decimal=",").encode(),
    "-spaces.csv": CSV.replace("a,b,colour,y", "a , b, colour ,y").encode(),
}


def check(arrays: Arrays) -> None:
    assert arrays.train_inputs.tolist() == INPUTS
    assert arrays.train_targets.tolist() == TARGETS
    assert arrays.test_inputs is None


@pytest.mark.parametrize("suffix", TEXTS)
def test_the_format_of_text_is_found(tmp_path: Path, suffix: str) -> None:
    check(prepared(tmp_path, TEXTS[suffix], suffix, **PLAIN))


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_files_with_types_give_the_same_arrays(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"own{suffix}"
    written(file)
    data = file_data(file.name, features=["a", "b", "colour"], **PLAIN)
    prepare(data, tmp_path)
    check(load(data, "float64", tmp_path))


def test_columns_are_left_out_and_their_values_are_never_looked_at(tmp_path: Path) -> None:
    """Names that differ in each row, a date, and an index without a name: each of them would be refused."""
    lines = [f"{number},customer {number},2024-01-{number:02},{number % 7},{number % 5}" for number in range(1, 31)]
    text = "\n".join([",who,since,a,y", *lines]) + "\n"
    arrays = prepared(tmp_path, text, exclude=["", "who", "since"], **PLAIN)
    assert arrays.description is not None
    assert [column.name for column in arrays.description.columns] == ["a"]
    assert arrays.train_inputs[:, 0].tolist() == [number % 7 for number in range(1, 31)]


def test_one_column_need_not_be_a_list() -> None:
    assert file_data("own.csv", features="a", exclude="b") == file_data("own.csv", features=["a"], exclude=["b"])


def test_an_array_has_numbered_columns(tmp_path: Path) -> None:
    np.save(tmp_path / "own.npy", FRAME[["a", "b", "y"]].to_numpy())
    data = file_data("own.npy", target=2, **PLAIN)
    prepare(data, tmp_path)
    arrays = load(data, "float64", tmp_path)
    assert arrays.train_inputs.tolist() == [[a, b] for a, b, _, _ in ROWS]
    assert arrays.train_targets.tolist() == TARGETS


def test_arrays_of_two_dimensions_stand_for_their_columns(tmp_path: Path) -> None:
    inputs = FRAME[["a", "b"]].to_numpy()
    np.savez_compressed(tmp_path / "own.npz", x=inputs, y=np.column_stack([FRAME["y"], -FRAME["y"]]))
    data = file_data("own.npz", target=["y"], features=["x"], **PLAIN)
    prepare(data, tmp_path)
    arrays = load(data, "float64", tmp_path)
    assert np.array_equal(arrays.train_inputs, inputs)
    assert arrays.train_targets.tolist() == [[y, -y] for _, _, _, y in ROWS]
    assert arrays.description is not None
    assert arrays.description.targets == ("y_0", "y_1")


def test_a_delimiter_and_a_decimal_mark_can_be_given(tmp_path: Path) -> None:
    text = "a;y\n1,5;2\n2,5;3\n"
    assert prepared(tmp_path, text, delimiter=";", decimal=",", **PLAIN).train_inputs.tolist() == [[1.5], [2.5]]


@pytest.mark.parametrize("start", ["\n", "\r\n\r\n", " \n\n", "\ufeff\n"], ids=["one", "windows", "blanks", "mark"])
def test_empty_lines_before_the_names_are_no_rows(tmp_path: Path, start: str) -> None:
    check(prepared(tmp_path, start + CSV, **PLAIN))


def test_a_point_in_a_column_of_text_leaves_decimal_commas(tmp_path: Path) -> None:
    text = "a;version;y\n0,5;2.0;1\n1,5;beta;2\n2,5;2.0;4\n3;alpha;4\n"
    arrays = prepared(tmp_path, text, **PLAIN)
    assert arrays.train_inputs[:, 0].tolist() == [0.5, 1.5, 2.5, 3]


def test_both_decimal_marks_are_asked_about(tmp_path: Path) -> None:
    text = "a;b;y\n0,5;2.5;1\n1,5;3.5;2\n2,5;2.0;4\n"
    with pytest.raises(LabError, match="commas in a; points in b"):
        prepared(tmp_path, text, **PLAIN)
    arrays = prepared(tmp_path, text, decimal=",", features=["a"], **PLAIN)
    assert arrays.train_inputs.tolist() == [[0.5], [1.5], [2.5]]


def test_columns_of_text_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared(tmp_path, "a,share,y\n1,20%,1\n2,30%,2\n3,20%,4\n", **PLAIN)
    assert "share: text, 2 values: 20%, 30%" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["March", "May", "10 may", "1.2.3", "Jan 5", "mars 2024"])
def test_text_that_resembles_dates_is_a_category(tmp_path: Path, text: str) -> None:
    arrays = prepared(tmp_path, f"a,y\n{text},1\nother,2\n{text},3\n", **PLAIN)
    assert arrays.description is not None
    assert arrays.description.columns[0].categories == tuple(sorted([text, "other"]))


def test_a_long_value_is_read(tmp_path: Path) -> None:
    long = 200_000 * "x"
    arrays = prepared(tmp_path, f"a,b,y\n1,{long},1\n2,short,2\n3,short,4\n", **PLAIN)
    assert arrays.description is not None
    assert arrays.description.columns[1].categories == ("short", long)


def test_a_quoted_delimiter_and_a_quoted_newline_are_text(tmp_path: Path) -> None:
    arrays = prepared(tmp_path, 'a,y\n"x, and\nz",1\n"x, and\nz",2\nw,3\n', **PLAIN)
    assert arrays.description is not None
    assert arrays.description.columns[0].categories == ("w", "x, and\nz")


@pytest.mark.parametrize(("last", "categories"), [("0.5", ()), ("other", ("0", "1", "other"))])
def test_the_types_of_the_first_block_are_only_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, categories: tuple[str, ...]
) -> None:
    monkeypatch.setattr(text, "ARROW_BLOCK", 2**12)
    rows = [f"{number % 2},{number}" for number in range(1000)]
    rows += [f"{last},{number}" for number in range(1000)]
    arrays = prepared(tmp_path, "\n".join(["a,y", *rows]) + "\n", **PLAIN)
    assert arrays.description is not None
    assert arrays.description.columns[0].categories == categories
    assert arrays.train_inputs[[0, 1]].tolist() == [[0], [1]] or categories


# --- classes


@pytest.mark.parametrize("task", ["binary", "classification"])
def test_labels_become_targets(tmp_path: Path, task: str) -> None:
    arrays = prepared(tmp_path, "a,y\n1,no\n2,yes\n3,no\n4,yes\n", task=task, **PLAIN)
    assert arrays.description is not None
    assert arrays.description.classes == ("no", "yes")
    expected: list[Any] = [0, 1, 0, 1]
    if task == "binary":
        expected = [[0.0], [1.0], [0.0], [1.0]]
    assert arrays.train_targets.tolist() == expected
    assert arrays.outputs == (1 if task == "binary" else 2)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["10", "9", "9", "10"], ("9", "10")),
        (["true", "false", "true", "false"], ("false", "true")),
        (["01", "1", "01", "1"], ("01", "1")),
        (["1", "1.0", "2.", "2"], ("1", "2")),
        (["1.0", "x", "1", "x"], ("1", "x")),
        (["1.5", "2.0", "1.5", "2"], ("1.5", "2")),
        (["2024-01-01", "2023-01-01"] * 2, ("2023-01-01", "2024-01-01")),
    ],
)
def test_labels_stay_as_they_are_written_but_for_whole_numbers(
    tmp_path: Path, labels: list[str], classes: tuple[str, ...]
) -> None:
    text = "\n".join(["a,y", *(f"{number},{label}" for number, label in enumerate(labels))])
    arrays = prepared(tmp_path, text + "\n", task="classification", **PLAIN)
    assert arrays.description is not None
    assert arrays.description.classes == classes


def test_a_class_may_have_a_name_that_elsewhere_is_no_value(tmp_path: Path) -> None:
    text = "a,b,y\n1,2,NA\n2,3,DE\n3,1,null\n4,2,NA\n5,5,DE\n6,1,null\n"
    arrays = prepared(tmp_path, text, task="classification", **PLAIN)
    assert arrays.description is not None
    assert arrays.description.classes == ("DE", "NA", "null")
    assert arrays.train_targets.tolist() == [1, 0, 2, 1, 0, 2]


def test_labels_of_a_file_with_types_are_whole_numbers(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1.0, 2, 3, 4], "y": [1.0, 0.0, 1.0, 0.0]}).to_parquet(tmp_path / "own.parquet")
    data = file_data("own.parquet", task="binary", **PLAIN)
    prepare(data, tmp_path)
    described = load(data, "float64", tmp_path).description
    assert described is not None
    assert described.classes == ("0", "1")


# --- missing values

HOLES = "a,b,colour,y\n1,2,red,1\n,3,,2\n3,,blue,3\n5,7,red,4\n"


def test_rows_with_missing_values_are_dropped_if_asked(tmp_path: Path) -> None:
    arrays = prepared(tmp_path, HOLES, missing="drop", **PLAIN)
    assert arrays.train_inputs.tolist() == [[1, 2, 1], [5, 7, 1]]
    assert arrays.description is not None
    assert any("2 rows with missing values dropped, 2 kept" in note for note in arrays.description.notes)


def test_missing_numbers_become_the_mean_and_missing_text_a_category(tmp_path: Path) -> None:
    arrays = prepared(tmp_path, HOLES, missing="mean", **PLAIN)
    assert arrays.train_inputs.tolist() == [[1, 2, 0, 0, 1], [3, 3, 1, 0, 0], [3, 4, 0, 1, 0], [5, 7, 0, 0, 1]]


def test_an_indicator_says_where_a_number_was_missing(tmp_path: Path) -> None:
    arrays = prepared(tmp_path, HOLES, missing="indicator", features=["a", "b"], test_share=0)
    a = np.array([1, 3, 3, 5])
    b = np.array([2, 3, 4, 7])
    # The mean takes the place of what is missing before the deviation is computed.
    expected = [(a - 3) / a.std(), [0, 1, 0, 0], (b - 4) / b.std(), [0, 0, 1, 0]]
    np.testing.assert_allclose(arrays.train_inputs, np.column_stack(expected), rtol=1e-12)


def test_a_constant_column_is_told_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = prepared(tmp_path, "a,b,y\n7,1,1\n7,2,2\n7,3,4\n", test_share=0)
    assert arrays.train_inputs[:, 0].tolist() == [0, 0, 0]
    assert "note: a is constant in the training rows (7)" in capsys.readouterr().out


# --- the split

GROUPED = "a,person,side,y\n" + "".join(
    f"{row},{row // 3},{'test' if row % 5 == 4 else 'train'},{2 * row}\n" for row in range(30)
)


def test_a_column_splits(tmp_path: Path) -> None:
    arrays = prepared(tmp_path, GROUPED, split_column="side", features=["a"], standardise=False)
    assert arrays.test_inputs is not None
    assert arrays.test_inputs[:, 0].tolist() == [4, 9, 14, 19, 24, 29]
    assert len(arrays.train_inputs) == 24


def test_the_columns_that_split_are_no_inputs(tmp_path: Path) -> None:
    arrays = prepared(tmp_path, GROUPED, split_column="side", standardise=False)
    assert arrays.features == 2
    arrays = prepared(tmp_path, GROUPED, group_column="person", features=["a"], standardise=False)
    assert arrays.test_inputs is not None
    trained = {int(value) // 3 for value in arrays.train_inputs[:, 0]}
    tested = {int(value) // 3 for value in arrays.test_inputs[:, 0]}
    assert not trained & tested
    assert trained | tested == set(range(10))


def test_a_file_of_test_rows(tmp_path: Path) -> None:
    # Its columns are in another order, and all of its codes look like numbers.
    (tmp_path / "test.csv").write_text("y,code,a\n9,2,5\n8,1,7\n")
    arrays = prepared(tmp_path, "a,code,y\n1,2,1\n3,x,2\n5,1,3\n", test_path="test.csv")
    deviation = np.std([1, 3, 5])
    expected = np.array([[2 / deviation, 0, 1, 0], [4 / deviation, 1, 0, 0]])
    assert arrays.test_inputs is not None
    assert arrays.test_targets is not None
    np.testing.assert_allclose(arrays.test_inputs, expected, rtol=1e-12)
    assert arrays.test_targets.tolist() == [[9], [8]]


def test_a_missing_text_is_one_in_either_file(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("a,code,y\n5,NA,9\n7,q,8\n")
    arrays = prepared(tmp_path, "a,code,y\n1,NA,1\n3,q,2\n5,p,3\n", test_path="test.csv", missing="mean")
    assert arrays.description is not None
    assert arrays.test_inputs is not None
    assert arrays.description.columns[1].categories == ("", "p", "q")
    assert arrays.test_inputs[:, 1:].tolist() == [[1, 0, 0], [0, 0, 1]]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=5, max_size=5), st.sampled_from(["p", "q", "new"]))
def test_test_rows_teach_nothing(tmp_path: Path, tested: list[float], colour: str) -> None:
    train = "".join(f"{number},{'pq'[number % 2]},{2 * number},train\n" for number in range(9))
    test = "".join(f"{value!r},{colour},{2 * value!r},test\n" for value in tested)
    described = []
    for rows in (train + test, train + test.replace(colour, "p")):
        arrays = prepared(tmp_path, "a,colour,y,side\n" + rows, split_column="side")
        assert arrays.description is not None
        described.append(arrays.description.columns)
    assert described[0] == described[1]
    alone = prepared(tmp_path, "a,colour,y\n" + train.replace(",train", ""), test_share=0).description
    assert alone is not None
    assert described[0] == alone.columns


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3))
def test_validation_rows_teach_nothing(tmp_path: Path, values: list[float]) -> None:
    train = "".join(f"{number},{'pq'[number % 2]},{2 * number},train\n" for number in range(9))
    others = "".join(f"{value!r},new,{2 * value!r},validation\n" for value in values)
    arrays = prepared(
        tmp_path, "a,colour,y,side\n" + train + others + "1,p,2,test\n", split_column="side", validation_share=0.2
    )
    alone = prepared(tmp_path, "a,colour,y\n" + train.replace(",train", ""), test_share=0)
    assert arrays.description is not None
    assert alone.description is not None
    assert arrays.description.columns == alone.description.columns
    assert (arrays.description.train_rows, arrays.description.validation_rows, arrays.description.test_rows) == (
        9,
        3,
        1,
    )
    assert arrays.validation_targets is not None
    assert arrays.validation_targets[:, 0].tolist() == [2 * value for value in values]


@pytest.mark.parametrize(
    "chosen", [{"split_column": "side"}, {"group_column": "person"}, {"test_path": "test.csv"}, {}]
)
def test_validation_rows_are_drawn_from_the_training_rows(tmp_path: Path, chosen: dict[str, str]) -> None:
    (tmp_path / "test.csv").write_text("a,person,y\n90,9,180\n91,9,182\n")
    arrays = prepared(tmp_path, GROUPED, features=["a"], standardise=False, validation_share=0.25, **chosen)
    assert arrays.validation_inputs is not None
    assert arrays.test_inputs is not None
    sets = [set(rows[:, 0]) for rows in (arrays.train_inputs, arrays.validation_inputs, arrays.test_inputs)]
    assert len(set.union(*sets) - {90, 91}) == 30
    assert sum(map(len, sets)) - len(sets[2] & {90, 91}) == 30
    if "group_column" in chosen:
        people = [{value // 3 for value in one} for one in sets]
        assert sum(map(len, people)) == 10
    elif "split_column" in chosen:
        assert (sets[2], len(sets[1])) == ({4, 9, 14, 19, 24, 29}, 6)


def test_arrays_are_split_converted_and_complete(tmp_path: Path) -> None:
    content = "a,y\n" + "".join(f"{row},{2 * row}\n" for row in range(50))
    arrays = prepared(tmp_path, content, standardise=False)
    assert arrays.test_inputs is not None
    assert (len(arrays.train_inputs), len(arrays.test_inputs)) == (40, 10)
    assert sorted([*arrays.train_inputs[:, 0], *arrays.test_inputs[:, 0]]) == list(range(50))


def test_a_part_of_sorted_rows_is_a_fair_sample(tmp_path: Path) -> None:
    content = "a,y\n" + "".join(f"{row},{'no' if row < 100 else 'yes'}\n" for row in range(200))
    whole = prepared(tmp_path, content, task="binary", test_share=0, standardise=False)
    part = whole.at_most(40)
    # Of 40 draws from 100 and 100, 10 to 30 are of one class in all but one case of a thousand.
    assert 10 <= part.train_targets.sum() <= 30
    assert np.array_equal(part.train_targets[:, 0], part.train_inputs[:, 0] >= 100)
    assert len(set(part.train_inputs[:, 0])) == 40
    assert set(whole.at_most(20).train_inputs[:, 0]) < set(part.train_inputs[:, 0])


# --- what is written


def test_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        prepared(tmp_path, CSV, **PLAIN)
        folder = tmp_path / "data" / "prepared" / "own"
        contents.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {"data.json", "train_inputs.npy", "train_targets.npy"}


def test_data_json_says_what_the_data_is(tmp_path: Path) -> None:
    prepared(tmp_path, CSV, **PLAIN)
    said = json.loads((tmp_path / "data" / "prepared" / "own" / "data.json").read_text())
    assert said["name"] == "own"
    assert said["shapes"] == {"train_inputs": [4, 5], "train_targets": [4, 1]}
    assert said["dtypes"] == {"train_inputs": "float64", "train_targets": "float64"}
    assert [column["name"] for column in said["description"]["columns"]] == ["a", "b", "colour"]
    assert said["raw"][0]["path"] == "own.csv"


def test_the_shipped_example_is_what_its_config_says(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(PROJECT / "examples")
    data = file_data("examples/churn.csv", target="churned", task="binary", missing="indicator")
    prepare(data, tmp_path)
    arrays = load(data, "float64", tmp_path)
    assert arrays.description is not None
    frame = pd.read_csv(PROJECT / "examples" / "churn.csv")
    assert arrays.description.train_rows + arrays.description.test_rows == len(frame)
    # Each class has its share of the test rows.
    leaving = (frame["churned"] == "yes").mean()
    assert arrays.test_targets is not None
    assert arrays.test_targets.mean() == pytest.approx(leaving, abs=0.003)
    assert any("currency is constant" in note for note in arrays.description.notes)
