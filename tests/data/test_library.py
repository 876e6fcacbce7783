"""Data sets of libraries: those of scikit-learn need no network; those of Keras are downloaded, and never unpickled."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import datasets

from pipeline.config.data import LIBRARY_TASKS, LibraryData
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, load
from pipeline.data.raw import idx, keras_files
from pipeline.data.raw.download import SourceError
from pipeline.fetch import fetch
from pipeline.prepare import prepare
from pipeline.system.errors import LabError
from tests.data.test_data import Trap
from tests.support.trained import config


def library(source: str, **settings: Any) -> LibraryData:
    given = {"kind": "library", "name": "set", "source": source, "validation_share": 0}
    return LibraryData.model_validate({**given, **settings})


def prepared(project: Path, source: str, **settings: Any) -> Arrays:
    data = library(source, **settings)
    prepare(data, project)
    return load(data, "float64", project)


@pytest.mark.parametrize("name", ["iris", "digits", "wine", "breast_cancer", "diabetes"])
def test_the_rows_are_those_of_scikit_learn(tmp_path: Path, name: str) -> None:
    arrays = prepared(tmp_path, f"sklearn:{name}", test_share=0, standardise=False)
    bunch = getattr(datasets, f"load_{name}")()
    assert np.array_equal(arrays.train_inputs, bunch.data)
    assert arrays.description is not None
    if name == "diabetes":
        assert np.array_equal(arrays.train_targets[:, 0], bunch.target)
        return
    labels = [arrays.description.classes[int(number)] for number in arrays.train_targets.reshape(-1)]
    assert labels == [str(bunch.target_names[number]) for number in bunch.target]


def test_digits_are_images(tmp_path: Path) -> None:
    assert prepared(tmp_path, "sklearn:digits").row_shape == (8, 8, 1)


def test_test_rows_are_drawn_and_training_rows_standardised(tmp_path: Path) -> None:
    arrays = prepared(tmp_path, "sklearn:iris")
    assert np.bincount(arrays.train_targets.astype(int)).tolist() == [40, 40, 40]
    assert arrays.test_targets is not None
    assert np.bincount(arrays.test_targets.astype(int)).tolist() == [10, 10, 10]
    np.testing.assert_allclose(arrays.train_inputs.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(arrays.train_inputs.std(axis=0), 1, rtol=1e-12)


@pytest.mark.parametrize("name", ["iris", "digits", "breast_cancer", "diabetes", "churn"])
def test_the_files_in_conf_are_complete(name: str) -> None:
    composed: Config = config(f"data={name}")
    assert composed.data.name == name
    assert composed.task is not None


def test_a_config_is_composed_without_its_data() -> None:
    composed: Config = config("data=churn", "data.path=none.csv")
    assert (composed.task, composed.loss) == ("binary", "binary_cross_entropy")


def test_every_data_set_of_keras_has_addresses() -> None:
    assert set(keras_files.DOWNLOADS) == {name for name in LIBRARY_TASKS if name.startswith("keras:")}


# --- downloads

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
DIGITS = np.arange(6, dtype=np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


def npz(**arrays: Any) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def archive(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(f"cifar/{name}")
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return content.getvalue()


def cifar(labels: int) -> list[bytes]:
    """Six images in the binary format of CIFAR: the labels, and all red, all green, all blue pixels."""
    planes = COLOURS.transpose(0, 3, 1, 2).reshape(6, -1)
    return [bytes([9] * (labels - 1) + [number % 2]) + image.tobytes() for number, image in enumerate(planes)]


def contents(source: str) -> list[bytes]:
    """Files like those that a data set has, in the order of its addresses."""
    if source == "keras:mnist":
        return [npz(x_train=PIXELS, y_train=DIGITS, x_test=PIXELS[:2], y_test=DIGITS[:2])]
    if source == "keras:fashion_mnist":
        return [gzip.compress(idx.encode(array)) for array in (PIXELS, DIGITS, PIXELS[:2], DIGITS[:2])]
    if source == "keras:cifar10":
        batches = {f"data_batch_{number}.bin": cifar(1)[number - 1] for number in range(1, 6)}
        return [archive({**batches, "test_batch.bin": cifar(1)[5], "batches.meta.txt": b"plane\ncar\n\n"})]
    if source == "keras:cifar100":
        rows = cifar(2)
        files = {"train.bin": b"".join(rows[:5]), "test.bin": rows[5], "fine_label_names.txt": b"apple\nfish\n"}
        return [archive(files)]
    inputs = np.random.default_rng(0).random((10, 3))
    return [npz(x=inputs, y=inputs.sum(axis=1))]


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A network with small files in the place of the published ones; returns the addresses that were asked for."""
    asked: list[str] = []
    bodies: dict[str, bytes] = {}
    downloads = {}
    for source, files in keras_files.DOWNLOADS.items():
        found = dict(zip(files, contents(source), strict=True))
        bodies |= found
        downloads[source] = {url: hashlib.sha256(body).hexdigest() for url, body in found.items()}

    def download(url: str, file: Path, sha256: str | None) -> Path:
        asked.append(url)
        file.write_bytes(bodies[url])
        return file

    monkeypatch.setattr(keras_files, "DOWNLOADS", downloads)
    monkeypatch.setattr(keras_files, "download", download)
    return asked


@pytest.mark.parametrize("source", ["keras:mnist", "keras:fashion_mnist"])
def test_grey_images_keep_their_published_split(tmp_path: Path, online: list[str], source: str) -> None:
    fetch(library(source), tmp_path)
    arrays = prepared(tmp_path, source)
    assert np.array_equal(arrays.train_inputs, PIXELS.reshape(6, -1))
    assert np.array_equal(arrays.train_targets, DIGITS)
    assert arrays.test_inputs is not None
    assert np.array_equal(arrays.test_inputs, PIXELS[:2].reshape(2, -1))
    assert (arrays.row_shape, arrays.outputs) == ((28, 28, 1), 10)


@pytest.mark.parametrize(
    ("source", "classes"), [("keras:cifar10", ("plane", "car")), ("keras:cifar100", ("apple", "fish"))]
)
def test_cifar_is_read_from_its_binary_version(
    tmp_path: Path, online: list[str], source: str, classes: tuple[str, ...]
) -> None:
    fetch(library(source), tmp_path)
    arrays = prepared(tmp_path, source)
    assert np.array_equal(arrays.train_inputs.reshape(5, 32, 32, 3), COLOURS[:5])
    assert arrays.train_targets.tolist() == [0, 1, 0, 1, 0]
    assert arrays.test_inputs is not None
    assert np.array_equal(arrays.test_inputs.reshape(1, 32, 32, 3), COLOURS[5:])
    assert arrays.description is not None
    assert arrays.description.classes == classes


def test_tables_are_split_by_the_config(tmp_path: Path, online: list[str]) -> None:
    fetch(library("keras:boston_housing"), tmp_path)
    arrays = prepared(tmp_path, "keras:boston_housing", test_share=0.3, standardise=False)
    np.testing.assert_allclose(arrays.train_inputs.sum(axis=1), arrays.train_targets[:, 0], rtol=1e-12)
    assert arrays.test_inputs is not None
    assert (len(arrays.train_inputs), len(arrays.test_inputs)) == (7, 3)


def test_what_is_there_is_not_downloaded_again(
    tmp_path: Path, online: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(library("keras:mnist"), tmp_path)
    fetch(library("keras:mnist"), tmp_path)
    assert len(online) == 1
    assert "checksums OK" in capsys.readouterr().out


def test_without_a_network_one_message_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(url: str, file: Path, sha256: str | None) -> Path:
        raise SourceError("storage.googleapis.com cannot be resolved")

    monkeypatch.setattr(keras_files, "download", unreachable)
    with pytest.raises(LabError, match="needs a network") as caught:
        fetch(library("keras:cifar10"), tmp_path)
    message = str(caught.value)
    assert "cannot be resolved" in message
    assert "sklearn:iris" in message
    assert not (tmp_path / "data" / "raw" / "set").exists()


def test_what_is_not_fetched_or_damaged_is_named(tmp_path: Path, online: list[str]) -> None:
    with pytest.raises(LabError, match="has not been fetched yet") as caught:
        prepare(library("keras:mnist"), tmp_path)
    assert "python -m pipeline.fetch data=set" in str(caught.value)
    fetch(library("keras:mnist"), tmp_path)
    (tmp_path / "data" / "raw" / "set" / "mnist.npz").write_bytes(b"another")
    with pytest.raises(LabError, match=r"mnist\.npz is not the file that keras:mnist names"):
        prepare(library("keras:mnist"), tmp_path)


@pytest.mark.parametrize("source", ["keras:mnist", "keras:cifar10", "keras:fashion_mnist"])
def test_a_download_with_the_right_checksum_is_not_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    trap = tmp_path / "sprung"
    pickled = pickle.dumps(Trap(trap))
    wanted = {url: hashlib.sha256(pickled).hexdigest() for url in keras_files.DOWNLOADS[source]}
    monkeypatch.setattr(keras_files, "DOWNLOADS", {source: wanted})
    folder = tmp_path / "data" / "raw" / "set"
    folder.mkdir(parents=True)
    for url in wanted:
        (folder / url.rpartition("/")[2]).write_bytes(pickled)
    with pytest.raises(LabError, match="cannot be read"):
        prepare(library(source), tmp_path)
    assert not trap.exists()


def test_nothing_is_fetched_for_what_is_installed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(library("sklearn:iris"), tmp_path)
    assert capsys.readouterr().out == "set: nothing to fetch, sklearn:iris is installed\n"


def test_a_data_set_that_is_unknown() -> None:
    with pytest.raises(ValueError, match="sklearn:iris"):
        library("sklearn:moons")
