"""Open the runs in MLflow: starts its server on this machine and prints a link into each study's comparison.

python -m pipeline.ui [--port 5000]

The server ends with this process. No mlflow is imported here: the server is asked.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode
from urllib.request import Request

from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT, store_root
from pipeline.system.signals import noted_signals
from pipeline.tracking.pages.views import TAG
from pipeline.tracking.server.process import (
    HOST,
    LOCAL,
    PAUSE,
    SCHEMA,
    START_SECONDS,
    await_answer,
    bound_port,
    is_taken,
    mlflow_server,
)
from pipeline.tracking.store import store_uri

PORTS = 20
"""How many ports are tried, one after the other."""
LINES = 12
"""How many of the server's last lines a message shows."""


def serve(project: Path, port: int, opened: Callable[[str], object]) -> None:
    """Serve the store of a project until a signal ends it, or the server does.

    Args:
        project: folder that holds mlruns/.
        port: where the server listens; the next free one where it is taken; 0: any.
        opened: called with the link to the study that was trained last, when the server answers.

    Raises:
        LabError: there are no runs or no port, the store cannot be read, or the server does not answer or dies.
    """
    store = project / "mlruns" / "mlflow.db"
    if not store.is_file() or not store.stat().st_size:
        raise _no_runs(store)
    free = free_port(port)
    if port not in (free, 0):
        print(f"port {port} is taken, this is {free}", flush=True)
    options = ["--host", HOST, "--port", str(free), "--workers", "1", "--backend-store-uri", store_uri(project)]
    with (
        noted_signals() as told,
        tempfile.TemporaryFile() as log,
        mlflow_server(options, {}, project, log) as server,
    ):
        address = f"http://{HOST}:{free}"
        if not await_answer(server, address, lambda: _last_lines(log), told):
            raise _died(log)
        if told:
            return
        links = study_links(address)
        if not links:
            raise _no_runs(store)
        print(f"MLflow is at {address}; Ctrl-C ends it\n", flush=True)
        width = max(map(len, [*links, "all studies"]))
        for name, link in {**links, "all studies": f"{address}/#/experiments"}.items():
            print(f"{name:{width}}  {link}", flush=True)
        opened(next(iter(links.values())))
        while not told:
            if server.poll() is not None:
                raise _died(log)
            time.sleep(PAUSE)


def free_port(wanted: int) -> int:
    """A free port: `wanted`, or the next one that is not taken; for 0 any.

    Raises:
        LabError: this is no port, it is not allowed, or all that were tried are taken.
    """
    last = min(wanted + PORTS - 1, 65535) if wanted else 0
    for port in range(wanted, last + 1):
        try:
            return bound_port(HOST, port)
        except OSError as error:
            if not is_taken(error):
                raise _no_port(wanted, error.strerror or str(error)) from None
        except OverflowError:
            break
    taken = f"{wanted} to {last} are taken" if 0 <= wanted <= 65535 else str(wanted)
    raise _no_port(wanted, taken)


def study_links(address: str) -> dict[str, str]:
    """A link into the comparison of each study, the one that was trained last first.

    It opens the saved view `grid` (tracking/pages/views.py); for a study without one the plain charts of its runs.

    Raises:
        LabError: the server does not say what it has.
    """
    found: list[dict[str, Any]] = _ask(address, "experiments/search", {"max_results": 1000}).get("experiments", [])
    links: list[tuple[int, str, str]] = []
    for experiment in found:
        if experiment["experiment_id"] == "0":  # MLflow makes it; nothing of ours is in it
            continue
        tags = {tag["key"]: tag["value"] for tag in experiment.get("tags", [])}
        made = re.search(r'"createdAt": ?(\d+)', tags.get(f"{TAG}grid", ""))
        sorting = {"orderByKey": "metrics.`hp/learning_rate`", "orderByAsc": "true"}
        chosen = {"viewStateShareKey": "grid"} if made else sorting
        query = urlencode({**chosen, "compareRunsMode": "CHART", "workflowType": "machine_learning"})
        link = f"{address}/#/experiments/{experiment['experiment_id']}/runs?{query}"
        links.append((int(made[1] if made else experiment["creation_time"]), experiment["name"], link))
    return {name: link for _, name, link in sorted(links, reverse=True)}


def has_screen() -> bool:
    """Whether a browser can be shown to the person who typed the command."""
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return True
    return sys.platform in ("darwin", "win32") and "SSH_CONNECTION" not in os.environ


def _ask(address: str, what: str, body: dict[str, Any]) -> dict[str, Any]:
    request = Request(f"{address}/api/2.0/mlflow/{what}", json.dumps(body).encode())  # noqa: S310 - our own address
    request.add_header("Content-Type", "application/json")
    try:
        with LOCAL.open(request, timeout=START_SECONDS) as answer:
            read: dict[str, Any] = json.load(answer)
            return read
    except (OSError, ValueError) as error:
        raise LabError(
            "The MLflow server does not say which studies it has.",
            expected=f"an answer of {address}",
            received=str(error),
            fix="try again; if that does not help, move mlruns/mlflow.db away: make rebuild writes a new one",
        ) from None


def _died(log: IO[bytes]) -> LabError:
    """Why the server ended by itself."""
    said = _last_lines(log)
    schema = SCHEMA.search(said)
    if schema:
        return LabError(
            "The MLflow store is of another version of MLflow.",
            expected="the schema of the MLflow that is installed",
            received=schema[0],
            fix="copy mlruns/mlflow.db away, then mlflow db upgrade sqlite:///mlruns/mlflow.db; "
            "or move it away, and make rebuild writes a new one",
        )
    if "file is not a database" in said:
        return LabError(
            "mlruns/mlflow.db is no MLflow store.",
            expected="an sqlite database",
            received="another file",
            fix="move it away, and make rebuild writes a new one",
        )
    return LabError("The MLflow server has ended.", received=said, fix="try again; mlflow server --help says more")


def _last_lines(log: IO[bytes]) -> str:
    log.seek(0)
    return "\n".join(log.read().decode(errors="replace").strip().splitlines()[-LINES:]) or "nothing"


def _no_runs(store: Path) -> LabError:
    return LabError(
        "There are no runs yet.",
        expected=f"runs in {store}",
        received="none",
        fix="make reproduce, or python -m pipeline.train experiment=three_bits, writes them",
    )


def _no_port(wanted: int, received: str) -> LabError:
    return LabError(
        "There is no port to listen on.",
        expected=f"a free port on {HOST}, 1024 to 65535",
        received=received,
        fix=f"name another one: make ui PORT={5000 if wanted != 5000 else 8080}",
    )


def main() -> int:
    """What the command line calls; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.ui", description="Open the runs in MLflow.")
    parser.add_argument("--port", type=int, default=5000, help="where to listen; the next free one if it is taken")
    port = parser.parse_args().port
    project = store_root(PROJECT)
    try:
        serve(project, port, webbrowser.open if has_screen() else lambda link: None)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
