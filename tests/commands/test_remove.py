"""Deleting a study: it is listed first, and then all of it is deleted and nothing else."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from omegaconf import OmegaConf

from pipeline.points.breaking_rates import add_breaking_rates
from pipeline.points.folder import PointFolder
from pipeline.points.sweep_lock import SweepLock
from pipeline.remove import Removal, task
from pipeline.sweep.finished import SUFFIX
from pipeline.system.errors import LabError
from pipeline.system.failures import Failures
from pipeline.tracking.store import store_uri
from tests.support.damage import MACHINE, check_machine_error, fail_at
from tests.support.swept import full_name, in_mlflow, on_disk, rates, runs_of, swept

pytestmark = pytest.mark.usefixtures("plain_runs")


def train_two_studies(project: Path) -> None:
    """Studies `one` and `two`, which share the rate 0.1; a point of `one` has been trained twice."""
    for study, own in (("one", "0.01"), ("two", "0.02")):
        swept(project, rates("0.1", own, more=[f"study={study}", f"results=results/{study}/numpy"]))
    swept(project, rates("0.01", more=["study=one", "force=true"]))  # leaves a run in MLflow's bin


@pytest.fixture
def two_studies(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with two studies, to delete one of them."""
    monkeypatch.setattr("pipeline.remove.PROJECT", project)
    train_two_studies(project)
    return project


@pytest.fixture(scope="module")
def kept_studies(tmp_path_factory: pytest.TempPathFactory, empty_store: Path, plain_runs: None) -> Path:
    """The same, for tests that leave it as it is."""
    project = tmp_path_factory.mktemp("kept")
    (project / "mlruns").mkdir()
    shutil.copy(empty_store, project / "mlruns" / "mlflow.db")
    train_two_studies(project)
    return project


@pytest.fixture
def untouched(kept_studies: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with two studies that is the same afterwards: its files, and the runs of `one`."""
    monkeypatch.setattr("pipeline.remove.PROJECT", kept_studies)
    files, runs = everything(kept_studies), left_in_store(kept_studies)
    yield kept_studies
    assert everything(kept_studies) == files
    assert left_in_store(kept_studies) == runs


def remove(**asked: Any) -> None:
    task(OmegaConf.create({"tracking": {"name": "local", "uri": None}, "backend": None, "confirm": False} | asked))


def everything(project: Path) -> dict[str, bytes]:
    """All files but locks and the database, which reading changes."""
    return {
        str(path.relative_to(project)): path.read_bytes()
        for path in project.rglob("*")
        if path.is_file() and ".locks" not in path.parts and not path.name.startswith(("mlflow.db", ".lock"))
    }


def left_in_store(project: Path) -> int:
    client = MlflowClient(store_uri(project))
    experiment = client.get_experiment_by_name("one")
    assert experiment is not None
    return len(client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL))


def test_without_confirmation_a_study_is_listed_and_nothing_is_deleted(
    untouched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, runs = in_mlflow(untouched, "two", when=True), left_in_store(untouched)
    assert runs == 4  # the sweep, its two points, and in the bin the run of a point that was trained again
    capsys.readouterr()
    remove(study="one")
    shown = capsys.readouterr().out
    rows = dict(line.split()[:2] for line in shown.splitlines() if line.split()[:1] in (["sweeps"], ["points"]))
    assert rows == {"sweeps": "2", "points": "1"}
    assert f"MLflow runs  {runs}" in shown
    assert "add confirm=true" in shown
    assert in_mlflow(untouched, "two", when=True) == content


def test_a_file_of_several_names_counts_once(tmp_path: Path) -> None:
    point = tmp_path / "point"
    results = tmp_path / "results"
    for folder in (point, results):
        folder.mkdir()
    (point / "weights.npz").write_bytes(bytes(2**20))
    for name in ("one.npz", "two.npz"):
        (results / name).hardlink_to(point / "weights.npz")
    (results / "sweep.json").write_bytes(bytes(2**19))
    rows = Removal([], [point], [results], [], 0, Failures()).rows()
    assert [row[-1] for row in rows] == ["MiB", "0.0", "1.0", "0.5", ""]


@pytest.mark.slow
def test_a_study_is_deleted_with_all_that_belongs_to_it_and_the_other_one_stays(two_studies: Path) -> None:
    client = MlflowClient(store_uri(two_studies))
    runs = {study: runs_of(two_studies, study) for study in ("one", "two")}
    made: dict[str, list[str]] = {"one": [], "two": []}
    for study, count in (("one", 101), ("two", 1)):  # MLflow lists a hundred at a time
        experiment = client.get_experiment_by_name(study)
        assert experiment is not None
        made[study] = [model.model_id for model in client.search_logged_models([experiment.experiment_id])]
        for number in range(count):
            model = client.create_logged_model(
                experiment.experiment_id, name=f"m{number}", source_run_id=runs[study][0].info.run_id
            )
            made[study].append(model.model_id)
    artifacts = two_studies / "mlruns" / "artifacts"
    assert any(path.is_file() for path in (artifacts / "one").rglob("*"))
    (binned,) = (run for run in runs_of(two_studies, "two") if full_name(run) == "learning_rate=0.02")
    client.delete_run(binned.info.run_id)
    client.delete_experiment(client.create_experiment("another user's, deleted by mistake"))
    content, others = in_mlflow(two_studies, "two", when=True), everything(artifacts / "two")
    points = on_disk(two_studies)
    predicted = [two_studies / ".points/.breaking_rates/one.json", two_studies / "results/one/breaking_rates.json"]
    for file in predicted:
        add_breaking_rates(file, [])
    remove(study="one", confirm=True)
    assert not any(file.exists() for file in predicted)
    assert left_in_store(two_studies) == 0
    assert [path for path in (artifacts / "one").rglob("*") if path.is_file()] == []
    with sqlite3.connect(two_studies / "mlruns" / "mlflow.db") as database:
        left = {row[0] for row in database.execute("SELECT model_id FROM logged_models")}
        experiments = {row[0] for row in database.execute("SELECT name FROM experiments")}
    assert left == set(made["two"])
    assert "another user's, deleted by mistake" in experiments  # MLflow's bin is not emptied
    assert client.get_run(binned.info.run_id).info.lifecycle_stage == "deleted"
    assert in_mlflow(two_studies, "two", when=True) == content
    assert everything(artifacts / "two") == others
    assert [path.name for path in (two_studies / "results").glob("*/*")] == ["numpy"]
    shared = [json.loads(file.read_text()) for file in (two_studies / ".points" / ".sweeps").glob("*/sweep.json")]
    assert [sweep["study"] for sweep in shared] == ["two"]
    signatures = {point["signature"] for point in shared[0]["points"]}
    assert on_disk(two_studies) == {sign: points[sign] for sign in signatures}
    with pytest.raises(LabError, match=r"Unknown study: one\.\n.*two"):
        remove(study="one", confirm=True)
    swept(two_studies, rates("0.1", "0.01", more=["study=one", "results=results/one/numpy"]))  # and can be had again
    assert len(runs_of(two_studies, "one")) == 3


def test_the_other_backend_stays(untouched: Path) -> None:
    remove(study="one", backend="keras", confirm=True)


def test_a_study_that_does_not_exist_is_one_message(untouched: Path) -> None:
    for study in ("three", "..", "", "one/../two"):
        with pytest.raises(LabError, match=r"Unknown study(.|\n)*one of one, two"):
            remove(study=study, confirm=True)


def test_where_nothing_was_trained_there_is_no_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.remove.PROJECT", tmp_path)
    with pytest.raises(LabError, match="Unknown study: one"):
        remove(study="one", confirm=True)
    assert list(tmp_path.iterdir()) == []


def test_a_study_in_training_is_refused(two_studies: Path) -> None:
    files, runs = everything(two_studies), left_in_store(two_studies)
    own = next(row for row in _points(two_studies, "one") if row["name"] == "learning_rate=0.01")
    folder = PointFolder(two_studies, own["signature"])
    assert folder.lock()
    with pytest.raises(LabError, match="one is being trained"):
        remove(study="one", confirm=True)
    folder.unlock()
    assert everything(two_studies) == files
    assert left_in_store(two_studies) == runs
    remove(study="one", confirm=True)


def test_a_study_whose_command_holds_its_sweep_is_refused(untouched: Path) -> None:
    """Between two batches, and while it gathers results or waits for MLflow, no point is locked."""
    for file in (untouched / ".points" / ".sweeps").glob("*/sweep.json"):
        sweep = json.loads(file.read_text())
        lock = SweepLock(untouched, sweep["key"])
        lock.hold()
        if sweep["study"] == "one":
            with pytest.raises(LabError, match=r"one is being trained\.\n.*the sweep one numpy\n.*wait until"):
                remove(study="one", confirm=True)
            remove(study="one", backend="keras", confirm=True)
        else:
            remove(study="one")
        lock.release()


def test_a_record_that_cannot_be_read_keeps_the_points_it_may_need(
    two_studies: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = on_disk(two_studies)
    sweeps = two_studies / ".points" / ".sweeps"
    (unread,) = (file for file in sweeps.glob("*/sweep.json") if json.loads(file.read_text())["study"] == "two")
    with monkeypatch.context() as patch:
        fail_at(patch, unread, MACHINE[0])
        with pytest.raises(LabError, match="may need points of one, so its points and sweeps are kept") as kept:
            remove(study="one", confirm=True)
        check_machine_error(kept.value, MACHINE[0], unread)
        assert "deleted; " in capsys.readouterr().out
        with pytest.raises(LabError, match="may be a sweep of two, which no other record names"):
            remove(study="two", confirm=True)
    assert left_in_store(two_studies) == 0
    assert [path.name for path in (two_studies / "results").iterdir() if any(path.iterdir())] == ["two"]
    assert on_disk(two_studies) == points
    remove(study="one", confirm=True)
    assert len(on_disk(two_studies)) == len(points) - 1
    # The sweep of the other study, and what its command printed.
    assert {path.name.removesuffix(SUFFIX) for path in sweeps.iterdir()} == {unread.parent.name}


def _points(project: Path, study: str) -> list[dict[str, str]]:
    content: dict[str, Any] = json.loads((project / "results" / study / "numpy" / "sweep.json").read_text())
    points: list[dict[str, str]] = content["points"]
    return points


@pytest.mark.slow
def test_remove_from_the_command_line(lab: Path, empty_store: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", *arguments], cwd=lab, capture_output=True, text=True, timeout=250, check=False
        )
        assert "Traceback" not in done.stderr
        return done

    (lab / "mlruns").mkdir()
    shutil.copy(empty_store, lab / "mlruns" / "mlflow.db")
    swept(lab, rates("0.1"))
    missing = run("pipeline.remove")
    assert (missing.returncode, missing.stderr.count("error: ")) == (1, 1)
    assert "study" in missing.stderr
    assert "\ndeleted; " in run("pipeline.remove", "study=line_y2x", "confirm=true").stdout
    assert runs_of(lab) == []
