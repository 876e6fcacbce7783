"""Whether the local store has changed is told without MLflow, and only where nothing can have changed."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.tracking.contents import contents

RUN = (
    "INSERT INTO runs (run_uuid, name, status, lifecycle_stage, experiment_id, artifact_uri) "
    "VALUES ('{0}', 'a point', 'FINISHED', 'active', {1}, 'somewhere')"
)


def change(mlruns: Path, *statements: str) -> None:
    with closing(sqlite3.connect(mlruns / "mlflow.db")) as database, database:
        for statement in statements:
            database.execute(statement)


@pytest.fixture
def mlruns(tmp_path: Path, empty_store: Path) -> Path:
    """A store with a run of each of two studies."""
    folder = tmp_path / "mlruns"
    file = folder / "artifacts" / "one" / "run" / "artifacts" / "weights.npz"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    shutil.copyfile(empty_store, folder / "mlflow.db")
    for number, name in enumerate(("one", "two"), start=1):
        change(
            folder,
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, workspace) "
            f"VALUES ({number}, '{name}', '{(folder / 'artifacts' / name).as_uri()}', 'active', 'default')",
            RUN.format(f"run{number}", number),
            f"INSERT INTO tags VALUES ('lab.complete', 'true', 'run{number}')",
            f"INSERT INTO latest_metrics VALUES ('train/loss', 0.5, 1, 1, 0, 'run{number}')",
        )
    return folder


def test_a_store_that_stays_the_same(mlruns: Path) -> None:
    before = contents(mlruns, "one")
    assert before is not None
    assert before != contents(mlruns, "two")
    change(mlruns, "UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = 'run2'")
    assert contents(mlruns, "one") == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = 'run1'",
        "DELETE FROM runs WHERE run_uuid = 'run1'",
        "UPDATE experiments SET lifecycle_stage = 'deleted' WHERE name = 'one'",
        "DELETE FROM tags WHERE run_uuid = 'run1'",
        "UPDATE tags SET value = 'false' WHERE run_uuid = 'run1'",
        "UPDATE latest_metrics SET value = 0.25 WHERE run_uuid = 'run1'",
        "INSERT INTO params VALUES ('seed', '1', 'run1')",
        RUN.format("run3", 1),
    ],
)
def test_a_change_of_the_study_is_seen(mlruns: Path, statement: str) -> None:
    before = contents(mlruns, "one")
    change(mlruns, statement)
    assert contents(mlruns, "one") not in (None, before)


def test_a_lost_artifact_is_seen(mlruns: Path) -> None:
    before = contents(mlruns, "one")
    (mlruns / "artifacts" / "one" / "run" / "artifacts" / "weights.npz").unlink()
    assert contents(mlruns, "one") not in (None, before)


def test_artifacts_that_are_elsewhere_are_not_looked_for_here(
    mlruns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    change(mlruns, "UPDATE experiments SET artifact_location = 's3://bucket/one' WHERE name = 'one'")
    assert contents(mlruns, "one") is None
    assert contents(mlruns, "two") is not None


def test_what_only_mlflow_can_tell(mlruns: Path) -> None:
    assert contents(mlruns, "no such study") is None
    change(mlruns, "UPDATE runs SET status = 'RUNNING' WHERE run_uuid = 'run1'")
    assert contents(mlruns, "one") is None
    (mlruns / "mlflow.db").write_bytes(b"no database")
    assert contents(mlruns, "one") is None
    (mlruns / "mlflow.db").unlink()
    assert contents(mlruns, "one") is None
    assert not (mlruns / "mlflow.db").exists()
