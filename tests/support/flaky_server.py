"""A real MLflow server in a thread of the tests, and a proxy in front of it that fails on request."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest

Fault = Literal["none", "error", "drop", "lose", "delay"]
"""Faults: none; answer 500; hang up at once; hang up after the server has handled the request; answer late."""
LACKING = b"<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n"
"""What a server of an earlier version of MLflow answers to a method that it does not have."""
DELAY_SECONDS = 0.04


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@contextmanager
def server_thread(folder: Path, empty_store: Path) -> Iterator[int]:
    """Run the app of `mlflow server` on a copy of `empty_store`, in a thread of this process, and yield its port.

    A separate process imports MLflow twice and creates its database from scratch, which takes ten seconds. MLflow keeps
    its stores in variables of a module, so a process can have only one such server at a time.
    """
    shutil.copy(empty_store, folder / "server.db")
    place = {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder / 'server.db'}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "a"),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in place.items():
            patch.setenv(name, value)
        import mlflow
        import uvicorn
        from mlflow.server import fastapi_app, handlers

        for name in ("_tracking_store", "_model_registry_store", "_artifact_repo"):
            patch.setattr(handlers, name, None)
        port = free_port()
        settings = uvicorn.Config(fastapi_app.app, host="127.0.0.1", port=port, log_config=None, lifespan="off")
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, name="server", daemon=True)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield port
        finally:
            server.should_exit = server.force_exit = True
            thread.join(60)
            # The server has set its store for this process and its child processes.
            mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # so MLFLOW_TRACKING_URI is read again
            mlflow.set_registry_uri(None)  # type: ignore[arg-type]


class FlakyProxy:
    """A proxy on 127.0.0.1.

    Args:
        port: port of the server behind it.

    Attributes:
        faults: receives the number of a request, counted from 1, and returns its fault.
        lacks: a part of the addresses that the server does not have.
        asked, done: number of requests received, and of those answered with the server's answer.
        logged: number of those that logged metrics.
    """

    def __init__(self, port: int) -> None:
        self.faults: Callable[[int], Fault] = lambda number: "none"
        self.lacks = "an address that nobody asks for"
        self.asked = self.done = self.logged = 0
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                proxy._pass_on(self, port)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _pass_on(self, handler: BaseHTTPRequestHandler, port: int) -> None:
        with self._lock:
            self.asked += 1
            fault = self.faults(self.asked)
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if fault == "delay":
            time.sleep(DELAY_SECONDS)
        if fault == "drop":
            return
        if self.lacks in handler.path:
            handler.send_response(404)
            handler.send_header("Content-Type", "text/html; charset=utf-8")
            handler.send_header("Content-Length", str(len(LACKING)))
            handler.end_headers()
            handler.wfile.write(LACKING)
            return
        if fault == "error":
            handler.send_error(500, "the store is on fire")
            return
        headers = {key: value for key, value in handler.headers.items() if key not in ("Host", "Accept-Encoding")}
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request(handler.command, handler.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if fault == "lose":
            return
        handler.send_response(answer.status)
        handler.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)
        with self._lock:
            self.done += 1
            self.logged += handler.path.endswith("/runs/log-batch") and b'"metrics"' in body
