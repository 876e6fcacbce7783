"""MLflow during training: whatever its server or store does, no point is lost and nothing is stored twice."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy import event
from sqlalchemy.engine import Engine

from pipeline.backends.contract import State
from pipeline.config.schema import Tracking
from pipeline.points.reading import read_point
from pipeline.points.sweep_record import SweepRecord
from pipeline.rebuild import rebuild
from pipeline.sweep import training as training_module
from pipeline.sweep.pacing import StackCheckpoints
from pipeline.sweep.sweep import Sweep
from pipeline.system.errors import LabError
from pipeline.system.processes import owner
from pipeline.tracking.pages.presentation import present_study
from pipeline.tracking.store import store_uri
from pipeline.tracking.sync import sweep as sync_module
from pipeline.tracking.sync import thread as thread_module
from pipeline.tracking.sync.sweep import Sync
from pipeline.tracking.sync.thread import SyncThread
from pipeline.tracking.tracker import Tracker
from tests.support.flaky_server import Fault, FlakyProxy, free_port, server_thread
from tests.support.swept import (
    Request,
    at_epoch,
    begun,
    by_name,
    full_name,
    in_mlflow,
    interrupt,
    killed,
    make_plain,
    on_disk,
    rates,
    runs_of,
    statuses,
    swept,
    told_once,
)

pytestmark = pytest.mark.usefixtures("plain_runs")
LOCAL = Tracking(name="local", uri=None)
# Processes that find imported what they need; the first one waits for these imports.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([
    "mlflow.store.tracking.sqlalchemy_store", "alembic.command", "matplotlib.colors", "pipeline.sweep.sweep",
    "tests.support.swept",
])  # fmt: skip
PENDING = "MLflow sync is incomplete: 2 of 2 points are pending."


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses, and no tries of MLflow's own on top of ours."""
    monkeypatch.setattr(thread_module, "SYNC_SECONDS", 0.05)
    monkeypatch.setattr(thread_module, "RETRY_SECONDS", 0.05)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def wait_until(condition: Callable[[], object], pause: float = 0.01) -> None:
    """Wait, as long as the whole test may take."""
    while not condition():
        time.sleep(pause)


def test_what_was_completed_while_a_point_was_sent_is_sent_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_module, "SYNC_SECONDS", 3600.0)
    sweep = SweepRecord("key", "study", "numpy", False, "command", LOCAL, {}, started=0)
    sync = Sync(tmp_path, sweep, owner())
    thread = SyncThread(sync)
    tries: list[SweepRecord | None] = []

    def send(ended: SweepRecord | None = None) -> None:
        sync.completed += not tries
        tries.append(ended)

    monkeypatch.setattr(sync, "send", send)
    thread.start()
    wait_until(lambda: len(tries) == 2)
    thread.close(sweep)
    assert tries == [None, None, sweep]


# --- a server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[int]:
    with server_thread(tmp_path_factory.mktemp("server"), empty_store) as port:
        yield port


@pytest.fixture
def proxy(server: int) -> Iterator[FlakyProxy]:
    proxy = FlakyProxy(server)
    yield proxy
    proxy.close()


def on_server(proxy: FlakyProxy, study: str) -> list[Request]:
    return rates("0.1", "0.01", more=["tracking=server", f"tracking.uri={proxy.uri}", f"study={study}"])


def renamed(content: dict[str, dict[str, object]], study: str) -> dict[str, dict[str, object]]:
    return {name.replace(study, "study"): {**run, "parent": run["parent"] and "study numpy"} for name, run in
            content.items()}  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, server: int
) -> tuple[dict[str, dict[str, object]], dict[str, object]]:
    """What a server and the disk hold after a sweep to which nothing happened."""
    project, proxy = tmp_path_factory.mktemp("undisturbed"), FlakyProxy(server)
    swept(project, on_server(proxy, "undisturbed"))
    content = renamed(in_mlflow(project, "undisturbed", proxy.uri), "undisturbed")
    proxy.close()
    assert sorted(content) == ["learning_rate=0.01", "learning_rate=0.1", "study numpy"]
    assert all(run["status"] == "FINISHED" and run["metrics"] and run["artifacts"] for run in content.values())
    return content, dict(on_disk(project))


def until(first: int, fault: Fault, last: int = 10**9) -> Callable[[int], Fault]:
    return lambda number: fault if first <= number <= last else "none"


def in_turn(number: int) -> Fault:
    """Each way to fail, one after the other."""
    faults: Sequence[Fault] = ("drop", "error", "lose")
    return faults[number % 3]


Undisturbed = tuple[dict[str, dict[str, object]], dict[str, object]]
LOST: dict[str, Callable[[int], Fault]] = {
    "away from the start": until(1, "drop"),
    "an error after the first runs are made": until(12, "error"),
    "does what is asked but never says so": until(1, "lose"),
    "fails every fourth time": lambda number: in_turn(number) if number % 4 == 0 else "none",
}


@pytest.mark.slow
@pytest.mark.parametrize("what", LOST)
def test_a_server_that_fails_costs_no_point_and_gets_all_of_them_later(
    tmp_path: Path, proxy: FlakyProxy, undisturbed: Undisturbed, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    study = what.replace(" ", "_")
    proxy.faults = LOST[what]
    swept(tmp_path, on_server(proxy, study))
    assert on_disk(tmp_path) == undisturbed[1]
    shown = capsys.readouterr()
    assert shown.err.count(PENDING) == 1
    assert shown.err.count("MLflow is unavailable; training continues and will sync later.") <= 1
    assert f"python -m pipeline.rebuild tracking=server tracking.uri={proxy.uri}\n" in shown.err
    assert "Traceback" not in shown.err
    proxy.faults = until(1, "none")
    tracking = Tracking(name="server", uri=proxy.uri)
    assert rebuild(tracking, tmp_path, tmp_path / "results") == [(f"{study} numpy", 2, 2)]
    assert renamed(in_mlflow(tmp_path, study, proxy.uri), study) == undisturbed[0]
    assert rebuild(tracking, tmp_path, tmp_path / "results") == [(f"{study} numpy", 2, 0)]


def test_a_server_without_models_gets_everything_else(
    tmp_path: Path, proxy: FlakyProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one of MLflow 2.22, which answers with a page in HTML."""
    proxy.lacks = "/logged-models"
    with pytest.raises(LabError) as refusal:
        swept(tmp_path, on_server(proxy, "models"))
    said = str(refusal.value)
    models = [f"the final model of learning_rate={rate}" for rate in ("0.1", "0.01")]
    assert f"{', '.join(models)} could not be sent to MLflow. A call to MLflow failed.\n" in said
    assert "received: the server answered 404 Not Found to /api/2.0/mlflow/logged-models/search\n" in said
    assert "to do:    upgrade the server to MLflow 3" in said
    assert "<" not in said
    assert "Traceback" not in capsys.readouterr().err
    assert set(statuses(tmp_path, "models", proxy.uri).values()) == {"FINISHED"}
    assert len(on_disk(tmp_path)) == 2
    proxy.lacks = "an address that nobody asks for"
    tracking = Tracking(name="server", uri=proxy.uri)
    assert rebuild(tracking, tmp_path, tmp_path / "results") == [("models numpy", 2, 2)]
    assert rebuild(tracking, tmp_path, tmp_path / "results") == [("models numpy", 2, 0)]


@pytest.mark.slow
def test_the_next_command_sends_what_the_server_lacks(
    tmp_path: Path, proxy: FlakyProxy, undisturbed: Undisturbed, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy.faults = until(11, "drop")
    swept(tmp_path, on_server(proxy, "next"))
    assert capsys.readouterr().err.count(PENDING) == 1
    proxy.faults = until(1, "none")
    swept(tmp_path, on_server(proxy, "next"))
    assert "pending" not in capsys.readouterr().err
    assert renamed(in_mlflow(tmp_path, "next", proxy.uri), "next") == undisturbed[0]


@pytest.mark.slow
def test_a_server_gets_the_points_that_were_trained_for_another_store(
    project: Path, proxy: FlakyProxy, undisturbed: Undisturbed, capsys: pytest.CaptureFixture[str]
) -> None:
    swept(project, rates("0.1", "0.01", more=["study=moved"]))
    proxy.faults = until(1, "drop")
    swept(project, on_server(proxy, "moved"))
    assert PENDING in capsys.readouterr().err
    proxy.faults = until(1, "none")
    rebuild(Tracking(name="server", uri=proxy.uri), project, project / "results")
    assert renamed(in_mlflow(project, "moved", proxy.uri), "moved") == undisturbed[0]
    assert len(runs_of(project, "moved")) == 3


@pytest.mark.slow
def test_a_server_that_comes_back_while_training_gets_everything(
    tmp_path: Path,
    proxy: FlakyProxy,
    undisturbed: Undisturbed,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    proxy.faults = lambda number: in_turn(number) if 4 <= number <= 15 else "none"

    def wait_for_metrics() -> None:
        wait_until(lambda: proxy.asked > 15 and proxy.logged >= 2)

    at_epoch(monkeypatch, 9, wait_for_metrics)
    swept(tmp_path, on_server(proxy, "back"))
    shown = capsys.readouterr().err
    assert shown.count("MLflow is unavailable; training continues and will sync later.") == 1
    assert "pending" not in shown
    assert renamed(in_mlflow(tmp_path, "back", proxy.uri), "back") == undisturbed[0]
    assert on_disk(tmp_path) == undisturbed[1]


@pytest.mark.slow
def test_a_slow_server_gets_everything(
    tmp_path: Path, proxy: FlakyProxy, undisturbed: Undisturbed, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy.faults = until(1, "delay", 30)  # training has ended by then
    swept(tmp_path, on_server(proxy, "slow"))
    assert proxy.asked > 30
    assert "pending" not in capsys.readouterr().err
    assert renamed(in_mlflow(tmp_path, "slow", proxy.uri), "slow") == undisturbed[0]


def test_training_does_not_wait_for_a_server_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        hanging = threading.Event()

        def tracker(tracking: Tracking, experiment: str, root: Path) -> Tracker:
            hanging.set()
            return Tracker(tracking, experiment, root)

        monkeypatch.setattr("pipeline.tracking.sync.connection.Tracker", tracker)
        at_epoch(monkeypatch, 3, lambda: wait_until(hanging.is_set))
        grid = rates("0.1", "0.01", more=["tracking=server", f"tracking.uri={uri}"])
        sweep = Sweep(tmp_path, grid[0][0], 2)
        assert None not in sweep.train_all(grid)
        sweep.finish()
    assert PENDING in capsys.readouterr().err
    assert len(on_disk(tmp_path)) == 2


@pytest.mark.parametrize("uri", ["http://127.0.0.1:{port}", "http://nowhere.invalid"])
def test_an_address_where_no_server_is_costs_no_point(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], uri: str
) -> None:
    uri = uri.format(port=free_port())
    swept(tmp_path, rates("0.1", "0.01", more=["tracking=server", f"tracking.uri='{uri}'"]))
    shown = capsys.readouterr()
    assert shown.err.count(PENDING) == 1
    assert "Traceback" not in shown.err
    assert "verdict" in shown.out
    assert len(on_disk(tmp_path)) == 2
    assert not (tmp_path / "mlruns").exists()


# --- the local store


@pytest.mark.parametrize("first", [1, 2, 4, 6, 9, 14])
def test_a_store_that_refuses_after_some_calls_has_everything_after_the_next_command(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], first: int
) -> None:
    from mlflow import MlflowClient

    calls = []
    with monkeypatch.context() as patched:
        for name in ("create_run", "log_batch", "update_run", "log_artifacts", "set_terminated", "search_runs"):

            def call(*arguments: object, real: object = getattr(MlflowClient, name), **named: object) -> object:
                calls.append(real)
                if len(calls) >= first:
                    raise MlflowException("no more of this")
                assert callable(real)
                return real(*arguments, **named)

            patched.setattr(MlflowClient, name, call)
        sweep = begun(project, rates("0.1", "0.01"))
        refusals = ""
        try:
            sweep.finish()
        except LabError as error:  # whatever can be read from the store is not away
            refusals = str(error)
    shown = capsys.readouterr().err + refusals
    assert shown.count(PENDING) == 1
    assert "no more of this" in shown
    swept(project, rates("0.1", "0.01"))
    content = in_mlflow(project)
    assert sorted(content) == ["learning_rate=0.01", "learning_rate=0.1", "line_y2x numpy"]
    assert {run["status"] for run in content.values()} == {"FINISHED"}
    for name, run in by_name(project).items():
        if "signature" in run.data.tags:
            told_once(project, read_point(project / ".points" / run.data.tags["signature"], name), run.info.run_id)


def test_metrics_are_sent_only_when_a_checkpoint_counts_on_them(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a process dies between them, the journal is longer than its checkpoint, and those rows are written again."""
    with monkeypatch.context() as patched:
        at_epoch(patched, 9, lambda: None)

        def write_checkpoint(*arguments: object) -> None:
            interrupt()

        patched.setattr("pipeline.points.folder.write_checkpoint", write_checkpoint)
        killed(project, rates("0.1"))
    swept(project, rates("0.1"))
    (run,) = runs_of(project)
    told_once(project, read_point(project / ".points" / run.data.tags["signature"], "it"), run.info.run_id)


@pytest.mark.slow
def test_a_store_that_is_locked_for_longer_than_sqlite_waits_is_waited_for(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """MLflow lets sqlite wait for 20 s; here it is a fifth of a second."""
    calm = project / "calm"
    shutil.copytree(project / "mlruns", calm / "mlruns")
    swept(calm, rates("0.1", "0.01"))
    capfd.readouterr()

    def briefly(_c: object, _k: object, statement: str, parameters: object, *_: object) -> tuple[str, object]:
        return statement.replace("busy_timeout = 20000", "busy_timeout = 200"), parameters

    event.listen(Engine, "before_cursor_execute", briefly, retval=True)
    other = sqlite3.connect(project / "mlruns" / "mlflow.db", check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    lock = threading.Timer(1, other.rollback)
    try:
        sweep = begun(project, rates("0.1", "0.01"))
        lock.start()  # training is over, the store is locked still
        sweep.finish()
        assert not lock.is_alive()
    finally:
        event.remove(Engine, "before_cursor_execute", briefly)
    other.close()
    shown = capfd.readouterr().err
    # A slow command says that it writes to MLflow.
    assert "MLflow is" not in shown
    assert "Traceback" not in shown
    assert in_mlflow(project) == in_mlflow(calm)


def train_in_a_process(project: Path, grid: list[Request], number: int) -> None:
    """What each of several processes does; a failure is its exit code."""
    sys.stderr = (project / f"{number}.log").open("w")
    with pytest.MonkeyPatch.context() as patch:
        make_plain(patch)
        swept(project, grid)


@pytest.mark.slow
def test_sweeps_that_start_together_on_a_store_that_does_not_exist(tmp_path: Path) -> None:
    asked = [("the_same", 1), ("the_same", 1), ("the_same", 2), ("other", 3)]
    processes = [
        PROCESSES.Process(
            target=train_in_a_process, args=(tmp_path, rates("0.1", f"0.0{rate}", more=[f"study={study}"]), number)
        )
        for number, (study, rate) in enumerate(asked)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    logs = "\n".join(file.read_text() for file in tmp_path.glob("*.log"))
    assert [process.exitcode for process in processes] == [0] * len(asked), logs
    assert "pending" not in logs
    assert "Traceback" not in logs
    assert len(on_disk(tmp_path)) == 4
    attempts = {json.loads(file.read_text())["attempt"] for file in tmp_path.glob(".points/*/run.json")}
    assert len(attempts) == 4
    for study, sweeps, trained in (("the_same", 2, 3), ("other", 1, 2)):
        runs = runs_of(tmp_path, study)
        assert {run.info.status for run in runs} == {"FINISHED"}
        points = [run for run in runs if run.data.tags["lab.role"] == "point"]
        assert {run.data.tags["lab.attempt"] for run in points} <= attempts
        assert (len(points), len(runs) - len(points)) == (trained, sweeps)
        for run in points:
            point = read_point(tmp_path / ".points" / run.data.tags["signature"], "it")
            told_once(tmp_path, point, run.info.run_id)


# --- runs whose process has gone


def train_and_pause(project: Path, typed: Sequence[str], at_nine: Connection) -> None:
    """Train the given rates, and say so and wait after the ninth epoch."""

    class Pausing(StackCheckpoints):
        def due(self) -> bool:
            return True

        def keep(self, epoch: int, states: Sequence[State]) -> None:
            super().keep(epoch, states)
            if epoch == 9:
                at_nine.send("at 9")
                at_nine.recv()

    grid = rates(*typed)
    with pytest.MonkeyPatch.context() as patch:
        make_plain(patch)
        patch.setattr(thread_module, "SYNC_SECONDS", 0.05)
        patch.setattr(training_module, "StackCheckpoints", Pausing)
        Sweep(project, grid[0][0], len(grid)).train_all(grid)


@pytest.fixture
def living(project: Path) -> Iterator[Callable[..., BaseProcess]]:
    """Start a process that trains the given rates and pauses after the ninth epoch."""
    processes: list[BaseProcess] = []
    ends: list[Connection] = []

    def start(*typed: str) -> BaseProcess:
        here, there = PROCESSES.Pipe()
        process = PROCESSES.Process(target=train_and_pause, args=(project, typed, there))
        process.start()
        processes.append(process)
        ends.append(here)
        there.close()
        assert here.recv() == "at 9"

        def sent() -> bool:
            names = {f"learning_rate={rate}" for rate in typed}
            try:
                runs = {full_name(run): run for run in runs_of(project)}
            except AssertionError:
                return False
            return names <= set(runs) and all("train/loss" in runs[name].data.metrics for name in names)

        wait_until(sent, pause=0.3)  # to ask MLflow takes longer than to look at a file
        return process

    yield start
    for process in processes:
        process.kill()
        process.join()
    for end in ends:
        end.close()


@pytest.mark.slow
def test_runs_of_a_dead_process_are_taken_over_and_those_of_a_living_one_are_not(
    project: Path, living: Callable[..., BaseProcess]
) -> None:
    dead = living("0.1", "0.01")
    dead.kill()
    dead.join()
    orphans = by_name(project)
    assert {run.info.status for run in orphans.values()} == {"RUNNING"}
    living("0.2", "0.02")  # the next command of the study; it is training still
    names = ("learning_rate=0.1", "learning_rate=0.01", "learning_rate=0.2", "learning_rate=0.02")
    found = {full_name(run): run.info.status for run in runs_of(project)}
    assert [found[name] for name in names] == ["KILLED", "KILLED", "RUNNING", "RUNNING"]
    sweep = swept(project, rates("0.1", "0.01"))
    found = {full_name(run): run.info.status for run in runs_of(project)}
    assert [found[name] for name in names] == ["FINISHED", "FINISHED", "RUNNING", "RUNNING"]
    runs = {run.data.tags.get("signature"): run for run in runs_of(project)}
    for job in sweep.jobs.values():
        assert job.point is not None
        assert job.begun == 9
        assert runs[job.signature].info.run_id == orphans[job.name].info.run_id
        told_once(project, job.point, runs[job.signature].info.run_id)
    parents = [run for run in runs_of(project) if run.data.tags["lab.role"] == "sweep"]
    assert sorted(run.info.status for run in parents) == ["FINISHED", "RUNNING"]
    assert orphans["line_y2x numpy"].info.run_id in {run.info.run_id for run in parents}
    assert len(runs_of(project)) == 6


OTHER_MACHINE = json.dumps({"host": "elsewhere", "process": 1, "started": 0.0})
OTHER_CONTAINER = json.dumps({**json.loads(owner()), "process": 2**22 + 1, "place": "another PID namespace"})


@pytest.mark.parametrize(
    ("process", "beat", "status"),
    [
        (owner(), None, "RUNNING"),
        (json.dumps({**json.loads(owner()), "started": 0.0, "ticks": 0}), None, "KILLED"),  # the id is used again
        (json.dumps({**json.loads(owner()), "process": 2**22 + 1}), None, "KILLED"),
        (OTHER_MACHINE, 0, "RUNNING"),
        (OTHER_MACHINE, 10_000, "KILLED"),
        (OTHER_MACHINE, None, "KILLED"),
        (OTHER_CONTAINER, 0, "RUNNING"),
        ("somebody else's", None, "RUNNING"),
    ],
    ids=[
        "this",
        "its id used again",
        "no such",
        "elsewhere",
        "elsewhere, stale",
        "elsewhere, silent",
        "container",
        "no owner",
    ],
)
def test_which_process_counts_as_dead(project: Path, process: str, beat: int | None, status: str) -> None:
    tracker = Tracker(LOCAL, "line_y2x", project)
    tags = {"lab.role": "sweep", "lab.owner": process}
    if beat is not None:
        tags["lab.heartbeat"] = str(time.time_ns() // 1_000_000 - beat * 1000)
    parent = tracker.start_run("a sweep", tags)
    tracker.start_run("a point", {"mlflow.parentRunId": parent, "lab.role": "point", "lab.owner": process})
    tracker.start_run("by hand", {})
    swept(project, rates("0.1"))
    found = statuses(project)
    assert found.pop("learning_rate=0.1") == "FINISHED"
    assert found == {"a sweep": status, "a point": status, "by hand": "RUNNING"}


def test_views_that_could_not_be_written_are_written_at_the_next_try(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def at_the_second_try(*arguments: Any) -> bool:
        calls.append(1)
        if len(calls) == 1:
            raise LabError("The store is away.")
        return present_study(*arguments)

    monkeypatch.setattr(sync_module, "present_study", at_the_second_try)
    swept(project, rates("0.1", "0.5"))
    tags = Tracker(LOCAL, "line_y2x", project).experiment_tags()
    assert any(key.startswith("mlflow.sharedViewState.") for key in tags)


def test_points_that_cannot_be_compared_are_all_sent_and_their_sweep_ends(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> list[object]:
        raise ValueError("an error of our own")

    swept(project, rates("0.02", "0.1"))
    client = MlflowClient(store_uri(project))
    for run in runs_of(project):
        client.delete_run(run.info.run_id)
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.tracking.sync.synced_points.judged_in_study", broken)
        with pytest.raises(LabError, match="the comparison of the points of line_y2x numpy"):
            rebuild(LOCAL, project, project / "results")
    assert set(statuses(project).values()) == {"FINISHED"}
    assert len(statuses(project)) == 3
