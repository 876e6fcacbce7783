"""Projects that are copied and moved: artifacts follow the store, and those of another project stay where they are."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.schema import Tracking
from pipeline.system.errors import LabError
from pipeline.tracking import location
from pipeline.tracking.location import follow_project, local_path
from pipeline.tracking.tracker import Tracker
from tests.support.swept import forget_locations

LOCAL = Tracking(name="local", uri=None)
STUDY = "study"


def open_tracker(project: Path) -> Tracker:
    """Open a project as a new process does."""
    forget_locations()
    return Tracker(LOCAL, STUDY, project)


def add_run(tracker: Tracker, note: Path) -> str:
    """Add a run with an artifact and a model."""
    run_id = tracker.start_run("a", {"lab.role": "point"})
    tracker.log_file(run_id, note, "folder")
    model = tracker.client.create_logged_model(tracker.experiment_id, "final", run_id)
    tracker.client.log_model_artifacts(model.model_id, str(note.parent))
    return run_id


def files(project: Path) -> list[str]:
    """The artifacts of a project, by their paths in it."""
    return sorted(str(path.relative_to(project)) for path in project.rglob("note.txt"))


def locations(project: Path) -> list[str]:
    """Where the store says that experiments, runs and models are."""
    with closing(sqlite3.connect(project / "mlruns" / "mlflow.db")) as database:
        rows = database.execute(
            "SELECT artifact_location FROM experiments UNION SELECT artifact_uri FROM runs "
            "UNION SELECT artifact_location FROM logged_models"
        ).fetchall()
    return sorted(str(local_path(address)) for (address,) in rows)


@pytest.fixture
def note(tmp_path: Path) -> Path:
    file = tmp_path / "upload" / "note.txt"
    file.parent.mkdir()
    file.write_text("note")
    return file


@pytest.fixture
def original(tmp_path: Path, empty_store: Path, note: Path) -> Path:
    """A project with a run."""
    project = tmp_path / "original"
    (project / "mlruns").mkdir(parents=True)
    shutil.copy(empty_store, project / "mlruns" / "mlflow.db")
    with closing(sqlite3.connect(project / "mlruns" / "mlflow.db")) as database, database:
        # As in a project whose first command was run in its folder.
        database.execute("UPDATE experiments SET artifact_location = ?", [f"{project}/mlruns/0"])
    add_run(open_tracker(project), note)
    return project


@pytest.fixture
def copy(original: Path) -> Path:
    return shutil.copytree(original, original.with_name("copy"))


def test_in_a_copy_the_artifacts_are_those_of_the_copy(
    original: Path, copy: Path, note: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = locations(original)
    tracker = open_tracker(copy)
    assert capsys.readouterr().err == (
        f"The MLflow store was moved or copied from {original} to {copy}; 4 artifact locations updated.\n"
    )
    assert locations(copy) == [place.replace("/original/", "/copy/") for place in before]
    add_run(tracker, note)
    (copied,) = [run for run in tracker.runs() if run.run_id != tracker.runs()[-1].run_id]
    assert tracker.artifacts(copied.run_id, "folder") == ["folder/note.txt"]
    assert len(files(copy)) == 2 * len(files(original))
    assert locations(original) == before
    open_tracker(copy)
    assert capsys.readouterr().err == ""


def test_deleting_a_study_in_a_copy_leaves_the_original(original: Path, copy: Path) -> None:
    before = files(original)
    tracker = open_tracker(copy)
    assert tracker.remove_runs([run.run_id for run in tracker.runs()])
    assert files(copy) == []
    assert files(original) == before


def test_a_project_that_was_moved_leaves_nothing_at_its_old_place(original: Path, note: Path) -> None:
    before = files(original)
    moved = original.rename(original.with_name("moved"))
    tracker = open_tracker(moved)
    run_id = tracker.runs()[0].run_id
    tracker.log_file(run_id, note, "more")
    assert set(tracker.artifacts(run_id, "folder") + tracker.artifacts(run_id, "more")) == {
        "folder/note.txt",
        "more/note.txt",
    }
    assert len(files(moved)) == len(before) + 1
    assert not original.exists()


@pytest.mark.parametrize(("old", "new"), [("a b", "a%20b"), ("a%20b", "a b"), ("ü?#", "%"), ("100 %", "100 %25")])
def test_paths_that_look_alike_when_they_are_decoded(
    tmp_path: Path, original: Path, note: Path, old: str, new: str
) -> None:
    """MLflow deletes the artifacts of a folder `a%20b` in the folder `a b`."""
    first = original.rename(tmp_path / old)
    open_tracker(first)
    second = shutil.copytree(first, tmp_path / new)
    before = files(first)
    tracker = open_tracker(second)
    add_run(tracker, note)
    assert tracker.remove_runs([run.run_id for run in tracker.runs()])
    assert files(second) == []
    assert files(first) == before


def test_an_experiment_of_mlflows_pages_moves_too(original: Path) -> None:
    by_hand = f"{(original / 'mlruns' / 'artifacts').as_uri()}/1"
    with closing(sqlite3.connect(original / "mlruns" / "mlflow.db")) as database, database:
        database.execute(
            "UPDATE experiments SET name = 'by hand', artifact_location = ? WHERE name = 'study'", [by_hand]
        )
    moved = original.rename(original.with_name("moved"))
    open_tracker(moved)
    assert f"{moved}/mlruns/artifacts/1" in locations(moved)


def test_an_experiment_whose_place_a_user_chose_keeps_it(tmp_path: Path, original: Path, note: Path) -> None:
    chosen = [tmp_path / "a large disk" / "runs", tmp_path / "original-2" / "mlruns" / "artifacts" / "other name"]
    tracker = open_tracker(original)
    for place in chosen:
        tracker.client.create_experiment(place.name + " by hand", place.as_uri())
    moved = original.rename(original.with_name("moved"))
    open_tracker(moved)
    assert set(map(str, chosen)) <= set(locations(moved))


def test_artifacts_outside_of_the_project_are_never_deleted(tmp_path: Path, original: Path, note: Path) -> None:
    tracker = open_tracker(original)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(original / "mlruns" / "artifacts", elsewhere)
    second = add_run(tracker, note)
    for table, column in (("runs", "artifact_uri"), ("logged_models", "artifact_location")):
        with closing(sqlite3.connect(original / "mlruns" / "mlflow.db")) as database, database:
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)",
                [(original / "mlruns" / "artifacts").as_uri(), elsewhere.as_uri()],
            )
        before = files(tmp_path)
        with pytest.raises(LabError, match=r"outside of this project(.|\n)*elsewhere(.|\n)*mlflow gc"):
            tracker.remove_runs([run.run_id for run in tracker.runs()])
        assert files(tmp_path) == before
        assert len(tracker.runs()) == 2
    with pytest.raises(LabError, match="outside of this project"):
        tracker.remove_artifacts(second, "folder")
    tracker.delete_run(second)  # as training does when a point is trained again; its models are only hidden
    assert files(tmp_path) == before
    assert len(tracker.runs()) == 1


def test_a_link_out_of_the_project_is_not_followed(tmp_path: Path, original: Path) -> None:
    tracker = open_tracker(original)
    (run,) = tracker.runs()
    assert run.folder is not None
    outside = run.folder.rename(tmp_path / "outside")
    run.folder.symlink_to(outside)
    with pytest.raises(LabError, match="outside of this project"):
        tracker.remove_runs([run.run_id])
    assert files(outside) == ["folder/note.txt"]


def test_a_store_that_is_reached_through_a_link_has_not_moved(
    original: Path, note: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = locations(original)
    linked = original.with_name("linked")
    linked.mkdir()
    (linked / "mlruns").symlink_to(original / "mlruns")
    tracker = open_tracker(linked)
    assert capsys.readouterr().err == ""
    assert locations(original) == before
    assert tracker.remove_runs([run.run_id for run in tracker.runs()])
    assert files(original) == []


def test_a_project_whose_artifacts_are_on_another_disk(tmp_path: Path, original: Path) -> None:
    artifacts = original / "mlruns" / "artifacts"
    artifacts.rename(tmp_path / "disk")
    artifacts.symlink_to(tmp_path / "disk")
    tracker = open_tracker(original)
    assert tracker.remove_runs([run.run_id for run in tracker.runs()])
    assert files(tmp_path / "disk") == []


def test_a_copy_without_its_artifacts_can_be_deleted(original: Path, copy: Path) -> None:
    shutil.rmtree(copy / "mlruns" / "artifacts")
    tracker = open_tracker(copy)
    assert tracker.remove_runs([run.run_id for run in tracker.runs()])
    assert tracker.runs(deleted=True) == []


def test_commands_that_begin_at_once_in_a_copy_update_it_once(
    copy: Path, original: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    barrier = threading.Barrier(4)

    def begin() -> None:
        barrier.wait()
        follow_project(copy / "mlruns")

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert capsys.readouterr().err.count("4 artifact locations updated") == 1
    assert all(Path(place).is_relative_to(copy) for place in locations(copy))


def test_a_copy_that_cannot_be_written_is_one_message(
    original: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(address: str, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(address.replace("mode=rw", "mode=ro"), **options)
        return connection

    before = locations(original)
    connect = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", read_only)
        with pytest.raises(LabError, match=r"copied from .*original, and its(.|\n)*readonly(.|\n)*you may write"):
            open_tracker(copy)
    assert locations(copy) == before


def test_a_copy_that_another_program_has_locked_is_waited_for(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(location, "LOCK_SECONDS", 0.0)
    tries = []
    with closing(sqlite3.connect(copy / "mlruns" / "mlflow.db", check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")

        def follow(mlruns: Path) -> None:
            tries.append(mlruns)
            if len(tries) == 3:
                other.rollback()
            follow_project(mlruns)

        monkeypatch.setattr("pipeline.tracking.store.follow_project", follow)
        open_tracker(copy)
    assert len(tries) == 3
    assert all(Path(place).is_relative_to(copy) for place in locations(copy))
