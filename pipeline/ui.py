"""Open the runs in MLflow: start its server on this machine, and print a link to the comparison page of each study.

    python -m pipeline.ui [--port 5000]

The server ends with this process. This module does not import mlflow, which takes seconds: it asks the server instead.
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

# How many ports to try, one after the other.
PORTS = 20
# How many lines of the server's output an error message shows.
LINES = 12
HIGHEST_PORT = 65535
# The experiment that MLflow creates in every store; it holds no study.
DEFAULT_EXPERIMENT = "0"


def serve(project: Path, port: int, open_link: Callable[[str], object]) -> None:
    """Serve the store of a project until a signal arrives.

    Args:
        project: folder that holds mlruns/.
        port: the port to listen on; if it is taken, the next free one is used; 0 for any.
        open_link: called with the link to the study that was trained last, once the server answers.

    Raises:
        LabError: there are no runs or no free port, the store cannot be read, or the server does not answer or ends by
            itself.
    """
    store = project / "mlruns" / "mlflow.db"
    if not store.is_file() or not store.stat().st_size:
        raise _no_runs(store)
    free = free_port(port)
    if port not in (free, 0):
        print(f"port {port} is taken, so the server uses {free}", flush=True)
    options = ["--host", HOST, "--port", str(free), "--workers", "1", "--backend-store-uri", store_uri(project)]
    with (
        noted_signals() as signals,
        tempfile.TemporaryFile() as log,
        mlflow_server(options, {}, project, log) as server,
    ):
        address = f"http://{HOST}:{free}"
        if not await_answer(server, address, lambda: _last_lines(log), signals):
            raise _ended(log)
        if signals:
            return
        links = study_links(address)
        if not links:
            raise _no_runs(store)
        print(f"MLflow is at {address}; press Ctrl-C to stop it\n", flush=True)
        width = max(map(len, [*links, "all studies"]))
        for name, link in {**links, "all studies": f"{address}/#/experiments"}.items():
            print(f"{name:{width}}  {link}", flush=True)
        open_link(next(iter(links.values())))
        while not signals:
            if server.poll() is not None:
                raise _ended(log)
            time.sleep(PAUSE)


def free_port(wanted: int) -> int:
    """Return a free port: `wanted`, or the next one that is not taken; any port for 0.

    Raises:
        LabError: it is not a port number, it is not allowed, or all ports that were tried are taken.
    """
    last = 0
    if wanted:
        last = min(wanted + PORTS - 1, HIGHEST_PORT)
    for port in range(wanted, last + 1):
        try:
            return bound_port(HOST, port)
        except OSError as error:
            # With a port below 1024, the next ones are not allowed either.
            if not is_taken(error):
                raise _no_port(wanted, error.strerror or str(error)) from None
        except OverflowError:
            break
    if 0 <= wanted <= HIGHEST_PORT:
        raise _no_port(wanted, f"{wanted} to {last} are taken")
    raise _no_port(wanted, str(wanted))


def study_links(address: str) -> dict[str, str]:
    """Return a link to the comparison page of each study, the one that was trained last first.

    The link opens the saved view `grid` (tracking/pages/views.py), or plain charts for a study without that view.

    Raises:
        LabError: the server does not answer, or its answer cannot be read.
    """
    found: list[dict[str, Any]] = _ask(address, "experiments/search", {"max_results": 1000}).get("experiments", [])
    links: list[tuple[int, str, str]] = []
    for experiment in found:
        if experiment["experiment_id"] == DEFAULT_EXPERIMENT:
            continue
        tags = {tag["key"]: tag["value"] for tag in experiment.get("tags", [])}
        # The view says when the study was last trained. MLflow's own time is the one of its first training.
        when = experiment["creation_time"]
        parameters = {"orderByKey": "metrics.`hp/learning_rate`", "orderByAsc": "true"}
        # Searched instead of parsed: the value ends with the state of a page, up to 20,000 characters.
        created = re.search(r'"createdAt": ?(\d+)', tags.get(f"{TAG}grid", ""))
        if created:
            when = created[1]
            parameters = {"viewStateShareKey": "grid"}
        query = urlencode({**parameters, "compareRunsMode": "CHART", "workflowType": "machine_learning"})
        link = f"{address}/#/experiments/{experiment['experiment_id']}/runs?{query}"
        links.append((int(when), experiment["name"], link))
    return {name: link for _, name, link in sorted(links, reverse=True)}


def has_screen() -> bool:
    """Return whether a browser would open in front of the person who typed the command."""
    # X and Wayland, which ssh may forward. On macOS and Windows, a browser opens on the machine itself.
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return True
    return sys.platform in ("darwin", "win32") and "SSH_CONNECTION" not in os.environ


def _leave_closed(_link: str) -> None:
    """Open nothing: the person opens one of the printed links."""


def _ask(address: str, method: str, body: dict[str, Any]) -> dict[str, Any]:
    """Call a method of MLflow's REST API."""
    request = Request(f"{address}/api/2.0/mlflow/{method}", json.dumps(body).encode())  # noqa: S310 - our own address
    request.add_header("Content-Type", "application/json")
    try:
        with LOCAL.open(request, timeout=START_SECONDS) as answer:
            read: dict[str, Any] = json.load(answer)
            return read
    except (OSError, ValueError) as error:
        raise LabError(
            "The MLflow server does not list its studies.",
            expected=f"an answer from {address}",
            received=str(error),
            fix="try again; if that does not help, move mlruns/mlflow.db away, and make rebuild writes a new one",
        ) from None


def _ended(log: IO[bytes]) -> LabError:
    """Return the message on why the server ended by itself."""
    said = _last_lines(log)
    schema = SCHEMA.search(said)
    if schema:
        return LabError(
            "The MLflow store belongs to another version of MLflow.",
            expected="the schema of the installed version",
            received=schema[0],
            fix="copy mlruns/mlflow.db away, then mlflow db upgrade sqlite:///mlruns/mlflow.db; "
            "or move it away, and make rebuild writes a new one",
        )
    if "file is not a database" in said:
        return LabError(
            "mlruns/mlflow.db is not an MLflow store.",
            expected="an SQLite database",
            received="another kind of file",
            fix="move it away, and make rebuild writes a new one",
        )
    return LabError("The MLflow server has ended.", received=said, fix="try again; see also mlflow server --help")


def _last_lines(log: IO[bytes]) -> str:
    """Return the last lines of the server's output."""
    log.seek(0)
    return "\n".join(log.read().decode(errors="replace").strip().splitlines()[-LINES:]) or "nothing"


def _no_runs(store: Path) -> LabError:
    return LabError(
        "There are no runs yet.",
        expected=f"runs in {store}",
        received="none",
        fix="train points: make reproduce, or python -m pipeline.train experiment=three_bits",
    )


def _no_port(wanted: int, received: str) -> LabError:
    # Suggest the default, unless that is the port that failed.
    other = 5000
    if wanted == other:
        other = 8080
    return LabError(
        "There is no port to listen on.",
        expected=f"a free port on {HOST}, 1024 to {HIGHEST_PORT}",
        received=received,
        fix=f"use another port: make ui PORT={other}",
    )


def main() -> int:
    """Run the command, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.ui", description="Open the runs in MLflow.")
    parser.add_argument(
        "--port", type=int, default=5000, help="the port to listen on; if it is taken, the next free one"
    )
    port = parser.parse_args().port
    open_link: Callable[[str], object] = _leave_closed
    if has_screen():
        open_link = webbrowser.open
    try:
        serve(store_root(PROJECT), port, open_link)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
