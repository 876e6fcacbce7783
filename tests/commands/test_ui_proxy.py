"""`python -m pipeline.ui` behind a proxy: MLflow's own server, asked as the proxy of JupyterHub asks it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request

import pytest

from pipeline.config.schema import Tracking
from pipeline.system.errors import LabError
from pipeline.tracking.server.process import HOST, LOCAL, bound_port
from pipeline.tracking.server.proxy import read_proxy
from pipeline.tracking.store import open_store
from pipeline.ui import main, serve

HUB = "https://hub.example.org"
# What other programs of the user need, and what this server must not follow.
HOSTILE = {
    "MLFLOW_STATIC_PREFIX": "/elsewhere",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "nobody.example.org",
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": "https://nobody.example.org",
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
    "MLFLOW_BACKEND_STORE_URI": "sqlite:////nowhere/mlflow.db",
    "UVICORN_ROOT_PATH": "/elsewhere",
    "http_proxy": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
}


def answer(port: int, path: str, host: str = "hub.example.org", **headers: str) -> tuple[int, str]:
    """Ask the server as a proxy does that passes on the host and the path of the browser's request."""
    body = None
    if "mlflow/experiments/search" in path:
        body = json.dumps({"max_results": 10}).encode()
        headers |= {"Content-Type": "application/json"}
    try:
        with LOCAL.open(Request(f"http://{HOST}:{port}{path}", body, headers | {"Host": host}), timeout=60) as reply:
            return reply.status, reply.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.slow
def test_the_page_and_its_api_answer_under_the_path_of_the_proxy(lab: Path, empty_store: Path) -> None:
    (lab / "mlruns").mkdir()
    shutil.copy(empty_store, lab / "mlruns" / "mlflow.db")
    open_store(Tracking(name="local", uri=None), "two_bits", lab)
    port = bound_port(HOST, 0)
    path = f"/user/anna@example.org/proxy/absolute/{port}"
    typed = [sys.executable, "-m", "pipeline.ui", "--port", str(port), "--proxy", f"{HUB}{path}/"]
    with subprocess.Popen(
        typed, cwd=lab, env=os.environ | HOSTILE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(4)]
            assert lines[0].startswith(f"MLflow is at {HUB}{path};"), process.communicate()
            assert re.match(rf"two_bits +{HUB}{path}/#/experiments/\d+/runs", lines[2])
            status, page = answer(port, f"{path}/")
            assert (status, "<title>MLflow</title>" in page) == (200, True)
            # Relative addresses, so that the page also works where a proxy strips the path.
            scripts = re.findall(r'(?:src|href)="([^"]+)"', page)
            assert scripts
            assert not [script for script in scripts if script.startswith(("/", "http"))]
            assert answer(port, f"{path}/{scripts[-1].removeprefix('./')}")[0] == 200
            search = "ajax-api/2.0/mlflow/experiments/search"
            status, found = answer(port, f"{path}/{search}", Origin=HUB)
            assert (status, "two_bits" in found) == (200, True)
            assert answer(port, f"{path}/{search}", "evil.example.org", Origin=HUB)[0] == 403
            assert answer(port, f"{path}/{search}", Origin="https://evil.example.org")[0] == 403
        finally:
            process.terminate()


def test_a_proxy_that_strips_the_path_needs_no_prefix() -> None:
    kept = read_proxy(f"{HUB}/lab/", strips_path=False)
    stripped = read_proxy(f"{HUB}/lab/", strips_path=True)
    assert (kept.address, kept.path) == (f"{HUB}/lab", "/lab")
    assert (stripped.address, stripped.path) == (f"{HUB}/lab", "")
    assert "--static-prefix" in kept.options()
    assert "--static-prefix" not in stripped.options()


@pytest.mark.parametrize(
    "address",
    ["hub.example.org/lab", "/user/anna", "ftp://hub", "https://", "http://[", "https://anna:secret@hub/x",
     "https://hub/?a=1", "https://hub/#x", "https://hub/{x}", "https://*", "https://hub,evil", "https://hub/a b", ""],
)  # fmt: skip
def test_an_address_that_no_proxy_has(address: str) -> None:
    with pytest.raises(LabError, match=r"address of the proxy cannot be used(.|\n)*https://HOST/PATH"):
        read_proxy(address, strips_path=False)


def test_behind_a_proxy_no_other_port_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_text("not looked at")
    monkeypatch.setattr("pipeline.ui.free_port", lambda wanted: wanted + 1)
    with pytest.raises(LabError, match=r"5000 is in use, and the proxy knows no other(.|\n)*PORT=8080"):
        serve(tmp_path, 5000, print, read_proxy(f"{HUB}/x", strips_path=False))


def test_a_path_is_stripped_by_a_proxy_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ui", "--strips-path"])
    with pytest.raises(SystemExit):
        main()
    assert "--strips-path needs --proxy URL" in capsys.readouterr().err
