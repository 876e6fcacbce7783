"""A clone keeps its id; a copy of it gets another one."""

from __future__ import annotations

import platform
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.points.clone import CLONE, clone_id
from pipeline.points.point import POINTS
from pipeline.system.errors import LabError


def test_a_clone_keeps_its_id_when_it_is_moved_and_a_copy_gets_its_own(tmp_path: Path) -> None:
    first = clone_id(tmp_path / "lab")
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert clone_id(tmp_path / "lab") == first
    (tmp_path / "lab").rename(tmp_path / "moved")
    assert clone_id(tmp_path / "moved") == first
    shutil.copytree(tmp_path / "moved", tmp_path / "copy")
    assert clone_id(tmp_path / "copy") not in ("", first)
    assert clone_id(tmp_path / "copy") == clone_id(tmp_path / "copy")
    assert clone_id(tmp_path / "moved") == first


@pytest.mark.parametrize("changed", ["name", "installation"])
def test_another_machine_or_container_with_the_same_files_has_an_id_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    """A snapshot or an image that has .points/ in it also has the inodes."""
    machine_id = tmp_path / "machine-id"
    machine_id.write_text("1234\n")
    monkeypatch.setattr("pipeline.points.clone.MACHINE", machine_id)
    monkeypatch.setattr(platform, "node", lambda: "host.example")
    first = clone_id(tmp_path)
    monkeypatch.setattr(platform, "node", lambda: "host.of.another.network")
    assert clone_id(tmp_path) == first
    with monkeypatch.context() as patch:
        if changed == "name":
            patch.setattr(platform, "node", lambda: "c0ffee")
        else:
            machine_id.unlink()
        second = clone_id(tmp_path)
        assert second not in ("", first)
        assert clone_id(tmp_path) == second
    # Machines that share a disk take turns.
    machine_id.write_text("1234\n")
    assert clone_id(tmp_path) == first


@pytest.mark.parametrize("content", ["", "only-an-id", "one two three", "id 0", "0\none two", "{inode}\none two three"])
def test_a_damaged_file_is_replaced(tmp_path: Path, content: str) -> None:
    first = clone_id(tmp_path)
    file = tmp_path / POINTS / CLONE
    file.write_text(content.format(inode=file.stat().st_ino))
    assert clone_id(tmp_path) not in ("", first)


def test_commands_that_start_together_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(clone_id, [tmp_path] * 8))) == 1


def test_a_file_in_the_way_is_one_message(tmp_path: Path) -> None:
    (tmp_path / POINTS).write_text("")
    with pytest.raises(LabError, match="cannot be written"):
        clone_id(tmp_path)
