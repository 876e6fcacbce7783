"""The credentials for a tracking server are written nowhere, whatever a command does with them."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy
from mlflow import MlflowClient

from pipeline.config.schema import Tracking
from pipeline.rebuild import rebuild
from pipeline.tracking.server.checks import without_password
from tests.support.swept import artifacts, rates, runs_of, statuses, swept
from tests.support.team_server import TeamServer, without_secrets

STUDY = ("experiment=line_y2x", "gradient=backpropagation", "training.epochs=20", "results=results/line_y2x/numpy")
TWO = ("-m", *STUDY, "optimizer.learning_rate=0.1,0.5", "recording.snapshots=2")
PASSWORD, WRONG = "MLFLOW_TRACKING_PASSWORD", "another password"


def run(lab: Path, module: str, *arguments: str, **credentials: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=lab,
        env=without_secrets() | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"} | credentials,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


def secrets_of(server: TeamServer) -> list[str]:
    """The user and the password, and what a request carries."""
    return [server.user, server.password, base64.b64encode(f"{server.user}:{server.password}".encode()).decode()]


def files_with(folder: Path, words: list[str]) -> list[Path]:
    files = [Path(place) / name for place, _, names in os.walk(folder) for name in names]
    return [file for file in files if any(word.encode() in file.read_bytes() for word in words)]


def rows_with(server: TeamServer, words: list[str]) -> set[str]:
    """The tables of the server's database that hold one of some words."""
    address, password = without_password(server.database)
    engine = sqlalchemy.create_engine(address, connect_args={"password": password})
    found = set()
    with engine.connect() as connection:
        for table in sqlalchemy.inspect(engine).get_table_names():
            rows = connection.execute(sqlalchemy.text(f'SELECT t::text FROM "{table}" t')).scalars()
            found |= {table for row in rows if any(word in row for word in words)}
    engine.dispose()
    return found


@pytest.mark.slow
def test_a_whole_command_leaves_user_and_password_nowhere(
    lab: Path, server: TeamServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = (*TWO, "study=whole", "tracking=server", f"tracking.uri={server.uri}")
    done = run(lab, "pipeline.train", *typed, **server.credentials)
    assert (done.returncode, "pending" in done.stderr) == (0, False), done.stderr
    for name, value in server.credentials.items():
        monkeypatch.setenv(name, value)
    assert list(statuses(lab, "whole", server.uri).values()) == ["FINISHED"] * 3
    secrets = secrets_of(server)
    assert not any(secret in done.stdout + done.stderr for secret in secrets)
    assert {path.name for path in lab.iterdir()} >= {".points", "results", "multirun"}
    assert files_with(lab, secrets) == [] != files_with(lab, ["line_y2x"])
    client = MlflowClient(server.uri)
    for found in runs_of(lab, "whole", server.uri):
        said = f"{found.to_dictionary()} {client.get_experiment(found.info.experiment_id).tags}"
        assert found.data.tags["study"] in said
        assert not any(secret in said for secret in secrets)
        assert len(list(artifacts(client, found.info.run_id))) > 0
        client.download_artifacts(found.info.run_id, "", str(tmp_path))
    assert files_with(tmp_path, secrets) == files_with(server.artifacts, secrets) == []
    assert (
        {"users"} <= rows_with(server, [server.user]) <= {"users", "roles", "role_permissions", "user_role_assignments"}
    )
    assert rows_with(server, secrets[1:]) == set()


def test_a_wrong_password_costs_nothing_but_a_command(
    project: Path, server: TeamServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is told where there is none: test_store.py."""
    for name, value in (server.credentials | {PASSWORD: WRONG}).items():
        monkeypatch.setenv(name, value)
    swept(project, rates("0.1", "0.5", more=["study=wrong", "tracking=server", f"tracking.uri={server.uri}"]))
    told = capsys.readouterr().err
    assert "2 of 2 points are pending" in told
    assert "rejected the user and password" in told
    assert "Traceback" not in told
    assert WRONG not in told
    assert files_with(project, [WRONG]) == [] != files_with(project, ["wrong"])
    monkeypatch.setenv(PASSWORD, server.password)
    assert rebuild(Tracking(name="server", uri=server.uri), project, project / "results") == [("wrong numpy", 2, 2)]
    assert list(statuses(project, "wrong", server.uri).values()) == ["FINISHED"] * 3


@pytest.mark.parametrize(
    ("module", "typed"),
    [
        ("pipeline.train", ("tracking=server", "tracking.uri=http://anna:sesame@127.0.0.1:5000")),
        ("pipeline.train", ("tracking=http://anna:sesame@127.0.0.1:5000",)),
        ("pipeline.train", ("-m", "tracking=server", "+tracking.url='https://anna:ses@ame@127.0.0.1'")),
        ("pipeline.rebuild", ("-m", "tracking=server", "+tracking.url='https://anna:ses@ame@127.0.0.1'")),
    ],
)
def test_a_password_that_is_typed_is_refused_before_anything_is_written(
    lab: Path, module: str, typed: tuple[str, ...]
) -> None:
    done = run(lab, module, *typed)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: The address of a tracking server must not contain a user or a password.\n")
    assert "ses" not in done.stderr
    assert files_with(lab, ["sesame", "ses@ame"]) == []
    assert not (lab / "outputs").exists()
    assert not (lab / "multirun").exists()
