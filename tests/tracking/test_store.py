"""The MLflow store: created once, waited for while it is locked, and one message if it cannot be opened."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from sqlalchemy import event, make_url
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from pipeline.config.schema import Tracking
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT
from pipeline.tracking import store
from pipeline.tracking.causes import CREDENTIALS
from pipeline.tracking.store import open_store, store_call, store_uri
from tests.support.flaky_server import free_port

LOCAL = Tracking(name="local", uri=None)


def test_an_experiment_is_created_once_with_its_artifacts_in_the_project(project: Path) -> None:
    (_, first), (client, second) = open_store(LOCAL, "study", project), open_store(LOCAL, "study", project)
    assert first == second
    experiment = client.get_experiment(first)
    assert experiment.artifact_location == (project / "mlruns" / "artifacts" / "study").as_uri()


def test_an_experiment_whose_artifacts_only_a_server_can_write(project: Path) -> None:
    client, _ = open_store(LOCAL, "another", project)
    client.create_experiment("study", artifact_location="mlflow-artifacts:/7")
    with pytest.raises(LabError, match=r"Artifacts of study(.|\n)*mlflow-artifacts:/7(.|\n)*another name"):
        open_store(LOCAL, "study", project)


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1))
def test_the_address_of_a_store_names_its_file(name: str) -> None:
    project = Path("/") / name.lstrip("/")
    address = make_url(store_uri(project))
    assert address.database == str(project / "mlruns" / "mlflow.db")
    assert not address.query


def test_a_store_that_rejects_a_writer_is_asked_again_without_a_message(project: Path) -> None:
    def at_once(_c: object, _k: object, statement: str, parameters: object, *_: object) -> tuple[str, object]:
        return statement.replace("busy_timeout = 20000", "busy_timeout = 0"), parameters

    client, experiment = open_store(LOCAL, "study", project)
    create_run = store_call(lambda: client.create_run(experiment))
    records: list[logging.LogRecord] = []
    listener = logging.Handler()
    listener.emit = records.append  # type: ignore[assignment, method-assign]
    logger = logging.getLogger("mlflow.store.db.utils")
    logger.addHandler(listener)
    event.listen(Engine, "before_cursor_execute", at_once, retval=True)
    other = sqlite3.connect(project / "mlruns" / "mlflow.db", check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    lock = threading.Timer(0.5, other.rollback)
    lock.start()
    try:
        run = create_run().info.run_id
        assert not lock.is_alive()
    finally:
        lock.join()
        other.close()
        event.remove(Engine, "before_cursor_execute", at_once)
        logger.removeHandler(listener)
    assert [found.info.run_id for found in client.search_runs([experiment])] == [run]
    assert records == []


@pytest.mark.parametrize(
    "text",
    [
        "(sqlite3.IntegrityError) UNIQUE constraint failed: experiments.name",
        'RESOURCE_ALREADY_EXISTS: (psycopg2.errors.UniqueViolation) duplicate key value violates unique constraint "x"',
        "(pymysql.err.IntegrityError) (1062, \"Duplicate entry 'a' for key 'name'\")",
    ],
)
def test_a_row_that_another_process_has_just_inserted_is_found_at_the_second_try(text: str) -> None:
    errors = [MlflowException(text)]

    @store_call
    def insert() -> str:
        if errors:
            raise errors.pop()
        return "found"

    assert insert() == "found"
    errors.extend([MlflowException(text)] * 2)
    with pytest.raises(LabError, match="A call to MLflow failed"):
        insert()


def test_a_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(LabError, match=r"cannot be opened(.|\n)*start the server") as refusal:
        open_store(Tracking(name="server", uri=uri), "study", tmp_path)
    assert uri in str(refusal.value)
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize(
    ("name", "value", "received"),
    [
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "soon", "Failed to convert 'soon' for MLFLOW_HTTP_REQUEST_TIMEOUT"),
        ("MLFLOW_TRACKING_INSECURE_TLS", "perhaps", "MLFLOW_TRACKING_INSECURE_TLS"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "99", r"max_retries value \(99\)"),
    ],
)
def test_a_variable_that_mlflow_cannot_read_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, received: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(LabError, match=rf"cannot be opened(.|\n)*{received}(.|\n)*unset or correct the variable"):
        open_store(Tracking(name="server", uri="http://127.0.0.1:9"), "study", tmp_path)


def test_an_address_of_an_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot be opened"):
        open_store(Tracking(name="server", uri="gopher://here"), "study", tmp_path)


def test_a_store_that_is_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_text("this is no sqlite file" * 100)
    with pytest.raises(LabError, match=r"cannot be opened(.|\n)*mlruns/mlflow.db"):
        open_store(LOCAL, "study", tmp_path)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (PermissionError(13, "Permission denied"), "fix the permissions, then run the same command again"),
        (OSError(28, "No space left on device"), "free some disk space"),
        (OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full")), "free some disk space"),
        (
            OperationalError("SELECT", {}, sqlite3.OperationalError("attempt to write a readonly database")),
            "make mlruns/ and mlruns/mlflow.db writable for you and keep mlruns/mlflow.db",
        ),
        (
            OperationalError("SELECT", {}, sqlite3.OperationalError("database is locked")),
            "end the other program that has mlruns/mlflow.db open",
        ),
        (OperationalError("SELECT", {}, sqlite3.OperationalError("disk I/O error")), "check the disk"),
    ],
    ids=repr,
)
def test_a_store_that_the_machine_cannot_open_is_not_reported_as_damaged(
    project: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, remedy: str
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(store, "_open", fail)
    monkeypatch.setattr(store, "LOCK_SECONDS", 0.0)
    with pytest.raises(LabError, match="The MLflow store cannot be opened") as refusal:
        open_store(LOCAL, "study", project)
    assert remedy in str(refusal.value)
    assert "rename" not in str(refusal.value)


def test_a_store_of_another_version(project: Path) -> None:
    with sqlite3.connect(project / "mlruns" / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'deadbeef'")
    with pytest.raises(LabError, match=r"cannot be opened(.|\n)*mlruns/mlflow.db") as refusal:
        open_store(LOCAL, "study", project)
    assert "back up mlruns/mlflow.db, then run mlflow db upgrade sqlite:///mlruns/mlflow.db" in str(refusal.value)
    assert "rename" not in str(refusal.value)


def test_a_file_in_the_way_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "mlruns").write_text("a file in the way")
    with pytest.raises(LabError, match="mlruns"):
        open_store(LOCAL, "study", tmp_path)


def test_a_store_whose_creation_was_killed_is_created_again(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from sqlalchemy import event; from sqlalchemy.engine import Engine;"
        "from pipeline.config.schema import Tracking; from pipeline.tracking.store import open_store;"
        "end = lambda c, k, text, *_: os._exit(9) if 'TABLE metrics' in text else None;"
        "event.listen(Engine, 'before_cursor_execute', end);"
        "open_store(Tracking(name='local', uri=None), 'study', Path(sys.argv[1]))"
    )
    # Without a template, MLflow makes the tables.
    empty = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, env=empty, capture_output=True, check=False)
    assert done.returncode == 9, done.stderr.decode()
    _, experiment = open_store(LOCAL, "study", tmp_path)
    assert experiment == "1"
    assert sorted(path.name for path in (tmp_path / "mlruns").iterdir()) == [".lock", "mlflow.db"]


@pytest.mark.parametrize(
    ("status", "given", "reason"),
    [
        (
            401,
            (),
            "requires a user and a password (401), but the environment does not set MLFLOW_TRACKING_USERNAME or ",
        ),
        (401, ("MLFLOW_TRACKING_USERNAME",), "(401), but the environment does not set MLFLOW_TRACKING_PASSWORD\n"),
        (401, CREDENTIALS, "rejected the user and password in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (403, CREDENTIALS, "the user in MLFLOW_TRACKING_USERNAME does not have permission (403)"),
    ],
)
def test_a_server_that_rejects_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, given: Sequence[str], reason: str
) -> None:
    class Refusal(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status, "some words")

        def log_message(self, *arguments: object) -> None:
            pass

    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    for name in given:
        monkeypatch.setenv(name, "sesame")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusal)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(LabError) as refusal:
            open_store(Tracking(name="server", uri=f"http://127.0.0.1:{server.server_port}"), "study", tmp_path)
    finally:
        server.shutdown()
        server.server_close()
    assert reason in str(refusal.value)
    assert "sesame" not in str(refusal.value)
