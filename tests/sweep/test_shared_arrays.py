"""Data is read once for all points that share it, and only the rows that are trained on stay in memory."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.config.data import IdxData
from pipeline.data.arrays import Arrays, load
from pipeline.sweep import shared_arrays
from pipeline.sweep.jobs import JobMaker
from pipeline.sweep.shared_arrays import SharedArrays
from pipeline.sweep.training import StackTraining
from tests.support.trained import config

ROWS = 20_000
BYTES = ROWS * 784
SMALL = ("training.rows=16", "training.epochs=1", "training.batch_size=8", "model.hidden_size=2")


def write_images(project: Path, name: str, inputs: NDArray[Any]) -> None:
    folder = project / "data" / "prepared" / name
    folder.mkdir(parents=True)
    targets = np.arange(len(inputs)) % 10
    arrays = {
        "train_inputs": inputs,
        "train_targets": targets,
        "test_inputs": inputs[:10],
        "test_targets": targets[:10],
    }
    sums = {}
    for role, array in arrays.items():
        np.save(folder / f"{role}.npy", array, allow_pickle=False)
        sums[f"{role}.npy"] = hashlib.sha256((folder / f"{role}.npy").read_bytes()).hexdigest()
    (folder / "data.json").write_text(json.dumps({"name": name, "classes": 10, "sha256": sums}))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A project with two data sets of grey values in bytes, as MNIST is."""
    grey = np.random.default_rng(0).integers(0, 256, (ROWS, 784), dtype=np.uint8)
    write_images(tmp_path, "mnist", grey)
    write_images(tmp_path, "fashion_mnist", 255 - grey)
    return tmp_path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The data sets in the order in which they are read from disk."""
    names: list[str] = []

    def read(data: IdxData, dtype: str, project: Path) -> Arrays:
        names.append(data.name)
        return load(data, dtype, project)

    monkeypatch.setattr(shared_arrays, "load", read)
    return names


def test_points_that_alternate_between_dtypes_take_the_memory_of_their_rows_once(
    images: Path, reads: list[str], sketched: None
) -> None:
    # Without validation rows, which would go through the network as floats, many at a time.
    small = (*SMALL, "data.validation_share=0")
    points = [config(*small, f"seed={seed}", f"dtype={dtype}") for seed in range(3) for dtype in ("float32", "float64")]
    tracemalloc.start()
    training = StackTraining(JobMaker(images, points[0]), {}, lambda jobs: "a stack", lambda: None)
    jobs = [training.job(point, []) for point in points]
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    training.train(jobs)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [job.state for job in jobs] == ["complete"] * 6
    assert reads == ["mnist"]
    assert before < BYTES / 2
    assert peak < BYTES


def test_points_that_alternate_between_data_sets_and_rows_read_each_of_them_once_to_train(
    images: Path, reads: list[str], sketched: None
) -> None:
    points = [
        config(*SMALL, f"training.rows={rows}", f"data={data}", f"seed={seed}")
        for seed in range(2)
        for rows in (16, 8)
        for data in ("mnist", "fashion_mnist")
    ]
    training = StackTraining(JobMaker(images, points[0]), {}, lambda jobs: "a stack", lambda: None)
    jobs = [training.job(point, []) for point in points]
    assert reads == ["mnist", "fashion_mnist"]
    reads.clear()
    training.train(jobs)
    assert [job.state for job in jobs] == ["complete"] * 8
    assert sorted(reads) == ["fashion_mnist", "fashion_mnist", "mnist", "mnist"]


@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("rows", ["null", "5", "50"])
def test_points_get_the_arrays_that_reading_them_anew_gives(tmp_path: Path, kind: type, rows: str) -> None:
    write_images(tmp_path, "mnist", np.random.default_rng(1).uniform(0, 255, (20, 784)).astype(kind))
    data = SharedArrays(tmp_path)
    for dtype in ("float64", "float32", "float64"):
        one = config(f"dtype={dtype}", f"training.rows={rows}")
        new = load(one.data, dtype, tmp_path).at_most(one.training.rows)
        shared = data.load(one)
        outline = data.outline(one)
        assert (shared.dtype, shared.outputs) == (dtype, 10)
        assert shared.checksums == outline.checksums == new.checksums
        splits = ("train", "validation", "test")
        for name in (f"{split}_{part}" for split in splits for part in ("inputs", "targets")):
            assert getattr(shared, name).dtype == getattr(new, name).dtype
            assert np.array_equal(getattr(shared, name), getattr(new, name))
            assert getattr(outline, name).shape == getattr(new, name).shape
            assert not getattr(outline, name).any()


def test_a_data_set_without_test_rows_has_none_in_its_outline() -> None:
    outline = SharedArrays(Path()).outline(config("experiment=three_bits"))
    assert (outline.test_inputs, outline.test_targets) == (None, None)
    assert (outline.validation_inputs, outline.validation_targets) == (None, None)
    assert (outline.features, outline.outputs) == (3, 1)
