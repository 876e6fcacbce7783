"""The data set of a point: its record in MLflow, which MLflow can read."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.data.dataset_source_registry import get_dataset_source_from_json
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.entities import Dataset as MlflowDataset
from mlflow.entities import DatasetInput, InputTag
from mlflow.types import DataType, Schema

from pipeline.config.data import IdxData, Task
from pipeline.config.schema import Config
from pipeline.data.arrays import load
from pipeline.tracking.dataset import checksums_in, dataset_of
from pipeline.tracking.store import store_uri
from tests.support.raw_rows import described, prepared
from tests.support.trained import config

SUMS = {
    "train_inputs.npy": 64 * "a",
    "train_targets.npy": 64 * "b",
    "test_inputs.npy": 64 * "c",
    "test_targets.npy": 64 * "d",
}
MNIST = config("experiment=mnist")


def columns(schema: str) -> list[tuple[str | None, Any]]:
    """Names and types of a schema, as MLflow reads it."""
    read = Schema.from_json(json.dumps(json.loads(schema)["mlflow_colspec"]))
    return [(column.name, column.type) for column in read.inputs]


def with_sources(*kinds_and_locations: tuple[str, str]) -> Config:
    """MNIST from other sources."""
    assert isinstance(MNIST.data, IdxData)
    sources = [
        {"kind": kind, "location": location, "members": MNIST.data.sources[0].members}
        for kind, location in kinds_and_locations
    ]
    return Config.model_validate(MNIST.model_dump() | {"data": MNIST.data.model_dump() | {"sources": sources}})


def test_a_table_names_its_file_its_columns_and_its_rows() -> None:
    point = config("experiment=three_bits", "dtype=float64")
    dataset = dataset_of(point, load(point.data, "float64", Path()).checksums)
    assert (dataset.name, dataset.source_type) == ("three_bits", "local")
    assert json.loads(dataset.source) == {"uri": "conf/data/three_bits.yaml"}
    double = DataType.double
    assert columns(dataset.schema) == [(name, double) for name in ("input_0", "input_1", "input_2", "target_0")]
    rows = json.dumps([point.data.model_dump()["inputs"], point.data.model_dump()["targets"]]).encode()
    begins = hashlib.sha256(rows).hexdigest()[:16]
    assert json.loads(dataset.profile) == {"rows": 4, "inputs": 3, "outputs": 1, "sha256 of table": f"{begins}..."}


def test_images_name_their_first_source() -> None:
    dataset = dataset_of(MNIST, SUMS)
    assert dataset.name == "mnist"
    source = get_dataset_source_from_json(dataset.source, dataset.source_type)
    assert isinstance(source, HTTPDatasetSource)
    assert source.url == "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
    (pixels, kind), label = columns(dataset.schema)
    assert (pixels, kind.dtype) == ("pixels", DataType.float)
    assert label == ("label", DataType.long)
    profile = json.loads(dataset.profile)
    assert profile["classes"] == 10
    assert profile["sha256 of train_inputs.npy"] == 16 * "a" + "..."


@pytest.mark.parametrize(
    ("sources", "source_type", "source"),
    [
        ([("gzip_files", "http://a/b/"), ("npm", "m@1")], "http", {"url": "http://a/b/"}),
        ([("npm", "m@1"), ("npz", "http://a")], "npm", {"uri": "m@1"}),
        ([("debian", "dataset-m")], "debian", {"uri": "dataset-m"}),
        ([], "local", {"uri": "conf/data/mnist.yaml"}),
    ],
)
def test_other_sources(sources: list[tuple[str, str]], source_type: str, source: dict[str, str]) -> None:
    dataset = dataset_of(with_sources(*sources), SUMS)
    assert (dataset.source_type, json.loads(dataset.source)) == (source_type, source)


@pytest.mark.parametrize("task", ["classification", "binary", "regression"])
def test_described_data_names_its_columns_and_what_a_person_should_know(project: Path, task: Task) -> None:
    point = described(prepared(project, task))
    arrays = load(point.data, point.dtype, project)
    dataset = dataset_of(point, arrays.checksums, arrays.description)
    assert (dataset.name, dataset.source_type, json.loads(dataset.source)) == ("people", "local", {"uri": "people.csv"})
    number, text = DataType.double, DataType.string
    targets = {
        "classification": [("size", text)],
        "binary": [("stays", text)],
        "regression": [("price", number), ("weight", number)],
    }
    raw = [("age", number), ("net income", number), ("city", text)]
    assert columns(dataset.schema) == raw + targets[task]
    optional = [column["name"] for column in json.loads(dataset.schema)["mlflow_colspec"] if not column["required"]]
    assert optional == ["age", "city"]
    profile = json.loads(dataset.profile)
    outputs = {"classification": {"classes": 3}, "binary": {"classes": 2}, "regression": {"outputs": 2}}
    assert {key: value for key, value in profile.items() if not key.startswith("sha256")} == {
        "task": task,
        "training rows": 40,
        "validation rows": 0,
        "test rows": 10,
        "inputs": 6,
        **outputs[task],
        "notes": "The column age has no value in 9 rows. The column x is constant.",
    }
    assert len([key for key in profile if key.startswith("sha256 of ")]) == 5
    changed = dataset_of(point, arrays.checksums | {"data.json": 64 * "0"}, arrays.description)
    assert changed.digest != dataset.digest


def test_described_images_name_the_shape_of_a_row(project: Path) -> None:
    point = described(prepared(project, "classification", pixels=True))
    dataset = dataset_of(point, SUMS, load(point.data, point.dtype, project).description)
    (pixels, kind), target = columns(dataset.schema)
    assert (pixels, kind.dtype, target) == ("pixels", DataType.integer, ("size", DataType.string))
    profile = json.loads(dataset.profile)
    assert (profile["shape of a row"], profile["inputs"], profile["classes"]) == ("4 x 3 x 1", 12, 3)


def test_data_of_a_library_names_the_library(project: Path) -> None:
    description = prepared(project, "regression")
    composed = described(description).model_dump(mode="json")
    data = {"kind": "library", "name": "diabetes", "source": "sklearn:diabetes"}
    dataset = dataset_of(Config.model_validate(composed | {"data": data}), SUMS, description)
    assert (dataset.source_type, json.loads(dataset.source)) == ("library", {"uri": "sklearn:diabetes"})


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum on this machine")
def test_the_digest_can_be_computed_on_the_command_line(tmp_path: Path) -> None:
    for number, name in enumerate(SUMS):
        np.save(tmp_path / name, np.arange(number + 1))
    sums = {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in SUMS}
    typed = ["bash", "-c", "LC_ALL=C; sha256sum *.npy | sha256sum"]
    done = subprocess.run(typed, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert dataset_of(MNIST, sums).digest == done.stdout[:16]


@given(st.permutations(list(SUMS)), st.sampled_from(list(SUMS)), st.integers(0, 63))
def test_the_digest_depends_on_every_array_but_not_on_their_order(order: list[str], name: str, index: int) -> None:
    plain = dataset_of(MNIST, SUMS).digest
    assert dataset_of(MNIST, {key: SUMS[key] for key in order}).digest == plain
    flipped = SUMS[name][:index] + "0" + SUMS[name][index + 1 :]
    assert dataset_of(MNIST, SUMS | {name: flipped}).digest != plain


def test_checksums_are_found_among_the_tags_of_a_run() -> None:
    tags = {f"data.{name}": sum_ for name, sum_ in SUMS.items()} | {"command": "x", "git.dirty": "false"}
    assert checksums_in(tags) == SUMS


@pytest.mark.parametrize("point", [MNIST, config("experiment=three_bits")], ids=["images", "table"])
def test_mlflow_stores_it_once_as_it_was_logged(project: Path, point: Config) -> None:
    client = MlflowClient(store_uri(project))
    dataset = dataset_of(point, SUMS)
    run = client.create_run(client.create_experiment("study"))
    for _ in range(2):
        entity = MlflowDataset(**asdict(dataset))
        client.log_inputs(run.info.run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])
    inputs = client.get_run(run.info.run_id).inputs
    assert inputs is not None
    (kept,) = inputs.dataset_inputs
    assert dict(kept.dataset) == asdict(dataset)
    assert [(tag.key, tag.value) for tag in kept.tags] == [("mlflow.data.context", "training")]
