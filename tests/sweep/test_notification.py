"""Notifications to a real listener: what it gets, and that one that is away, slow or broken costs nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.sweep import notification
from pipeline.sweep.notification import VARIABLE, post
from pipeline.sweep.sweep import Sweep
from pipeline.system.errors import LabError
from tests.support.flaky_server import free_port
from tests.support.swept import at_epoch, interrupt, killed, on_disk, rates, swept

SECRET = "/hooks/a-secret"


@contextmanager
def listener(patch: pytest.MonkeyPatch, status: int = 200, delay: float = 0.0) -> Iterator[list[dict[str, Any]]]:
    """A server that notes what is posted to it, and answers with a status after a delay, seconds."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append({"path": self.path, "type": self.headers["Content-Type"], **json.loads(body)})
            time.sleep(delay)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    patch.setenv(VARIABLE, f"http://127.0.0.1:{server.server_port}{SECRET}")
    try:
        yield got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_without_an_address_nothing_is_posted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(notification, "urlopen", None)
    post("ended", "bits numpy", {})


@pytest.mark.usefixtures("plain_runs")
def test_a_command_tells_its_end_and_its_first_divergence(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listener(monkeypatch) as got:
        swept(project, rates("0.01", "1e8", "1e9", more=["training.epochs=60"]))
        until = time.monotonic() + 10
        while len(got) < 2 and time.monotonic() < until:
            time.sleep(0.01)
    assert sorted(one["event"] for one in got) == ["diverged", "ended"]
    by_event = {one["event"]: one for one in got}
    for one in got:
        assert (one["sweep"], one["path"], one["type"]) == ("line_y2x numpy", SECRET, "application/json")
        assert abs(one["time"] - time.time()) < 60
    assert by_event["ended"]["points"] == {"complete": 3}
    assert (by_event["ended"]["diverged"], by_event["ended"]["problems"]) == (2, [])
    assert by_event["diverged"]["point"] in ("learning_rate=1e+08", "learning_rate=1e+09")
    assert by_event["diverged"]["updates"] < 60


@pytest.mark.usefixtures("plain_runs")
def test_what_stopped_or_failed_is_told_as_such(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listener(monkeypatch) as got:
        with monkeypatch.context() as patch:
            at_epoch(patch, 3, interrupt)
            killed(project, rates("0.01"))
        late = Sweep(project, rates("0.01")[0][0], 1)
        late.end_at(0)
        late.train_all(rates("0.01"))
        late.finish()
        with monkeypatch.context() as patch:
            patch.setattr("pipeline.points.folder.PointFolder.write_history", _disk_is_full)
            with pytest.raises(LabError, match="disk"):
                swept(project, rates("0.02"))
    assert [one["event"] for one in got] == ["interrupted", "budget spent", "failed"]
    assert got[0]["points"] == {"killed": 1}
    assert got[2]["points"] == {"failed": 1}
    assert "disk is full" in got[2]["problems"][0]


def _disk_is_full(*arguments: object) -> None:
    raise LabError("The disk is full.")


@pytest.mark.usefixtures("plain_runs")
@pytest.mark.parametrize("trouble", ["away", "slow", "answers 500", "no address", "a file", "not a name"])
def test_a_failure_to_notify_costs_a_line_and_tells_no_secret(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    monkeypatch.setattr(notification, "SECONDS", 0.2)
    addresses = {
        "away": f"http://127.0.0.1:{free_port()}{SECRET}",
        "no address": f"a-secret{SECRET}",
        "a file": "file:///etc/passwd?a-secret",
        "not a name": f"http://[::{SECRET}",
    }
    begun = time.monotonic()
    if trouble in addresses:
        monkeypatch.setenv(VARIABLE, addresses[trouble])
        post("ended", "line_y2x numpy", {})
    else:
        status, delay = {"slow": (200, 1.0), "answers 500": (500, 0.0)}[trouble]
        with listener(monkeypatch, status, delay) as got:
            post("ended", "line_y2x numpy", {})
            assert len(got) == 1
    assert time.monotonic() - begun < 10
    (record,) = [one for one in caplog.records if one.name == notification.__name__]
    assert "'ended' was not received" in record.message
    assert "a-secret" not in record.message
    if trouble == "away":
        swept(project, rates("0.01"))
        assert len(on_disk(project)) == 1
