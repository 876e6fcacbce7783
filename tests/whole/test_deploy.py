"""The commands in deploy/ work on a server of our own, and systemd accepts the unit."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from pipeline.config.schema import Tracking
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT
from pipeline.tracking.store import store_call
from pipeline.tracking.tracker import Tracker
from tests.support.team_server import TeamServer, without_secrets

DEPLOY = PROJECT / "deploy"
README = (DEPLOY / "README.md").read_text()
COMMANDS: list[str] = [
    line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()
]
NAME = "lab.example.org"


def typed(part: str) -> str:
    (line,) = [line for line in COMMANDS if part in line]
    return line


def run(line: str, server: TeamServer, said: str = "") -> None:
    """Type a command of the README as the administrator, on our server in the place of that of the README."""
    words = shlex.split(line.replace(f"https://{NAME}", server.uri))
    user, password = server.administrator
    known = {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}
    done = subprocess.run(
        [sys.executable, *words[1:]],
        env=without_secrets() | known,
        input=said,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        start_new_session=True,  # without a terminal a password is read from the input
    )
    assert done.returncode == 0, done.stderr


def test_a_user_is_made_and_may_manage_a_study(server: TeamServer) -> None:
    address = f"{server.uri}/api/2.0/mlflow/experiments"
    made = requests.post(f"{address}/create", json={"name": "s"}, auth=(server.user, server.password), timeout=60)
    study, anna = made.json()["experiment_id"], ("anna", "a long enough password")
    run(typed("create_user"), server, f"{anna[1]}\n")

    def deleted() -> int:
        answer = requests.post(f"{address}/delete", json={"experiment_id": study}, auth=anna, timeout=60)
        return answer.status_code

    assert deleted() == 403
    run(typed("grant_user_permission").replace("'1'", f"'{study}'"), server)
    assert deleted() == 200


def test_a_name_that_postgresql_does_not_store_is_shortened_or_explained(
    server: TeamServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in server.credentials.items():
        monkeypatch.setenv(name, value)
    tracker = Tracker(Tracking(name="server", uri=server.uri), "long_names", tmp_path)
    run_id = tracker.start_run("n" * 300, {"overrides": "\udcff\0" + "o" * 9000})
    run = tracker.client.get_run(run_id)
    assert run.info.run_name == "n" * 250
    assert run.data.tags["overrides"].startswith("\\udcff\\0ooo")
    with pytest.raises(LabError) as refusal:
        store_call(lambda: tracker.client.create_run(tracker.experiment_id, run_name="n" * 300))()
    assert refusal.value.received.endswith("value too long for type character varying(250)")
    assert "autoflush" not in str(refusal.value)


def test_the_server_answers_to_its_name_and_its_page_and_to_no_other(server: TeamServer) -> None:
    def asked(host: str, origin: str) -> int:
        headers = {"Host": host, "Origin": origin}
        search, known = f"{server.uri}/api/2.0/mlflow/experiments/search", (server.user, server.password)
        return requests.post(search, json={"max_results": 1}, auth=known, headers=headers, timeout=60).status_code

    assert asked(NAME, f"https://{NAME}") == 200
    assert asked(NAME, "https://elsewhere.example.org") == asked("elsewhere.example.org", f"https://{NAME}") == 403


def test_the_database_is_brought_up_to_date_with_a_password_of_the_environment(server: TeamServer) -> None:
    parts = urlsplit(server.database)
    line = typed("mlflow db upgrade").replace("@127.0.0.1/", f"@127.0.0.1:{parts.port}/")
    variable, *words = shlex.split(line)
    assert variable == "PGPASSWORD=PASSWORD"
    known = {"PGPASSWORD": str(parts.password)}
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, env=os.environ | known, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_the_unit_is_understood_and_starts_what_there_is(tmp_path: Path) -> None:
    text = (DEPLOY / "learning-rate-lab-server.service").read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    python, *arguments = shlex.split(line)
    assert arguments[:2] == ["-m", "pipeline.server"]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=PROJECT, env=without_secrets(), capture_output=True, text=True, check=False
    )
    # It has understood its options.
    assert "LAB_DATABASE_URI is not set to a PostgreSQL database" in done.stderr
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (Debian: systemd)")
    unit = tmp_path / "learning-rate-lab-server.service"
    unit.write_text(text.replace(python, sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
