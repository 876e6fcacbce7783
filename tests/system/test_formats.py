"""Only files that this program has written are read."""

from __future__ import annotations

import io
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.system.formats import read_array, read_arrays, read_json, read_one_array, read_rows, stored_members
from tests.support.damage import MACHINE, fail_at, refused

# --- arrays


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "arrays.npz", allow_pickle=True, **arrays)
    return folder / "arrays.npz"


def test_arrays_are_read_as_they_were_written(tmp_path: Path) -> None:
    arrays = {"layer_0/weights": np.arange(6.0).reshape(2, 3), "steps": np.array([1, 2]), "none": np.zeros((0, 3))}
    arrays["turned"] = arrays["layer_0/weights"].T
    read = read_arrays(npz(tmp_path, **arrays))
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        assert np.array_equal(read[name], array)


def test_a_compressed_archive_is_refused_unread(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.npz"
    np.savez_compressed(bomb, a=np.zeros(4_000_000))
    assert bomb.stat().st_size < 100_000
    with pytest.raises(ValueError, match="compressed"):
        read_arrays(bomb)


def test_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"allow_pickle"):
        read_arrays(npz(tmp_path, a=np.arange(3), b=np.array([{}], dtype=object)))


def test_arrays_cut_anywhere_are_refused(tmp_path: Path) -> None:
    file = npz(tmp_path, a=np.arange(3), b=np.arange(20.0))
    content = file.read_bytes()
    for length in range(len(content)):
        file.write_bytes(content[:length])
        with refused():
            read_arrays(file)


def test_a_flipped_bit_is_refused_or_changes_no_array(tmp_path: Path) -> None:
    """A zip has bytes without meaning, such as times. A shape that is smaller than the data must be noticed."""
    arrays = {"steps": np.array([0, 5]), "layer_0/weights": np.arange(8.0)}
    file = npz(tmp_path, **arrays)
    content, refused = file.read_bytes(), 0
    for index in range(len(content)):
        for bit in range(8):
            broken = bytearray(content)
            broken[index] ^= 1 << bit
            file.write_bytes(broken)
            with suppress(ValueError):  # nothing else: an OSError would read as a fault of the disk
                assert np.array_equal(read_one_array(file, "steps"), arrays["steps"]), (index, bit)
            try:
                read = read_arrays(file)
            except ValueError:
                refused += 1
                continue
            assert list(read) == list(arrays), (index, bit)
            for name, array in arrays.items():
                assert np.array_equal(read[name], array), (index, bit)
    assert refused > 0.7 * 8 * len(content)


def npy(header: bytes) -> bytes:
    """An array of 64 bytes under a header."""
    filled = header + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(filled).to_bytes(2, "little") + filled + bytes(64)


SHAPED = "{'descr': '<f8', 'fortran_order': False, 'shape': (%s,), }"
HEADERS = [SHAPED % shape for shape in ("1" + "0" * 30, "4" * 18, "-1", "True", "'a'", "2**9", "1")]
HEADERS += ["{" * 40, "(" * 300, "'''", "  x\n y", "{'descr': '<,8', 'fortran_order': False, 'shape': (8,), }", ""]


@pytest.mark.parametrize("header", HEADERS)
def test_a_member_that_is_not_a_whole_array_is_refused(tmp_path: Path, header: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", npy(header.encode()))
    with refused():
        read_arrays(tmp_path / "a.npz")


def test_the_headers_above_fail_by_their_content(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", npy((SHAPED % "8").encode()))
    assert read_arrays(tmp_path / "a.npz")["a"].shape == (8,)


def test_an_array_with_an_archive_behind_it_is_read_as_the_archive(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.arange(4))
    file = npz(tmp_path, a=np.arange(2))
    file.write_bytes(stream.getvalue() + file.read_bytes())
    assert list(read_arrays(file)) == ["a"]


def test_an_array_alone_is_read_as_it_was_written(tmp_path: Path) -> None:
    for array in (np.arange(6, dtype=np.uint8).reshape(2, 3), np.zeros((3, 0)), np.array(7), np.arange(6.0)[::2]):
        np.save(tmp_path / "a.npy", array)
        read = read_array(tmp_path / "a.npy")
        assert (read.dtype, read.shape, read.tobytes()) == (array.dtype, array.shape, array.tobytes())
        assert read.flags.writeable


# --- archives


def test_members_are_read_as_they_were_stored(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.json", b"{}")
        archive.writestr("b/c", bytes(range(256)))
    assert dict(stored_members(tmp_path / "a.zip")) == {"a.json": b"{}", "b/c": bytes(range(256))}


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", b"1")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match="encrypted"):
        dict(stored_members(tmp_path / "a.zip"))


@pytest.mark.parametrize("error", MACHINE, ids=repr)
def test_an_error_of_the_disk_is_not_one_of_the_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    file = npz(tmp_path, a=np.arange(3))
    fail_at(monkeypatch, file, error)  # type: ignore[arg-type]
    with pytest.raises(type(error)) as raised:
        read_arrays(file)
    assert raised.value is error


# --- JSON and CSV


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"3", b"{", b"\xff", b"[" * 200_000, b'{"a":' * 200_000])
def test_only_an_object_is_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with refused():
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes('{"ä": [1]}'.encode())
    assert read_json(tmp_path / "a.json") == {"ä": [1]}


def test_rows_have_a_text_for_every_column() -> None:
    assert list(read_rows(b'a,b\n1,\n\n"x,\ny",2\n')) == [{"a": "1", "b": ""}, {"a": "x,\ny", "b": "2"}]
    assert list(read_rows(b"b,a\n2,1\n", ("a", "b"))) == [{"b": "2", "a": "1"}]
    assert list(read_rows(b"a,b\n", ("a", "b"))) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"a\n1\n", b"a,b,c\n1,2,3\n", b"a,b\n1\n", b"a,b\n1,2,3\n", b"a,b\n1,2\n3", b"a,b\n\xff,1\n",
     b"a,a\n1,2\n", b"a,b\n" + b"x" * 200_000],
    ids=lambda content: repr(content[:12]),
)  # fmt: skip
def test_other_columns_and_rows_cut_short_are_refused(content: bytes) -> None:
    with refused():
        list(read_rows(content, ("a", "b")))
