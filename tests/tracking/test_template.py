"""A new store is a copy of a template that holds nothing; without one that can be used, MLflow makes the store."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import platformdirs
import pytest

from pipeline.config.schema import Tracking
from pipeline.tracking import store, template
from pipeline.tracking.store import open_store

LOCAL = Tracking(name="local", uri=None)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Path:
    """A cache of its own, with the template."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    with (
        closing(sqlite3.connect(empty_store)) as made,
        closing(sqlite3.connect(template.template_file())) as copy,
        copy,
    ):
        made.backup(copy)
        copy.execute("DELETE FROM experiments")
    return tmp_path / "cache"


class Creator:
    """Stands for MLflow, with copies of a store that it has made."""

    def __init__(self, made: Path) -> None:
        self.made = made
        self.files: list[Path] = []

    def __call__(self, file: Path) -> None:
        shutil.copyfile(self.made, file)
        self.files.append(file)


@pytest.fixture
def create(empty_store: Path) -> Creator:
    return Creator(empty_store)


def experiments(project: Path) -> dict[str, str]:
    with closing(sqlite3.connect(project / "mlruns" / "mlflow.db")) as database:
        return dict(database.execute("SELECT name, artifact_location FROM experiments"))


def test_two_stores_share_nothing(
    cache: Path, create: Creator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_create", create)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        client, experiment = open_store(LOCAL, "study", tmp_path / name)
        client.create_run(experiment)
        assert experiments(tmp_path / name)["study"] == (tmp_path / name / "mlruns" / "artifacts" / "study").as_uri()
        # As MLflow itself sets it, from the folder in which the command runs.
        assert experiments(tmp_path / name)["Default"] == str(Path.cwd() / "mlruns" / "0")
        assert len(client.search_runs([experiment])) == 1
    assert create.files == []


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _used(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("INSERT INTO runs (run_uuid, lifecycle_stage) VALUES ('a', 'active')")


def _other(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE experiments (name)")


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("damage", [Path.unlink, _cut, _used, _other, _folder, lambda file: file.write_bytes(b"no")])
def test_a_template_that_cannot_be_used_is_made_again(
    cache: Path, create: Creator, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    damage(template.template_file())
    file = tmp_path / "mlflow.db"
    template.new_store(file, create)
    assert create.files == [file]
    second = tmp_path / "second.db"
    template.new_store(second, create)
    if damage is not _folder:
        assert create.files == [file]
    for made in (file, second):
        with closing(sqlite3.connect(made)) as database:
            assert database.execute("SELECT COUNT(*) FROM runs").fetchone() == (0,)


def test_a_cache_that_cannot_be_written_costs_only_time(
    create: Creator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: tmp_path / "file" / "cache")
    template.new_store(tmp_path / "mlflow.db", create)
    assert create.files == [tmp_path / "mlflow.db"]


def test_a_user_without_a_home_folder_has_no_template(
    create: Creator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home(*_: object, **__: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(platformdirs, "user_cache_path", no_home)
    template.new_store(tmp_path / "mlflow.db", create)
    assert create.files == [tmp_path / "mlflow.db"]
