"""Runs in MLflow: written in batches, found again, closed with the right status."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.backends.shared.history import Metric
from pipeline.config.schema import Tracking, flatten
from pipeline.points.point import Outcome
from pipeline.tracking.limits import BATCH
from pipeline.tracking.store import store_uri
from pipeline.tracking.sync.complete import outcome_values
from pipeline.tracking.tracker import NOT_PARAMS, Status, Tracker
from tests.support.trained import config

LOCAL = Tracking(name="local", uri=None)


@pytest.fixture
def tracker(project: Path) -> Tracker:
    return Tracker(LOCAL, "study", project)


def client(project: Path) -> MlflowClient:
    return MlflowClient(store_uri(project))


def test_a_project_whose_path_has_blanks_and_letters_of_all_kinds(tmp_path: Path, empty_store: Path) -> None:
    project = tmp_path / "größe? & 50 % of%20it #1"
    (project / "mlruns").mkdir(parents=True)
    (project / "mlruns" / "mlflow.db").write_bytes(empty_store.read_bytes())
    tracker = Tracker(LOCAL, "study", project)
    run_id = tracker.start_run("a", {})
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "note.txt").write_text("note")
    tracker.log_folder(run_id, tmp_path / "folder")
    assert (project / "mlruns" / "artifacts" / "study" / run_id / "artifacts" / "note.txt").read_text() == "note"
    assert {path.name for path in tmp_path.iterdir()} == {"folder", project.name}
    assert [path.name for path in project.iterdir()] == ["mlruns"]


def test_runs_start_running_with_their_parent_and_tags(project: Path, tracker: Tracker) -> None:
    parent = tracker.start_run("sweep", {"a": "1"})
    child = client(project).get_run(tracker.start_run("point", {"mlflow.parentRunId": parent, "b": "2"}))
    assert child.info.status == "RUNNING"
    assert child.info.run_name == "point"
    assert child.data.tags["mlflow.parentRunId"] == parent
    assert child.data.tags["b"] == "2"
    assert child.data.tags["mlflow.user"]


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_runs_end_as_what_they_were(project: Path, tracker: Tracker, status: Status) -> None:
    run_id = tracker.start_run("a", {})
    tracker.end_run(run_id, status)
    assert client(project).get_run(run_id).info.status == status


def test_an_mlflow_run_in_the_environment_has_no_effect(
    project: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tracker.start_run("other", {})
    monkeypatch.setenv("MLFLOW_RUN_ID", other)
    run_id = tracker.start_run("mine", {})
    tracker.log_values(run_id, {"x": 1.0}, 17)
    assert run_id != other
    assert client(project).get_run(other).data.metrics == {}


def test_more_metrics_than_fit_in_one_call(project: Path, tracker: Tracker) -> None:
    run_id = tracker.start_run("a", {})
    metrics = [Metric(step, 1_700_000_000_000 + step, "train/loss", step / 7) for step in range(2 * BATCH + 3)]
    tracker.log_metrics(run_id, metrics)
    kept = client(project).get_metric_history(run_id, "train/loss")
    assert sorted((m.step, m.timestamp, m.value) for m in kept) == [(m.step, m.timestamp, m.value) for m in metrics]


@pytest.mark.parametrize("overrides", [(), ("experiment=three_bits", "optimizer=nesterov"), ("backend=keras",)])
def test_no_key_of_the_config_is_lost(project: Path, tracker: Tracker, overrides: tuple[str, ...]) -> None:
    run_id = tracker.start_run("a", {})
    own = config(*overrides)
    tracker.log_config(run_id, own)
    run = client(project).get_run(run_id)
    assert set(run.data.params) == {key for key, _ in flatten(own)} - NOT_PARAMS | {"log10_learning_rate"}


def test_threads_are_a_parameter_where_they_count(project: Path, tracker: Tracker) -> None:
    logged = []
    for overrides in (("threads=2",), ("backend=keras", "threads=1"), ("backend=keras", "threads=2")):
        run_id = tracker.start_run("a", {})
        tracker.log_config(run_id, config(*overrides))
        logged.append(client(project).get_run(run_id).data.params.get("threads"))
    assert logged == [None, None, "2"]


def test_a_config_that_is_logged_again_in_other_words_changes_nothing(project: Path, tracker: Tracker) -> None:
    run_id = tracker.start_run("a", {})
    tracker.log_config(run_id, config("study=one"))
    known = client(project).get_run(run_id).data.params
    tracker.log_config(run_id, config("study=two"), known)
    assert client(project).get_run(run_id).data.params == known


def test_metrics_that_are_sent_twice_are_stored_once(project: Path, tracker: Tracker) -> None:
    run_id = tracker.start_run("a", {})
    metrics = [Metric(step, 1_700_000_000_000 + step, "train/loss", step / 7) for step in range(20)]
    for part in (metrics[:9], metrics, metrics[4:]):
        tracker.log_metrics(run_id, part)
    kept = client(project).get_metric_history(run_id, "train/loss")
    assert sorted((m.step, m.timestamp, m.value) for m in kept) == [(m.step, m.timestamp, m.value) for m in metrics]


def test_runs_are_found_by_signature_and_those_of_others_are_not(project: Path, tracker: Tracker) -> None:
    tracker.start_run("by hand", {"signature": "a"})
    first = tracker.start_run("1", {"lab.role": "point", "signature": "a"}, 5)
    other = tracker.start_run("2", {"lab.role": "point", "signature": "b"}, 4)
    deleted = tracker.start_run("3", {"lab.role": "point", "signature": "a"}, 6)
    tracker.delete_run(deleted)
    assert [run.run_id for run in tracker.runs()] == [other, first]
    assert [run.run_id for run in tracker.runs("a")] == [first]
    assert [run.run_id for run in tracker.runs("a", deleted=True)] == [first, deleted]


def test_more_runs_than_fit_on_one_page(project: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tracker.client.search_runs
    monkeypatch.setattr(tracker.client, "search_runs", lambda i, f, v, size, **named: real(i, f, v, 2, **named))
    made = [tracker.start_run(str(number), {"lab.role": "point"}, number + 1) for number in range(5)]
    assert [run.run_id for run in tracker.runs()] == made


def test_a_run_is_reopened_and_ends_when_it_is_said_to_have_ended(project: Path, tracker: Tracker) -> None:
    run_id = tracker.start_run("a", {"kept": "1"}, 5)
    tracker.end_run(run_id, "KILLED", 7)
    tracker.reopen_run(run_id, {"more": "2"})
    run = client(project).get_run(run_id)
    assert run.info.status == "RUNNING"
    assert (run.data.tags["kept"], run.data.tags["more"]) == ("1", "2")
    tracker.end_run(run_id, "FINISHED", 9)
    run = client(project).get_run(run_id)
    assert (run.info.start_time, run.info.end_time, run.info.status) == (5, 9, "FINISHED")


def test_a_diverged_run_has_the_update_at_which_it_diverged(project: Path, tracker: Tracker) -> None:
    run_id = tracker.start_run("a", {})
    ended = Outcome("diverged", 17, 1e30, 20, 2.0, 0.1, 3, {"train/loss": 1.0}, {"train/loss": 2.0})
    tracker.log_values(run_id, outcome_values(config("optimizer.learning_rate=0.5", "model.hidden_size=7"), ended), 17)
    run = client(project).get_run(run_id)
    assert run.data.metrics == {
        "best/train/loss": 1,
        "final/train/loss": 2,
        "time/seconds": 2,
        "time/seconds_per_epoch": 0.1,
        "diverged": 1,
        "diverged_step": 17,
        "last_finite_loss": 1e30,
        "hp/learning_rate": 0.5,
        "hp/hidden_size": 7,
    }
    (best,) = client(project).get_metric_history(run_id, "best/train/loss")
    assert best.timestamp == 17


def test_a_finished_run_has_no_step_of_divergence(project: Path, tracker: Tracker) -> None:
    run_id = tracker.start_run("a", {})
    ended = Outcome("finished", None, 3e-5, 1, 1.0, 1.0, 1, {}, {"train/loss": 1e-4})
    tracker.log_values(run_id, outcome_values(config("experiment=line_y3x", "optimizer.learning_rate=0.5"), ended), 17)
    assert client(project).get_run(run_id).data.metrics == {
        "time/seconds": 1,
        "time/seconds_per_epoch": 1,
        "diverged": 0,
        "hp/learning_rate": 0.5,
        "last_finite_loss": 3e-5,
        "final/train/loss": 1e-4,
        "final/log10_loss": pytest.approx(-4),
    }


def test_a_loss_of_zero_can_be_drawn_on_a_logarithmic_axis(project: Path, tracker: Tracker) -> None:
    run_id = tracker.start_run("a", {})
    ended = Outcome("finished", None, 0.0, 1, 1.0, 1.0, 1, {}, {"train/loss": 0.0})
    tracker.log_values(run_id, outcome_values(config(), ended), 17)
    assert client(project).get_run(run_id).data.metrics["final/log10_loss"] == pytest.approx(-16)


def test_long_values_do_not_stop_a_run(project: Path, tracker: Tracker) -> None:
    run_id = tracker.start_run("a", {"overrides": "x" * 5000})
    tracker.tag(run_id, {"long": "y" * 20000})
    assert client(project).get_run(run_id).data.tags["long"] == "y" * 8000
