"""Rebuilding MLflow from disk: everything once, with its original times, but no point that was tampered with."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from omegaconf import OmegaConf

from pipeline.config.schema import Tracking
from pipeline.points.point import Point
from pipeline.points.reading import read_point
from pipeline.rebuild import rebuild, task
from pipeline.sweep.sweep import Sweep
from pipeline.system.errors import LabError
from pipeline.system.processes import owner
from pipeline.tracking.pages.presentation import present_point
from pipeline.tracking.sync import complete
from pipeline.tracking.sync.complete import MISSING_PARTS, NOTHING
from pipeline.tracking.tracker import Tracker
from tests.support.damage import MACHINE, check_machine_error, fail_at, rewrite
from tests.support.flaky_server import server_thread
from tests.support.swept import (
    at_epoch,
    begun,
    by_name,
    forget_locations,
    full_name,
    in_mlflow,
    interrupt,
    killed,
    on_disk,
    rates,
    runs_of,
    statuses,
    swept,
    told_once,
)

pytestmark = pytest.mark.usefixtures("plain_runs")
LOCAL = Tracking(name="local", uri=None)
RATES = ("0.1", "0.01")
GRID = rates(*RATES, more=["results=results/line_y2x/numpy"])


def with_times(project: Path) -> dict[str, object]:
    """Everything in MLflow with its times, but without run ids, which are new."""
    return {name: {k: v for k, v in run.items() if k != "id"} for name, run in in_mlflow(project, when=True).items()}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, plain_runs: None) -> Path:
    """A project in which GRID was trained; not to be changed."""
    project = tmp_path_factory.mktemp("grid")
    (project / "mlruns").mkdir()
    shutil.copy(empty_store, project / "mlruns" / "mlflow.db")
    swept(project, GRID)
    return project


def without_mlflow(project: Path, other: Path, empty_store: Path, *kept: str) -> Path:
    """The project without mlruns/: a copy in another folder, because MLflow keeps a deleted database open."""
    (other / "mlruns").mkdir(parents=True)
    shutil.copy(empty_store, other / "mlruns" / "mlflow.db")
    for name in kept:
        shutil.copytree(project / name, other / name)
    return other


@pytest.mark.parametrize("kept", [(".points", "results"), (".points",), ("results",)], ids="+".join)
def test_a_store_that_was_deleted_is_written_again(
    grid: Path, tmp_path: Path, empty_store: Path, kept: tuple[str, ...]
) -> None:
    """With `results` alone it is what DVC restores from its cache on another machine."""
    other = without_mlflow(grid, tmp_path / "other", empty_store, *kept)
    assert rebuild(LOCAL, other, other / "results") == [("line_y2x numpy", 2, 2)]
    assert with_times(other) == with_times(grid)
    assert on_disk(other) == on_disk(grid)
    content = in_mlflow(other, when=True)
    assert rebuild(LOCAL, other, other / "results") == [("line_y2x numpy", 2, 0)]
    swept(other, GRID)  # the points are known: nothing is trained, nothing is written again
    assert in_mlflow(other, when=True) == content


def artifacts_of(project: Path) -> dict[str, bytes]:
    folder = project / "mlruns" / "artifacts" / "line_y2x"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def copied(grid: Path, tmp_path: Path) -> Path:
    """A copy of the project, opened as by a new process."""
    forget_locations()
    return shutil.copytree(grid, tmp_path / "copied")


@pytest.mark.parametrize("lost", ["*", "models/*/artifacts/MLmodel", "*/artifacts/outcome.json"])
def test_artifacts_that_are_lost_are_written_again(grid: Path, copied: Path, lost: str) -> None:
    """They were deleted, or the project was copied in part. The point and its metrics are all there."""
    content = in_mlflow(grid, when=True)
    forget_locations()
    for path in (copied / "mlruns" / "artifacts" / "line_y2x").glob(lost):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    assert artifacts_of(copied) != artifacts_of(grid)
    assert rebuild(LOCAL, copied, copied / "results") == [("line_y2x numpy", 2, 2)]
    assert artifacts_of(copied) == artifacts_of(grid)
    assert in_mlflow(copied, when=True) == content
    assert rebuild(LOCAL, copied, copied / "results") == [("line_y2x numpy", 2, 0)]


def test_a_model_that_a_user_has_deleted_is_not_missed(copied: Path) -> None:
    """MLflow keeps the link from a run to its model, also when `mlflow gc` has deleted the model with its files."""
    tracker = Tracker(LOCAL, "line_y2x", copied)
    for model in tracker.client.search_logged_models([tracker.experiment_id]):
        tracker.client.delete_logged_model(model.model_id)
    shutil.rmtree(copied / "mlruns" / "artifacts" / "line_y2x" / "models")
    assert rebuild(LOCAL, copied, copied / "results") == [("line_y2x numpy", 2, 0)]


def test_training_again_writes_artifacts_that_are_lost(grid: Path, copied: Path) -> None:
    shutil.rmtree(copied / "mlruns" / "artifacts")
    swept(copied, GRID)
    assert artifacts_of(copied).keys() == artifacts_of(grid).keys()


def test_figures_of_a_sweep_that_are_lost_are_written_again(
    grid: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (figure,) = (copied / "mlruns" / "artifacts" / "line_y2x").glob("*/*/plots/curves_by_rate.png")
    figure.unlink()
    assert rebuild(LOCAL, copied, copied / "results") == [("line_y2x numpy", 2, 0)]
    assert artifacts_of(copied) == artifacts_of(grid)
    assert f"copied from {grid} to {copied}; " in capsys.readouterr().err


def test_a_single_point_is_written_again_from_what_dvc_keeps(project: Path, empty_store: Path) -> None:
    """DVC keeps files: a folder that was empty is not there when it has restored the rest."""
    swept(project, GRID[:1])
    results = project / "results" / "line_y2x" / "numpy"
    assert not list((results / "plots").iterdir())
    (results / "plots").rmdir()
    other = without_mlflow(project, project / "other", empty_store, "results")
    assert rebuild(LOCAL, other, other / "results") == [("line_y2x numpy", 1, 1)]
    assert with_times(other) == with_times(project)


def test_runs_of_two_sweeps_that_share_points_hang_below_the_newest(project: Path, empty_store: Path) -> None:
    swept(project, rates(*RATES))
    swept(project, rates(*RATES, "0.02"))
    other = without_mlflow(project, project / "other", empty_store, ".points")
    assert rebuild(LOCAL, other, other / "results") == [("line_y2x numpy", 3, 3)]
    runs = runs_of(other)
    (parent,) = (run.info.run_id for run in runs if run.data.tags["lab.role"] == "sweep")
    points = [run for run in runs if run.data.tags["lab.role"] == "point"]
    assert len(points) == 3
    assert {run.data.tags["mlflow.parentRunId"] for run in points} == {parent}


def shown(where: Path) -> dict[str, str]:
    """Whether the views show a point, by its name."""
    points = [run for run in runs_of(where) if run.data.tags["lab.role"] == "point"]
    return {full_name(run): run.data.tags["lab.newest"] for run in points}


def test_views_show_what_the_newest_sweep_asked_for(project: Path, empty_store: Path) -> None:
    swept(project, rates("0.02", "0.1"))
    assert shown(project) == {"learning_rate=0.02": "true", "learning_rate=0.1": "true"}
    swept(project, rates("0.1", "0.5"))
    newest = {"learning_rate=0.02": "false", "learning_rate=0.1": "true", "learning_rate=0.5": "true"}
    assert shown(project) == newest
    other = without_mlflow(project, project / "other", empty_store, ".points")
    rebuild(LOCAL, other, other / "results")
    assert shown(other) == newest
    swept(project, rates("0.02", "0.1"))  # asked for again: nothing is trained, but it is what is looked at now
    newest = {"learning_rate=0.02": "true", "learning_rate=0.1": "true", "learning_rate=0.5": "false"}
    assert shown(project) == newest
    again = without_mlflow(project, project / "again", empty_store)
    shutil.copytree(project / ".points", again / ".points")
    rebuild(LOCAL, again, again / "results")
    assert shown(again) == newest


def test_a_single_point_does_not_displace_a_sweep(project: Path, empty_store: Path) -> None:
    swept(project, rates("0.02", "0.1"))
    swept(project, rates("0.5"))
    everything = {"learning_rate=0.02": "true", "learning_rate=0.1": "true", "learning_rate=0.5": "true"}
    assert shown(project) == everything
    other = without_mlflow(project, project / "other", empty_store, ".points")
    rebuild(LOCAL, other, other / "results")
    assert shown(other) == everything


def test_a_sweep_without_a_complete_point_displaces_none(
    project: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept(project, rates("0.1"))
    at_epoch(monkeypatch, 3, interrupt)
    killed(project, rates("0.02", "0.5"))
    other = without_mlflow(project, project / "other", empty_store, ".points")
    rebuild(LOCAL, other, other / "results")
    assert shown(other) == {"learning_rate=0.1": "true"}


def test_an_error_of_our_own_stays_with_its_point_and_says_that_it_is_ours(
    project: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = present_point

    def broken(tracker: Tracker, run_id: str, parent: str | None, point: Point, *others: Any) -> None:
        if point.name == "learning_rate=0.1":
            raise ValueError("an error of our own")
        real(tracker, run_id, parent, point, *others)

    swept(project, rates(*RATES))
    swept(project, rates("0.02", more=["study=another"]))
    other = without_mlflow(project, project / "other", empty_store, ".points")
    with monkeypatch.context() as patched:
        patched.setattr(complete, "present_point", broken)
        with pytest.raises(LabError) as refusal:
            rebuild(LOCAL, other, other / "results")
    said = str(refusal.value)
    assert "the presentation of learning_rate=0.1 of line_y2x numpy (sweep " in said
    assert "could not be sent to MLflow. This is an error of this program" in said
    assert "Traceback" in said
    assert "ValueError: an error of our own" in said
    assert set(statuses(other).values()) == {"FINISHED"}
    assert statuses(other, "another") == {"learning_rate=0.02": "FINISHED"}
    assert "an error of our own" in by_name(other)["learning_rate=0.1"].data.tags[MISSING_PARTS]
    assert rebuild(LOCAL, other, other / "results") == [("line_y2x numpy", 2, 1), ("another numpy", 1, 0)]
    assert by_name(other)["learning_rate=0.1"].data.tags[MISSING_PARTS] == NOTHING
    assert with_times(other) == with_times(project)
    assert rebuild(LOCAL, other, other / "results") == [("line_y2x numpy", 2, 0), ("another numpy", 1, 0)]


def test_a_results_folder_that_is_damaged_does_not_stop_the_others(
    grid: Path, tmp_path: Path, empty_store: Path
) -> None:
    other = without_mlflow(grid, tmp_path / "other", empty_store, "results")
    shutil.copytree(other / "results" / "line_y2x", other / "results" / "damaged")
    (other / "results" / "damaged" / "numpy" / "learning_rate=0.1" / "weights.npz").unlink()
    told: list[tuple[str, int, int]] = []
    with pytest.raises(LabError, match=r"results/damaged/numpy could not be restored(.|\n)*dvc pull"):
        rebuild(LOCAL, other, other / "results", told.append)
    assert told == [("line_y2x numpy", 2, 2)]
    assert set(statuses(other).values()) == {"FINISHED"}


def test_a_record_that_cannot_be_read_does_not_stop_the_others(
    grid: Path, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = without_mlflow(grid, tmp_path / "other", empty_store, ".points")
    (file,) = (other / ".points" / ".sweeps").glob("*/sweep.json")
    unread = file.parent.with_name("f" * 16) / "sweep.json"
    shutil.copytree(file.parent, unread.parent)
    fail_at(monkeypatch, unread, MACHINE[0])
    told: list[tuple[str, int, int]] = []
    with pytest.raises(LabError, match=r"f/sweep\.json could not be restored") as raised:
        rebuild(LOCAL, other, other / "results", told.append)
    check_machine_error(raised.value, MACHINE[0], unread.parent)
    assert told == [("line_y2x numpy", 2, 2)]


def test_points_that_are_not_complete_are_left_to_training(
    project: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept(project, rates("0.1"))
    at_epoch(monkeypatch, 9, interrupt)
    killed(project, rates(*RATES))
    other = without_mlflow(project, project / "other", empty_store, ".points")
    rebuild(LOCAL, other, other / "results")
    assert {name: status for name, status in statuses(other).items() if name.startswith("learning")} == {
        "learning_rate=0.1": "FINISHED"
    }
    swept(other, rates(*RATES))
    assert set(statuses(other).values()) == {"FINISHED"}


def test_points_that_cannot_be_read_are_reported_and_left_out(
    project: Path, empty_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file is lost, or the config is of an earlier version; the rest is written."""
    sweep = swept(project, rates(*RATES))
    swept(project, rates("0.1"))
    swept(project, rates("0.01", "0.02"))
    other = without_mlflow(project, project / "other", empty_store, ".points")
    (signature,) = (job.signature for job in sweep.jobs.values() if job.name == "learning_rate=0.01")
    (other / ".points" / signature / "outcome.json").unlink()
    capsys.readouterr()
    # The second command was for a point of the first sweep alone, which is complete by then.
    sent = [("line_y2x numpy", 1, completed) for completed in (1, 0, 1)]
    assert rebuild(LOCAL, other, other / "results") == sent
    printed = capsys.readouterr().err
    assert printed.startswith(
        f"skipped: 1 unreadable point in .points/: {signature}\nthe first error: The trained point"
    )
    assert f"delete {other / '.points' / signature}" in printed


def test_sweeps_of_another_store_are_left_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swept(project, rates("0.1"))
    before = with_times(project)
    uri = f"sqlite:///{project / 'other.db'}"
    assert rebuild(Tracking(name="server", uri=uri), project, project / "results") == []
    assert not (project / "other.db").exists()
    assert with_times(project) == before


def test_results_are_restored_for_any_store(
    grid: Path, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One store after the other: points that were trained or restored for one of them are unknown to the next."""
    monkeypatch.chdir(tmp_path)  # where a store that is given by an address keeps its files
    other = without_mlflow(grid, tmp_path / "other", empty_store, ".points", "results")
    shutil.copy(empty_store, other / "server.db")
    uri = f"sqlite:///{other / 'server.db'}"
    server = Tracking(name="server", uri=uri)
    for _ in range(2):
        assert rebuild(server, other, other / "results")[0][:2] == ("line_y2x numpy", 2)
    there = in_mlflow(other, uri=uri, when=True)
    assert len(there) == 3
    assert {name: run["metrics"] for name, run in there.items()} == {
        name: run["metrics"] for name, run in in_mlflow(grid, when=True).items()
    }
    points = [run for run in runs_of(other, uri=uri) if run.data.tags["lab.role"] == "point"]
    assert {run.data.params["tracking.uri"] for run in points} == {uri}
    assert rebuild(LOCAL, other, other / "results") == [("line_y2x numpy", 2, 2)]
    assert with_times(other) == with_times(grid)


def test_what_was_trained_for_a_server_elsewhere_is_the_same_sweep_here(
    project: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained on another machine, such as a cluster; the same command here finds the sweep that was restored."""
    monkeypatch.chdir(project)
    (project / "server").mkdir()
    with server_thread(project / "server", empty_store) as port:
        uri = f"http://127.0.0.1:{port}"
        with monkeypatch.context() as patch:
            patch.setattr("platform.node", lambda: "node-17")
            server = ["results=results/line_y2x/numpy", "tracking=server", f"tracking.uri={uri}"]
            swept(project, rates(*RATES, more=server))
        there = in_mlflow(project, uri=uri, when=True)
    run = next((project / "results").glob("*/*/*/run.json"))
    assert "node-17" in json.loads(run.read_text())["owner"]
    other = without_mlflow(project, project / "other", empty_store, "results")
    assert rebuild(LOCAL, other, other / "results") == [("line_y2x numpy", 2, 2)]
    content = in_mlflow(other, when=True)
    assert set(statuses(other).values()) == {"FINISHED"}
    assert {name: run["metrics"] for name, run in content.items()} == {
        name: run["metrics"] for name, run in there.items()
    }
    swept(other, GRID)
    assert in_mlflow(other, when=True) == content


@pytest.mark.parametrize("file", ["weights.npz", "config.json", "signed.json", "run.json", "metrics.csv"])
def test_a_results_folder_that_was_tampered_with_is_refused(tmp_path: Path, grid: Path, file: str) -> None:
    other = tmp_path / "other"
    shutil.copytree(grid / "results", other / "results")
    tampered = other / "results" / "line_y2x" / "numpy" / "learning_rate=0.1" / file
    content = bytearray(tampered.read_bytes())
    content[len(content) // 3] ^= 1
    rewrite(tampered, content)
    with pytest.raises(LabError, match=r"cannot be read(.|\n)*SHA-256"):
        rebuild(LOCAL, other, other / "results")
    assert not (other / "mlruns").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"signature": "[0-9a-f]{4}', '"signature": "0000', "holds a different point"),
        ('"signature": "', '"signature": "../../', "cannot be read"),
        ('"folder": "', '"folder": "../', "cannot be read"),
        ('"study"', '"stud"', "cannot be read"),
        (r"\{", "[", "cannot be read"),
    ],
)
def test_a_list_of_points_that_was_tampered_with_is_refused(
    tmp_path: Path, grid: Path, old: str, new: str, message: str
) -> None:
    other = tmp_path / "other"
    shutil.copytree(grid / "results", other / "results")
    file = other / "results" / "line_y2x" / "numpy" / "sweep.json"
    rewrite(file, re.sub(old, new, file.read_text(), count=1).encode())
    with pytest.raises(LabError, match=message):
        rebuild(LOCAL, other, other / "results")
    assert not list(other.glob(".points/[0-9a-f]*"))


# --- what is still running, and what was never finished


def test_a_sweep_in_training_is_left_to_its_command(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = begun(project, GRID)  # trained, but not at its end
    capsys.readouterr()
    assert rebuild(LOCAL, project, project / "results") == []
    assert capsys.readouterr().err == "line_y2x numpy: left to the command that is training it\n"
    sweep.finish()
    assert set(statuses(project).values()) == {"FINISHED"}
    assert rebuild(LOCAL, project, project / "results") == [("line_y2x numpy", 2, 0)]
    assert set(statuses(project).values()) == {"FINISHED"}


@pytest.mark.parametrize("written", ["RUNNING", "FAILED"])
def test_a_sweep_without_a_complete_point_is_ended(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], written: str
) -> None:
    """Its command was killed, or MLflow did not answer at its end."""
    at_epoch(monkeypatch, 9, interrupt)
    killed(project, rates(*RATES))
    (file,) = project.glob(".points/.sweeps/*/sweep.json")
    rewrite(file, file.read_text().replace('"KILLED"', f'"{written}"').encode())
    tracker = Tracker(LOCAL, "line_y2x", project)
    for run in runs_of(project):
        gone = {"lab.owner": json.dumps(json.loads(owner()) | {"ticks": 0}), "lab.complete": "not yet"}
        tracker.reopen_run(run.info.run_id, gone)
    capsys.readouterr()
    expected = {"RUNNING": "KILLED", "FAILED": "FAILED"}[written]
    for said in (f"line_y2x numpy: ended as {expected}; none of its points is complete\n", ""):
        assert rebuild(LOCAL, project, project / "results") == []
        assert capsys.readouterr().err == said
        found = statuses(project)
        assert found.pop("line_y2x numpy") == expected
        assert set(found.values()) == {"KILLED"}


def test_a_sweep_in_batches_has_one_record_and_stays_finished(project: Path) -> None:
    """Hydra hands over the points in batches with `hydra.sweeper.max_batch_size`."""
    grid = rates("0.1", "0.01", "0.02", "0.05")
    sweep = Sweep(project, grid[0][0], 2)
    sweep.train_all(grid[:2])
    sweep.train_all(grid[2:])
    sweep.finish()
    (file,) = project.glob(".points/.sweeps/*/sweep.json")
    # An earlier version left a record for each batch, all with the same key.
    batch = file.parent.with_name("0" * 16)
    batch.mkdir()
    early = json.loads(file.read_text()) | {"status": "RUNNING", "ended": None}
    (batch / "sweep.json").write_text(json.dumps(early | {"points": early["points"][:2]}))
    content = in_mlflow(project, when=True)
    assert {run["status"] for run in content.values()} == {"FINISHED"}
    for _ in range(2):
        assert rebuild(LOCAL, project, project / "results") == [("line_y2x numpy", 4, 0)]
        assert in_mlflow(project, when=True) == content


def test_a_batch_after_one_that_was_done_already_is_recorded(project: Path) -> None:
    grid = rates("0.1", "0.01", "0.02", "0.05")
    swept(project, grid[:2])
    sweep = Sweep(project, grid[0][0], 2)
    for batch in (grid[:2], grid[2:]):
        sweep.train_all(batch)
    sweep.finish()
    assert set(statuses(project).values()) == {"FINISHED"}
    (parent,) = (run for run in runs_of(project) if run.data.tags["lab.role"] == "sweep")
    assert parent.data.metrics["points"] == 4


# --- whether MLflow has everything that it says it has


# What MLflow loses: of which run, by which SQL, and how many points are written again.
OF_RUN = "key = :key AND run_uuid = :run"
LAST = f"(SELECT max(step) FROM metrics WHERE {OF_RUN})"
WHOLE_METRIC = ["DELETE FROM metrics WHERE", "DELETE FROM latest_metrics WHERE"]
LOST = {
    "a metric": ("learning_rate=0.1", "train/loss", 1, WHOLE_METRIC),
    "the outcome": ("learning_rate=0.1", "diverged", 1, WHOLE_METRIC),
    "the last rows of a metric": (
        "learning_rate=0.1",
        "train/loss",
        1,
        [
            f"DELETE FROM metrics WHERE step = {LAST} AND",
            f"UPDATE latest_metrics SET value = (SELECT value FROM metrics WHERE step = {LAST} AND {OF_RUN}) WHERE",
        ],
    ),
    "a parameter": ("learning_rate=0.1", "seed", 0, ["DELETE FROM params WHERE"]),
    "a value of the sweep": ("line_y2x numpy", "points", 0, WHOLE_METRIC),
}


@pytest.mark.parametrize("what", LOST)
def test_a_run_that_has_lost_something_is_completed(project: Path, what: str) -> None:
    swept(project, GRID)
    content = in_mlflow(project, when=True)
    run, key, written, statements = LOST[what]
    with closing(sqlite3.connect(project / "mlruns" / "mlflow.db")) as database, database:
        for statement in statements:
            database.execute(f"{statement} {OF_RUN}", {"key": key, "run": content[run]["id"]})
    assert in_mlflow(project, when=True) != content
    assert rebuild(LOCAL, project, project / "results") == [("line_y2x numpy", 2, written)]
    assert in_mlflow(project, when=True) == content


def test_metrics_that_mlflow_refuses_in_the_background_are_not_taken_for_sent(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With MLFLOW_ENABLE_ASYNC_LOGGING a call returns before the store has accepted anything."""
    real: Any = SqlAlchemyStore.log_batch

    def refuse(store: SqlAlchemyStore, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        if len(metrics) > 20:
            raise MlflowException("too many metrics")
        real(store, run_id, metrics, params, tags)

    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    with monkeypatch.context() as patch:
        patch.setattr(SqlAlchemyStore, "log_batch", refuse)
        with pytest.raises(LabError, match="too many metrics") as refusal:
            swept(project, GRID)
    assert "MLflow sync is incomplete: 2 of 2 points are pending." in str(refusal.value)
    assert statuses(project) == dict.fromkeys(["learning_rate=0.1", "learning_rate=0.01"], "FAILED") | {
        "line_y2x numpy": "FINISHED"
    }
    assert rebuild(LOCAL, project, project / "results") == [("line_y2x numpy", 2, 2)]
    for name, run in by_name(project).items():
        if "signature" in run.data.tags:
            told_once(project, read_point(project / ".points" / run.data.tags["signature"], name), run.info.run_id)


def test_where_there_is_nothing_to_write_it_says_so(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.rebuild.PROJECT", project)
    asked = OmegaConf.create({"tracking": {"name": "local", "uri": None}, "results": "results"})
    task(asked)
    assert capsys.readouterr().out.startswith("nothing to write to this store")
    swept(project, rates("0.1"))
    capsys.readouterr()
    task(asked)
    assert capsys.readouterr().out == "line_y2x numpy: 1 point, up to date\n"


@pytest.mark.parametrize("results", [None, "", "~no-such-user/x"])
def test_results_that_are_no_folder_are_refused(results: str | None) -> None:
    asked = OmegaConf.create({"tracking": {"name": "local", "uri": None}, "results": results})
    with pytest.raises(LabError, match=r"results (is not a folder|begins with ~)"):
        task(asked)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    asked = OmegaConf.create(
        {"tracking": {"name": "server", "uri": "http://anna:sesame@127.0.0.1"}, "results": "results"}
    )
    with pytest.raises(LabError, match="MLFLOW_TRACKING_PASSWORD") as refusal:
        task(asked)
    assert "sesame" not in str(refusal.value)


def test_rebuild_from_the_command_line(lab: Path, grid: Path, empty_store: Path) -> None:
    other = without_mlflow(grid, lab, empty_store, "results")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.rebuild"], cwd=other, capture_output=True, text=True, timeout=250, check=False
    )
    assert (done.returncode, done.stdout) == (0, "line_y2x numpy: 2 points, 2 written\n"), done.stderr
    assert set(statuses(other).values()) == {"FINISHED"}
