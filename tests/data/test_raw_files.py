"""Training refuses arrays that are not those of the file and the config as they are now."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.config.data import FileData, ImageData, LibraryData
from pipeline.data import raw_files
from pipeline.data.arrays import load
from pipeline.data.raw_files import RawFile, joint_sha256
from pipeline.prepare import prepare
from pipeline.system.errors import DamagedError, LabError
from tests.support.own_data import file_data

ROWS = "a,y\n1,2\n2,5\n3,6\n4,9\n5,9\n"


@pytest.fixture
def data(tmp_path: Path) -> FileData:
    """A prepared file, last written a minute before its arrays."""
    file = tmp_path / "own.csv"
    file.write_text(ROWS)
    os.utime(file, (time.time() - 60,) * 2)
    data = file_data("own.csv")
    prepare(data, tmp_path)
    return data


def refusal(project: Path, data: Any) -> str:
    with pytest.raises(LabError) as caught:
        load(data, "float64", project)
    return str(caught.value)


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, data: FileData, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(raw_files, "file_sha256", read.append)
    load(data, "float64", tmp_path)
    assert read == []


@pytest.mark.parametrize("content", [ROWS + "6,13\n", ROWS.replace("2,5", "2,4")], ids=["longer", "same size"])
def test_a_changed_file_is_told(tmp_path: Path, data: FileData, content: str) -> None:
    later = tmp_path / "own.csv"
    later.write_text(content)
    os.utime(later, (time.time() + 60,) * 2)
    message = refusal(tmp_path, data)
    assert "own.csv has changed since the data set own was prepared" in message
    assert "python -m pipeline.prepare data=own" in message
    before = load_checksum(tmp_path)
    prepare(data, tmp_path)
    load(data, "float64", tmp_path)
    # Its points are others.
    assert load_checksum(tmp_path) != before


def load_checksum(project: Path) -> str:
    said = json.loads((project / "data" / "prepared" / "own" / "data.json").read_text())
    return str(said["description"]["sha256"])


@pytest.fixture
def pictures(tmp_path: Path) -> ImageData:
    """Prepared images in folders, three of each class."""
    for number in range(6):
        file = tmp_path / "pictures" / ("cat", "dog")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 3), number, np.uint8)).save(file)
    data = ImageData(kind="images", name="own", path="pictures", test_share=0)
    prepare(data, tmp_path)
    load(data, "float64", tmp_path)
    return data


def test_an_image_that_was_added_is_told(tmp_path: Path, pictures: ImageData) -> None:
    shutil.copy(tmp_path / "pictures" / "cat" / "0.png", tmp_path / "pictures" / "dog" / "7.png")
    message = refusal(tmp_path, pictures)
    assert "pictures has other images than when the data set own was prepared" in message
    assert "+ pictures/dog/7.png" in message
    prepare(pictures, tmp_path)
    load(pictures, "float64", tmp_path)


def test_an_image_that_was_deleted_is_told(tmp_path: Path, pictures: ImageData) -> None:
    (tmp_path / "pictures" / "cat" / "2.png").unlink()
    assert "- pictures/cat/2.png" in refusal(tmp_path, pictures)


@pytest.mark.parametrize("empty", [True, False])
def test_images_that_are_gone_do_not_count(tmp_path: Path, pictures: ImageData, empty: bool) -> None:
    shutil.rmtree(tmp_path / "pictures")
    if empty:
        (tmp_path / "pictures").mkdir()
    load(pictures, "float64", tmp_path)


def test_the_same_data_elsewhere_has_the_same_checksums(tmp_path: Path, data: FileData) -> None:
    other = tmp_path / "other.csv"
    other.write_text(ROWS)
    renamed = file_data(other, name="renamed")
    prepare(renamed, tmp_path)
    assert load(renamed, "float64", tmp_path).checksums == load(data, "float64", tmp_path).checksums


def test_a_file_that_was_only_touched_is_the_same(tmp_path: Path, data: FileData) -> None:
    os.utime(tmp_path / "own.csv", (time.time() + 60,) * 2)
    load(data, "float64", tmp_path)


def test_a_file_that_is_gone_does_not_count(tmp_path: Path, data: FileData) -> None:
    (tmp_path / "own.csv").unlink()
    load(data, "float64", tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("test_share", 0.4, "test_share: 0.4"),
        ("missing", "mean", 'missing: "mean"'),
        ("path", "b.csv", 'path: "b.csv"'),
    ],
)
def test_other_settings_are_other_data(tmp_path: Path, data: FileData, key: str, value: object, expected: str) -> None:
    message = refusal(tmp_path, data.model_copy(update={key: value}))
    assert "was prepared with other settings" in message
    assert expected in message
    assert "python -m pipeline.prepare data=own, with the same data keys" in message


def test_the_hint_names_the_commands(tmp_path: Path) -> None:
    message = refusal(tmp_path, file_data("own.csv"))
    assert "to do:    python -m pipeline.prepare data=own" in message
    assert "fetch" not in message
    for source, fetched in (("sklearn:iris", False), ("keras:mnist", True)):
        library = LibraryData(kind="library", name="set", source=source)
        assert ("python -m pipeline.fetch data=set && " in refusal(tmp_path, library)) == fetched


@pytest.mark.parametrize("raw", [None, 3, [{"path": "own.csv"}], [{"path": 1, "size": "x", "sha256": []}]])
def test_a_description_whose_files_are_none(tmp_path: Path, data: FileData, raw: object) -> None:
    file = tmp_path / "data" / "prepared" / "own" / "data.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "raw": raw}))
    with pytest.raises(DamagedError, match=r"data\.json cannot be read"):
        load(data, "float64", tmp_path)


def test_a_moved_project_is_the_same_data(tmp_path: Path, data: FileData) -> None:
    """Paths below the project are kept relative to it."""
    moved = tmp_path / "moved"
    shutil.copytree(tmp_path / "data", moved / "data")
    (moved / "own.csv").write_text(ROWS + "7,1\n")
    assert "moved/own.csv has changed" in refusal(moved, data)


def test_the_checksum_of_several_files_depends_on_each_of_them() -> None:
    one = RawFile("a.png", 1, "0" * 64)
    other = RawFile("b.png", 1, "1" * 64)
    assert joint_sha256([one]) == "0" * 64
    assert len({joint_sha256([one]), joint_sha256([one, other]), joint_sha256([other, one])}) == 3
    assert joint_sha256([one, other]) == joint_sha256([replace(one, path="/elsewhere/a.png"), other])


@pytest.mark.parametrize("name", ["../own", "a/b", "", ".", "..", "/tmp/x"])
def test_a_name_is_no_path(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        file_data("own.csv", name=name)


def test_rows_are_split_in_one_way_only() -> None:
    with pytest.raises(ValueError, match="at most one of test_path, split_column, group_column"):
        file_data("own.csv", test_path="b.csv", group_column="g")
