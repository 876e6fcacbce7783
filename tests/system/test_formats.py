"""What this program has written is read back, and nothing else."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.system.formats import read_arrays
from tests.support.damage import refused

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


def test_what_can_unfold_is_refused_unread(tmp_path: Path) -> None:
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
    """A zip has bytes that mean nothing, such as times. A shape that says less than there is must be seen."""
    arrays = {"steps": np.array([0, 5]), "layer_0/weights": np.arange(8.0)}
    file = npz(tmp_path, **arrays)
    content, refused = file.read_bytes(), 0
    for place in range(len(content)):
        for bit in range(8):
            broken = bytearray(content)
            broken[place] ^= 1 << bit
            file.write_bytes(broken)
            try:
                read = read_arrays(file)
            except ValueError:
                refused += 1
                continue
            assert list(read) == list(arrays), (place, bit)
            for name, array in arrays.items():
                assert np.array_equal(read[name], array), (place, bit)
    assert refused > 0.7 * 8 * len(content)


def npy(header: bytes) -> bytes:
    """An array of 64 bytes under a header."""
    filled = header + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(filled).to_bytes(2, "little") + filled + bytes(64)


SHAPED = "{'descr': '<f8', 'fortran_order': False, 'shape': (%s,), }"
HEADERS = [SHAPED % shape for shape in ("1" + "0" * 30, "4" * 18, "-1", "True", "'a'", "2**9", "1")]
HEADERS += ["{" * 40, "(" * 300, "'''", "  x\n y", "{'descr': '<,8', 'fortran_order': False, 'shape': (8,), }", ""]


@pytest.mark.parametrize("header", HEADERS)
def test_a_member_that_is_no_array_or_not_all_of_one_is_refused(tmp_path: Path, header: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", npy(header.encode()))
    with refused():
        read_arrays(tmp_path / "a.npz")


def test_the_headers_above_fail_by_what_they_say(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", npy((SHAPED % "8").encode()))
    assert read_arrays(tmp_path / "a.npz")["a"].shape == (8,)


def test_an_array_with_an_archive_behind_it_is_read_as_the_archive(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.arange(4))
    file = npz(tmp_path, a=np.arange(2))
    file.write_bytes(stream.getvalue() + file.read_bytes())
    assert list(read_arrays(file)) == ["a"]
