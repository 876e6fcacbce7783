"""Models that take raw rows: what they return, alone and served, and what they say about rows that do not fit."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import DataType, Schema, TensorSpec
from mlflow.types.schema import AnyType

from pipeline.backends.shared.initial_weights import Weights
from pipeline.config.data import Task
from pipeline.config.schema import Tracking
from pipeline.data.description import Column, DataDescription
from pipeline.points.point import Point
from pipeline.rebuild import rebuild
from pipeline.tracking.location import local_path
from pipeline.tracking.model_files import write_model
from pipeline.tracking.models import log_models
from pipeline.tracking.pages.presentation import NOTE
from pipeline.tracking.raw_loader import RawModel
from pipeline.tracking.raw_rows import prediction
from pipeline.tracking.store import open_store, store_uri
from tests.support.flaky_server import free_port
from tests.support.raw_rows import (
    OUTPUTS,
    described,
    images,
    inputs_of,
    people,
    prepared,
    targets_of,
    trained_point,
)
from tests.support.served import clean_environment, post, serving
from tests.support.swept import full_name, runs_of, swept

LOCAL = Tracking(name="local", uri=None)
TASKS: tuple[Task, ...] = ("classification", "binary", "regression")
ANY = AnyType()  # type: ignore[no-untyped-call]
SIGNATURE = ModelSignature(Schema([TensorSpec(np.dtype(np.float64), (-1, 3))]))
KNOBS = ("model.hidden_activation=tanh", "optimizer.learning_rate=0.1", "training.batch_size=10")

REFUSE = """
import sys
from importlib.abc import MetaPathFinder

class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pipeline", "tensorflow", "keras", "hydra"):
            raise ImportError(name + " is not here")

sys.meta_path.insert(0, Refuse())
"""


def outputs_of(weights: Weights, inputs: np.ndarray, task: Task) -> pd.DataFrame:
    """The equations written out in float64: tanh, then softmax, sigmoid or the sums themselves; with names."""
    exact = {name: array.astype(np.float64) for name, array in weights.items()}
    hidden = np.tanh(inputs @ exact["layer_0/weights"] + exact["layer_0/bias"])
    sums = hidden @ exact["layer_1/weights"] + exact["layer_1/bias"]
    names = OUTPUTS[task].get("classes", ())
    if task == "regression":
        return pd.DataFrame(sums, columns=["price", "weight"])
    if task == "binary":
        second = 1 / (1 + np.exp(-sums[:, 0]))
        shares = np.array([1 - second, second]).T
    else:
        shares = np.exp(sums) / np.exp(sums).sum(axis=1, keepdims=True)
    frame = pd.DataFrame(shares, columns=[f"probability_{name}" for name in names])
    frame.insert(0, "class", [names[row.argmax()] for row in shares])
    return frame


def same(predicted: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert list(predicted.columns) == list(expected.columns)
    for name in expected:
        if name == "class":
            assert list(predicted[name]) == list(expected[name])
        else:
            np.testing.assert_allclose(predicted[name], expected[name], rtol=1e-4, atol=1e-6)


def written(folder: Path, point: Point, name: str = "model") -> str:
    write_model(folder / name, point.config, point.history.snapshots[3], None, point.data)
    return str(folder / name)


@pytest.fixture(scope="module", params=["numpy", "keras"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=TASKS)
def point(request: pytest.FixtureRequest, backend: str, tmp_path_factory: pytest.TempPathFactory) -> Point:
    """A point of each task and backend."""
    project = tmp_path_factory.mktemp("project")
    description = prepared(project, request.param)
    return trained_point(project, described(description, f"backend={backend}", *KNOBS))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Point:
    project = tmp_path_factory.mktemp("project")
    return trained_point(project, described(prepared(project, "classification"), *KNOBS))


@pytest.fixture(scope="module")
def folder(classifier: Point, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A NumPy model of three classes; not to be changed."""
    return written(tmp_path_factory.mktemp("models"), classifier)


@pytest.fixture
def model(folder: str) -> Any:
    return mlflow.pyfunc.load_model(folder)


# --- what they return


def test_raw_rows_become_classes_and_probabilities_or_numbers(point: Point, tmp_path: Path) -> None:
    frame = people(20, seed=9).set_index(pd.Index(range(100, 120)))
    predicted = mlflow.pyfunc.load_model(written(tmp_path, point)).predict(frame)
    assert list(predicted.index) == list(range(100, 120))
    assert point.config.task is not None
    same(predicted, outputs_of(point.history.snapshots[3], inputs_of(frame), point.config.task))


def test_predictions_of_the_raw_test_rows_have_the_loss_that_training_measured(point: Point, tmp_path: Path) -> None:
    predicted = mlflow.pyfunc.load_model(written(tmp_path, point)).predict(people(50)[40:])
    task = point.config.task
    assert task is not None
    targets = targets_of(task)[40:]
    if task == "classification":
        shares = predicted[["probability_large", "probability_middle", "probability_small"]].to_numpy()
        loss = -np.log(shares[np.arange(10), targets]).mean()
    elif task == "binary":
        loss = np.square(predicted[["probability_yes"]].to_numpy() - targets).mean()
    else:
        loss = np.square(predicted.to_numpy() - targets).mean()
    np.testing.assert_allclose(loss, point.history.final()["test/loss"], rtol=1e-5)


@pytest.mark.parametrize("task", ["classification", "binary"])
def test_images_are_predicted_from_bytes(backend: str, task: Task, tmp_path: Path) -> None:
    point = trained_point(tmp_path, described(prepared(tmp_path, task, pixels=True), f"backend={backend}", *KNOBS))
    model = mlflow.pyfunc.load_model(written(tmp_path, point))
    rows = images(7, seed=5)
    same(model.predict(rows), outputs_of(point.history.snapshots[3], rows.reshape(7, -1) / 255, task))
    assert len(model.predict(model.input_example)) == 2
    with pytest.raises(MlflowException, match="Failed to enforce schema"):
        model.predict(rows[:, :, :2])


def test_float64_is_kept(tmp_path: Path) -> None:
    point = trained_point(tmp_path, described(prepared(tmp_path, "regression"), "dtype=float64", *KNOBS))
    model = mlflow.pyfunc.load_model(written(tmp_path, point))
    frame = people(20, seed=9)
    expected = outputs_of(point.history.snapshots[3], inputs_of(frame), "regression")
    np.testing.assert_allclose(model.predict(frame), expected, rtol=1e-12)
    assert [column.type for column in model.metadata.signature.outputs] == [DataType.double, DataType.double]


def test_an_unknown_category_is_none_of_the_known_ones(model: Any, classifier: Point) -> None:
    inputs = inputs_of(people(1))
    inputs[:, 3:] = 0
    predicted = model.predict(people(1).assign(city="Paris"))
    same(predicted, outputs_of(classifier.history.snapshots[3], inputs, "classification"))


@pytest.mark.parametrize(
    "age",
    [
        pd.Series([20, 30, 40]),
        pd.Series([20, 30, 40], dtype="uint64"),
        pd.Series([20, 30, 40], dtype="Int64"),
        pd.Series(["20", "30.0", "4e1"]),
        pd.Series([20, 30, 40], dtype="category"),
    ],
    ids=["whole", "unsigned", "nullable", "text", "category"],
)
def test_numbers_may_be_of_any_type(model: Any, age: pd.Series) -> None:
    frame = people(3).assign(age=[20.0, 30.0, 40.0])
    assert model.predict(frame.assign(age=age)).equals(model.predict(frame))


def test_true_and_false_are_one_and_zero(model: Any) -> None:
    frame = people(3)
    expected = model.predict(frame.assign(age=[1.0, 0.0, math.nan]))
    assert model.predict(frame.assign(age=pd.Series([True, False, None], dtype=object))).equals(expected)
    assert model.predict(frame[:2].assign(age=[True, False])).equals(expected[:2])


def test_a_file_is_predicted_as_pandas_reads_it(model: Any, tmp_path: Path) -> None:
    """Whole incomes, no city, which pandas reads as missing numbers, and columns that the model does not know."""
    frame = pd.DataFrame({"net income": [3000.0, 4000.0], "city": [None, None], "age": [41.0, 52.0]})
    text = "number,net income,city,age,size\n1,3000,,41,large\n2,4000,,52,small\n"
    (tmp_path / "new.csv").write_text(text)
    assert model.predict(pd.read_csv(tmp_path / "new.csv")).equals(model.predict(frame.astype({"city": object})))


def test_numbers_are_text_where_training_has_seen_them_as_text() -> None:
    network = mlflow.pyfunc.PyFuncModel(Model(signature=SIGNATURE), SimpleNamespace(predict=lambda inputs: inputs))
    column = Column(name="code", kind="category", categories=("", "07", "7")).model_dump()
    model = RawModel(
        {"columns": [column], "row_shape": [3], "task": "regression", "targets": "abc", "classes": []}, network
    )
    assert model.predict(pd.DataFrame({"code": [7, 7]})).to_numpy().tolist() == [[0, 0, 1], [0, 0, 1]]
    assert model.predict(pd.DataFrame({"code": ["07", "x"]})).to_numpy().tolist() == [[0, 1, 0], [0, 0, 0]]
    with pytest.raises(
        MlflowException, match="row 2, column code: expected text, received 8; a file is read with dtype"
    ):
        model.predict(pd.DataFrame({"code": [7, 8]}))
    with pytest.raises(MlflowException, match="row 1, column code: expected text, received 7"):
        model.predict(pd.DataFrame({"code": [7, math.nan]}))


# --- what MLflow shows


def test_the_signature_names_the_raw_columns(model: Any) -> None:
    signature = model.metadata.signature
    assert [(column.name, column.type, column.required) for column in signature.inputs] == [
        ("age", ANY, True),
        ("net income", ANY, True),
        ("city", ANY, True),
    ]
    assert [(column.name, column.type) for column in signature.outputs] == [
        ("class", DataType.string),
        ("probability_large", DataType.float),
        ("probability_middle", DataType.float),
        ("probability_small", DataType.float),
    ]


def test_the_example_looks_like_the_data_and_is_predicted(model: Any) -> None:
    assert model.input_example.to_dict("records") == [
        {"age": 40.25, "net income": 3000.0, "city": "Bern"},
        {"age": 50.75, "net income": 3800.0, "city": "Köln"},
    ]
    assert len(model.predict(model.input_example)) == 2


def test_a_model_asks_for_what_it_needs(point: Point, tmp_path: Path) -> None:
    requirements = (Path(written(tmp_path, point)) / "requirements.txt").read_text().split()
    needed = {"mlflow", "numpy", "pandas"}
    if point.config.backend.name == "keras":
        needed |= {"keras", "tensorflow"}
    assert {line.partition("==")[0] for line in requirements} == needed
    assert all(line.partition("==")[2] for line in requirements)


def test_many_columns_are_not_spelled_out() -> None:
    columns = tuple(Column(name=f"x{number}", kind="number") for number in range(500))
    data = DataDescription(
        name="wide", task="regression", source="wide.csv", sha256="0" * 64, train_rows=1, test_rows=0,
        row_shape=(500,), columns=columns, targets=("y",),
    )  # fmt: skip
    assert prediction(data, "http://127.0.0.1:5000", "runs:/1/final")[-1] == "model.predict(model.input_example)"


@pytest.mark.slow
def test_the_lines_on_the_page_of_a_model_predict(project: Path, classifier: Point) -> None:
    of_images = trained_point(project, described(prepared(project, "classification", pixels=True), *KNOBS))
    client, experiment_id = open_store(LOCAL, "study", project)
    models: list[LoggedModel] = []
    script: list[str] = []
    for point in (classifier, of_images):
        run_id = client.create_run(experiment_id, tags={"data.data.json": 64 * "0"}).info.run_id
        log_models(client, experiment_id, run_id, point)
        models.append(client.search_logged_models([experiment_id])[0])
        note = models[-1].tags[NOTE]
        assert "In the project's folder, load them and predict with\n\n    import mlflow\n" in note
        *lines, call = [line[4:] for line in note.splitlines() if line.startswith("    ")]
        script += [*lines, f"print({call}.to_json(orient='split', double_precision=15))"]
    typed = [sys.executable, "-I", "-c", "\n".join(script)]
    done = subprocess.run(typed, cwd=project, env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for model, printed in zip(models, done.stdout.splitlines(), strict=True):
        loaded = mlflow.pyfunc.load_model(str(model.artifact_location))
        predicted = pd.read_json(StringIO(printed), orient="split")
        same(predicted, loaded.predict(loaded.input_example)[: len(predicted)])


# --- rows that do not fit


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"net income": None}, "Model is missing inputs \\['net income'\\]"),
        ({"age": None}, "Model is missing inputs \\['age'\\]"),
        (
            {"age": None, "agee": [41, 42, 50]},
            "missing inputs \\['age'\\]. Note that there were extra inputs: \\['agee'\\]",
        ),
        ({"city": None}, "Model is missing inputs \\['city'\\]"),
        ({"age": ["41", "old", "50"]}, "row 2, column age: expected a number, received 'old'"),
        ({"age": pd.to_datetime(["2024-01-01"] * 3)}, "column age: expected numbers, received a datetime"),
        ({"net income": [1.0, math.nan, 2.0]}, "row 2, column net income: expected a number, received none"),
        ({"net income": [1.0, 2.0, math.inf]}, "row 3, column net income: expected a finite number, received inf"),
        ({"net income": [1.0, 2.0, 1e300]}, "row 3: expected numbers that fit in float32"),
    ],
)
def test_rows_that_do_not_fit_are_refused(model: Any, changes: Mapping[str, Any], message: str) -> None:
    frame = people(3)
    for name, values in changes.items():
        if values is None:
            frame = frame.drop(columns=name)
        else:
            frame[name] = values
    with pytest.raises(MlflowException, match=message):
        model.predict(frame)


# --- in the store


def logged(project: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Every model of a study by the names of its run and itself: what MLflow shows, and its files."""
    client = MlflowClient(store_uri(project))
    names = {run.info.run_id: full_name(run) for run in runs_of(project, "people")}
    models = {}
    for model in client.search_logged_models([runs_of(project, "people")[0].info.experiment_id]):
        folder = Path(str(local_path(model.artifact_location)))
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        # These have the ids and the times of runs and models.
        kept = {name: path.read_bytes() for name, path in files.items() if not name.endswith(("MLmodel", ".pyc"))}
        assert model.metrics is not None
        models[names[str(model.source_run_id)], str(model.name)] = {
            "params": model.params,
            "metrics": sorted((metric.key, metric.value, metric.dataset_digest) for metric in model.metrics),
            "files": kept,
        }
    return models


def datasets(project: Path) -> list[dict[str, Any]]:
    """The data set of each point."""
    inputs = [run.inputs for run in runs_of(project, "people") if run.data.tags["lab.role"] == "point"]
    return [dict(one.dataset) for each in inputs if each is not None for one in each.dataset_inputs]


@pytest.mark.slow
def test_a_store_that_was_deleted_gets_the_same_models_and_data_from_disk(
    project: Path, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.diagnosis.networks.baseline_loss", lambda *_: 1.0)
    data = prepared(project, "classification")
    rates = ("optimizer.learning_rate=0.1", "optimizer.learning_rate=0.01")
    requests = [(described(data, "study=people", rate, "training.batch_size=10"), [rate]) for rate in rates]
    swept(project, requests)
    run = next(run for run in runs_of(project, "people") if run.data.tags["lab.role"] == "point")
    assert "\n\nData: The column age has no value in 9 rows. The column x is constant.\n\n" in run.data.tags[NOTE]
    other = tmp_path / "other"
    (other / "mlruns").mkdir(parents=True)
    shutil.copy(empty_store, other / "mlruns" / "mlflow.db")
    # Without the arrays, which DVC may not have pulled.
    shutil.copytree(project / ".points", other / ".points")
    rebuild(LOCAL, other, other / "results")
    assert logged(other) == logged(project)
    assert datasets(other) == datasets(project)
    assert {name for _, name in logged(other)} >= {"final"}
    assert [(one["name"], one["source"]) for one in datasets(other)] == 2 * [("people", '{"uri": "people.csv"}')]


# --- alone, and served


def test_numpy_models_need_neither_this_package_nor_tensorflow(folder: str, classifier: Point, tmp_path: Path) -> None:
    of_images = trained_point(tmp_path, described(prepared(tmp_path, "classification", pixels=True), *KNOBS))
    frame, rows = people(6, seed=4), images(6)
    frame.to_parquet(tmp_path / "frame")
    np.save(tmp_path / "rows.npy", rows)
    script = f"""{REFUSE}
import mlflow.pyfunc, numpy, pandas
for model, rows in ((sys.argv[1], pandas.read_parquet("frame")), (sys.argv[2], numpy.load("rows.npy"))):
    print(mlflow.pyfunc.load_model(model).predict(rows).to_json(orient="split", double_precision=15))
"""
    typed = [sys.executable, "-I", "-c", script, folder, written(tmp_path, of_images)]
    done = subprocess.run(typed, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    of_frame, of_rows = [pd.read_json(StringIO(line), orient="split") for line in done.stdout.splitlines()]
    same(of_frame, outputs_of(classifier.history.snapshots[3], inputs_of(frame), "classification"))
    same(of_rows, outputs_of(of_images.history.snapshots[3], rows.reshape(6, -1) / 255, "classification"))


def split(frame: pd.DataFrame) -> dict[str, Any]:
    """The content of a request, with null for what is missing."""
    return {"dataframe_split": json.loads(frame.to_json(orient="split", index=False))}


def test_a_keras_model_is_loaded_with_the_engine_that_it_was_trained_with(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the other engines none is installed, so Keras is imported already, and only the variable is looked at."""
    point = trained_point(tmp_path, described(prepared(tmp_path, "regression"), "backend=keras", *KNOBS))
    path = written(tmp_path, point)
    network = next(Path(path).rglob("network/MLmodel"))
    assert "keras_backend: tensorflow" in network.read_text()
    network.write_text(network.read_text().replace("keras_backend: tensorflow", "keras_backend: jax"))
    monkeypatch.setenv("KERAS_BACKEND", "")  # so that the variable is as before when the test ends
    monkeypatch.delenv("KERAS_BACKEND")
    mlflow.pyfunc.load_model(folder)
    assert "KERAS_BACKEND" not in os.environ
    mlflow.pyfunc.load_model(path)
    assert os.environ["KERAS_BACKEND"] == "jax"


@pytest.mark.slow
def test_a_numpy_model_is_served_without_tensorflow(folder: str, classifier: Point, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"{REFUSE}\nprint('refusing', file=sys.stderr)\n")
    frame = people(8, seed=4)
    frame.loc[0, "age"] = math.nan
    frame.loc[1, "city"] = "Paris"
    inputs = inputs_of(frame)
    assert inputs[1, 3:].tolist() == [0, 0, 0]
    port = free_port()
    command = f"mlflow models serve -m {folder} --env-manager local -p {port}"
    with serving(command, port, tmp_path, clean_environment(PYTHONPATH=str(tmp_path))) as address:
        status, answer = post(address, split(frame))
        assert status == 200, answer
        assert "refusing" in (tmp_path / "server.log").read_text()
        expected = outputs_of(classifier.history.snapshots[3], inputs, "classification")
        same(pd.DataFrame(answer["predictions"]), expected)

        status, answer = post(address, split(frame.drop(columns="net income")))
        assert (status, "missing inputs ['net income']" in answer["message"]) == (400, True)
        status, answer = post(address, split(frame.astype({"age": object}).assign(age="old")))
        assert status == 400
        assert "row 1, column age: expected a number, received 'old'" in answer["message"]
        frame.loc[2, "net income"] = math.nan
        status, answer = post(address, split(frame))
        assert (status, "row 3, column net income: expected a number" in answer["message"]) == (400, True)
