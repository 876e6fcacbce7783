"""A sweep on workers gives the same results as on one machine, whatever the engine loses."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.points.folder import PointFolder
from pipeline.points.identity import signature
from pipeline.points.reading import read_attempt
from pipeline.points.sweep_record import list_points
from pipeline.sweep import training as stack_training
from pipeline.sweep.command_record import new_record
from pipeline.sweep.jobs import JobMaker
from pipeline.sweep.sweep import Sweep
from pipeline.sweep.workers import distribution, server_points
from pipeline.sweep.workers.unit import Engine
from pipeline.system.errors import EngineError, LabError
from pipeline.system.processes import owner
from pipeline.tracking.sync import thread as thread_module
from tests.support.engines import HereEngine
from tests.support.flaky_server import FlakyProxy, free_port, server_thread
from tests.support.once import made_once
from tests.support.swept import (
    Request,
    at_epoch,
    by_name,
    in_mlflow,
    interrupt,
    left_in_points,
    on_disk,
    rates,
    request,
    runs_of,
    statuses,
    swept,
)

pytestmark = pytest.mark.usefixtures("sketched", "syncs_end")
GRID = ("0.01", "5", "0.1")


def distributed(project: Path, requests: Sequence[Request], engine: Engine) -> Sweep:
    sweep = Sweep(project, requests[0][0], len(requests), engine=engine)
    try:
        sweep.train_all(requests)
    finally:
        sweep.finish()
    return sweep


@pytest.fixture(scope="module")
def calm(sketched: None, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which the grid was trained by one process."""

    def make(folder: Path) -> None:
        (folder / "mlruns").mkdir()
        shutil.copy(empty_store, folder / "mlruns" / "mlflow.db")
        swept(folder, rates(*GRID, more=["results=results/a"]))

    return made_once(tmp_path_factory, "distribution", make)


def test_units_give_what_one_process_gives_and_once_done_nothing_is_handed_out(
    project: Path, calm: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    engine = HereEngine()
    distributed(project, rates(*GRID, more=["results=results/a"]), engine)
    assert engine.calls == [3]
    assert on_disk(project) == on_disk(calm)
    assert in_mlflow(project) == in_mlflow(calm)
    assert sorted(path.name for path in (project / "results" / "a").iterdir()) == sorted(
        path.name for path in (calm / "results" / "a").iterdir()
    )
    printed = capfd.readouterr()
    assert "3 points in 3 units for 2 workers, by here" in printed.err
    assert len(printed.out.partition("\n\n")[0].splitlines()) == 2 + 3
    runs = by_name(project).values()
    # The workers of this engine are this process, and a run of a worker has the worker as its owner.
    assert {run.data.tags["lab.owner"] for run in runs} == {owner()}
    assert len({run.data.tags["command"] for run in runs}) == 1
    distributed(project, rates(*GRID, more=["results=results/a"]), engine)
    assert engine.calls == [3]


def test_what_an_engine_loses_is_handed_out_again(project: Path, calm: Path, capfd: pytest.CaptureFixture[str]) -> None:
    engine = HereEngine(lose=lambda call, unit: call == 1 and unit != 1)
    distributed(project, rates(*GRID), engine)
    assert engine.calls == [3, 2]
    assert "resubmitting 2 points. 2 units were lost." in capfd.readouterr().err
    assert on_disk(project) == on_disk(calm)


def test_what_it_loses_every_time_has_failed_and_the_same_command_goes_on(project: Path, calm: Path) -> None:
    engine = HereEngine(lose=lambda call, unit: unit == 0)
    with pytest.raises(LabError, match=r"failed. 1 units were lost."):
        distributed(project, rates(*GRID), engine)
    assert len(engine.calls) == distribution.ATTEMPTS
    assert len(on_disk(project)) == 2
    distributed(project, rates(*GRID), HereEngine())
    assert on_disk(project) == on_disk(calm)
    assert set(statuses(project).values()) == {"FINISHED"}


def test_a_point_that_fails_on_a_worker_fails_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def check(config: Any, arrays: Any) -> None:
        if config.optimizer.learning_rate == 5:
            raise LabError("It does not fit.")

    monkeypatch.setattr(stack_training, "check_memory", check)
    engine = HereEngine()
    with pytest.raises(LabError, match=r"^learning_rate=5 failed. It does not fit.$"):
        distributed(project, rates(*GRID), engine)
    # A point that fails is not lost by the engine, so it is not handed out again.
    assert engine.calls == [3]
    assert len(on_disk(project)) == 2


def test_a_bug_on_a_worker_is_the_cause_in_its_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError("a bug")

    at_epoch(monkeypatch, 7, fail)
    with pytest.raises(LabError, match="ZeroDivisionError: a bug"):
        distributed(project, rates(*GRID), HereEngine())
    runs = by_name(project)
    # The other units, and so their points, go on.
    assert {name: run.info.status for name, run in runs.items()} == {
        "line_y2x numpy": "FAILED",
        "learning_rate=0.1": "FAILED",
        "learning_rate=0.01": "FINISHED",
        "learning_rate=5": "FINISHED",
    }
    assert "ZeroDivisionError: a bug" in runs["learning_rate=0.1"].data.tags["error"]


def test_a_worker_with_other_code_says_so(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def other(*arguments: Any) -> str:
        calls.append(arguments)
        return signature(*arguments) if len(calls) <= len(GRID) else "0" * 16

    monkeypatch.setattr("pipeline.sweep.jobs.signature", other)
    with pytest.raises(LabError, match=r"(?s)learning_rate=5 has a different signature on .*received: 0{16}.*git pull"):
        distributed(project, rates(*GRID), HereEngine())
    assert left_in_points(project) == []


def test_points_that_were_not_brought_back_have_failed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "train_unit", lambda composed: [])
    with pytest.raises(LabError, match=r"(?s)learning_rate=0.1 was not returned.*shared_disk=false"):
        distributed(project, rates(*GRID), HereEngine())


def test_nodes_without_a_shared_disk_need_a_server(project: Path) -> None:
    with pytest.raises(LabError, match=r"(?s)Workers have no way to return their points.*tracking=server"):
        distributed(project, rates(*GRID), HereEngine(shared_disk=False))
    assert left_in_points(project) == []


def test_nodes_without_a_shared_disk_lock_no_more_points_than_files_may_be_open(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[list[bool]] = []

    class Lost(HereEngine):
        def run(self, task: object, units: Sequence[str]) -> list[Any]:
            folders = [PointFolder(project, job.signature) for job in jobs]
            held.append([not folder.lock() for folder in folders])
            for folder in folders:
                folder.unlock()
            return [[{"signature": job.signature, "state": "failed", "error": "The node is gone."} for job in jobs]]

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(distribution, "open_files", lambda: stack_training.RESERVED_FILES + 2)
    requests = rates(*GRID, more=["tracking=server", f"tracking.uri=http://127.0.0.1:{free_port()}"])
    training = stack_training.StackTraining(JobMaker(project, requests[0][0]), {}, lambda jobs: "", lambda: None)
    jobs = [training.job(*one) for one in requests]
    record = new_record(requests[0][0], {}, len(jobs), jobs)
    record.points = list_points((job.name, job.signature) for job in jobs)
    distribution.Distribution(Lost(shared_disk=False), record, training).train(jobs)
    assert held == [[True, True, False], [False, False, True]]
    assert [str(job.error) for job in jobs] == ["The node is gone."] * 3


@pytest.mark.parametrize("step", ["pipeline.points.job.Job.adopt", "pipeline.tracking.transfer.fetch_point"])
def test_a_bug_before_or_after_the_nodes_train_stays_with_its_point(
    project: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class Remote(HereEngine):
        def run(self, task: object, units: Sequence[str]) -> list[Any]:
            return [[{"signature": job.signature, "state": "complete", "error": None} for job in jobs]]

    def broken(*arguments: Any, **_: object) -> None:
        if jobs[1] in arguments:
            raise ZeroDivisionError("a bug")

    server = SimpleNamespace(runs=lambda signature: [])
    monkeypatch.setattr(server_points.ServerPoints, "tracker", lambda self: server)
    monkeypatch.setattr("pipeline.tracking.transfer.fetch_point", lambda *_, **__: None)
    requests = rates(*GRID, more=["tracking=server", "tracking.uri=http://127.0.0.1:9"])
    training = stack_training.StackTraining(JobMaker(project, requests[0][0]), {}, lambda jobs: "", lambda: None)
    jobs = [training.job(*one) for one in requests]
    record = new_record(requests[0][0], {}, len(jobs), jobs)
    record.points = list_points((job.name, job.signature) for job in jobs)
    monkeypatch.setattr(step, broken)
    distribution.Distribution(Remote(shared_disk=False), record, training).train(jobs)
    assert ["ZeroDivisionError: a bug" in str(job.error) for job in jobs] == [False, True, False]
    assert "was not returned" in str(jobs[0].error)


def test_a_single_point_needs_no_sweep(project: Path) -> None:
    only = request("optimizer.learning_rate=0.1")
    distributed(project, [only], HereEngine())
    assert statuses(project) == {"learning_rate=0.1": "FINISHED"}


def test_points_of_workers_that_were_stopped_are_handed_out_again(
    project: Path, calm: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    at_epoch(monkeypatch, 7, interrupt)
    engine = HereEngine()
    distributed(project, rates(*GRID), engine)
    assert engine.calls == [3, 1]
    printed = capfd.readouterr().err
    assert "resubmitting 1 point. The workers were stopped." in printed
    assert "resuming after 7" in printed
    assert on_disk(project) == on_disk(calm)


def test_force_trains_each_point_once_though_the_engine_loses_units(project: Path) -> None:
    grid = rates(*GRID, more=["force=true"])
    distributed(project, rates(*GRID), HereEngine())
    attempts, runs = attempts_of(project), by_name(project)
    after_the_first: dict[str, str | None] = {}

    def lose(call: int, unit: int) -> bool:
        if call == 2:
            after_the_first.update(attempts_of(project))
        return call == 1 and unit == 0

    distributed(project, grid, HereEngine(lose=lose))
    ended = attempts_of(project)
    assert all(ended[sign] != attempts[sign] for sign in attempts)
    # The second attempt trains only the points of the lost unit.
    assert sum(ended[sign] == after_the_first[sign] for sign in ended) == 2
    points = [name for name, run in runs.items() if run.data.tags["lab.role"] == "point"]
    assert all(by_name(project)[name].info.run_id != runs[name].info.run_id for name in points)
    assert set(statuses(project).values()) == {"FINISHED"}


def attempts_of(project: Path) -> dict[str, str | None]:
    folders = [path for path in (project / ".points").glob("*") if not path.name.startswith(".")]
    return {path.name: read_attempt(path) for path in folders}


def test_a_unit_that_an_engine_tries_again_does_not_force_twice(project: Path) -> None:
    class Twice(HereEngine):
        def run(self, task: Any, units: Sequence[str]) -> list[Any]:
            first = super().run(task, units)
            between.update(attempts_of(project))
            super().run(task, units)
            return first

    between: dict[str, str | None] = {}
    distributed(project, rates("0.1"), HereEngine())
    before = attempts_of(project)
    distributed(project, rates("0.1", more=["force=true"]), Twice())
    assert attempts_of(project) == between != before


def test_force_fails_where_nothing_was_trained(project: Path) -> None:
    distributed(project, rates("0.1", "5"), HereEngine())
    before = attempts_of(project)
    with pytest.raises(LabError, match=r"^learning_rate=0.1, learning_rate=5 failed. \d units were lost.$"):
        distributed(project, rates("0.1", "5", more=["force=true"]), HereEngine(lose=lambda call, unit: True))
    assert attempts_of(project) == before
    assert statuses(project)["line_y2x numpy"] == "FAILED"


@pytest.mark.parametrize("force", ["false", "true"])
def test_a_worker_that_is_lost_in_the_middle_costs_an_interval(
    project: Path, calm: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], force: str
) -> None:
    class Lost(BaseException):
        pass

    class Losing(HereEngine):
        def run(self, task: Any, units: Sequence[str]) -> list[Any]:
            try:
                return super().run(task, units)
            except Lost:
                raise EngineError("A worker was lost.") from None

    def lose() -> None:
        raise Lost

    if force == "true":
        distributed(project, rates(*GRID), HereEngine())
    at_epoch(monkeypatch, 7, lose)
    distributed(project, rates(*GRID, more=[f"force={force}"]), Losing())
    assert "resuming after 7" in capfd.readouterr().err
    assert on_disk(project) == on_disk(calm)
    assert in_mlflow(project) == in_mlflow(calm)


@pytest.mark.slow
def test_a_tracking_server_that_is_lost_costs_no_point_and_the_same_command_sends_all(
    tmp_path: Path,
    empty_store: Path,
    calm: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The command and its workers lose it while these train, after some runs have begun."""
    monkeypatch.setattr(thread_module, "RETRY_SECONDS", 0.05)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "server").mkdir()
    with server_thread(tmp_path / "server", empty_store) as port:
        proxy = FlakyProxy(port)
        at_epoch(monkeypatch, 7, lambda: lose_after_a_run(proxy, tmp_path))
        grid = rates(*GRID, more=["results=results/a", "tracking=server", f"tracking.uri={proxy.uri}"])
        distributed(tmp_path, grid, HereEngine())
        assert capfd.readouterr().err.count("MLflow sync is incomplete") == 1
        assert on_disk(tmp_path) == on_disk(calm)
        proxy.faults = lambda number: "none"
        distributed(tmp_path, grid, HereEngine())
        assert "incomplete" not in capfd.readouterr().err
        assert in_mlflow(tmp_path, uri=proxy.uri) == in_mlflow(calm)
        proxy.close()


def lose_after_a_run(proxy: FlakyProxy, project: Path) -> None:
    """Make a server drop every request as soon as it has the run of a point."""
    client = MlflowClient(proxy.uri)
    give_up = time.monotonic() + 60
    while client.get_experiment_by_name("line_y2x") is None or not points_of(project, proxy.uri):
        assert time.monotonic() < give_up
        time.sleep(0.05)
    proxy.faults = lambda number: "drop"


def points_of(project: Path, uri: str) -> list[Run]:
    return [run for run in runs_of(project, uri=uri) if run.data.tags.get("lab.role") == "point"]


def test_keras_trains_unit_after_unit_in_one_process(
    project: Path, tmp_path_factory: pytest.TempPathFactory, empty_store: Path
) -> None:
    """A worker of joblib does so: its process is used again, and has TensorFlow from its first unit on."""
    grid = rates("0.1", "0.01", more=["backend=keras", "training.epochs=5"])
    calm = tmp_path_factory.mktemp("keras")
    (calm / "mlruns").mkdir()
    shutil.copy(empty_store, calm / "mlruns" / "mlflow.db")
    swept(calm, grid)
    engine = HereEngine()
    distributed(project, grid, engine)
    assert engine.calls == [2]
    assert on_disk(project) == on_disk(calm)
    assert in_mlflow(project) == in_mlflow(calm)
