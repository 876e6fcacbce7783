"""The tracking server of a team: started, used and ended for real, on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests
import sqlalchemy
from mlflow import MlflowClient

from pipeline.server import main
from pipeline.system.project import PROJECT
from pipeline.tracking.server.checks import without_password
from tests.support.flaky_server import free_port
from tests.support.postgres import postgres
from tests.support.team_server import (
    TeamServer,
    await_end,
    needs_packages,
    started_again,
    team_server,
    without_secrets,
)

API = "/api/2.0/mlflow"


def started(*typed: str, **secrets: str) -> subprocess.CompletedProcess[str]:
    """The command, which is to end by itself."""
    command = [sys.executable, "-m", "pipeline.server", *typed]
    environment = without_secrets() | secrets
    return subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=200, check=False
    )


def options(artifacts: Path) -> list[str]:
    return ["--port", str(free_port()), "--workers", "1", "--artifacts", str(artifacts)]


def processes_below(pid: int) -> list[psutil.Process]:
    return list(psutil.Process(pid).children(recursive=True))


@pytest.mark.slow
def test_a_server_from_its_first_start_to_its_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All on one database, one after the other, for each start takes ten seconds.

    Every signal that ends a server, and what is left: test_ui.py and test_server_process.py, whose server is the same
    code.
    """
    needs_packages()
    with postgres() as database:
        asks_for_a_first_password(database, tmp_path)
        with team_server(database=database) as server:
            lets_nobody_in_without_a_password(server)
            has_artifacts_go_through_it(server, tmp_path, monkeypatch)
            lets_users_share_studies_but_take_nothing_away_from_others(server)
            shows_no_secret_on_a_command_line_or_in_a_file(server)
            leaves_no_process(server.process)
            starts_again_without_a_first_password(server)
        refuses_a_database_of_another_version(database, tmp_path)


def asks_for_a_first_password(database: str, artifacts: Path) -> None:
    done = started(*options(artifacts), LAB_DATABASE_URI=database)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: No administrator account exists yet, and no password is set for one.\n")
    assert "Traceback" not in done.stderr


def lets_nobody_in_without_a_password(server: TeamServer) -> None:
    search = f"{server.uri}{API}/experiments/search"
    for auth in (None, (server.user, "another password"), ("nobody", server.password)):
        assert requests.post(search, json={"max_results": 9}, auth=auth, timeout=60).status_code == 401
    for path in ("/", "/api/2.0/mlflow-artifacts/artifacts", "/ajax-api/2.0/mlflow/experiments/search", "/version"):
        assert requests.get(f"{server.uri}{path}", timeout=60).status_code == 401
    let_in = requests.post(search, json={"max_results": 9}, auth=(server.user, server.password), timeout=60)
    assert let_in.status_code == 200


def has_artifacts_go_through_it(server: TeamServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def lets_users_share_studies_but_take_nothing_away_from_others(server: TeamServer) -> None:
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


def shows_no_secret_on_a_command_line_or_in_a_file(server: TeamServer) -> None:
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


def leaves_no_process(process: subprocess.Popen[str]) -> None:
    below = processes_below(process.pid)
    assert len(below) >= 3  # mlflow, uvicorn, the guard
    process.terminate()
    assert process.wait(60) == 0
    await_end(below)


def starts_again_without_a_first_password(server: TeamServer) -> None:
    with started_again(server):
        search = f"{server.uri}{API}/experiments/search"
        found = requests.post(search, json={"max_results": 9}, auth=(server.user, server.password), timeout=60)
        assert "artifacts" in {experiment["name"] for experiment in found.json()["experiments"]}


def refuses_a_database_of_another_version(database: str, artifacts: Path) -> None:
    address, password = without_password(database)
    engine = sqlalchemy.create_engine(address, connect_args={"password": password})
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = 'deadbeef'"))
    engine.dispose()
    done = started(*options(artifacts), LAB_DATABASE_URI=database)
    assert done.returncode == 1
    assert done.stderr.startswith("error: The database was created by a different version of MLflow.\n")
    assert "found version deadbeef" in done.stderr
    assert "mlflow db upgrade" in done.stderr


def test_a_tilde_without_a_home_folder_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--artifacts=~no-such-user/x"]) == 1
    assert capsys.readouterr().err.startswith(
        "error: --artifacts begins with ~, but that home folder does not exist.\n"
    )


def test_without_a_database_one_message_says_what_to_set() -> None:
    done = started()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: LAB_DATABASE_URI is not set to a PostgreSQL database.\n")
    assert "received: nothing\n" in done.stderr
