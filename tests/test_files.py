"""Files are whole or not there, whatever ends the writing."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import LabError
from pipeline.files import explained, write_file, written_whole


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("old")
    write_file(file, lambda beside: beside.write_text("new"))
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("ending", [OSError("disk full"), KeyboardInterrupt()])
def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path, ending: BaseException) -> None:
    file = tmp_path / "table.csv"
    file.write_text("old")

    def half(beside: Path) -> None:
        beside.write_text("ne")
        raise ending

    with pytest.raises(type(ending)):
        write_file(file, half)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    for content in ("old", "new"):
        with written_whole(folder) as new:
            (new / content).write_text(content)
    assert [file.name for file in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


def test_what_the_system_says_becomes_one_message(tmp_path: Path) -> None:
    missing = tmp_path / "no" / "folder"
    told = r"folder cannot be written(.|\n)*No such file or directory(.|\n)*make room"
    with pytest.raises(LabError, match=told), explained(missing):
        missing.write_text("")
