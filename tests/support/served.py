"""A model that `mlflow models serve` answers for, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

KEPT = ("HOME", "LANG", "LC_ALL", "TMPDIR")


def clean_environment(**more: str) -> dict[str, str]:
    """The commands of this environment, and nothing that tests or users have set."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {name: os.environ[name] for name in KEPT if name in os.environ} | {"PATH": path} | more


@contextmanager
def serving(command: str, port: int, folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Run a command of a shell that serves a model, and yield its address once it answers."""
    log = (folder / "server.log").open("w")
    server = subprocess.Popen(
        ["bash", "-c", command], cwd=folder, env=environment, start_new_session=True, stdout=log, stderr=log
    )
    address = f"http://127.0.0.1:{port}"
    try:
        while not _answers(address):
            if server.poll() is not None:
                raise AssertionError((folder / "server.log").read_text())
            time.sleep(0.2)
        yield address
    finally:
        end(server)
        log.close()


def end(server: subprocess.Popen[Any]) -> None:
    """End a server that leads a process group of its own; one that has ended by itself says why, not this."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    server.wait(timeout=60)


def _answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/ping", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def post(address: str, content: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return the status and the answer to a request for predictions."""
    headers = {"Content-Type": "application/json"}
    answer = requests.post(f"{address}/invocations", json.dumps(content), headers=headers, timeout=60)
    return answer.status_code, answer.json()
