"""Points of nodes that do not share a disk: their folders are returned through the server, even from lost nodes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from mlflow import MlflowClient

from pipeline.config.schema import Tracking
from pipeline.points.folder import CHECKPOINT, PointFolder
from pipeline.points.job import Job
from pipeline.sweep import pacing
from pipeline.sweep.jobs import JobMaker
from pipeline.sweep.sweep import Sweep
from pipeline.sweep.training import StackTraining
from pipeline.sweep.workers import distribution
from pipeline.system.errors import DamagedError, LabError
from pipeline.tracking import transfer
from pipeline.tracking.tracker import Tracker
from pipeline.tracking.transfer import FOLDER, drop_checkpoints, fetch_checkpoint, fetch_point, send_checkpoint
from tests.points.test_jobs import complete, in_training, job
from tests.support.damage import MACHINE, check_machine_error, cut, fail_at, flipped, replaced
from tests.support.engines import HereEngine
from tests.support.flaky_server import server_thread
from tests.support.swept import Request, artifacts, at_epoch, interrupt, on_disk, rates, runs_of, statuses, swept

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("plain_runs")]
GRID = ("0.01", "0.1")
Damage = Callable[[bytes, int, int, bytes], bytes]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[str]:
    with server_thread(tmp_path_factory.mktemp("server"), empty_store) as port:
        yield f"http://127.0.0.1:{port}"


class Apart:
    """A head and a node that do not see each other's disks, with a separate study on the server."""

    def __init__(self, folder: Path, uri: str, study: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.uri, self.study, self.folder = uri, study, folder
        self.head, self._patch, self._nodes = folder / "head", monkeypatch, 0
        self.head.mkdir()
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
        sweep = Sweep(self.head, requests[0][0], len(requests), engine=engine)
        sweep.train_all(requests)
        sweep.finish()
        return engine

    def tracker(self) -> Tracker:
        return Tracker(Tracking(name="server", uri=self.uri), self.study, self.head)


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
    return [path for run in runs_of(apart.head, apart.study, apart.uri) for path in artifacts(client, run.info.run_id)]


def finished(apart: Apart, calm: Path) -> None:
    """The head has every point as one machine would have trained it; MLflow has one run of each, and no checkpoint."""
    assert on_disk(apart.head) == on_disk(calm)
    assert set(statuses(apart.head, apart.study, apart.uri).values()) == {"FINISHED"}
    assert len(runs_of(apart.head, apart.study, apart.uri)) == len(GRID) + 1
    assert [path for path in sent(apart) if path.startswith(FOLDER)] == []


def test_points_return_to_the_head_and_are_not_trained_again(apart: Apart, calm: Path) -> None:
    engine = apart.command()
    assert engine.calls == [2]
    finished(apart, calm)
    assert on_disk(apart.node) == on_disk(calm)
    # As if the head had been killed before it fetched them.
    for name in (".sweeps", *on_disk(apart.head)):
        shutil.rmtree(apart.head / ".points" / name)
    apart.new_node()
    assert apart.command().calls == []
    finished(apart, calm)


def test_another_node_continues_where_a_lost_one_was(
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
    assert capfd.readouterr().err.count("resuming after 7") == len(GRID)
    finished(apart, calm)


def test_a_run_of_another_clone_at_the_point_of_a_lost_worker_stays_running(
    apart: Apart, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = apart.asked()[0]
    signature = StackTraining(JobMaker(apart.head, first[0]), {}, str, print).job(*first).signature
    theirs = apart.tracker().start_run("theirs", {"lab.role": "point", "signature": signature, "lab.clone": "there"})
    at_epoch(monkeypatch, 7, interrupt, times=2)
    monkeypatch.setattr(distribution, "ATTEMPTS", 1)
    with pytest.raises(LabError):
        apart.command()
    runs = runs_of(apart.head, apart.study, apart.uri)
    assert [run.info.run_id for run in runs if run.info.status == "RUNNING"] == [theirs]


def test_a_worker_in_the_folder_of_the_command_is_refused(apart: Apart, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.sweep.workers.worker.PROJECT", apart.head)
    with pytest.raises(LabError, match=r"(?s)is running in the command's own folder.*--num-cpus 0"):
        apart.command()


def kept_at_epoch(apart: Apart, monkeypatch: pytest.MonkeyPatch) -> tuple[Tracker, Sweep, str]:
    """A point that a node has left at its seventh epoch, and its run."""
    monkeypatch.setattr(pacing, "FIRST_SECONDS", 0.0)
    with monkeypatch.context() as patched:
        at_epoch(patched, 7, interrupt)
        requests = apart.asked()[:1]
        sweep = Sweep(apart.head, requests[0][0], 1)
        with pytest.raises(KeyboardInterrupt):
            sweep.train_all(requests)
        sweep.finish()
    (job,) = sweep.jobs.values()
    tracker = apart.tracker()
    return tracker, sweep, tracker.runs(job.signature)[0].run_id


def test_the_newest_checkpoint_that_is_whole_is_used(
    apart: Apart, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker, sweep, run_id = kept_at_epoch(apart, monkeypatch)
    (job,) = sweep.jobs.values()
    send_checkpoint(tracker, run_id, job.folder, 0)
    (apart.folder / "1.zip").write_bytes(b"PK\3\4 and then the node died")
    tracker.log_file(run_id, apart.folder / "1.zip", FOLDER)
    shutil.rmtree(job.folder.path)
    job.folder = PointFolder(apart.node, job.signature)
    capsys.readouterr()
    assert fetch_checkpoint(tracker, job)
    assert capsys.readouterr().err.startswith("skipped: The checkpoint 1.zip in MLflow cannot be read.")
    found = job.folder.resume()
    assert found is not None
    assert found.epoch == 7
    drop_checkpoints(tracker, run_id)
    assert tracker.artifacts(run_id, FOLDER) == []
    drop_checkpoints(tracker, run_id)  # nothing is there, and nothing happens
    shutil.rmtree(job.folder.path)
    assert not fetch_checkpoint(tracker, job)


def test_a_checkpoint_of_another_point_is_ignored(apart: Apart, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker, sweep, run_id = kept_at_epoch(apart, monkeypatch)
    (job,) = sweep.jobs.values()
    (job.folder.path / "signed.json").write_text("{}")
    send_checkpoint(tracker, run_id, job.folder, 0)
    shutil.rmtree(job.folder.path)
    assert not fetch_checkpoint(tracker, job)


def test_a_folder_that_arrives_damaged_or_without_a_file_is_reported_and_not_used(apart: Apart) -> None:
    apart.command()
    tracker, client, before = apart.tracker(), MlflowClient(apart.uri), on_disk(apart.head)
    first, second = apart.asked()
    damaged = StackTraining(JobMaker(apart.head, first[0]), {}, str, print).job(*first)
    cut_short = StackTraining(JobMaker(apart.head, second[0]), {}, str, print).job(*second)
    runs = [tracker.runs(job.signature)[0].run_id for job in (damaged, cut_short)]
    (apart.folder / "metrics.csv").write_text("step,timestamp,name,value\n1,1,train/loss,0.5\n")
    client.log_artifact(runs[0], str(apart.folder / "metrics.csv"))
    with pytest.raises(LabError, match=r"metrics.csv is not the file that was written"):
        fetch_point(tracker, damaged)
    tracker.remove_artifacts(runs[1], "weights.npz")
    with pytest.raises(
        DamagedError, match=r"(?s)could not be fetched from MLflow.*no weights.npz among them.*delete that run"
    ):
        fetch_point(tracker, cut_short)
    assert on_disk(apart.head) == before


# --- without a server: what is damage, and what is not


class Shelf:
    """A tracker that keeps the artifacts of a run in a folder."""

    def __init__(self, folder: Path, signature: str) -> None:
        self.folder, self.found = (
            folder,
            [SimpleNamespace(run_id="r", status="FINISHED", tags={"lab.complete": "1", "lab.attempt": "1"})],
        )

    def runs(self, signature: str) -> list[SimpleNamespace]:
        return self.found

    def artifacts(self, run_id: str, folder: str) -> list[str]:
        there = sorted((self.folder / folder).iterdir()) if (self.folder / folder).exists() else []
        return [path.relative_to(self.folder).as_posix() for path in there]

    def download(self, run_id: str, path: str, destination: Path) -> None:
        (destination / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.folder / path, destination / path)

    def log_file(self, run_id: str, file: Path, folder: str) -> None:
        (self.folder / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, self.folder / folder)


@pytest.fixture
def shelf(tmp_path: Path) -> tuple[Tracker, Job]:
    """A shelf with a checkpoint of a point, and the point on a node that has no files of it."""
    left = in_training(tmp_path / "left")
    shelf = cast(Tracker, Shelf(tmp_path / "shelf", left.signature))
    assert send_checkpoint(shelf, "r", left.folder, 0) == 3
    return shelf, job(tmp_path / "node")


def test_a_checkpoint_is_taken_up(shelf: tuple[Tracker, Job]) -> None:
    tracker, wanted = shelf
    assert fetch_checkpoint(tracker, wanted)
    assert not fetch_checkpoint(tracker, wanted)  # it is here now
    found = wanted.folder.resume()
    assert found is not None
    assert found.epoch == 2


@pytest.mark.parametrize("damage", [cut, flipped, replaced])
@pytest.mark.parametrize("position", [10, 40, 700])
def test_a_damaged_checkpoint_is_reported_and_not_used(
    shelf: tuple[Tracker, Job], tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Damage, position: int
) -> None:
    tracker, wanted = shelf
    file = tmp_path / "shelf" / FOLDER / "0.zip"
    file.write_bytes(damage(file.read_bytes(), position, 6, b"PK"))
    taken = fetch_checkpoint(tracker, wanted)
    assert taken or "skipped: The checkpoint 0.zip in MLflow cannot be read." in capsys.readouterr().err
    assert taken <= (damage == flipped)  # some bytes of a zip mean nothing, such as times


def test_a_damaged_checkpoint_of_this_node_is_reported_and_replaced(
    shelf: tuple[Tracker, Job], capsys: pytest.CaptureFixture[str]
) -> None:
    tracker, wanted = shelf
    wanted.folder.path.mkdir(parents=True)
    (wanted.folder.path / CHECKPOINT).write_bytes(b"half")
    assert fetch_checkpoint(tracker, wanted)
    assert f"skipped: The checkpoint {wanted.folder.path / CHECKPOINT} cannot be read." in capsys.readouterr().err


@pytest.mark.parametrize("error", MACHINE, ids=repr)
def test_a_checkpoint_of_this_node_that_may_be_whole_is_not_replaced(
    shelf: tuple[Tracker, Job], monkeypatch: pytest.MonkeyPatch, error: OSError | MemoryError
) -> None:
    tracker, wanted = shelf
    assert fetch_checkpoint(tracker, wanted)
    file = wanted.folder.path / CHECKPOINT
    before = file.read_bytes()
    with monkeypatch.context() as patched:
        fail_at(patched, file, error)
        with pytest.raises(LabError) as refusal:
            fetch_checkpoint(tracker, wanted)
    check_machine_error(refusal.value, error, file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("error", [error for error in MACHINE if isinstance(error, OSError)], ids=repr)
def test_a_full_disk_is_not_a_checkpoint_that_is_missing(
    shelf: tuple[Tracker, Job], monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    tracker, wanted = shelf

    def fail(self: Path, content: bytes) -> int:
        raise error

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(LabError, match=str(error.strerror)):
        fetch_checkpoint(tracker, wanted)


def test_a_bug_of_ours_is_not_a_checkpoint_that_is_missing(
    shelf: tuple[Tracker, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise TypeError("ours")

    monkeypatch.setattr(transfer, "read_checkpoint", fail)
    with pytest.raises(TypeError, match="ours"):
        fetch_checkpoint(*shelf)


def test_a_point_that_became_complete_meanwhile_sends_no_checkpoint(shelf: tuple[Tracker, Job]) -> None:
    tracker, wanted = shelf
    assert send_checkpoint(tracker, "r", wanted.folder, 1) is None


def test_a_send_that_fails_is_repeated_into_the_same_archive_and_the_intact_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "SEND_SECONDS", 0.0)
    monkeypatch.setattr(transfer, "PAUSE_PER_SEND", 0.0)
    left = in_training(tmp_path / "left")
    shelf = Shelf(tmp_path / "shelf", left.signature)
    sender = transfer.CheckpointSender()
    assert sender.send(cast(Tracker, shelf), "r", left.folder) == 3
    written = []

    def fail(run_id: str, file: Path, folder: str) -> None:
        written.append(file.name)
        raise LabError("MLflow does not answer.")

    monkeypatch.setattr(shelf, "log_file", fail)
    for _ in range(2):
        (left.folder.path / CHECKPOINT).touch()
        with pytest.raises(LabError):
            sender.send(cast(Tracker, shelf), "r", left.folder)
    assert written == ["1.zip", "1.zip"]


def test_a_server_that_does_not_answer_is_not_a_damaged_point(
    tmp_path: Path, shelf: tuple[Tracker, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, wanted = shelf
    shutil.copytree(complete(tmp_path / "done").folder.final, tmp_path / "shelf", dirs_exist_ok=True)
    with monkeypatch.context() as patched:

        def fail(*arguments: object) -> None:
            raise LabError("MLflow does not answer.")

        patched.setattr(Shelf, "download", fail)
        with pytest.raises(LabError, match=r"^MLflow does not answer.$") as refusal:
            fetch_point(tracker, wanted)
        assert not isinstance(refusal.value, DamagedError)
    assert not wanted.folder.final.exists()
    assert fetch_point(tracker, wanted)
    wanted.look()
    assert wanted.state == "done"
