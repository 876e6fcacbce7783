"""Data in memory: tables, the check that prepared arrays are unchanged, the order of minibatches."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.config.data import IdxData
from pipeline.data.arrays import epoch_order, load
from pipeline.system.errors import LabError
from pipeline.system.files import file_sha256
from tests.support.damage import MACHINE, check_machine_error, fail_at
from tests.support.trained import config

ROLES = ("train_inputs", "train_targets", "test_inputs", "test_targets")
MNIST = config("data.validation_share=0").data


def mnist() -> IdxData:
    assert isinstance(MNIST, IdxData)
    return MNIST


def arrays() -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(0)
    return {
        "train_inputs": random.random((7, 6), dtype=np.float32),
        "train_targets": random.integers(0, 10, 7),
        "test_inputs": random.random((3, 6), dtype=np.float32),
        "test_targets": random.integers(0, 10, 3),
    }


def describe(folder: Path) -> None:
    """Write data.json for what is in the folder."""
    sums = {file.name: file_sha256(file) for file in folder.glob("*.npy")}
    (folder / "data.json").write_text(json.dumps({"name": "mnist", "classes": 10, "sha256": sums}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Prepared data below tmp_path."""
    folder = tmp_path / "data" / "prepared" / "mnist"
    folder.mkdir(parents=True)
    for name, array in arrays().items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    describe(folder)
    return folder


def refusal(project: Path) -> str:
    with pytest.raises(LabError) as caught:
        load(mnist(), "float32", project)
    message = str(caught.value)
    assert "python -m pipeline.fetch data=mnist && python -m pipeline.prepare data=mnist" in message
    return message


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.file,)


# --- reading


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_table_is_its_rows(dtype: str) -> None:
    three_bits = load(config("experiment=three_bits").data, dtype, Path("/nowhere"))
    assert three_bits.train_inputs.tolist() == [[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]]
    assert three_bits.train_targets.tolist() == [[0], [1], [1], [0]]
    assert three_bits.train_inputs.dtype == three_bits.train_targets.dtype == dtype
    assert (three_bits.test_inputs, three_bits.test_targets) == (None, None)
    assert (three_bits.features, three_bits.outputs) == (3, 1)


def test_tables_of_other_rows_have_other_checksums() -> None:
    one, same, other = (
        load(config("experiment=three_bits", *more).data, "float64", Path())
        for more in ((), ("data.inputs=[[0,0,1.0],[0,1,1],[1,0,1],[1,1,1]]",), ("data.targets=[[0],[1],[1],[1]]",))
    )
    assert one.checksums == same.checksums != other.checksums


def test_validation_rows_of_images_are_drawn_when_they_are_loaded(tmp_path: Path, folder: Path) -> None:
    sizes = {}
    for share in ("1/6", "0.25"):
        data = config(f"data.validation_share={share}").data
        loaded = load(data, "float32", tmp_path)
        again = load(data, "float64", tmp_path)
        assert loaded.validation_inputs is not None
        assert again.validation_inputs is not None
        assert np.array_equal(loaded.validation_inputs, again.validation_inputs)
        assert loaded.validation_targets is not None
        sizes[share] = len(loaded.validation_inputs)
        both = np.concatenate([loaded.train_inputs, loaded.validation_inputs])
        labels = np.concatenate([loaded.train_targets, loaded.validation_targets])
        rows = sorted(zip(map(tuple, both), labels, strict=True))
        whole = arrays()
        assert rows == sorted(zip(map(tuple, whole["train_inputs"]), whole["train_targets"], strict=True))
        # The files are the same, whatever is drawn from them: the share is in the config.
        assert set(loaded.checksums) == {f"{name}.npy" for name in ROLES}
    assert sizes == {"1/6": 1, "0.25": 2}


def test_fewer_training_rows_leave_the_validation_rows(tmp_path: Path, folder: Path) -> None:
    whole = load(config("data.validation_share=0.25").data, "float32", tmp_path)
    few = whole.at_most(2)
    assert len(few.train_inputs) == 2
    assert few.validation_inputs is whole.validation_inputs
    assert [split for split, _, _ in few.evaluated(last=False)] == ["validation"]
    assert [split for split, _, _ in few.evaluated(last=True)] == ["validation", "test"]
    without = replace(few, validation_inputs=None, validation_targets=None)
    assert [split for split, _, _ in without.evaluated(last=False)] == ["test"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_prepared_arrays_are_read_in_the_dtype(tmp_path: Path, folder: Path, dtype: str) -> None:
    loaded = load(mnist(), dtype, tmp_path)
    for name, array in arrays().items():
        assert np.array_equal(getattr(loaded, name), array)
    assert loaded.train_inputs.dtype == dtype
    assert np.issubdtype(loaded.train_targets.dtype, np.integer)
    assert (loaded.features, loaded.outputs) == (6, 10)
    assert loaded.checksums == {f"{name}.npy": file_sha256(folder / f"{name}.npy") for name in ROLES}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_grey_values_stay_bytes_until_they_are_scaled(tmp_path: Path, folder: Path, dtype: str) -> None:
    grey = np.arange(7 * 6, dtype=np.uint8).reshape(7, 6) * 6
    np.save(folder / "train_inputs.npy", grey, allow_pickle=False)
    describe(folder)
    loaded = load(mnist(), dtype, tmp_path)
    assert loaded.train_inputs.dtype == np.uint8
    chosen = np.array([[3, 0], [6, 3]])
    by_hand = np.array([[np.float32(int(value)) / np.float32(255) for value in row] for row in grey])[chosen]
    out = np.full((2, 2, 6), np.nan, dtype)
    for scaled in (loaded.scaled(grey[chosen]), loaded.scaled(grey[chosen], out=out)):
        assert scaled.dtype == dtype
        assert np.array_equal(scaled, by_hand)
    assert np.array_equal(out, by_hand)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_are_numbers_already(dtype: str) -> None:
    bits = load(config("experiment=three_bits").data, dtype, Path())
    out = np.full((4, 3), np.nan, dtype)
    assert bits.scaled(bits.train_inputs) is bits.train_inputs
    assert bits.scaled(bits.train_inputs, out=out) is out
    assert np.array_equal(out, bits.train_inputs)


# --- what is not there, or not what was prepared


def test_the_first_rows_are_learned_from_and_all_are_tested(tmp_path: Path, folder: Path) -> None:
    whole = load(mnist(), "float32", tmp_path)
    rows = len(whole.train_inputs)
    few = whole.at_most(3)
    assert np.array_equal(few.train_inputs, whole.train_inputs[:3])
    assert np.array_equal(few.train_targets, whole.train_targets[:3])
    assert few.test_inputs is whole.test_inputs
    assert [len(whole.at_most(count).train_inputs) for count in (None, rows, rows + 1)] == [rows] * 3


def test_data_that_is_not_prepared(tmp_path: Path) -> None:
    assert "The data set mnist is not prepared yet" in refusal(tmp_path)


def test_a_folder_without_its_description(tmp_path: Path, folder: Path) -> None:
    (folder / "data.json").unlink()
    assert "a folder without data.json" in refusal(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"3", b"{}", b'{"sha256": 3}', b'{"sha256": []}', b"\xff\xfe\x00", b'"text"']
)
def test_a_description_that_is_none(tmp_path: Path, folder: Path, content: bytes) -> None:
    (folder / "data.json").write_bytes(content)
    assert "data.json cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize("shape", [[2, 3, 1], None])
def test_an_image_has_its_shape_unless_an_earlier_version_prepared_it(
    tmp_path: Path, folder: Path, shape: list[int] | None
) -> None:
    reshaped(folder, shape)
    expected = None if shape is None else (2, 3, 1)
    assert load(mnist(), "float32", tmp_path).row_shape == expected


@pytest.mark.parametrize("shape", [[2, 2, 1], [], 6, ["x", 3], [-2, -3], [2.5, 2.4]])
def test_a_shape_that_is_none(tmp_path: Path, folder: Path, shape: object) -> None:
    reshaped(folder, shape)
    assert "data.json cannot be read" in refusal(tmp_path)


def reshaped(folder: Path, shape: object) -> None:
    content = json.loads((folder / "data.json").read_text())
    (folder / "data.json").write_text(json.dumps({**content, "row_shape": shape}))


@pytest.mark.parametrize("content", [b'{"sha256": {}}', b'{"sha256": {"train_inputs.npy": null}}'])
def test_a_description_without_a_checksum(tmp_path: Path, folder: Path, content: bytes) -> None:
    (folder / "data.json").write_bytes(content)
    assert "is not the file that was prepared" in refusal(tmp_path)


@pytest.mark.parametrize("role", ROLES)
def test_a_missing_array(tmp_path: Path, folder: Path, role: str) -> None:
    (folder / f"{role}.npy").unlink()
    message = refusal(tmp_path)
    assert f"{role}.npy is not the file" in message
    assert "no such file" in message


@pytest.mark.parametrize("role", ROLES)
def test_a_truncated_array(tmp_path: Path, folder: Path, role: str) -> None:
    file = folder / f"{role}.npy"
    expected = file_sha256(file)
    file.write_bytes(file.read_bytes()[:-3])
    message = refusal(tmp_path)
    assert f"{role}.npy is not the file" in message
    assert expected in message
    assert file_sha256(file) in message


@pytest.mark.parametrize("bit", [0, 8 * 10 + 3, 8 * 60, -1])
def test_a_flipped_bit(tmp_path: Path, folder: Path, bit: int) -> None:
    file = folder / "train_inputs.npy"
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << (bit % 8)
    file.write_bytes(content)
    assert "train_inputs.npy is not the file" in refusal(tmp_path)


def pickled(trap: Path) -> list[bytes]:
    """A bare pickle, and an .npy of objects."""
    array = np.array([Trap(trap)], dtype=object)
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return [pickle.dumps(Trap(trap)), stream.getvalue()]


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("described", [False, True])
def test_a_pickle_is_never_opened(tmp_path: Path, folder: Path, kind: int, described: bool) -> None:
    trap = tmp_path / "sprung"
    payload = pickled(trap)[kind]
    (folder / "test_targets.npy").write_bytes(payload)
    if described:
        describe(folder)
    assert "test_targets.npy" in refusal(tmp_path)
    assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY\x01\x00", b"PK\x03\x04"])
def test_a_file_that_is_not_an_array_though_it_is_described(tmp_path: Path, folder: Path, content: bytes) -> None:
    (folder / "train_targets.npy").write_bytes(content)
    describe(folder)
    assert "train_targets.npy" in refusal(tmp_path)


def test_an_archive_in_the_place_of_an_array(tmp_path: Path, folder: Path) -> None:
    with (folder / "train_targets.npy").open("wb") as stream:
        np.savez(stream, a=np.zeros(3))
    describe(folder)
    assert "train_targets.npy" in refusal(tmp_path)


@given(st.binary(max_size=300))
def test_checksums_are_sha256(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "content"
    file.write_bytes(content)
    assert file_sha256(file) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", ["data.json", "train_inputs.npy", "test_targets.npy"])
@pytest.mark.parametrize("error", MACHINE, ids=repr)
def test_a_file_that_the_machine_does_not_let_be_read_is_not_said_to_be_damaged(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: OSError | MemoryError
) -> None:
    fail_at(monkeypatch, folder / name, error)
    with pytest.raises(LabError) as caught:
        load(mnist(), "float32", tmp_path)
    check_machine_error(caught.value, error, folder / name)


# --- the order of rows


@given(st.integers(0, 2**32 - 1), st.integers(1, 10_000), st.integers(1, 300))
def test_an_epochs_order_is_a_permutation_that_can_be_had_again(seed: int, epoch: int, rows: int) -> None:
    order = epoch_order(seed, epoch, rows)
    assert sorted(order.tolist()) == list(range(rows))
    assert np.array_equal(order, epoch_order(seed, epoch, rows))


@given(st.integers(0, 2**31), st.integers(1, 1000))
def test_epochs_and_seeds_have_orders_of_their_own(seed: int, epoch: int) -> None:
    order = epoch_order(seed, epoch, 100)
    assert not np.array_equal(order, epoch_order(seed, epoch + 1, 100))
    assert not np.array_equal(order, epoch_order(seed + 1, epoch, 100))
