"""One content, several names."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pipeline.system.files import write_file
from pipeline.system.sharing import share_file, share_folder


def test_shared_files_are_one_file_that_is_read_only(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    (one / "plots").mkdir(parents=True)
    (one / "weights").write_text("content")
    (one / "plots" / "curves").write_text("picture")
    other.mkdir()
    (other / "weights").write_text("old")
    (other / "further").write_text("stays")
    # Again: a file that is already shared is no obstacle.
    for _ in range(2):
        share_folder(one, other)
        for name in ("weights", "plots/curves"):
            assert (one / name).samefile(other / name)
            assert (one / name).stat().st_mode & 0o222 == 0
    names = sorted(path.relative_to(other).as_posix() for path in other.rglob("*"))
    assert names == ["further", "plots", "plots/curves", "weights"]
    # Replacing and deleting one name leaves the other.
    write_file(other / "weights", lambda file: file.write_text("new"))
    (other / "plots" / "curves").unlink()
    assert ((one / "weights").read_text(), (one / "plots" / "curves").read_text()) == ("content", "picture")


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP])
def test_where_a_file_cannot_be_shared_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def link(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    (tmp_path / "one").write_text("content")
    share_file(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "other").read_text() == "content"
    assert not (tmp_path / "one").samefile(tmp_path / "other")
    # Both are files of their own, so both may be changed.
    assert (tmp_path / "one").stat().st_mode & 0o200


def test_a_missing_file_is_not_shared(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        share_file(tmp_path / "one", tmp_path / "other")
    assert list(tmp_path.iterdir()) == []
