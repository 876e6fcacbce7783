"""`make ui` with a fast stand-in for MLflow's server; test_browser.py starts the real one."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest

from pipeline import ui
from pipeline.config.schema import Tracking
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT
from pipeline.system.signals import SERVER_SIGNALS
from pipeline.tracking.pages.views import TAG
from pipeline.tracking.server import process as server_process
from pipeline.tracking.store import open_store, store_uri

STAND_IN = """
import json, os, signal, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

does = json.loads(Path("does.json").read_text())
child = [sys.executable, "-c", "import time; time.sleep(60)"]
if does.get("stubborn"):
    child[2] = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
process = subprocess.Popen(child, stdout=subprocess.PIPE)
if does.get("stubborn"):
    process.stdout.readline()
report = {"pids": [os.getpid(), process.pid], "argv": sys.argv[1:], "environment": dict(os.environ)}
Path("part").write_text(json.dumps(report))
Path("part").rename("report.json")
if "dies" in does:
    print(does["dies"], flush=True)
    sys.exit(1)
if does.get("silent"):
    time.sleep(60)

class Handler(BaseHTTPRequestHandler):
    def answer(self, body):
        self.send_response(200 if body is not None else 500)
        self.end_headers()
        self.wfile.write((body or "").encode())
    def do_GET(self):
        self.answer("OK" if self.path == "/health" else None)
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        found = self.path == "/api/2.0/mlflow/experiments/search" and does.get("experiments")
        self.answer(None if found is None else json.dumps({"experiments": found}))
        if does.get("dies later"):
            print(does["dies later"], flush=True)
            self.wfile.flush()
            os._exit(1)
    def log_message(self, *arguments):
        print("chatter", flush=True)

HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


def experiment(number: int, name: str, created: int = 1, **tags: str) -> dict[str, object]:
    listed = [{"key": key, "value": value} for key, value in tags.items()]
    return {
        "experiment_id": str(number),
        "name": name,
        "creation_time": created,
        **({"tags": listed} if listed else {}),
    }


def view(created: int) -> str:
    return json.dumps({"name": "Grid", "createdAt": created, "state": "{}"})


STUDIES = [
    experiment(0, "Default", 9),
    experiment(3, "three_bits", 2, **{f"{TAG}grid": view(70)}),
    experiment(12, "mnist", 1, **{f"{TAG}grid": view(80), f"{TAG}divergence": view(79)}),
    experiment(7, "by_hand", 5, **{f"{TAG}other": view(90)}),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with a store, and an `mlflow` that stands in for the real one when it is started there."""
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_text("not looked at")
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "__init__.py").touch()
    (tmp_path / "mlflow" / "__main__.py").write_text(STAND_IN)
    return tmp_path


def let(folder: Path, **does: object) -> None:
    """Say what the stand-in does."""
    (folder / "does.json").write_text(json.dumps(does))


def report(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "report.json").read_text())
    return content


def wait_until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def left(folder: Path) -> list[int]:
    """Which processes of the stand-in are alive."""
    alive = []
    for number in report(folder)["pids"]:  # type: ignore[attr-defined]
        with suppress(psutil.NoSuchProcess):
            alive += [number] if psutil.Process(number).status() != psutil.STATUS_ZOMBIE else []
    return alive


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start the command in a process of its own."""
    started = []

    def command(first: str = "pass") -> subprocess.Popen[str]:
        serve = "pipeline.ui.serve(pathlib.Path(sys.argv[1]), 0, lambda link: print(link, flush=True))"
        code = f"import sys, pathlib, pipeline.ui\n{first}\n{serve}"
        arguments = [sys.executable, "-c", code, str(folder)]
        process = subprocess.Popen(arguments, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield command
    for process in started:
        process.kill()
        process.communicate()
    if (folder / "report.json").exists():
        for number in left(folder):
            os.kill(number, signal.SIGKILL)


@pytest.mark.parametrize("number", SERVER_SIGNALS)
def test_a_signal_ends_every_process(
    folder: Path,
    start: Callable[..., subprocess.Popen[str]],
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nothing that our own machine is asked through
    monkeypatch.delenv("no_proxy", raising=False)
    let(folder, experiments=STUDIES)
    process = start()
    assert process.stdout is not None
    lines = [process.stdout.readline().rstrip() for _ in range(7)]
    assert len(left(folder)) == 2
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")
    assert left(folder) == []
    port = int(re.search(r"127\.0\.0\.1:(\d+)", lines[0])[1])  # type: ignore[index]
    names, links = zip(*(line.split() for line in lines[2:5]), strict=True)
    assert names == ("mnist", "three_bits", "by_hand")  # trained last, first
    assert [urlsplit(link).netloc for link in links] == [f"127.0.0.1:{port}"] * 3
    assert lines[5].endswith(f"http://127.0.0.1:{port}/#/experiments")
    assert lines[6] == links[0]  # what the browser gets


def test_a_signal_before_the_server_answers(folder: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    let(folder, silent=True)
    process = start()
    wait_until((folder / "report.json").exists)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0
    assert left(folder) == []


def test_a_signal_that_is_ignored_stays_ignored(folder: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    let(folder, experiments=STUDIES)
    process = start("import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=3 * server_process.PAUSE)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert left(folder) == []


def test_a_server_that_ignores_sigterm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_process, "END_SECONDS", 0.3)
    let(folder, experiments=STUDIES, stubborn=True)

    def opened(link: str) -> None:
        assert len(left(folder)) == 2
        os.kill(os.getpid(), signal.SIGTERM)

    ui.serve(folder, 0, opened)
    assert left(folder) == []


def test_how_the_server_is_started(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    let(folder, experiments=STUDIES)
    ui.serve(folder, 0, lambda link: os.kill(os.getpid(), signal.SIGINT))
    argv, environment = report(folder)["argv"], report(folder)["environment"]
    assert isinstance(argv, list)
    assert isinstance(environment, dict)
    assert argv[0] == "server"
    options = dict(zip(argv[1::2], argv[2::2], strict=True))
    assert int(options.pop("--port")) > 0
    assert options == {
        "--host": "127.0.0.1",
        "--workers": "1",
        "--backend-store-uri": store_uri(folder),
        "--default-artifact-root": (folder / "mlruns" / "artifacts").as_uri(),
    }
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert "chatter" not in "".join(capfd.readouterr())


def test_a_store_that_was_copied_shows_its_own_artifacts(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, empty_store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    original = tmp_path_factory.mktemp("original")
    (original / "mlruns").mkdir()
    shutil.copy(empty_store, original / "mlruns" / "mlflow.db")
    _, experiment = open_store(Tracking(name="local", uri=None), "study", original)
    shutil.copy(original / "mlruns" / "mlflow.db", folder / "mlruns")
    let(folder, experiments=STUDIES)
    ui.serve(folder, 0, lambda link: os.kill(os.getpid(), signal.SIGINT))
    assert f"copied from {original} to {folder}; 1 artifact location updated" in capfd.readouterr().err
    client, _ = open_store(Tracking(name="local", uri=None), "study", folder)
    assert client.get_experiment(experiment).artifact_location == (folder / "mlruns/artifacts/study").as_uri()


def test_a_copy_that_cannot_be_written_is_shown_without_its_artifacts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(mlruns: Path) -> None:
        raise LabError("The MLflow store was copied.")

    monkeypatch.setattr(ui, "follow_project", fail)
    let(folder, experiments=STUDIES)
    seen: list[str] = []

    def opened(link: str) -> None:
        seen.append(link)
        os.kill(os.getpid(), signal.SIGINT)

    ui.serve(folder, 0, opened)
    assert len(seen) == 1
    assert "warning: artifacts will be missing. The MLflow store was copied." in capfd.readouterr().err


def served_links(folder: Path) -> dict[str, str]:
    """Return the links of the studies that a user interface shows, which is ended at once."""
    seen: list[dict[str, str]] = []

    def opened(link: str) -> None:
        seen.append(ui.study_links(link.partition("/#")[0]))
        os.kill(os.getpid(), signal.SIGINT)

    ui.serve(folder, 0, opened)
    (links,) = seen
    return links


def test_a_study_with_several_seeds_or_with_curvatures_has_a_link_to_their_view(folder: Path) -> None:
    tags = {f"{TAG}{name}": view(70) for name in ("grid", "seeds", "stability")}
    let(folder, experiments=[experiment(3, "three_bits", 2, **tags)])
    links = served_links(folder)
    assert list(links) == ["three_bits", "three_bits, seeds", "three_bits, stability"]
    shown = [parse_qs(urlsplit(link).fragment.partition("?")[2])["viewStateShareKey"] for link in links.values()]
    assert shown == [["grid"], ["seeds"], ["stability"]]


def test_links(folder: Path) -> None:
    let(folder, experiments=STUDIES)
    links = served_links(folder)
    assert all(link.startswith("/#/") for link in links.values())
    pages = {name: urlsplit(link).fragment.partition("?") for name, link in links.items()}
    common = {"compareRunsMode": ["CHART"], "workflowType": ["machine_learning"]}
    assert {name: (path, parse_qs(query)) for name, (path, _, query) in pages.items()} == {
        "mnist": ("/experiments/12/runs", common | {"viewStateShareKey": ["grid"]}),
        "three_bits": ("/experiments/3/runs", common | {"viewStateShareKey": ["grid"]}),
        "by_hand": (
            "/experiments/7/runs",
            common | {"orderByKey": ["metrics.`hp/learning_rate`"], "orderByAsc": ["true"]},
        ),
    }


@pytest.mark.parametrize(
    ("does", "message"),
    [
        (
            {"dies": "MlflowException: Detected out-of-date database schema (found version a1, but expected b2). Take"},
            r"a different version(.|\n)*found version a1, but expected b2(.|\n)*mlflow db upgrade(.|\n)*a newer MLflow",
        ),
        (
            {"dies": "sqlalchemy.exc.DatabaseError: (sqlite3.DatabaseError) file is not a database\n[SQL: SELECT]"},
            r"not an MLflow store(.|\n)*restore mlruns/mlflow\.db from a backup",
        ),
        ({"dies": "a\nlast words"}, r"has exited(.|\n)*last words"),
        ({"dies": ""}, r"has exited(.|\n)*nothing"),
        ({"experiments": STUDIES, "dies later": "all of a sudden"}, r"has exited(.|\n)*all of a sudden"),
        ({"experiments": [experiment(0, "Default")]}, r"no runs yet(.|\n)*make reproduce"),
        ({}, r"could not be listed(.|\n)*500"),
    ],
)
def test_what_goes_wrong_with_the_server(folder: Path, does: dict[str, object], message: str) -> None:
    let(folder, **does)
    with pytest.raises(LabError, match=message) as refusal:
        ui.serve(folder, 0, lambda link: None)
    assert "aside" not in str(refusal.value)
    assert left(folder) == []


def test_a_server_that_does_not_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_process, "START_SECONDS", 0.5)
    let(folder, silent=True)
    with pytest.raises(LabError, match=r"does not answer(.|\n)*within 0\.5 s"):
        ui.serve(folder, 0, lambda link: None)


def test_no_runs(folder: Path) -> None:
    let(folder, dies="it was started")
    store = folder / "mlruns" / "mlflow.db"
    store.write_text("")
    with pytest.raises(LabError, match=r"no runs yet(.|\n)*make reproduce"):
        ui.serve(folder, 0, lambda link: None)
    store.unlink()
    with pytest.raises(LabError, match="no runs yet"):
        ui.serve(folder, 0, lambda link: None)


def test_the_words_of_mlflow_for_another_schema(project: Path) -> None:
    with sqlite3.connect(project / "mlruns" / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'deadbeef'")
    with pytest.raises(LabError) as refusal:
        open_store(Tracking(name="local", uri=None), "study", project)
    found = server_process.SCHEMA.search(refusal.value.received)
    assert found is not None
    assert found[0].startswith("found version deadbeef, but expected ")


def test_a_port_that_is_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    let(folder, experiments=STUDIES)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        links: list[str] = []

        def opened(link: str) -> None:
            links.append(link)
            os.kill(os.getpid(), signal.SIGINT)

        ui.serve(folder, taken, opened)
    port = urlsplit(links[0]).port
    assert port is not None
    assert taken < port < taken + ui.PORTS
    assert f"port {taken} is in use; using {port} instead" in capsys.readouterr().out


def test_every_port_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "PORTS", 1)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(LabError, match=rf"No port(.|\n)*{taken} to {taken} are in use(.|\n)*PORT="):
            ui.free_port(taken)


@pytest.mark.parametrize("port", [-1, 65536, 10**30])
def test_a_number_that_is_not_a_port(port: int) -> None:
    with pytest.raises(LabError, match=rf"No port(.|\n)*received: {port}\n"):
        ui.free_port(port)


def test_a_port_that_is_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(probe: socket.socket, address: tuple[str, int]) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(LabError, match=r"No port(.|\n)*Permission denied(.|\n)*PORT=5000"):
        ui.free_port(80)


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"DISPLAY": ""}, False),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("linux", {"SSH_CONNECTION": "there", "DISPLAY": "localhost:10"}, True),
        ("darwin", {}, True),
        ("win32", {}, True),
        ("darwin", {"SSH_CONNECTION": "there"}, False),
    ],
)
def test_whether_there_is_a_screen(
    monkeypatch: pytest.MonkeyPatch, platform: str, environment: dict[str, str], expected: bool
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert ui.has_screen() is expected


def test_the_command(lab: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "pipeline.ui", "--port", "0"]
    done = subprocess.run(command, cwd=lab, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"error: There are no runs yet.\n  expected: runs in {lab}/mlruns/mlflow.db\n" in done.stderr
    assert "Traceback" not in done.stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert imported & {"mlflow", "keras", "tensorflow", "matplotlib", "hydra", "sqlalchemy"} == set()


def test_make_passes_the_port_and_the_proxy() -> None:
    dry = ["make", "-n", "--no-print-directory", "ui", "PORT=5123", f"VENV={Path(sys.executable).parent.parent}"]
    done = subprocess.run(dry, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].endswith("python -m pipeline.ui --port 5123")
    done = subprocess.run(
        [*dry, "UI_PROXY=https://hub/x", "STRIPS_PATH=true"], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1].endswith("--port 5123 --proxy 'https://hub/x' --strips-path")
