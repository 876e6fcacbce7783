"""The tracking server of a team: MLflow on PostgreSQL, with users and passwords, artifacts through the server.

    LAB_DATABASE_URI=postgresql://lab:PASSWORD@127.0.0.1/lab MLFLOW_AUTH_ADMIN_PASSWORD=... \\
        python -m pipeline.server [--port 5000] [--workers 2] [--artifacts FOLDER]

Passwords come from the environment and go to MLflow in the environment: they are on no command line, which everybody
on the machine can read, and in no file. What to set up before, and how it runs as a service: deploy/README.md.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.system.cli import positive
from pipeline.system.errors import LabError
from pipeline.system.files import explained
from pipeline.system.processes import cores
from pipeline.system.project import PROJECT, store_root
from pipeline.system.signals import noted_signals
from pipeline.tracking.server.checks import (
    ADMIN_PASSWORD,
    DATABASE,
    SHORTEST,
    check_packages,
    check_password,
    check_port,
    database,
    pool_size,
    without_password,
)
from pipeline.tracking.server.process import END_SECONDS, HOST, PAUSE, SCHEMA, await_answer, mlflow_server

# To check a password takes more than 0.2 s of a core, by design; every request carries one, and what else it takes is
# 0.01 s. In return a password that was changed, or a user who was deleted, is let in for a minute more.
CACHE_SECONDS = 60


@dataclass(frozen=True)
class Settings:
    """How the server is to run.

    Attributes:
        host, port: where it listens.
        workers: its processes.
        artifacts: folder or s3://BUCKET/PATH that only the server reads and writes.
        permission: what a user may do with the experiments of others.
    """

    host: str
    port: int
    workers: int
    artifacts: str
    permission: str


class Output:
    """What the server says: its last lines, and from `show` on all of it on this process's stderr."""

    def __init__(self, server: subprocess.Popen[bytes]) -> None:
        self._last: deque[str] = deque(maxlen=12)
        self._shown = threading.Event()
        self._reader = threading.Thread(target=self._read, args=[server.stdout or ()], daemon=True)
        self._reader.start()

    def show(self) -> None:
        """Pass on what comes from now on."""
        self._shown.set()

    def last(self, wait: float = 0) -> str:
        """The last lines; of a server that has ended, after waiting so many seconds for them."""
        self._reader.join(wait)
        return "\n".join(self._last) or "nothing"

    def _read(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            text = line.decode(errors="replace").rstrip()
            self._last.append(text)
            if self._shown.is_set():
                print(text, file=sys.stderr, flush=True)


def serve(settings: Settings, given: Mapping[str, str]) -> None:
    """Serve until a signal ends it, or the server does.

    Args:
        settings: how.
        given: the environment, for what is secret.

    Raises:
        LabError: something is missing, refused or taken, or the server does not answer or dies.
    """
    uri = database(given)
    check_packages(settings.artifacts)
    pool = pool_size(uri, settings.workers)
    check_password(given)
    check_port(settings.host, settings.port)
    if "://" not in settings.artifacts:
        with explained(Path(settings.artifacts)):
            Path(settings.artifacts).mkdir(parents=True, exist_ok=True)
    options = ["--host", settings.host, "--port", str(settings.port), "--workers", str(settings.workers)]
    options += ["--artifacts-destination", settings.artifacts, "--app-name", "basic-auth"]
    options += ["--uvicorn-opts", "--log-level warning --no-access-log"]  # a proxy in front writes that
    with noted_signals() as told, tempfile.TemporaryDirectory(prefix="server-") as folder:
        environment = _environment(uri, given, pool, settings.permission, Path(folder))
        with mlflow_server(options, environment, Path(folder), subprocess.PIPE) as server:
            output = Output(server)
            own = {"0.0.0.0": HOST, "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - not bound, asked
            address = f"http://{f'[{own}]' if ':' in own else own}:{settings.port}"
            if not await_answer(server, address, output.last, told):
                raise _died(output)
            if not told:
                print(f"the tracking server is at {address}; Ctrl-C ends it", flush=True)
            output.show()
            while not told:
                if server.poll() is not None:
                    raise _died(output)
                time.sleep(PAUSE)


def _environment(uri: str, given: Mapping[str, str], pool: int, permission: str, folder: Path) -> dict[str, str]:
    """What MLflow is told in its environment.

    The database's password is handed over as libpq's variable, so that the addresses have none: not in MLflow's file
    on users, nor in what it says when something goes wrong.
    """
    address, password = without_password(uri)
    users = folder / "users.ini"
    users.touch(0o600)
    lines = ["[mlflow]", f"default_permission = {permission}", f"database_uri = {address.replace('%', '%%')}"]
    users.write_text("\n".join([*lines, f"auth_cache_ttl_seconds = {CACHE_SECONDS}", ""]), encoding="utf-8")
    environment = {
        "MLFLOW_BACKEND_STORE_URI": address,
        "MLFLOW_AUTH_CONFIG_PATH": str(users),
        "MLFLOW_AUTH_ADMIN_USERNAME": given.get("MLFLOW_AUTH_ADMIN_USERNAME", "admin"),
        # Signs the page on which a browser makes a user; several servers behind one address must share it.
        "MLFLOW_FLASK_SERVER_SECRET_KEY": given.get("MLFLOW_FLASK_SERVER_SECRET_KEY") or secrets.token_hex(32),
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": str(pool - 1),
        "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "1",  # MLflow takes 0 for nothing said, which would be 10
        DATABASE: "",
    }
    return environment | ({} if password is None else {"PGPASSWORD": password})


def _died(output: Output) -> LabError:
    """Why the server ended by itself."""
    said = output.last(END_SECONDS)
    if "needs a password to create the admin user" in said:
        return LabError(
            "The server has no administrator yet, and no password for one.",
            expected=f"{ADMIN_PASSWORD} in the environment, at the first start",
            received="nothing",
            fix=f"export {ADMIN_PASSWORD}, of at least {SHORTEST} characters: openssl rand -base64 24",
        )
    schema = SCHEMA.search(said)
    if schema:
        return LabError(
            "The database is of another version of MLflow.",
            expected="the schema of the MLflow that is installed",
            received=schema[0],
            fix="back it up, then mlflow db upgrade: deployment is described in deploy/README.md",
        )
    return LabError("The tracking server has ended.", received=said, fix="mend that, and start it again")


def main(arguments: Sequence[str] | None = None) -> int:
    """What the command line calls; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.server", description="Serve MLflow to a team.")
    parser.add_argument("--host", default=HOST, help=f"the address to listen on; {HOST} is this machine alone")
    parser.add_argument("--port", type=int, default=5000, help="where to listen (5000)")
    parser.add_argument("--workers", type=positive, default=cores(), help="processes (one for each core)")
    parser.add_argument("--artifacts", metavar="PLACE", help="a folder, or s3://BUCKET/PATH (mlruns/server)")
    parser.add_argument(
        "--default-permission",
        choices=["NO_PERMISSIONS", "READ", "EDIT", "MANAGE"],
        default="EDIT",
        help="what users may do with a study that another one began (EDIT: train points of it too)",
    )
    given = parser.parse_args(arguments)
    artifacts = given.artifacts or str(store_root(PROJECT) / "mlruns" / "server")
    artifacts = artifacts if "://" in artifacts else str(Path(artifacts).resolve())
    try:
        serve(Settings(given.host, given.port, given.workers, artifacts, given.default_permission), os.environ)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
