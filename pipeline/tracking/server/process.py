"""MLflow's server as a process group that is terminated when this process ends, even if this process is killed.

`pipeline.ui` starts one for a single user, `pipeline.server` for a team. This module does not import mlflow.
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
from pipeline.system.processes import is_running

HOST = "127.0.0.1"
# Startup timeout, shutdown timeout and polling interval.
START_SECONDS = 120.0
END_SECONDS = 5.0
PAUSE = 0.1
# MLflow's error message if a store was created by a different version.
SCHEMA = re.compile(r"found version \w+, but expected \w+")
# Opens addresses of this machine, bypassing any proxy in the environment.
LOCAL = build_opener(ProxyHandler({}))
# The script of a guard in the process group of the server. It waits for the end of its input, a pipe from this process,
# which the kernel closes when this process ends, even by kill -9. Then it terminates the group; its trap lets the guard
# itself survive SIGTERM until it sends SIGKILL.
GUARD = "trap '' TERM; read -r nothing; kill -TERM 0; sleep 5; kill -KILL 0"


def bound_port(host: str, port: int) -> int:
    """Bind a port briefly to check it, and return its number; 0 selects any free port.

    Raises:
        OSError: the port is in use, or not permitted.
        OverflowError: the port is invalid.
    """
    family = socket.AF_INET
    if ":" in host:
        family = socket.AF_INET6
    with socket.socket(family) as probe:
        # The same option as the server's: without it, lingering connections of an earlier server block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])


def is_taken(error: OSError) -> bool:
    """Return whether binding a port failed because the port is in use."""
    return error.errno == errno.EADDRINUSE


@contextmanager
def mlflow_server(
    options: Sequence[str], environment: dict[str, str], folder: Path, log: IO[bytes] | int
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `mlflow server`, and terminate all processes of its group at the end of the block.

    Args:
        options: command-line options.
        environment: additional environment variables.
        folder: working directory.
        log: file or pipe that receives its output.
    """
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *options],
        cwd=folder,
        env=os.environ | quiet | environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        # A new group in this session, otherwise the guard below could not join the group.
        process_group=0,
    )
    guard = None
    try:
        # If the server has already exited, its group no longer exists.
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
        # The guard first, otherwise it would terminate the group itself.
        if guard is not None:
            guard.kill()
            guard.communicate()
        _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the process group of a server, first with SIGTERM, then with SIGKILL."""
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
    """Return whether any process of a group is running; zombies do not count."""
    for number in psutil.pids():
        # The process may have exited since, or belong to another user.
        with suppress(OSError):
            if os.getpgid(number) == group and is_running(number):
                return True
    return False


def await_answer(
    server: subprocess.Popen[bytes], address: str, last_lines: Callable[[], str], signals: Sequence[int]
) -> bool:
    """Wait until the server answers, the server exits, or a signal arrives.

    Args:
        server: the process, from `mlflow_server`.
        address: the address of the server.
        last_lines: returns the last lines of the server's output.
        signals: the signals that have arrived, from `collect_signals`.

    Returns:
        Whether the server is running.

    Raises:
        LabError: the server is running but does not answer.
    """
    give_up = time.monotonic() + START_SECONDS
    while not signals:
        if server.poll() is not None:
            return False
        # OSError: nothing listens yet. It includes URLError and TimeoutError.
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
