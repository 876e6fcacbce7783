"""Points of nodes that share no disk: their folders come home through the server, and so does what was lost of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.config.schema import Tracking
from pipeline.points.folder import PointFolder
from pipeline.sweep import pacing
from pipeline.sweep.sweep import Sweep
from pipeline.sweep.workers import distribution
from pipeline.system.errors import LabError
from pipeline.tracking import transfer
from pipeline.tracking.tracker import Tracker
from pipeline.tracking.transfer import FOLDER, drop_checkpoints, fetch_checkpoint, fetch_point, send_checkpoint
from tests.support.engines import HereEngine
from tests.support.flaky_server import mlflow_server
from tests.support.swept import Request, artifacts, at_epoch, interrupt, on_disk, rates, runs_of, statuses, swept

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("sketched")]
GRID = ("0.01", "0.1")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("server")) as port:
        yield f"http://127.0.0.1:{port}"


class Apart:
    """A home and a node that see nothing of each other's disks, and a study of their own on the server."""

    def __init__(self, folder: Path, uri: str, study: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.uri, self.study, self.folder = uri, study, folder
        self.home, self._patch, self._nodes = folder / "home", monkeypatch, 0
        self.home.mkdir()
        self.new_node()

    def new_node(self) -> None:
        self._nodes += 1
        self.node = self.folder / f"node_{self._nodes}"
        self.node.mkdir()
        self._patch.setattr("pipeline.sweep.workers.worker.PROJECT", self.node)

    def asked(self) -> list[Request]:
        return rates(*GRID, more=["tracking=server", f"tracking.uri={self.uri}", f"study={self.study}"])

    def command(self) -> HereEngine:
        requests, engine = self.asked(), HereEngine(shared_disk=False)
        sweep = Sweep(self.home, requests[0][0], len(requests), engine=engine)
        sweep.train_all(requests)
        sweep.finish()
        return engine

    def tracker(self) -> Tracker:
        return Tracker(Tracking(name="server", uri=self.uri), self.study, self.home)


@pytest.fixture
def apart(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Apart:
    monkeypatch.setattr(transfer, "SEND_SECONDS", 0.0)
    return Apart(tmp_path, uri, request.node.name, monkeypatch)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    folder = tmp_path_factory.mktemp("calm")
    (folder / "mlruns").mkdir()
    shutil.copy(empty_store, folder / "mlruns" / "mlflow.db")
    swept(folder, rates(*GRID))
    return folder


def sent(apart: Apart) -> list[str]:
    client = MlflowClient(apart.uri)
    return [path for run in runs_of(apart.home, apart.study, apart.uri) for path in artifacts(client, run.info.run_id)]


def finished(apart: Apart, calm: Path) -> None:
    """The home has every point, as one machine would have trained it; MLflow one run of each, and no checkpoint."""
    assert on_disk(apart.home) == on_disk(calm)
    assert set(statuses(apart.home, apart.study, apart.uri).values()) == {"FINISHED"}
    assert len(runs_of(apart.home, apart.study, apart.uri)) == len(GRID) + 1
    assert [path for path in sent(apart) if path.startswith(FOLDER)] == []


def test_points_come_home(apart: Apart, calm: Path) -> None:
    engine = apart.command()
    assert engine.calls == [2]
    finished(apart, calm)
    assert on_disk(apart.node) == on_disk(calm)


def test_what_came_to_the_server_is_not_trained_again(apart: Apart, calm: Path) -> None:
    apart.command()
    shutil.rmtree(apart.home / ".points")  # as if the head had been killed before it fetched them
    apart.new_node()
    assert apart.command().calls == []
    finished(apart, calm)


def test_another_node_goes_on_where_a_lost_one_was(
    apart: Apart, calm: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        at_epoch(patched, 7, interrupt, times=2)
        patched.setattr(distribution, "ATTEMPTS", 1)
        with pytest.raises(LabError):
            apart.command()
    assert len([path for path in sent(apart) if path.startswith(FOLDER)]) == len(GRID)
    shutil.rmtree(apart.node)
    apart.new_node()
    capfd.readouterr()
    apart.command()
    assert capfd.readouterr().err.count("going on after 7") == len(GRID)
    finished(apart, calm)


def test_a_worker_in_the_folder_of_the_command_is_refused(apart: Apart, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.sweep.workers.worker.PROJECT", apart.home)
    with pytest.raises(LabError, match=r"(?s)works in the folder of the command itself.*--num-cpus 0"):
        apart.command()


def kept_at_epoch(apart: Apart, monkeypatch: pytest.MonkeyPatch) -> tuple[Tracker, Sweep, str]:
    """A point that a node has left at its seventh epoch, and its run."""
    monkeypatch.setattr(pacing, "FIRST_SECONDS", 0.0)
    with monkeypatch.context() as patched:
        at_epoch(patched, 7, interrupt)
        requests = apart.asked()[:1]
        sweep = Sweep(apart.home, requests[0][0], 1)
        with pytest.raises(KeyboardInterrupt):
            sweep.train_all(requests)
        sweep.finish()
    (job,) = sweep.jobs.values()
    tracker = apart.tracker()
    return tracker, sweep, tracker.runs(job.signature)[0].run_id


def test_the_newest_checkpoint_that_is_whole_is_taken(apart: Apart, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker, sweep, run_id = kept_at_epoch(apart, monkeypatch)
    (job,) = sweep.jobs.values()
    send_checkpoint(tracker, run_id, job.folder, 0)
    (apart.folder / "1.zip").write_bytes(b"PK\3\4 and then the node died")
    tracker.log_file(run_id, apart.folder / "1.zip", FOLDER)
    shutil.rmtree(job.folder.path)
    job.folder = PointFolder(apart.node, job.signature)
    assert fetch_checkpoint(tracker, job)
    found = job.folder.resume()
    assert found is not None
    assert found.epoch == 7
    drop_checkpoints(tracker, run_id)
    assert tracker.artifacts(run_id, FOLDER) == []
    drop_checkpoints(tracker, run_id)  # nothing is there, and nothing happens
    shutil.rmtree(job.folder.path)
    assert not fetch_checkpoint(tracker, job)


def test_a_checkpoint_of_another_point_is_left_alone(apart: Apart, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker, sweep, run_id = kept_at_epoch(apart, monkeypatch)
    (job,) = sweep.jobs.values()
    (job.folder.path / "signed.json").write_text("{}")
    send_checkpoint(tracker, run_id, job.folder, 0)
    shutil.rmtree(job.folder.path)
    assert not fetch_checkpoint(tracker, job)


def damaged(client: MlflowClient, run_id: str, folder: Path) -> None:
    (folder / "metrics.csv").write_text("step,timestamp,name,value\n1,1,train/loss,0.5\n")
    client.log_artifact(run_id, str(folder / "metrics.csv"))


def test_a_folder_that_arrives_damaged_is_told_and_not_put_in_place(apart: Apart, calm: Path) -> None:
    apart.command()
    client = MlflowClient(apart.uri)
    runs: Sequence[str] = [run.info.run_id for run in runs_of(apart.home, apart.study, apart.uri)]
    for run_id in runs:
        damaged(client, run_id, apart.folder)
    tracker = apart.tracker()
    sweep = Sweep(apart.home, apart.asked()[0][0], 1)
    job = sweep._training.job(*apart.asked()[0])
    before = on_disk(apart.home)
    with pytest.raises(LabError, match=r"metrics.csv is not the file that was written"):
        fetch_point(tracker, job)
    assert on_disk(apart.home) == before
