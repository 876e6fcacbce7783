"""A sync in a separate process: its messages arrive, and nothing is lost if either process ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.config.schema import Tracking
from pipeline.rebuild import rebuild
from pipeline.sweep.sweep import Sweep
from pipeline.system.errors import LabError
from pipeline.system.processes import owner
from pipeline.tracking.sync.process import end, launch
from tests.support.flaky_server import free_port
from tests.support.swept import (
    Request,
    at_epoch,
    by_name,
    helper,
    in_mlflow,
    interrupt,
    on_disk,
    rates,
    statuses,
    swept,
)

pytestmark = pytest.mark.usefixtures("sketched")
GRID = rates("0.01", "5", "0.1", more=["recording.snapshots=2"])  # few images


class Apart:
    """A command whose sync is a separate process."""

    def __init__(self, project: Path, requests: list[Request]) -> None:
        process = launch(requests[0][0])
        assert process is not None
        self.process = process
        self.sweep = Sweep(project, requests[0][0], len(requests), process)
        self.requests = requests

    def run(self) -> None:
        self.sweep.train_all(self.requests)
        self.sweep.finish()


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        end(process)


def test_it_writes_what_a_thread_beside_the_training_writes(
    project: Path,
    tmp_path_factory: pytest.TempPathFactory,
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    calm = tmp_path_factory.mktemp("calm")
    (calm / "mlruns").mkdir()
    (calm / "mlruns" / "mlflow.db").write_bytes(empty_store.read_bytes())
    swept(calm, GRID)
    capfd.readouterr()
    at_epoch(monkeypatch, 9, lambda: None)
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    command = Apart(project, GRID)
    command.run()
    shown = capfd.readouterr().err
    imported = {line.split("|")[-1].strip().split(".")[0] for line in shown.splitlines() if line.startswith("import")}
    assert "mlflow" in imported
    assert not imported & {"tensorflow", "keras"}
    # A slow command says that it writes to MLflow.
    assert not re.search("MLflow (is|sync)|to MLflow failed", shown)
    assert in_mlflow(project) == in_mlflow(calm)
    assert {run.data.tags["lab.owner"] for run in by_name(project).values()} == {owner()}
    assert command.process.returncode is not None  # and it is not left as a zombie


def test_a_signal_to_all_processes_of_a_terminal_leaves_killed_runs(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = Apart(project, GRID)

    def stop() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            command.process.send_signal(number)
        interrupt()

    at_epoch(monkeypatch, 9, stop)
    with pytest.raises(KeyboardInterrupt):
        command.sweep.train_all(command.requests)
    command.sweep.finish()
    assert set(statuses(project).values()) == {"KILLED"}
    runs = by_name(project)
    assert len(runs) == 4
    assert "train/loss" in runs["learning_rate=0.1"].data.metrics


def test_a_process_that_is_killed_costs_no_point(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = Apart(project, GRID)
    at_epoch(monkeypatch, 9, command.process.kill)
    command.run()
    shown = capsys.readouterr()
    assert shown.err.count("MLflow sync is incomplete") == 1
    assert "Killed" in shown.err
    assert "then run python -m pipeline.rebuild\n" in shown.err
    assert "Traceback" not in shown.err
    assert "verdict" in shown.out
    assert command.process.returncode == -signal.SIGKILL
    assert len(on_disk(project)) == 3
    assert rebuild(Tracking(name="local", uri=None), project, project / "results") == [("line_y2x numpy", 3, 3)]
    assert set(statuses(project).values()) == {"FINISHED"}


def test_a_refusal_of_the_server_is_shown_once_while_training_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://127.0.0.1:{free_port()}"
    command = Apart(tmp_path, rates("0.1", "0.01", more=["tracking=server", f"tracking.uri={uri}"]))
    notices: list[str] = []

    def wait() -> None:
        while not notices:
            time.sleep(0.05)
            notices.extend(line for line in capsys.readouterr().err.splitlines() if "MLflow is unavailable" in line)

    at_epoch(monkeypatch, 9, wait)
    command.run()
    shown = capsys.readouterr().err
    assert "MLflow sync is incomplete: 2 of 2 points are pending." in shown
    assert f"{uri} does not answer" in shown
    assert f"python -m pipeline.rebuild tracking=server tracking.uri={uri}\n" in shown
    assert "MLflow is unavailable" not in shown
    assert len(on_disk(tmp_path)) == 2


TRAIN = """
import sys
from pathlib import Path
from pipeline.sweep import training as pass_training
from pipeline.sweep import sweep
from pipeline.sweep.pacing import StackCheckpoints
from pipeline.tracking.sync.process import launch
from tests.support.swept import rates
class Thinking(StackCheckpoints):
    def due(self):
        return True
    def keep(self, epoch, states):
        super().keep(epoch, states)
        if epoch == 9:
            print(process.pid, flush=True)
            sys.stdin.read()
pass_training.StackCheckpoints = Thinking
grid = rates("0.1")
process = launch(grid[0][0])
sweep.Sweep(Path(sys.argv[1]), grid[0][0], 1, process).train_all(grid)
"""


def test_it_ends_with_the_command_however_that_ends(project: Path) -> None:
    command = helper(TRAIN, str(project))
    assert command.stdout is not None
    sync = psutil.Process(int(command.stdout.readline()))
    command.kill()
    command.communicate()
    sync.wait(30)
    swept(project, rates("0.1"))
    assert statuses(project) == {"learning_rate=0.1": "FINISHED"}


@pytest.mark.parametrize("override", ["dry_run=true", "backend=keras"])
def test_no_process_is_started_where_none_is_wanted(override: str) -> None:
    assert launch(rates("0.1", more=[override])[0][0]) is None


def test_a_process_that_cannot_be_started_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", os.devnull)
    assert launch(rates("0.1")[0][0]) is None
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


def test_a_command_that_begins_nothing_leaves_no_process(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    process = launch(rates("0.1")[0][0])
    assert process is not None
    processes.append(process)
    with pytest.raises(LabError, match="not prepared yet"):
        Sweep(tmp_path, rates("0.1", common=["experiment=mnist"])[0][0], 1, process)
    end(process)
    assert process.returncode == -signal.SIGKILL
    end(process)  # a second time does nothing
