"""MLflow's server as a process group that ends with this process, even if this process is killed.

`ui` starts one for a single person, `server` one for a team. This module does not import mlflow.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.request import ProxyHandler, build_opener

import psutil

from pipeline.system.errors import LabError
from pipeline.system.processes import lives

HOST = "127.0.0.1"
# How long the server may take to answer and to end, and how long to wait between two checks.
START_SECONDS = 120.0
END_SECONDS = 5.0
PAUSE = 0.1
# MLflow's message where a store belongs to another version.
SCHEMA = re.compile(r"found version \w+, but expected \w+")
# Opens addresses of this machine: without the proxy that the environment may name.
LOCAL = build_opener(ProxyHandler({}))
# The script of a guard. Its input is a pipe from this process, which the kernel closes when this process ends, after
# kill -9 too. The guard then ends its process group, which is the one of the server, and ignores its own SIGTERM.
GUARD = "trap '' TERM; read -r nothing; kill -TERM 0; sleep 5; kill -KILL 0"


def bound_port(host: str, port: int) -> int:
    """Bind a port for a moment, and return its number; 0 stands for any free port.

    Raises:
        OSError: the port is taken, or not allowed.
        OverflowError: it is not a port number.
    """
    family = socket.AF_INET
    if ":" in host:
        family = socket.AF_INET6
    with socket.socket(family) as probe:
        # The server sets this option too: without it, lingering connections of an earlier server block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])


def is_taken(error: OSError) -> bool:
    """Return whether binding a port failed because another program uses it."""
    return error.errno == errno.EADDRINUSE


@contextmanager
def mlflow_server(
    options: Sequence[str], environment: dict[str, str], folder: Path, log: IO[bytes] | int
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `mlflow server`; after the block, no process of its group is left.

    Args:
        options: command-line options.
        environment: variables in addition to those of this process.
        folder: working directory.
        log: file or pipe for the output.
    """
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *options],
        cwd=folder,
        env=os.environ | quiet | environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        # A new group, but in this session: a process cannot join a group in another session, as the guard does below.
        process_group=0,
    )
    guard = None
    try:
        # The group no longer exists if the server has ended already.
        with suppress(PermissionError, ProcessLookupError):
            guard = subprocess.Popen(
                ["/bin/sh", "-c", GUARD],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=server.pid,
            )
        yield server
    finally:
        # The guard first, or it would end the group by itself.
        if guard is not None:
            guard.kill()
            guard.communicate()
        _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    """End all processes in the group of a server: with SIGTERM, and with SIGKILL those that are left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        give_up = time.monotonic() + END_SECONDS
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        while _is_left(server.pid) and time.monotonic() < give_up:
            time.sleep(PAUSE)
        if not _is_left(server.pid):
            break
    server.wait()


def _is_left(group: int) -> bool:
    """Return whether a process of a group is alive; a zombie does not count."""
    for number in psutil.pids():
        # It may have ended since, or belong to another user.
        with suppress(OSError):
            if os.getpgid(number) == group and lives(number):
                return True
    return False


def await_answer(
    server: subprocess.Popen[bytes], address: str, last_lines: Callable[[], str], signals: Sequence[int]
) -> bool:
    """Wait until the server answers, has ended, or a signal arrived.

    Args:
        server: the process, from `mlflow_server`.
        address: where it should answer.
        last_lines: returns the last lines of its output.
        signals: the signals that arrived, from `noted_signals`.

    Returns:
        Whether the server is alive.

    Raises:
        LabError: it does not answer.
    """
    give_up = time.monotonic() + START_SECONDS
    while not signals:
        if server.poll() is not None:
            return False
        # Nothing listens yet. URLError and TimeoutError are both an OSError.
        with suppress(OSError), LOCAL.open(f"{address}/health", timeout=END_SECONDS):
            return True
        if time.monotonic() > give_up:
            raise LabError(
                "The MLflow server does not answer.",
                expected=f"an answer from {address} within {START_SECONDS:g} s",
                received=last_lines(),
                fix="try again when the machine is less busy",
            )
        time.sleep(PAUSE)
    return True
