"""The tracking server of a team: started, used and ended for real, on PostgreSQL."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests
import sqlalchemy
from mlflow import MlflowClient

from pipeline.system.project import PROJECT
from pipeline.tracking.server.checks import without_password
from tests.support.flaky_server import free_port
from tests.support.postgres import postgres
from tests.support.team_server import TeamServer, await_end, needs_packages, team_server, without_secrets

API = "/api/2.0/mlflow"
PASSWORD = "a first password of the administrator"


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    needs_packages()
    with postgres() as uri:
        yield uri


@pytest.fixture(scope="module")
def server() -> Iterator[TeamServer]:
    with team_server() as running:
        yield running


def started(*options: str, **secrets: str) -> subprocess.CompletedProcess[str]:
    """The command, which is to end by itself."""
    command = [sys.executable, "-m", "pipeline.server", *options]
    environment = without_secrets() | secrets
    return subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=200, check=False
    )


def processes_below(pid: int) -> list[psutil.Process]:
    return list(psutil.Process(pid).children(recursive=True))


def test_nobody_is_let_in_without_a_password(server: TeamServer) -> None:
    search = f"{server.uri}{API}/experiments/search"
    for auth in (None, (server.user, "another password"), ("nobody", server.password)):
        assert requests.post(search, json={"max_results": 9}, auth=auth, timeout=60).status_code == 401
    for path in ("/", "/api/2.0/mlflow-artifacts/artifacts", "/ajax-api/2.0/mlflow/experiments/search", "/version"):
        assert requests.get(f"{server.uri}{path}", timeout=60).status_code == 401
    let_in = requests.post(search, json={"max_results": 9}, auth=(server.user, server.password), timeout=60)
    assert let_in.status_code == 200


def test_artifacts_go_through_the_server(server: TeamServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.credentials.items():
        monkeypatch.setenv(name, value)
    client = MlflowClient(server.uri)
    run = client.create_run(client.create_experiment("artifacts"))
    (tmp_path / "note.txt").write_text("something to keep")
    client.log_artifact(run.info.run_id, str(tmp_path / "note.txt"))
    assert str(run.info.artifact_uri).startswith("mlflow-artifacts:/")
    assert str(server.artifacts) not in str(run.info.artifact_uri)
    (kept,) = server.artifacts.rglob("note.txt")
    assert kept.read_text() == "something to keep"
    (tmp_path / "back").mkdir()
    there = client.download_artifacts(run.info.run_id, "note.txt", str(tmp_path / "back"))
    assert Path(there).read_text() == "something to keep"


def test_users_share_studies_but_take_nothing_away_from_others(server: TeamServer) -> None:
    owner, other = (server.user, server.password), ("another", "the password of another user")

    def ask(what: str, body: Mapping[str, str], auth: tuple[str, str]) -> requests.Response:
        return requests.post(f"{server.uri}{API}/{what}", json=body, auth=auth, timeout=60)

    made = {"username": other[0], "password": other[1]}
    assert ask("users/create", made, owner).status_code == 403  # only the administrator makes users
    server.make_user(*other)
    experiment = ask("experiments/create", {"name": "shared"}, owner).json()["experiment_id"]
    run = ask("runs/create", {"experiment_id": experiment}, other)
    assert run.status_code == 200
    tag = {"run_id": run.json()["run"]["info"]["run_id"], "key": "outcome", "value": "finished"}
    assert ask("runs/set-tag", tag, owner).status_code == 200
    assert ask("experiments/delete", {"experiment_id": experiment}, other).status_code == 403
    assert ask("experiments/delete", {"experiment_id": experiment}, owner).status_code == 200


def test_no_process_shows_a_secret_on_its_command_line_and_none_is_in_a_file(server: TeamServer) -> None:
    processes = [psutil.Process(server.process.pid), *processes_below(server.process.pid)]
    lines = " ".join(word for process in processes for word in process.cmdline())
    assert "uvicorn" in lines
    hidden = [server.administrator[1], urlsplit(server.database).password or "none"]
    assert not any(secret in lines for secret in hidden)
    (settings,) = {
        Path(process.environ()["MLFLOW_AUTH_CONFIG_PATH"])
        for process in processes
        if "MLFLOW_AUTH_CONFIG_PATH" in process.environ()
    }
    assert not any(secret in settings.read_text() for secret in hidden)
    assert settings.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left(number: signal.Signals) -> None:
    """Every signal that ends a server: test_ui.py, whose server is the same code."""
    with team_server() as running:
        below = processes_below(running.process.pid)
        assert len(below) >= 3  # mlflow, uvicorn, the guard
        running.process.send_signal(number)
        assert running.process.wait(60) == (-number if number == signal.SIGKILL else 0)
        await_end(below)


def test_a_first_start_a_later_one_and_one_on_a_database_of_another_version(cluster: str, tmp_path: Path) -> None:
    options = ["--port", str(free_port()), "--workers", "1", "--artifacts", str(tmp_path)]
    nobody = started(*options, LAB_DATABASE_URI=cluster)
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert nobody.stderr.startswith("error: The server has no administrator yet, and no password for one.\n")
    assert "Traceback" not in nobody.stderr
    command = [sys.executable, "-m", "pipeline.server", *options]
    for secrets in ({"MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD}, {}):
        environment = without_secrets() | {"LAB_DATABASE_URI": cluster} | secrets
        process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            assert "the tracking server is at" in process.stdout.readline()
        finally:
            process.terminate()
            process.communicate(timeout=60)
        assert process.returncode == 0
    address, password = without_password(cluster)
    engine = sqlalchemy.create_engine(address, connect_args={"password": password})
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = 'deadbeef'"))
    engine.dispose()
    another = started(*options, LAB_DATABASE_URI=cluster)
    assert another.returncode == 1
    assert another.stderr.startswith("error: The database is of another version of MLflow.\n")
    assert "found version deadbeef" in another.stderr
    assert "mlflow db upgrade" in another.stderr


def test_without_a_database_one_message_says_what_to_set() -> None:
    done = started()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: LAB_DATABASE_URI names no PostgreSQL database.\n")
    assert "received: nothing\n" in done.stderr
