"""The tracking server of a team, started like a user does, with its own PostgreSQL, for tests and benchmarks."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests

from pipeline.system.errors import LabError
from pipeline.system.processes import is_running
from pipeline.system.project import PROJECT
from pipeline.tracking.server.checks import check_packages
from tests.support.flaky_server import free_port
from tests.support.postgres import FAST, postgres
from tests.support.services import missing

SECRETS = ("LAB_DATABASE_URI", "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


@dataclass(frozen=True)
class TeamServer:
    """A running server: its address, its users, and its database, artifacts and process."""

    uri: str
    user: str
    password: str
    administrator: tuple[str, str]
    database: str
    artifacts: Path
    process: subprocess.Popen[str]

    @property
    def credentials(self) -> dict[str, str]:
        """The environment variables that give a client the user's name and password."""
        return {"MLFLOW_TRACKING_USERNAME": self.user, "MLFLOW_TRACKING_PASSWORD": self.password}

    def make_user(self, user: str, password: str) -> None:
        """Create one more user."""
        made = {"username": user, "password": password}
        address = f"{self.uri}/api/2.0/mlflow/users/create"
        requests.post(address, json=made, auth=self.administrator, timeout=60).raise_for_status()


@contextmanager
def started_again(server: TeamServer) -> Iterator[None]:
    """Start a server that has ended again, with its port, database and artifacts, without the admin's password."""
    port = server.uri.rpartition(":")[2]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pipeline.server",
            "--port",
            port,
            "--workers",
            "1",
            "--artifacts",
            str(server.artifacts),
        ],
        cwd=PROJECT,
        env=without_secrets() | {"LAB_DATABASE_URI": server.database},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        if process.stdout is None or "the tracking server is at" not in process.stdout.readline():
            raise RuntimeError("the server did not start again")
        yield
    finally:
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Let a server end its processes; kill it if it does not end."""
    process.terminate()
    try:
        process.wait(60)
    finally:
        process.kill()


def without_secrets() -> dict[str, str]:
    """Return this process's environment without the credentials of servers and clients."""
    return {name: value for name, value in os.environ.items() if name not in SECRETS}


def needs_packages() -> None:
    """Skip a test if the packages of a tracking server are not installed."""
    try:
        check_packages("a folder")
    except LabError:
        missing("the packages of a tracking server (make cluster)")


def await_end(processes: Sequence[psutil.Process]) -> None:
    """Wait until processes have ended; one whose parent has not read its exit code counts as ended."""
    give_up = time.monotonic() + 60
    while any(is_running(process.pid) for process in processes):
        assert time.monotonic() < give_up, processes
        time.sleep(0.05)


@contextmanager
def team_server(workers: int = 1, settings: Sequence[str] = FAST, database: str | None = None) -> Iterator[TeamServer]:
    """Start PostgreSQL and `python -m pipeline.server`, and create a user who is not an administrator.

    Args:
        workers: number of processes of the server.
        settings: settings of PostgreSQL.
        database: address of an existing database to use instead of a new PostgreSQL.
    """
    needs_packages()
    user, password, first = (f"{name}-{secrets.token_urlsafe(18)}" for name in ("somebody", "secret", "first"))
    own = postgres(settings) if database is None else nullcontext(database)
    with own as address, tempfile.TemporaryDirectory(prefix="artifacts%20-") as artifacts:
        port = free_port()
        typed = [sys.executable, "-m", "pipeline.server", "--port", str(port), "--workers", str(workers)]
        environment = {"LAB_DATABASE_URI": address, "MLFLOW_AUTH_ADMIN_PASSWORD": first}
        process = subprocess.Popen(
            [*typed, "--artifacts", artifacts],
            cwd=PROJECT,
            env=without_secrets() | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
        reader.start()
        try:
            if process.stdout is None or "the tracking server is at" not in process.stdout.readline():
                process.wait(60)
                reader.join(10)
                raise RuntimeError("".join(said))
            uri = f"http://127.0.0.1:{port}"
            server = TeamServer(uri, user, password, ("admin", first), address, Path(artifacts), process)
            server.make_user(user, password)
            yield server
        finally:
            end(process)
            reader.join(10)
