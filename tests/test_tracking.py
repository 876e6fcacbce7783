"""The MLflow store: made once by whoever comes first, written in batches, its absence told in one message."""

from __future__ import annotations

import multiprocessing
import socket
import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.config import Tracking, flatten
from pipeline.errors import LabError
from pipeline.history import Metric
from pipeline.points import Outcome
from pipeline.tracking import BATCH, Status, Tracker, store_uri
from tests.trained import config

LOCAL = Tracking(name="local", uri=None)


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@pytest.fixture
def tracker(project: Path) -> Tracker:
    return Tracker(LOCAL, "study", project)


def client(project: Path) -> MlflowClient:
    return MlflowClient(store_uri(project))


def test_an_experiment_is_made_once_with_its_artifacts_in_the_project(project: Path) -> None:
    first, second = Tracker(LOCAL, "study", project), Tracker(LOCAL, "study", project)
    assert first.experiment_id == second.experiment_id
    experiment = client(project).get_experiment(first.experiment_id)
    assert experiment.artifact_location == (project / "mlruns" / "artifacts" / "study").as_uri()


def test_a_project_whose_path_has_blanks_and_letters_of_all_kinds(tmp_path: Path, empty_store: Path) -> None:
    project = tmp_path / "größe & 50 % ü"
    (project / "mlruns").mkdir(parents=True)
    (project / "mlruns" / "mlflow.db").write_bytes(empty_store.read_bytes())
    tracker = Tracker(LOCAL, "study", project)
    run_id = tracker.start_run("a", None, {})
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "note.txt").write_text("note")
    tracker.log_folder(run_id, tmp_path / "folder")
    assert (project / "mlruns" / "artifacts" / "study" / run_id / "artifacts" / "note.txt").read_text() == "note"


def test_runs_start_running_with_their_parent_and_tags(project: Path, tracker: Tracker) -> None:
    parent = tracker.start_run("sweep", None, {"a": "1"})
    child = client(project).get_run(tracker.start_run("point", parent, {"b": "2"}))
    assert child.info.status == "RUNNING"
    assert child.info.run_name == "point"
    assert child.data.tags["mlflow.parentRunId"] == parent
    assert child.data.tags["b"] == "2"
    assert child.data.tags["mlflow.user"]


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_runs_end_as_what_they_were(project: Path, tracker: Tracker, status: Status) -> None:
    run_id = tracker.start_run("a", None, {})
    tracker.end_run(run_id, status)
    assert client(project).get_run(run_id).info.status == status


def test_an_mlflow_run_of_the_environment_is_not_leaned_on(
    project: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tracker.start_run("other", None, {})
    monkeypatch.setenv("MLFLOW_RUN_ID", other)
    run_id = tracker.start_run("mine", None, {})
    tracker.log_values(run_id, {"x": 1.0})
    assert run_id != other
    assert client(project).get_run(other).data.metrics == {}


def test_more_metrics_than_fit_in_one_call(project: Path, tracker: Tracker) -> None:
    run_id = tracker.start_run("a", None, {})
    metrics = [Metric(step, 1_700_000_000_000 + step, "train/loss", step / 7) for step in range(2 * BATCH + 3)]
    tracker.log_metrics(run_id, metrics)
    kept = client(project).get_metric_history(run_id, "train/loss")
    assert sorted((m.step, m.timestamp, m.value) for m in kept) == [(m.step, m.timestamp, m.value) for m in metrics]


@pytest.mark.parametrize("overrides", [(), ("experiment=three_bits", "optimizer=nesterov"), ("backend=keras",)])
def test_no_key_of_the_config_is_lost(project: Path, tracker: Tracker, overrides: tuple[str, ...]) -> None:
    run_id = tracker.start_run("a", None, {})
    own = config(*overrides)
    tracker.log_config(run_id, own)
    params = client(project).get_run(run_id).data.params
    assert set(params) == {key for key, _ in flatten(own)} | {"log10_learning_rate"}


def test_what_diverged_is_told_with_its_update(project: Path, tracker: Tracker) -> None:
    run_id = tracker.start_run("a", None, {})
    tracker.log_outcome(
        run_id, Outcome("diverged", 17, 1e30, 20, 2.0, 0.1, 3, {"train/loss": 1.0}, {"train/loss": 2.0})
    )
    run = client(project).get_run(run_id)
    assert run.data.metrics == {
        "best/train/loss": 1,
        "final/train/loss": 2,
        "time/seconds": 2,
        "time/seconds_per_epoch": 0.1,
        "diverged": 1,
        "diverged_step": 17,
        "last_finite_loss": 1e30,
    }
    assert run.data.tags["outcome"] == "diverged"


def test_what_finished_has_no_step_of_divergence(project: Path, tracker: Tracker) -> None:
    run_id = tracker.start_run("a", None, {})
    tracker.log_outcome(run_id, Outcome("finished", None, None, 1, 1.0, 1.0, 1, {}, {}))
    assert client(project).get_run(run_id).data.metrics == {
        "time/seconds": 1,
        "time/seconds_per_epoch": 1,
        "diverged": 0,
    }


def test_long_values_do_not_stop_a_run(project: Path, tracker: Tracker) -> None:
    run_id = tracker.start_run("a", None, {"overrides": "x" * 5000})
    tracker.tag(run_id, {"long": "y" * 20000})
    assert client(project).get_run(run_id).data.tags["long"] == "y" * 8000


# --- a store that is not there, or not one


def test_a_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(LabError, match=r"cannot be opened(.|\n)*start the server") as refusal:
        Tracker(Tracking(name="server", uri=uri), "study", tmp_path)
    assert uri in str(refusal.value)
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize("uri", ["localhost:5000", "gopher://here"])
def test_an_address_that_is_none(tmp_path: Path, uri: str) -> None:
    with pytest.raises(LabError, match="cannot be opened"):
        Tracker(Tracking(name="server", uri=uri), "study", tmp_path)


def test_a_store_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_text("this is no sqlite file" * 100)
    with pytest.raises(LabError, match=r"cannot be opened(.|\n)*mlruns/mlflow.db"):
        Tracker(LOCAL, "study", tmp_path)


def test_a_store_of_another_version(project: Path) -> None:
    with sqlite3.connect(project / "mlruns" / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'deadbeef'")
    with pytest.raises(LabError, match=r"cannot be opened(.|\n)*mlruns/mlflow.db"):
        Tracker(LOCAL, "study", project)


def test_a_file_where_the_store_belongs(tmp_path: Path) -> None:
    (tmp_path / "mlruns").write_text("a file in the way")
    with pytest.raises(LabError, match="mlruns"):
        Tracker(LOCAL, "study", tmp_path)


def write_a_run(project: Path, number: int) -> None:
    """What each of several processes does; a failure is its exit code."""
    tracker = Tracker(LOCAL, "together", project)
    run_id = tracker.start_run(f"process {number}", None, {})
    tracker.log_values(run_id, {"number": float(number)})
    tracker.end_run(run_id, "FINISHED")


@pytest.mark.slow
def test_processes_that_start_at_once_on_a_fresh_store(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.store.tracking.sqlalchemy_store", __name__])  # so that all start at once
    processes = [context.Process(target=write_a_run, args=(tmp_path, number)) for number in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(200)
    assert [process.exitcode for process in processes] == [0] * 8
    store = client(tmp_path)
    experiment = store.get_experiment_by_name("together")
    assert experiment is not None
    runs = store.search_runs([experiment.experiment_id])
    assert sorted(run.data.metrics["number"] for run in runs) == list(range(8))
    assert {run.info.status for run in runs} == {"FINISHED"}
