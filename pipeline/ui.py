"""Open the runs in MLflow: start its server on this machine, and print a link to each study's comparison page.

    python -m pipeline.ui [--port 5000] [--proxy URL [--strips-path]]

The server ends with this process. This module does not import mlflow, which takes seconds; it queries the server.
"""

from __future__ import annotations

if not __package__:
    raise SystemExit("error: this is a module; in the project's folder, type: python -m pipeline.ui")

import argparse
import json
import os
import re
import sqlite3
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
from pipeline.system.signals import collect_signals
from pipeline.system.streams import keep_streams
from pipeline.tracking.causes import DAMAGED, OTHER_SCHEMA
from pipeline.tracking.location import DATABASE, follow_project
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
from pipeline.tracking.server.proxy import Proxy, read_proxy
from pipeline.tracking.store import store_uri

# Number of consecutive ports to try.
PORTS = 20
# Number of lines of the server's output that an error message shows.
LINES = 12
HIGHEST_PORT = 65535
# The variables of `pipeline.server` that this server must not follow; MLflow treats an empty one as unset.
UNSET = dict.fromkeys(("MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"), "")
# The experiment that MLflow creates in every store; it holds no study.
DEFAULT_EXPERIMENT = "0"


def serve(project: Path, port: int, open_link: Callable[[str], object], proxy: Proxy | None = None) -> None:
    """Serve the store of a project until a signal arrives.

    Args:
        project: folder that holds mlruns/.
        port: the port to listen on, or the next free one if it is in use; 0 for any free port. Behind a proxy only this
            port will do, because the proxy knows no other.
        open_link: called with the link to the most recently trained study, once the server answers.
        proxy: the proxy through which browsers reach the server; None: they reach it at 127.0.0.1.

    Raises:
        LabError: there are no runs or no free port, the store cannot be read, or the server does not answer or exits.
    """
    store = project / "mlruns" / DATABASE
    if not store.is_file() or not store.stat().st_size:
        raise _no_runs(store)
    free = free_port(port)
    if port not in (free, 0):
        if proxy is not None:
            raise _no_port(port, f"{port} is in use, and the proxy knows no other")
        print(f"port {port} is in use; using {free} instead", flush=True)
    _follow_project(project)
    options = ["--host", HOST, "--port", str(free), "--workers", "1", "--backend-store-uri", store_uri(project)]
    # Where training can also write. By default, the artifacts of an experiment that is created in MLflow's pages can
    # only be written through this server.
    options += ["--default-artifact-root", (project / "mlruns" / "artifacts").as_uri()]
    address = f"http://{HOST}:{free}"
    shown = address
    if proxy is not None:
        options += proxy.options()
        address += proxy.path
        shown = proxy.address
    with (
        collect_signals() as signals,
        tempfile.TemporaryFile() as log,
        mlflow_server(options, UNSET, project, log) as server,
    ):
        if not await_answer(server, address, lambda: _last_lines(log), signals):
            raise _exited(log)
        if signals:
            return
        links = study_links(address)
        if not links:
            raise _no_runs(store)
        _print_links(shown, links)
        open_link(shown + next(iter(links.values())))
        while not signals:
            if server.poll() is not None:
                raise _exited(log)
            time.sleep(PAUSE)


def _print_links(shown: str, links: dict[str, str]) -> None:
    """Print the address of the server, and a link to each study."""
    print(f"MLflow is at {shown}; press Ctrl-C to stop it\n", flush=True)
    width = max(map(len, [*links, "all studies"]))
    for name, link in {**links, "all studies": "/#/experiments"}.items():
        print(f"{name:{width}}  {shown}{link}", flush=True)


def _follow_project(project: Path) -> None:
    """Update the artifact locations if the project has moved; a warning if that fails, as the rest can be shown."""
    try:
        follow_project(project / "mlruns")
    except LabError as error:
        print(f"warning: artifacts will be missing. {error}", file=sys.stderr, flush=True)
    except sqlite3.Error:
        # The server also opens the store, and says what is wrong with it.
        return


def free_port(wanted: int) -> int:
    """Return a free port: `wanted`, or the next one that is not in use; for 0, any free port.

    Raises:
        LabError: the port is invalid or not permitted, or all ports tried are in use.
    """
    last = 0
    if wanted:
        last = min(wanted + PORTS - 1, HIGHEST_PORT)
    for port in range(wanted, last + 1):
        try:
            return bound_port(HOST, port)
        except OSError as error:
            # A port below 1024 is not permitted, and neither are the next ones.
            if not is_taken(error):
                raise _no_port(wanted, error.strerror or str(error)) from None
        except OverflowError:
            break
    if 0 <= wanted <= HIGHEST_PORT:
        raise _no_port(wanted, f"{wanted} to {last} are in use")
    raise _no_port(wanted, str(wanted))


def study_links(address: str) -> dict[str, str]:
    """Return a link to the comparison page of each study, most recently trained first, relative to the address.

    The link opens the saved view `grid` (tracking/pages/views.py), or MLflow's default charts if there is no such view.
    A study with several seeds has another link, to the view `seeds`; one whose curvature is recorded, to `stability`.

    Raises:
        LabError: the server does not answer, or its answer cannot be read.
    """
    found: list[dict[str, Any]] = _ask(address, "experiments/search", {"max_results": 1000}).get("experiments", [])
    links: list[tuple[int, str, dict[str, str]]] = []
    for experiment in found:
        if experiment["experiment_id"] == DEFAULT_EXPERIMENT:
            continue
        tags = {tag["key"]: tag["value"] for tag in experiment.get("tags", [])}
        # The view has the time of the last training. MLflow's `creation_time` is the time of the first.
        when = experiment["creation_time"]
        parameters = {"orderByKey": "metrics.`hp/learning_rate`", "orderByAsc": "true"}
        # A search instead of parsing the JSON, because the value contains up to 20,000 characters of page state.
        created = re.search(r'"createdAt": ?(\d+)', tags.get(f"{TAG}grid", ""))
        if created:
            when = created[1]
            parameters = {"viewStateShareKey": "grid"}
        pages = {experiment["name"]: parameters}
        for further in ("seeds", "stability"):
            if f"{TAG}{further}" in tags:
                pages[f"{experiment['name']}, {further}"] = {"viewStateShareKey": further}
        study: dict[str, str] = {}
        for name, view in pages.items():
            query = urlencode({**view, "compareRunsMode": "CHART", "workflowType": "machine_learning"})
            study[name] = f"/#/experiments/{experiment['experiment_id']}/runs?{query}"
        links.append((int(when), experiment["name"], study))
    # The names of experiments differ, so that no two links are compared.
    return {name: link for _, _, study in sorted(links, reverse=True) for name, link in study.items()}


def has_screen() -> bool:
    """Return whether a browser would open on the screen of the user who typed the command."""
    # X or Wayland, which ssh may forward. On macOS and Windows, a browser always opens on the machine itself.
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return True
    return sys.platform in ("darwin", "win32") and "SSH_CONNECTION" not in os.environ


def _leave_closed(_link: str) -> None:
    """Open nothing: without a screen, the user opens one of the printed links elsewhere."""


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
            "The studies on the MLflow server could not be listed.",
            expected=f"an answer from {address}",
            received=str(error),
            fix="run make ui again, when the machine is less busy; keep mlruns/mlflow.db, which may be intact",
        ) from None


def _exited(log: IO[bytes]) -> LabError:
    """Return an error that says why the server exited."""
    said = _last_lines(log)
    schema = SCHEMA.search(said)
    if schema:
        return LabError(
            "The MLflow store was created by a different version of MLflow.",
            expected="the schema of the installed version",
            received=schema[0],
            fix=OTHER_SCHEMA,
        )
    if "file is not a database" in said:
        return LabError(
            "mlruns/mlflow.db is not an MLflow store.",
            expected="an SQLite database",
            received="a different kind of file",
            fix=DAMAGED,
        )
    return LabError("The MLflow server has exited.", received=said, fix="try again; see also mlflow server --help")


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
        "No port to listen on is available.",
        expected=f"a free port on {HOST}, 1024 to {HIGHEST_PORT}",
        received=received,
        fix=f"use another port: make ui PORT={other}",
    )


def main() -> int:
    """Run the command, and return its exit code."""
    keep_streams()
    parser = argparse.ArgumentParser(prog="python -m pipeline.ui", description="Open the runs in MLflow.")
    parser.add_argument(
        "--port", type=int, default=5000, help="the port to listen on, or the next free one if it is in use"
    )
    parser.add_argument(
        "--proxy", metavar="URL", help="the address at which a proxy shows this page, as in https://HOST/PATH"
    )
    parser.add_argument(
        "--strips-path", action="store_true", help="the proxy removes the path of this address from requests"
    )
    given = parser.parse_args()
    if given.strips_path and given.proxy is None:
        parser.error("--strips-path needs --proxy URL")
    proxy: Proxy | None = None
    open_link: Callable[[str], object] = _leave_closed
    if has_screen():
        open_link = webbrowser.open
    try:
        if given.proxy is not None:
            proxy = read_proxy(given.proxy, given.strips_path)
        serve(store_root(PROJECT), given.port, open_link, proxy)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
