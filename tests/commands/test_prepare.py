"""Raw IDX files become the arrays that training reads, byte-identical each time."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.config.data import IdxData
from pipeline.data.arrays import load
from pipeline.data.raw import idx
from pipeline.prepare import prepare
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT

Arrays = dict[str, NDArray[np.uint8]]


def tiny_arrays() -> Arrays:
    random = np.random.default_rng(0)
    return {
        "train_images": random.integers(0, 256, (7, 3, 2), dtype=np.uint8),
        "train_labels": random.integers(0, 4, 7, dtype=np.uint8),
        "test_images": random.integers(0, 256, (3, 3, 2), dtype=np.uint8),
        "test_labels": random.integers(0, 4, 3, dtype=np.uint8),
    }


def fetched(arrays: Arrays, project: Path) -> IdxData:
    """A data set whose raw files are in place below `project`."""
    folder = project / "data" / "raw" / "tiny"
    folder.mkdir(parents=True)
    files = {}
    for role, array in arrays.items():
        content = idx.encode(array)
        (folder / f"{role}-idx").write_bytes(content)
        files[role] = {"name": f"{role}-idx", "sha256": hashlib.sha256(content).hexdigest()}
    head = {"kind": "idx", "name": "tiny", "classes": 4, "validation_share": 0}
    return IdxData.model_validate({**head, "local_dir": None, "files": files, "sources": []})


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_arrays_are_flattened_and_in_order(tmp_path: Path) -> None:
    raw = tiny_arrays()
    folder = prepare(fetched(raw, tmp_path), tmp_path)
    for split, rows in (("train", 7), ("test", 3)):
        inputs = np.load(folder / f"{split}_inputs.npy", allow_pickle=False)
        targets = np.load(folder / f"{split}_targets.npy", allow_pickle=False)
        assert (inputs.dtype, inputs.shape) == (np.uint8, (rows, 6))
        assert (targets.dtype, targets.shape) == (np.int64, (rows,))
        assert np.array_equal(inputs, raw[f"{split}_images"].reshape(rows, 6))
        assert np.array_equal(targets, raw[f"{split}_labels"])


def test_black_is_zero_and_white_is_one(tmp_path: Path) -> None:
    raw = tiny_arrays()
    raw["train_images"][0] = 0
    raw["train_images"][1] = 255
    data = fetched(raw, tmp_path)
    prepare(data, tmp_path)
    arrays = load(data, "float32", tmp_path)
    inputs = arrays.scaled(arrays.train_inputs)
    assert inputs[0].tolist() == [0.0] * 6
    assert inputs[1].tolist() == [1.0] * 6


def test_twice_gives_the_same_bytes_and_leaves_nothing_else(tmp_path: Path) -> None:
    data = fetched(tiny_arrays(), tmp_path)
    folder = prepare(data, tmp_path)
    first = contents(folder)
    (folder / "stale.npy").write_bytes(b"from an older version")
    prepare(data, tmp_path)
    assert contents(folder) == first
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_data_json_describes_the_arrays(tmp_path: Path) -> None:
    folder = prepare(fetched(tiny_arrays(), tmp_path), tmp_path)
    description = json.loads((folder / "data.json").read_text())
    assert (description["name"], description["classes"]) == ("tiny", 4)
    assert description["shapes"]["train_inputs"] == [7, 6]
    assert description["row_shape"] == [3, 2, 1]
    assert description["dtypes"] == {
        "train_inputs": "uint8",
        "train_targets": "int64",
        "test_inputs": "uint8",
        "test_targets": "int64",
    }
    for name, checksum in description["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == checksum


def test_training_reads_what_was_prepared(tmp_path: Path) -> None:
    raw = tiny_arrays()
    data = fetched(raw, tmp_path)
    prepare(data, tmp_path)
    arrays = load(data, "float64", tmp_path)
    assert arrays.train_inputs.shape == (7, 6)
    assert arrays.outputs == 4
    assert arrays.row_shape == (3, 2, 1)
    assert np.array_equal(arrays.train_targets, raw["train_labels"])


def test_data_not_fetched(tmp_path: Path) -> None:
    data = fetched(tiny_arrays(), tmp_path)
    (tmp_path / "data" / "raw" / "tiny" / "test_labels-idx").unlink()
    with pytest.raises(LabError, match="has not been fetched yet") as refusal:
        prepare(data, tmp_path)
    assert "python -m pipeline.fetch data=tiny" in str(refusal.value)
    assert "test_labels-idx" in str(refusal.value)
    assert not (tmp_path / "data" / "prepared").exists()


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    data = fetched(tiny_arrays(), tmp_path)
    file = tmp_path / "data" / "raw" / "tiny" / "train_images-idx"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(LabError) as refusal:
        prepare(data, tmp_path)
    message = str(refusal.value)
    assert str(file) in message
    assert data.files["train_images"].sha256 in message
    assert hashlib.sha256(content).hexdigest() in message
    assert "delete it and fetch again" in message


def test_a_shortened_file_is_named_as_such(tmp_path: Path) -> None:
    data = fetched(tiny_arrays(), tmp_path)
    file = tmp_path / "data" / "raw" / "tiny" / "train_images-idx"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(LabError, match="53 bytes, while its header announces 58"):
        prepare(data, tmp_path)


@pytest.mark.parametrize(
    ("role", "array", "reason"),
    [
        ("train_labels", np.zeros(6, np.uint8), "7, 3, 2.* with 6 labels"),
        ("test_labels", np.array([0, 4, 1], np.uint8), "label 4, expected 0 to 3"),
        ("train_images", np.zeros(7, np.uint8), "images of 1 and labels of 1 dimensions"),
        ("test_images", np.zeros((3, 2, 2), np.uint8), "train images of 6 pixels, test images of 4"),
    ],
)
def test_files_that_do_not_fit_together(tmp_path: Path, role: str, array: NDArray[np.uint8], reason: str) -> None:
    data = fetched({**tiny_arrays(), role: array}, tmp_path)
    with pytest.raises(LabError, match=reason):
        prepare(data, tmp_path)
    assert list((tmp_path / "data").glob("prepared/*")) == []


def test_a_file_that_is_not_idx_though_conf_names_it(tmp_path: Path) -> None:
    data = fetched(tiny_arrays(), tmp_path)
    (tmp_path / "data" / "raw" / "tiny" / "train_labels-idx").write_bytes(b"other")
    files = data.model_dump()["files"]
    files["train_labels"]["sha256"] = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(LabError, match="not an IDX file"):
        prepare(IdxData.model_validate({**data.model_dump(), "files": files}), tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    data = fetched(tiny_arrays(), tmp_path)
    (tmp_path / "data" / "prepared").write_text("a file in the way")
    with pytest.raises(LabError, match="cannot be written"):
        prepare(data, tmp_path)


def test_a_table_needs_no_preparation() -> None:
    command = [sys.executable, "-m", "pipeline.prepare", "data=two_bits"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "nothing to prepare for two_bits" in done.stderr
    assert "Traceback" not in done.stderr
