"""The snapshots of points on disk: all of them come back, and what points begin with is there once."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.backends.shared.history import History
from pipeline.backends.shared.initial_weights import Weights
from pipeline.points import weights
from pipeline.points.weights import INITIAL, LARGE, WEIGHTS, drop_unused, read_weights, write_weights
from pipeline.system.files import file_sha256

NAME = "layer_0/weights"


def snapshot(value: float, size: int = LARGE // 8) -> Weights:
    """One array in float64."""
    return {NAME: np.full(size, value)}


def written(root: Path, point: str, *snapshots: Weights) -> Path:
    folder = root / ".points" / point
    folder.mkdir(parents=True)
    write_weights(folder, dict(enumerate(snapshots)))
    return folder


def read(folder: Path) -> dict[int, float]:
    """The first value of each snapshot, by epoch."""
    history = History()
    read_weights(folder, [file.name for file in folder.iterdir()], history, [NAME])
    return {epoch: float(arrays[NAME][0]) for epoch, arrays in history.snapshots.items()}


def stored(root: Path) -> list[Path]:
    return list((root / ".points" / ".initial").glob("*"))


def test_points_that_begin_alike_share_the_file_of_the_beginning(tmp_path: Path) -> None:
    one = written(tmp_path, "one.training", snapshot(1), snapshot(2), snapshot(3))
    other = written(tmp_path, "other.training", snapshot(1), snapshot(4))
    unlike = written(tmp_path, "unlike.training", snapshot(0), snapshot(4))
    assert (one / INITIAL).samefile(other / INITIAL)
    assert not (one / INITIAL).samefile(unlike / INITIAL)
    assert [read(folder) for folder in (one, other, unlike)] == [{0: 1, 1: 2, 2: 3}, {0: 1, 1: 4}, {0: 0, 1: 4}]


@pytest.mark.parametrize("snapshots", [(), (snapshot(1),), (snapshot(1, 3), snapshot(2, 3))])
def test_a_small_beginning_and_a_single_snapshot_have_no_file_of_their_own(
    tmp_path: Path, snapshots: tuple[Weights, ...]
) -> None:
    folder = written(tmp_path, "point.training", *snapshots)
    assert [file.name for file in folder.iterdir()] == [WEIGHTS]
    assert stored(tmp_path) == []


def test_a_damaged_file_is_not_given_to_further_points(tmp_path: Path) -> None:
    one = written(tmp_path, "one.training", snapshot(1), snapshot(2))
    (one / INITIAL).chmod(0o644)
    (one / INITIAL).write_bytes(b"damaged")
    other = written(tmp_path, "other.training", snapshot(1), snapshot(2))
    third = written(tmp_path, "third.training", snapshot(1), snapshot(2))
    assert read(other) == read(third) == {0: 1, 1: 2}
    assert (other / INITIAL).samefile(third / INITIAL)


def test_what_no_point_has_any_more_goes(tmp_path: Path) -> None:
    one = written(tmp_path, "one.training", snapshot(1), snapshot(2))
    written(tmp_path, "other.training", snapshot(3), snapshot(2))
    (one / INITIAL).unlink()
    assert len(stored(tmp_path)) == 2
    drop_unused(tmp_path)
    assert len(stored(tmp_path)) == 1
    # Without trained points, there is nothing to do.
    drop_unused(tmp_path / "elsewhere")


def test_without_links_each_point_has_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    made: list[Path] = []
    replace = Path.replace

    def note(file: Path, target: Path) -> Path:
        made.append(target)
        return replace(file, target)

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(Path, "replace", note)
    one = written(tmp_path, "one.training", snapshot(1), snapshot(2))
    other = written(tmp_path, "other.training", snapshot(1), snapshot(2))
    assert not (one / INITIAL).samefile(other / INITIAL)
    assert read(one) == read(other) == {0: 1, 1: 2}
    assert stored(tmp_path) == []
    # Not even for a moment: another process could take it for a file that stays.
    assert [file.parent for file in made] == [one, one, other, other]


def test_a_file_that_another_process_deletes_just_then_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = written(tmp_path, "one.training", snapshot(1), snapshot(2))

    def sha256(file: Path) -> str:
        if file.parent.name == ".initial":
            file.unlink()
        return file_sha256(file)

    monkeypatch.setattr(weights, "file_sha256", sha256)
    other = written(tmp_path, "other.training", snapshot(1), snapshot(2))
    assert read(one) == read(other) == {0: 1, 1: 2}


def test_two_processes_may_delete_what_is_unused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = written(tmp_path, "one.training", snapshot(1), snapshot(2))
    (one / INITIAL).unlink()
    unlink = Path.unlink

    def unlink_twice(file: Path) -> None:
        unlink(file)
        unlink(file)

    monkeypatch.setattr(Path, "unlink", unlink_twice)
    drop_unused(tmp_path)
    assert stored(tmp_path) == []


def test_a_beginning_of_another_network_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, "point.training", snapshot(1), snapshot(2))
    (folder / INITIAL).unlink()
    np.savez(folder / INITIAL, allow_pickle=False, steps=np.array([0]), other=np.zeros((1, 3)))
    with pytest.raises(ValueError, match=f"{INITIAL} holds steps, other instead of steps, {NAME}"):
        read(folder)
