"""MLflow's server as a process group of its own, which ends with this process, whatever ends it.

`ui` starts one for a person, `server` one for a team. No mlflow is imported here.
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
START_SECONDS, END_SECONDS, PAUSE = 120.0, 5.0, 0.1
"""How long the server may take to answer, how long to end, and how often it is looked at."""
SCHEMA = re.compile(r"found version \w+, but expected \w+")
"""How MLflow words that a store is of another version."""
LOCAL = build_opener(ProxyHandler({}))  # a proxy in the environment is not asked for our own machine
GUARD = "trap '' TERM; read -r nothing; kill -TERM 0; sleep 5; kill -KILL 0"
"""Waits for the end of its input, which comes when this process has ended, by kill -9 too; then ends its group."""


def bound_port(host: str, port: int) -> int:
    """Try a port; 0: any that is free.

    Raises:
        OSError, OverflowError: it is taken, not allowed, or none.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As the server does, whose last connections may linger.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])


def is_taken(error: OSError) -> bool:
    """Whether a port could not be had because somebody else has it."""
    return error.errno == errno.EADDRINUSE


@contextmanager
def mlflow_server(
    options: Sequence[str], environment: dict[str, str], folder: Path, log: IO[bytes] | int
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `mlflow server`. After the block no process of its group is left.

    Args:
        options: of the command.
        environment: variables beside those of this process.
        folder: where it runs.
        log: gets what it says.
    """
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *options],
        cwd=folder,
        env=os.environ | quiet | environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        process_group=0,  # of this session, or the guard could not join it
    )
    guard = None
    try:
        with suppress(PermissionError, ProcessLookupError):  # the server has ended already
            guard = subprocess.Popen(
                ["/bin/sh", "-c", GUARD],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=server.pid,
            )
        yield server
    finally:
        if guard is not None:
            guard.kill()
            guard.communicate()
        _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    """End a server and what it has started: all of its group, first in peace."""
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
    """Whether a process of a group lives. One that ended and that nobody has asked for its exit code does not."""
    for number in psutil.pids():
        with suppress(OSError):  # it has ended, or is none of our business
            if os.getpgid(number) == group and lives(number):
                return True
    return False


def await_answer(server: subprocess.Popen[bytes], address: str, said: Callable[[], str], told: Sequence[int]) -> bool:
    """Wait until the server answers, has ended, or a signal came.

    Args:
        server: as `mlflow_server` gives it.
        address: of the server.
        said: gives the last lines of what the server has said.
        told: as `noted_signals` gives it.

    Returns:
        Whether it lives.

    Raises:
        LabError: it does not answer.
    """
    give_up = time.monotonic() + START_SECONDS
    while not told:
        if server.poll() is not None:
            return False
        try:
            with LOCAL.open(f"{address}/health", timeout=END_SECONDS):
                return True
        except OSError:  # nothing listens yet; URLError and TimeoutError are both of them
            pass
        if time.monotonic() > give_up:
            raise LabError(
                "The MLflow server does not answer.",
                expected=f"an answer from {address} within {START_SECONDS:g} s",
                received=said(),
                fix="try again when the machine is less busy",
            )
        time.sleep(PAUSE)
    return True
