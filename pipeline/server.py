r"""The tracking server of a team: MLflow on PostgreSQL, with users and passwords, and artifacts through the server.

    LAB_DATABASE_URI=postgresql://lab:PASSWORD@127.0.0.1/lab MLFLOW_AUTH_ADMIN_PASSWORD=... \
        python -m pipeline.server [--port 5000] [--workers 2] [--artifacts FOLDER]

Passwords are read from the environment and passed to MLflow in the environment: never on a command line, which other
users of the machine can read, and never in a file. See deploy/README.md for the setup and for running it as a service.
"""

from __future__ import annotations

if not __package__:
    raise SystemExit("error: this is a module; in the project's folder, type: python -m pipeline.server")

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
from pipeline.system.project import PROJECT, expanded, store_root
from pipeline.system.signals import collect_signals
from pipeline.system.streams import keep_streams
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

# How long MLflow caches a password that it has checked. By design, a check takes more than 0.2 s of a core; every
# request sends a password, and the rest of a request takes only 0.01 s. The downside of caching: changed passwords and
# deleted users keep working for up to a minute.
CACHE_SECONDS = 60
# Number of lines of the server's output that an error message shows.
LINES = 12
# The addresses at which this machine can connect to a server that listens on all addresses.
REACHED_AT = {"0.0.0.0": HOST, "::": "::1"}  # noqa: S104 - used to connect, not to bind


@dataclass(frozen=True)
class Settings:
    """The settings of the server.

    Attributes:
        host: the address to listen on.
        port: the port to listen on.
        workers: number of processes.
        artifacts: folder or s3://BUCKET/PATH that only the server reads and writes.
        permission: default permission on the experiments of other users.
    """

    host: str
    port: int
    workers: int
    artifacts: str
    permission: str


class Output:
    """The output of the server: keeps the last lines and, once `show` is called, forwards all output to stderr."""

    def __init__(self, server: subprocess.Popen[bytes]) -> None:
        self._last: deque[str] = deque(maxlen=LINES)
        self._shown = threading.Event()
        self._reader = threading.Thread(target=self._read, args=[server.stdout or ()], daemon=True)
        self._reader.start()

    def show(self) -> None:
        """Forward all output from now on."""
        self._shown.set()

    def last(self, wait: float = 0) -> str:
        """Return the last lines, after waiting up to `wait` seconds for the output of a server that exits."""
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
        environment: the environment variables, including the secrets.

    Raises:
        LabError: a requirement is missing, invalid or in use (checks.py), or the server does not answer or exits.
    """
    uri = database(environment)
    check_packages(settings.artifacts)
    pool = pool_size(uri, settings.workers)
    check_password(environment)
    check_port(settings.host, settings.port)
    destination = settings.artifacts
    if "://" not in settings.artifacts:
        path = Path(settings.artifacts).absolute()
        with explained(path):
            path.mkdir(parents=True, exist_ok=True)
        # As an address, because MLflow decodes a path too, and would use the folder `a b` instead of `a%20b`.
        destination = path.as_uri()
    options = ["--host", settings.host, "--port", str(settings.port), "--workers", str(settings.workers)]
    options += ["--artifacts-destination", destination, "--app-name", "basic-auth"]
    # No access log: the reverse proxy logs requests.
    options += ["--uvicorn-opts", "--log-level warning --no-access-log"]
    with collect_signals() as signals, tempfile.TemporaryDirectory(prefix="server-") as folder:
        variables = _variables(uri, environment, pool, settings.permission, Path(folder))
        with mlflow_server(options, variables, Path(folder), subprocess.PIPE) as server:
            output = Output(server)
            address = _address(settings.host, settings.port)
            if not await_answer(server, address, output.last, signals):
                raise _exited(output)
            if not signals:
                print(f"the tracking server is at {address}; press Ctrl-C to stop it", flush=True)
            output.show()
            while not signals:
                if server.poll() is not None:
                    raise _exited(output)
                time.sleep(PAUSE)


def _address(host: str, port: int) -> str:
    """Return the address at which this machine can connect to the server."""
    reached = REACHED_AT.get(host, host)
    # An IPv6 address in a URL has brackets.
    if ":" in reached:
        reached = f"[{reached}]"
    return f"http://{reached}:{port}"


def _variables(uri: str, environment: Mapping[str, str], pool: int, permission: str, folder: Path) -> dict[str, str]:
    """Return the environment variables for MLflow, and write its authentication settings to a file in `folder`.

    The password of the database is passed in libpq's environment variable and removed from the address, so that it is
    neither in the settings file nor in MLflow's error messages.
    """
    address, password = without_password(uri)
    users = folder / "users.ini"
    # The permissions are set before anything is written, so that other users can never read the file.
    users.touch(0o600)
    # MLflow reads the file with configparser, where a % must be doubled.
    lines = ["[mlflow]", f"default_permission = {permission}", f"database_uri = {address.replace('%', '%%')}"]
    users.write_text("\n".join([*lines, f"auth_cache_ttl_seconds = {CACHE_SECONDS}", ""]), encoding="utf-8")
    variables = {
        "MLFLOW_BACKEND_STORE_URI": address,
        "MLFLOW_AUTH_CONFIG_PATH": str(users),
        "MLFLOW_AUTH_ADMIN_USERNAME": environment.get("MLFLOW_AUTH_ADMIN_USERNAME", "admin"),
        # Signs the web form that creates users. Several servers behind one address must have the same key.
        "MLFLOW_FLASK_SERVER_SECRET_KEY": environment.get("MLFLOW_FLASK_SERVER_SECRET_KEY") or secrets.token_hex(32),
        # MLflow treats an overflow of 0 as unset, which means 10. So one connection of the pool is overflow.
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": str(pool - 1),
        "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "1",
        # Our own variable, which contains the password; MLflow does not need it.
        DATABASE: "",
    }
    if password is not None:
        variables["PGPASSWORD"] = password
    return variables


def _exited(output: Output) -> LabError:
    """Return an error that says why the server exited."""
    said = output.last(END_SECONDS)
    if "needs a password to create the admin user" in said:
        return LabError(
            "No administrator account exists yet, and no password is set for one.",
            expected=f"{ADMIN_PASSWORD} in the environment at the first start",
            received="nothing",
            fix=f"export {ADMIN_PASSWORD} with at least {SHORTEST} characters: openssl rand -base64 24",
        )
    schema = SCHEMA.search(said)
    if schema:
        return LabError(
            "The database was created by a different version of MLflow.",
            expected="the schema of the installed version",
            received=schema[0],
            fix="back it up, then run mlflow db upgrade (see deploy/README.md)",
        )
    return LabError("The tracking server has exited.", received=said, fix="fix the cause and restart the server")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    keep_streams()
    parser = argparse.ArgumentParser(prog="python -m pipeline.server", description="Serve MLflow to a team.")
    parser.add_argument(
        "--host", default=HOST, help=f"the address to listen on (default {HOST}: only local connections)"
    )
    parser.add_argument("--port", type=int, default=5000, help="the port to listen on (5000)")
    parser.add_argument("--workers", type=positive, default=cores(), help="number of processes (one for each core)")
    parser.add_argument("--artifacts", metavar="LOCATION", help="a folder, or s3://BUCKET/PATH (mlruns/server)")
    parser.add_argument(
        "--default-permission",
        choices=["NO_PERMISSIONS", "READ", "EDIT", "MANAGE"],
        default="EDIT",
        help="default permission on studies started by other users (EDIT also allows training their points)",
    )
    given = parser.parse_args(arguments)
    artifacts = given.artifacts or str(store_root(PROJECT) / "mlruns" / "server")
    try:
        # MLflow runs in a different folder, so a relative path would not work.
        if "://" not in artifacts:
            artifacts = str(expanded(artifacts, "--artifacts").resolve())
        serve(Settings(given.host, given.port, given.workers, artifacts, given.default_permission), os.environ)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
