r"""The tracking server of a team: MLflow on PostgreSQL, with users and passwords, and artifacts through the server.

    LAB_DATABASE_URI=postgresql://lab:PASSWORD@127.0.0.1/lab MLFLOW_AUTH_ADMIN_PASSWORD=... \
        python -m pipeline.server [--port 5000] [--workers 2] [--artifacts FOLDER]

Passwords come from the environment and go to MLflow in the environment: never on a command line, which everyone on the
machine can read, and never in a file. deploy/README.md describes the setup, and how to run the server as a service.
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

# How long MLflow caches a password that it has checked. A check takes more than 0.2 s of a core, by design, and every
# request carries a password; the rest of a request takes 0.01 s. The price: a password that was changed, or a user who
# was deleted, is accepted for a minute more.
CACHE_SECONDS = 60
# How many lines of the server's output an error message shows.
LINES = 12
# Where this machine reaches a server that listens on all of its addresses.
REACHED_AT = {"0.0.0.0": HOST, "::": "::1"}  # noqa: S104 - these are looked up, not bound


@dataclass(frozen=True)
class Settings:
    """The settings of the server.

    Attributes:
        host: the address to listen on.
        port: the port to listen on.
        workers: number of processes.
        artifacts: folder or s3://BUCKET/PATH that only the server reads and writes.
        permission: what users may do with the experiments of others.
    """

    host: str
    port: int
    workers: int
    artifacts: str
    permission: str


class Output:
    """The output of the server: keeps its last lines, and after `show` prints all lines to stderr."""

    def __init__(self, server: subprocess.Popen[bytes]) -> None:
        self._last: deque[str] = deque(maxlen=LINES)
        self._shown = threading.Event()
        self._reader = threading.Thread(target=self._read, args=[server.stdout or ()], daemon=True)
        self._reader.start()

    def show(self) -> None:
        """Print all lines from now on."""
        self._shown.set()

    def last(self, wait: float = 0) -> str:
        """Return the last lines, after waiting up to `wait` seconds for the end of the output."""
        self._reader.join(wait)
        return "\n".join(self._last) or "nothing"

    def _read(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            text = line.decode(errors="replace").rstrip()
            self._last.append(text)
            if self._shown.is_set():
                print(text, file=sys.stderr, flush=True)


def serve(settings: Settings, environment: Mapping[str, str]) -> None:
    """Run the server until a signal arrives.

    Args:
        settings: the settings of the server.
        environment: the environment variables, which hold the secrets.

    Raises:
        LabError: a requirement is not met, or the server does not answer or ends by itself.
    """
    uri = database(environment)
    check_packages(settings.artifacts)
    pool = pool_size(uri, settings.workers)
    check_password(environment)
    check_port(settings.host, settings.port)
    if "://" not in settings.artifacts:
        with explained(Path(settings.artifacts)):
            Path(settings.artifacts).mkdir(parents=True, exist_ok=True)
    options = ["--host", settings.host, "--port", str(settings.port), "--workers", str(settings.workers)]
    options += ["--artifacts-destination", settings.artifacts, "--app-name", "basic-auth"]
    # No access log: the proxy in front of the server writes one.
    options += ["--uvicorn-opts", "--log-level warning --no-access-log"]
    with noted_signals() as signals, tempfile.TemporaryDirectory(prefix="server-") as folder:
        variables = _variables(uri, environment, pool, settings.permission, Path(folder))
        with mlflow_server(options, variables, Path(folder), subprocess.PIPE) as server:
            output = Output(server)
            address = _address(settings.host, settings.port)
            if not await_answer(server, address, output.last, signals):
                raise _ended(output)
            if not signals:
                print(f"the tracking server is at {address}; press Ctrl-C to stop it", flush=True)
            output.show()
            while not signals:
                if server.poll() is not None:
                    raise _ended(output)
                time.sleep(PAUSE)


def _address(host: str, port: int) -> str:
    """Return the address at which this machine reaches the server."""
    reached = REACHED_AT.get(host, host)
    # In a URL, an IPv6 address stands in brackets.
    if ":" in reached:
        reached = f"[{reached}]"
    return f"http://{reached}:{port}"


def _variables(uri: str, environment: Mapping[str, str], pool: int, permission: str, folder: Path) -> dict[str, str]:
    """Return the environment variables for MLflow, and write its settings for users to a file in `folder`.

    The password of the database is passed in libpq's variable, so that the address does not contain it: neither in the
    settings file, nor in MLflow's error messages.
    """
    address, password = without_password(uri)
    users = folder / "users.ini"
    # Created before it is written, so that no other user can ever read it.
    users.touch(0o600)
    # MLflow reads the file with configparser, where a % must be doubled.
    lines = ["[mlflow]", f"default_permission = {permission}", f"database_uri = {address.replace('%', '%%')}"]
    users.write_text("\n".join([*lines, f"auth_cache_ttl_seconds = {CACHE_SECONDS}", ""]), encoding="utf-8")
    variables = {
        "MLFLOW_BACKEND_STORE_URI": address,
        "MLFLOW_AUTH_CONFIG_PATH": str(users),
        "MLFLOW_AUTH_ADMIN_USERNAME": environment.get("MLFLOW_AUTH_ADMIN_USERNAME", "admin"),
        # Signs the page on which a browser creates a user. Several servers behind one address must share it.
        "MLFLOW_FLASK_SERVER_SECRET_KEY": environment.get("MLFLOW_FLASK_SERVER_SECRET_KEY") or secrets.token_hex(32),
        # MLflow ignores an overflow of 0 and uses SQLAlchemy's default, 10. So one connection of the pool is overflow.
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": str(pool - 1),
        "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "1",
        # Our own variable contains the password, and MLflow does not need it.
        DATABASE: "",
    }
    if password is not None:
        variables["PGPASSWORD"] = password
    return variables


def _ended(output: Output) -> LabError:
    """Return the message on why the server ended by itself."""
    said = output.last(END_SECONDS)
    if "needs a password to create the admin user" in said:
        return LabError(
            "The server has no administrator yet, and no password to create one.",
            expected=f"{ADMIN_PASSWORD} in the environment at the first start",
            received="nothing",
            fix=f"export {ADMIN_PASSWORD} with at least {SHORTEST} characters: openssl rand -base64 24",
        )
    schema = SCHEMA.search(said)
    if schema:
        return LabError(
            "The database belongs to another version of MLflow.",
            expected="the schema of the installed version",
            received=schema[0],
            fix="back it up, then run mlflow db upgrade as described in deploy/README.md",
        )
    return LabError("The tracking server has ended.", received=said, fix="fix the cause, and start the server again")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.server", description="Serve MLflow to a team.")
    parser.add_argument(
        "--host", default=HOST, help=f"the address to listen on; with {HOST}, only this machine can connect"
    )
    parser.add_argument("--port", type=int, default=5000, help="the port to listen on (5000)")
    parser.add_argument("--workers", type=positive, default=cores(), help="number of processes (one for each core)")
    parser.add_argument("--artifacts", metavar="LOCATION", help="a folder, or s3://BUCKET/PATH (mlruns/server)")
    parser.add_argument(
        "--default-permission",
        choices=["NO_PERMISSIONS", "READ", "EDIT", "MANAGE"],
        default="EDIT",
        help="what users may do with the studies of others (EDIT: also train points of them)",
    )
    given = parser.parse_args(arguments)
    artifacts = given.artifacts or str(store_root(PROJECT) / "mlruns" / "server")
    # MLflow runs in another folder, where a relative path would mean something else.
    if "://" not in artifacts:
        artifacts = str(Path(artifacts).resolve())
    try:
        serve(Settings(given.host, given.port, given.workers, artifacts, given.default_permission), os.environ)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
