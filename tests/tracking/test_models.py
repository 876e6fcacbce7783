"""Models in MLflow: their weights and predictions, and that each is logged once."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Metric
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from pipeline.backends.numpy.network import predict, stack
from pipeline.backends.shared.history import History
from pipeline.backends.shared.initial_weights import Weights, draw
from pipeline.config.schema import Config, Tracking
from pipeline.data.arrays import Arrays
from pipeline.points.point import Point, outcome_of
from pipeline.system.errors import LabError
from pipeline.tracking import model_files
from pipeline.tracking.internals import list_packages
from pipeline.tracking.model_files import write_model
from pipeline.tracking.models import chosen_epochs, log_models
from pipeline.tracking.store import open_store, store_uri
from pipeline.tracking.tracker import Tracker
from tests.support.trained import config, sweep

TABLE = config("experiment=three_bits", "model.hidden_size=4", "dtype=float64")
IMAGES = config("experiment=mnist", "model.hidden_size=5", "dtype=float32")
DEEP = config(
    "experiment=mnist",
    "model.hidden_size=5",
    "model.further_hidden_sizes=[4]",
    "model.hidden_activation=gelu",
    "model.batch_normalization=true",
    "model.dropout=0.5",
    "model.drop_connect=0.5",
    "training.l2=0.1",
)
FEATURES, CLASSES = 6, 4
LOCAL = Tracking(name="local", uri=None)
Values = NDArray[np.floating]

ALONE = """
import sys
from importlib.abc import MetaPathFinder

class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pipeline", "tensorflow", "keras", "hydra"):
            raise ImportError(name + " is not here")

sys.meta_path.insert(0, Refuse())
import numpy as np
import mlflow.pyfunc

for folder in sys.argv[1:]:
    model = mlflow.pyfunc.load_model(folder)
    np.save(folder + "/predicted.npy", model.predict(np.load(folder + "/inputs.npy")))
"""


def weights_of(point: Config, features: int = FEATURES, outputs: int = CLASSES, seed: int = 3) -> Weights:
    """Weights at random, biases too."""
    random = np.random.default_rng(seed)
    drawn = draw(point.dense, features, outputs, seed, point.dtype)
    drawn = {name: random.normal(size=array.shape).astype(point.dtype) for name, array in drawn.items()}
    return {name: np.abs(array) if name.endswith("variance") else array for name, array in drawn.items()}


def rows(point: Config, features: int) -> Values:
    return np.random.default_rng(5).normal(size=(7, features)).astype(point.dtype)


def point_of(
    losses: Mapping[int, float], broken: set[int] | None = None, test: Mapping[int, float] | None = None
) -> Point:
    """A point whose snapshots are at the epochs of `losses`; the weights of `broken` ones hold an inf."""
    history = History(epochs=max(losses))
    for epoch, loss in losses.items():
        weights = weights_of(TABLE, 3, 1, seed=epoch)
        if epoch in (broken or set()):
            weights["layer_1/weights"][0, 0] = np.inf
        history.snapshot(epoch, weights)
        history.record(epoch, {"train/loss": loss, "gradient_norm": 1.0})
        history.record(epoch, {"test/loss": test[epoch]} if test else {})
    return Point("learning_rate=1", Path(), TABLE, history, outcome_of(history))


# --- which weights


@given(st.dictionaries(st.integers(0, 20), st.floats(0, 10) | st.just(math.inf), min_size=1), st.data())
def test_final_is_the_last_and_best_the_smallest_loss_of_weights_that_are_numbers(
    losses: dict[int, float], data: st.DataObject
) -> None:
    broken = data.draw(st.sets(st.sampled_from(sorted(losses))))
    chosen = chosen_epochs(point_of(losses, broken))
    last = max(losses)
    sound = {epoch: loss for epoch, loss in losses.items() if epoch not in broken and loss < math.inf}
    assert set(chosen) <= {"final", "best"}
    assert chosen.get("final") == (last if last in sound else None)
    if not sound:
        assert chosen == {}
    elif sound.get(last) == min(sound.values()):
        assert "best" not in chosen
    else:
        assert sound[chosen["best"]] == min(sound.values())
        assert chosen["best"] != last


def test_where_there_are_test_rows_their_loss_decides() -> None:
    assert chosen_epochs(point_of({0: 3, 5: 2, 9: 1}, test={0: 3, 5: 1, 9: 2})) == {"final": 9, "best": 5}


@pytest.mark.parametrize(
    ("named", "judging", "values", "best"),
    [
        ("null", "validation/accuracy", {0: 0.5, 5: 0.9, 7: 0.9, 9: 0.8}, 7),
        ("validation/auc", "validation/auc", {0: 0.5, 5: 0.9, 7: 0.6, 9: 0.8}, 5),
        # Validation rows choose, whichever rows are named.
        ("test/balanced_accuracy", "validation/balanced_accuracy", {0: 0.9, 5: 0.5, 7: 0.6, 9: 0.8}, 0),
        ("validation/loss", "validation/loss", {0: 0.9, 5: 0.5, 7: 0.6, 9: 0.8}, 5),
    ],
)
def test_the_best_weights_are_those_with_the_best_value_of_the_metric_that_judges(
    named: str, judging: str, values: Mapping[int, float], best: int
) -> None:
    """The training loss falls throughout; a larger accuracy is better, and a smaller loss."""
    point = point_of({0: 4, 5: 3, 7: 2, 9: 1})
    for epoch, value in values.items():
        point.history.record(epoch, {judging: value})
    churn = config("data=churn", f"report.metric={named}")
    judged = Point(point.name, Path(), churn, point.history, point.outcome)
    assert chosen_epochs(judged) == {"final": 9, "best": best}


def test_the_page_of_the_best_weights_says_by_which_metric_they_are_the_best(store: Store) -> None:
    point = point_of({0: 2, 5: 3, 9: 1})
    for epoch, accuracy in {0: 0.5, 5: 1.0, 9: 0.75}.items():
        point.history.record(epoch, {"train/accuracy": accuracy})
    judged = config("experiment=three_bits", "model.hidden_size=4", "dtype=float64", "report.metric=train/accuracy")
    point = Point(point.name, Path(), judged, point.history, point.outcome)
    store.log(store.start(point), point)
    note = store.by_name()["best"].tags["mlflow.note.content"]
    assert "after epoch 5 of 9. Of all saved snapshots, they have the highest train/accuracy." in note


# --- what they predict


def test_numpy_models_need_neither_this_package_nor_tensorflow(tmp_path: Path) -> None:
    cases = {"table": (TABLE, 3, 1), "images": (IMAGES, FEATURES, CLASSES), "deep": (DEEP, FEATURES, CLASSES)}
    expected = {}
    for name, (point, features, outputs) in cases.items():
        weights = weights_of(point, features, outputs)
        write_model(tmp_path / name, point, weights)
        inputs = rows(point, features)
        np.save(tmp_path / name / "inputs.npy", inputs)
        expected[name] = predict(point.dense, stack([weights]), inputs)[0]
    typed = [sys.executable, "-I", "-c", ALONE, *(str(tmp_path / name) for name in cases)]
    done = subprocess.run(typed, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, outputs in expected.items():
        predicted = np.load(tmp_path / name / "predicted.npy")
        assert (predicted.dtype, predicted.shape) == (outputs.dtype, outputs.shape)
        assert predicted.tobytes() == outputs.tobytes()


def test_a_model_is_three_sums_and_two_activations(tmp_path: Path) -> None:
    """Against the equations written out: relu, softmax."""
    weights = weights_of(IMAGES)
    write_model(tmp_path / "model", IMAGES, weights)
    inputs = rows(IMAGES, FEATURES)
    hidden = np.maximum(inputs.astype(np.float64) @ weights["layer_0/weights"] + weights["layer_0/bias"], 0)
    shares = np.exp(hidden @ weights["layer_1/weights"] + weights["layer_1/bias"])
    predicted = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(inputs)
    np.testing.assert_allclose(predicted, shares / shares.sum(axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("wrong", [np.zeros((2, 4)), np.zeros(3), np.zeros((2, 3), np.float32)])
def test_other_inputs_are_refused_by_the_signature(tmp_path: Path, wrong: Values) -> None:
    write_model(tmp_path / "model", TABLE, weights_of(TABLE, 3, 1))
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    with pytest.raises(MlflowException, match="Failed to enforce schema"):
        model.predict(wrong)


@pytest.mark.parametrize(("point", "features", "outputs"), [(TABLE, 3, 1), (IMAGES, FEATURES, CLASSES)])
def test_the_input_example_is_one(tmp_path: Path, point: Config, features: int, outputs: int) -> None:
    write_model(tmp_path / "model", point, weights_of(point, features, outputs))
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    predicted = model.predict(model.input_example)
    assert predicted.shape == (len(model.input_example), outputs)
    if point is TABLE:
        assert model.input_example.tolist() == [[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]]


def test_two_versions_of_the_forward_pass_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, inputs = weights_of(TABLE, 3, 1), rows(TABLE, 3)
    write_model(tmp_path / "today", TABLE, weights)
    for name in model_files.FORWARD_PASS:
        (tmp_path / "changed" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(model_files.PACKAGE / name, tmp_path / "changed" / name)
    network = tmp_path / "changed" / "backends" / "numpy" / "network.py"
    network.write_text(network.read_text().replace("1 / (1 + np.exp(-z))", "0 * z"))
    monkeypatch.setattr(model_files, "PACKAGE", tmp_path / "changed")
    write_model(tmp_path / "tomorrow", TABLE, weights)
    today, tomorrow = (mlflow.pyfunc.load_model(str(tmp_path / name)).predict(inputs) for name in ("today", "tomorrow"))
    assert np.all(tomorrow == 0)
    assert np.all(today > 0)


@pytest.mark.parametrize(
    "point", [TABLE, IMAGES, DEEP, config("experiment=line_y2x")], ids=["table", "images", "deep", "line"]
)
def test_a_keras_model_computes_what_the_numpy_one_does(point: Config) -> None:
    from pipeline.backends.keras.saving import plain_model

    weights, inputs = weights_of(point), rows(point, FEATURES)
    outputs = np.asarray(plain_model(point, weights)(inputs))
    assert outputs.dtype == point.dtype
    np.testing.assert_allclose(outputs, predict(point.dense, stack([weights]), inputs)[0], rtol=1e-5, atol=1e-7)


def test_a_keras_model_predicts_what_training_measured(tmp_path: Path, tiny_images: Arrays) -> None:
    from pipeline.backends.keras.training import train

    features = ("model.further_hidden_sizes=[4]", "model.batch_normalization=true", "model.drop_connect=0.2")
    point = config("experiment=mnist", "model.hidden_size=5", "backend=keras", "training.epochs=2", *features)
    history = History()
    train([point], tiny_images, [history], lambda epoch, loss: None)
    write_model(tmp_path / "model", point, history.snapshots[2])
    predicted = mlflow.pyfunc.load_model(str(tmp_path / "model")).predict(tiny_images.test_inputs)
    assert predicted.dtype == np.float32
    of_the_right_class = predicted[np.arange(len(predicted)), tiny_images.test_targets]
    np.testing.assert_allclose(-np.log(of_the_right_class).mean(), history.final()["test/loss"], rtol=1e-5)
    with zipfile.ZipFile(tmp_path / "model" / "data" / "model.keras") as saved:
        assert b"pipeline" not in saved.read("config.json")
    requirements = (tmp_path / "model" / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in requirements} == {"mlflow", "keras", "tensorflow", "numpy"}


def test_nothing_heavy_is_imported_before_a_model_is_written() -> None:
    code = "import sys, pipeline.tracking.models; print({'mlflow', 'keras', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- in the store


@dataclass
class Store:
    """An experiment in a store of its own."""

    client: MlflowClient
    experiment_id: str

    def start(self, point: Point) -> str:
        """A run of a point, which has its metrics."""
        run_id = str(self.client.create_run(self.experiment_id, tags={"data.table": 64 * "0"}).info.run_id)
        metrics = [Metric(m.name, m.value, m.timestamp, m.step) for m in point.history.metrics]
        self.client.log_batch(run_id, metrics=metrics)
        return run_id

    def log(self, run_id: str, point: Point) -> None:
        log_models(self.client, self.experiment_id, run_id, point)

    def models(self) -> list[LoggedModel]:
        return list(self.client.search_logged_models([self.experiment_id]))

    def by_name(self) -> dict[str, LoggedModel]:
        return {str(model.name): model for model in self.models()}

    def outputs(self, run_id: str) -> list[tuple[str, int]]:
        """Ids and steps of the models that a run's page shows."""
        outputs = self.client.get_run(run_id).outputs
        assert outputs is not None
        return sorted((output.model_id, output.step) for output in outputs.model_outputs)


@pytest.fixture
def store(project: Path) -> Store:
    return Store(*open_store(LOCAL, "study", project))


def loaded(model: LoggedModel) -> Any:
    return mlflow.pyfunc.load_model(str(model.artifact_location))


@pytest.fixture(scope="module")
def trained(tiny_images: Arrays) -> Point:
    """A point whose best weights are not its final ones."""
    common = ("experiment=mnist", "model.hidden_size=5", "training.epochs=4", "training.batch_size=10")
    judged = ("report.metric=test/loss", "data.validation_share=0")
    (point,) = sweep([*common, *judged], [["optimizer.learning_rate=0.5"]], arrays=tiny_images)
    assert set(chosen_epochs(point)) == {"final", "best"}
    return point


def test_final_and_best_are_on_the_page_of_the_run_with_their_metrics(store: Store, trained: Point) -> None:
    run_id, epochs = store.start(trained), chosen_epochs(trained)
    before = store.client.get_run(run_id).data.metrics
    store.log(run_id, trained)
    found = store.by_name()
    assert set(found) == {"final", "best"}
    assert store.outputs(run_id) == sorted((found[name].model_id, epoch) for name, epoch in epochs.items())
    for name, model in found.items():
        assert (model.status, model.source_run_id) == ("READY", run_id)
        assert model.params == {
            "learning_rate": "0.5",
            "hidden_size": "5",
            "backend": "numpy",
            "epoch": str(epochs[name]),
            "best": str(name == "best").lower(),
        }
        assert model.metrics is not None
        logged = {(m.key, m.value, m.dataset_name) for m in model.metrics}
        assert logged == {
            (m.name, m.value, "mnist")
            for m in trained.history.metrics
            if m.step == epochs[name] and m.name.startswith(("train/", "validation/", "test/"))
        }
        assert f"after epoch {epochs[name]} of 4" in model.tags["mlflow.note.content"]
        weights = trained.history.snapshots[epochs[name]]
        inputs = rows(trained.config, FEATURES)
        expected = predict(trained.config.dense, stack([weights]), inputs)[0]
        assert loaded(model).predict(inputs).tobytes() == expected.tobytes()
    assert "lowest test/loss" in found["best"].tags["mlflow.note.content"]
    assert "lowest" not in found["final"].tags["mlflow.note.content"]
    assert store.client.get_run(run_id).data.metrics == before
    for name in {metric.name for metric in trained.history.metrics}:
        kept = [(m.step, m.timestamp, m.value) for m in store.client.get_metric_history(run_id, name)]
        assert sorted(kept) == [(m.step, m.timestamp, m.value) for m in trained.history.metrics if m.name == name]


def test_a_model_is_loaded_by_its_id(store: Store, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = point_of({0: 2, 9: 1})
    run_id = store.start(point)
    store.log(run_id, point)
    (model,) = store.models()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri(project))
    by_id = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
    assert (by_id.model_id, by_id.metadata.run_id) == (model.model_id, run_id)
    assert by_id.predict(by_id.input_example).shape == (4, 1)


def test_best_weights_that_are_the_final_ones_are_one_model(store: Store) -> None:
    point = point_of({0: 2, 5: 3, 9: 1})
    store.log(store.start(point), point)
    (model,) = store.models()
    assert (model.name, model.params["best"], model.params["epoch"]) == ("final", "true", "9")


def test_a_point_that_ran_away_has_its_best_weights_only(store: Store) -> None:
    point = point_of({0: 2, 5: 1, 9: math.inf}, broken={9})
    store.log(store.start(point), point)
    (model,) = store.models()
    assert (model.name, model.params["best"], model.params["epoch"]) == ("best", "true", "5")


def test_a_point_without_usable_weights_has_no_model(store: Store) -> None:
    point = point_of({0: math.inf, 9: 1}, broken={9})
    store.log(store.start(point), point)
    assert store.models() == []


def test_a_model_that_exists_is_not_written_again(
    store: Store, trained: Point, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = store.start(trained)
    store.log(run_id, trained)

    def refuse(*arguments: Any, **named: Any) -> None:
        raise MlflowException("written again")

    for method in ("create_logged_model", "log_model_artifacts", "log_batch", "log_outputs", "finalize_logged_model"):
        monkeypatch.setattr(store.client, method, refuse)
    store.log(run_id, trained)
    with pytest.raises(LabError, match="written again"):
        store.log(store.client.create_run(store.experiment_id).info.run_id, trained)


@pytest.mark.parametrize("method", ["log_model_artifacts", "log_batch", "log_outputs", "finalize_logged_model"])
def test_a_model_that_was_begun_is_completed(store: Store, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """The server fails before it carries out a request."""
    point = point_of({0: 2, 9: 1})
    run_id = store.start(point)

    def fail(*arguments: Any, **named: Any) -> None:
        raise MlflowException("gone")

    with monkeypatch.context() as patched:
        patched.setattr(store.client, method, fail)
        with pytest.raises(LabError, match="gone"):
            store.log(run_id, point)
    store.log(run_id, point)
    (model,) = store.models()
    assert model.status == "READY"
    assert store.outputs(run_id) == [(model.model_id, 9)]
    assert [metric.key for metric in model.metrics or []] == ["train/loss"]
    whole = loaded(model)
    assert whole.predict(whole.input_example).shape == (4, 1)


def test_an_address_or_a_run_in_the_environment_has_no_effect(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_RUN_ID", "no such run")
    point = point_of({0: 2, 9: 1})
    store.log(store.start(point), point)
    assert len(store.models()) == 1


def test_models_go_with_their_run(store: Store, trained: Point, project: Path) -> None:
    kept, gone = store.start(trained), store.start(trained)
    for run_id in (kept, gone):
        store.log(run_id, trained)
    Tracker(LOCAL, "study", project).remove_runs([gone])
    found = store.models()
    assert [model.source_run_id for model in found] == [kept, kept]
    folders = {path.parts[-3] for path in (project / "mlruns" / "artifacts").rglob("MLmodel")}
    assert folders == {model.model_id for model in found}


def test_installed_packages_are_listed_before_the_first_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[int] = []

    def list_all() -> dict[str, list[str]]:
        listed.append(1)
        return {"numpy": ["numpy"]}

    for cache in ("_MODULES_TO_PACKAGES", "_PACKAGES_TO_MODULES"):
        monkeypatch.setattr(f"mlflow.utils.requirements_utils.{cache}", None)
    monkeypatch.setattr("importlib_metadata.packages_distributions", list_all)
    list_packages()
    assert listed == [1]
    write_model(tmp_path / "model", TABLE, weights_of(TABLE, 3, 1))
    assert listed == [1]
