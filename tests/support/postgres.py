"""PostgreSQL in a temporary cluster of its own, on 127.0.0.1, for tests and benchmarks."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.flaky_server import free_port
from tests.support.services import missing

START_SECONDS = 60.0
NAME = "lab"
"""Name of the role that the tests use, which is not a superuser, and of its database."""
NEEDED = "PostgreSQL's server (Debian: postgresql)"
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
"""Settings for tests, whose data does not have to survive a power cut."""


def programs() -> Path | None:
    """Return the folder of the programs of the newest PostgreSQL; None if they cannot be used.

    They refuse to run as root, which needs the account that Debian's package creates.
    """
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    if not found and on_path is not None:
        found = [Path(on_path).resolve().parent]
    if os.geteuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            return None
    return max(found, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0, default=None)


@contextmanager
def postgres(settings: Sequence[str] = FAST) -> Iterator[str]:
    """Run a server, and yield the address of an empty database, including a user and a random password.

    Args:
        settings: settings of the server, like "max_connections=200".
    """
    folder_of_programs = programs()
    if folder_of_programs is None:
        missing(NEEDED)
    # Not below pytest's folder, which only the user of the tests may enter.
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        port, password = free_port(), secrets.token_urlsafe(24)
        _make(folder_of_programs, Path(folder), password)
        options = [f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", *settings]
        typed = [str(folder_of_programs / "postgres"), "-D", f"{folder}/data"]
        with (Path(folder) / "log").open("wb") as log:
            server = _as_owner(
                [*typed, *(word for option in options for word in ("-c", option))], Path(folder), stdout=log, stderr=log
            )
        try:
            _make_database(folder_of_programs, Path(folder), server, port, password)
            yield f"postgresql://{NAME}:{password}@127.0.0.1:{port}/{NAME}"
        finally:
            _end(server)


def _as_owner(command: Sequence[str], folder: Path, **streams: object) -> subprocess.Popen[bytes]:
    """Start a program of PostgreSQL with an account that may, in its own session: Ctrl-C must reach only the tests."""
    account = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    return subprocess.Popen(command, cwd=folder, start_new_session=True, **account, **streams)  # type: ignore[call-overload, no-any-return]


def _make(programs: Path, folder: Path, password: str) -> None:
    """Create a cluster whose superuser `postgres` has a password."""
    secret = folder / "password"
    secret.touch(0o600)
    secret.write_text(password)
    if os.geteuid() == 0:
        shutil.chown(secret, "postgres", "postgres")
    typed = ["--pgdata", f"{folder}/data", "--username", "postgres", "--pwfile", str(secret), "--auth", "scram-sha-256"]
    maker = _as_owner(
        [str(programs / "initdb"), *typed, "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"],
        folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = maker.communicate()
    secret.unlink()
    if maker.returncode:
        raise RuntimeError(said.decode())


def _make_database(programs: Path, folder: Path, server: subprocess.Popen[bytes], port: int, password: str) -> None:
    """Wait until the server answers, and create the role and its database."""
    environment = os.environ | {"PGPASSWORD": password, "PGCONNECT_TIMEOUT": "5"}
    ask = [str(programs / "psql"), "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-qXd", "postgres"]
    ask += ["-c", f"CREATE ROLE {NAME} LOGIN PASSWORD '{password}'", "-c", f"CREATE DATABASE {NAME} OWNER {NAME}"]
    give_up = time.monotonic() + START_SECONDS
    while True:
        done = subprocess.run(ask, env=environment, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if server.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError((folder / "log").read_text() + done.stderr)
        time.sleep(0.1)


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server at once: its data is not needed any more."""
    server.send_signal(signal.SIGQUIT)
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
