"""The launcher with joblib: real processes on this machine, and real signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from hydra_plugins.cluster_launcher import THREADS, ClusterLauncher, OwnConfigs
from pipeline.system.errors import LabError
from pipeline.system.processes import COMMAND_PROCESS
from pipeline.system.project import CONF, PROJECT
from pipeline.system.signals import handle_signals, raise_interrupt
from tests.support.cluster_runs import (
    RATES,
    STUDY,
    checkpoints,
    ended_with,
    finish,
    go_on,
    left_alone,
    make_lab,
    processes_in,
    run,
    start,
    the_same,
    training_processes,
    until,
)
from tests.support.services import missing
from tests.support.swept import by_name, statuses

JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.workers=2")


@pytest.fixture(autouse=True, scope="module")
def joblib() -> None:
    if find_spec("hydra_plugins.hydra_joblib_launcher") is None:
        missing("the packages of the extra cluster (make cluster)")


@pytest.mark.slow
def test_workers_stop_when_the_budget_is_spent_and_the_same_command_goes_on(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, empty_store: Path
) -> None:
    """They wait at their first checkpoint until it is spent, however fast this machine is."""
    lab = make_lab(tmp_path, empty_store, held=True)
    command = start(lab, *JOBLIB, "budget=20s")
    with ended_with(command):
        until(lambda: "2 to run" in (lab / "command.log").read_text())
        # The budget has begun before that line.
        spent = time.monotonic() + 20
        until(lambda: len(checkpoints(lab)) == 2)
        time.sleep(max(0.0, spent - time.monotonic()))
        go_on(lab)
        output = finish(lab, command)
    assert "The budget is spent: of 2 points 0 are trained, 2 to continue from a checkpoint, 0 not begun." in output
    assert "resubmitting" not in output
    output = run(lab, *JOBLIB)
    assert "resuming after" in output
    the_same(lab, left_alone(tmp_path_factory, empty_store))


@pytest.mark.slow
def test_joblib_comes_to_what_the_basic_launcher_comes_to_whatever_is_stopped_or_killed(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, empty_store: Path
) -> None:
    """A closed terminal, then a command that is killed, then one that loses a worker."""
    lab = make_lab(tmp_path, empty_store, held=True)
    command = start(lab, *JOBLIB)
    with ended_with(command):
        until(lambda: checkpoints(lab))
        for _ in range(2):
            os.killpg(command.pid, signal.SIGHUP)
        # A worker stops at its next checkpoint, which it must be allowed to leave.
        go_on(lab)
        assert command.wait() == 130
    (lab / "hold").touch()
    until(lambda: processes_in(lab) == [])
    assert "RUNNING" not in statuses(lab, "three_bits").values()
    command = start(lab, *JOBLIB)
    with ended_with(command):
        until(lambda: training_processes(lab))
    until(lambda: processes_in(lab) == [])
    command = start(lab, *JOBLIB)
    with ended_with(command):
        until(lambda: len(training_processes(lab)) == 2 == len(checkpoints(lab)))
        training_processes(lab)[0].send_signal(signal.SIGKILL)
        go_on(lab)
        output = finish(lab, command)
    until(lambda: processes_in(lab) == [])
    assert output.count(f"{len(RATES)} points in 2 units for 2 workers, by joblib") >= 3
    assert " to continue" in output
    before, _, after = output.rpartition(". joblib did not return every unit.")
    assert re.search(r"resubmitting (1 point|2 points)$", before)
    assert "resuming after" in after
    the_same(lab, left_alone(tmp_path_factory, empty_store))
    owners = {one.data.tags["lab.owner"] for one in by_name(lab, "three_bits").values()}
    # The command, and its workers.
    assert 2 <= len(owners) <= 3


def test_missing_packages_are_one_message(tmp_path: Path) -> None:
    blocked = tmp_path / "hydra_plugins" / "hydra_joblib_launcher"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("")
    (blocked / "joblib_launcher.py").write_text("import no_such_package_as_joblib\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import hydra_plugins, runpy;"
        "sys.argv[0] = 'train'; runpy.run_module('pipeline.train', run_name='__main__', alter_sys=True)"
    )
    typed = [sys.executable, "-c", code, str(tmp_path), *STUDY, *JOBLIB, f"hydra.sweep.dir={tmp_path / 'multirun'}"]
    done = subprocess.run(typed, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "error: hydra/launcher=joblib needs packages that are not installed." in done.stderr
    assert "no_such_package_as_joblib" in done.stderr
    assert "make cluster" in done.stderr
    assert "Traceback" not in done.stderr


def test_shared_disk_is_true_or_false() -> None:
    with pytest.raises(LabError, match=r"(?s)shared_disk cannot be used.*received: 'no'"):
        ClusterLauncher("ray", OmegaConf.create(), 2, shared_disk="no")  # type: ignore[arg-type]


def test_a_machine_without_slurm_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    # The engine's own launcher needs packages that are not installed everywhere.
    monkeypatch.setattr(ClusterLauncher, "_launcher", lambda self, task: None)
    launcher = ClusterLauncher("slurm", OmegaConf.create(), 2)
    launcher.task_function = lambda config: None
    launcher.total = None
    with pytest.raises(LabError, match=r"(?s)SLURM is not available on this machine.*no sbatch, srun, squeue, scancel"):
        launcher.train(lambda configs, total, engine: [], [])


def test_a_signal_that_also_ends_a_worker_is_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine raises the loss of the worker instead of the KeyboardInterrupt."""

    class Lossy:
        def launch(self, jobs: object, first: int) -> None:
            try:
                signal.raise_signal(signal.SIGTERM)
            except KeyboardInterrupt:
                raise RuntimeError("a worker was lost") from None

    monkeypatch.setattr(ClusterLauncher, "_launcher", lambda self, task: Lossy())
    launcher = ClusterLauncher("joblib", OmegaConf.create(), 2)
    launcher.config = OmegaConf.create({"hydra": {"verbose": True, "sweep": {"dir": "multirun"}}})
    monkeypatch.setattr(launcher, "_overrides", [], raising=False)
    # What the launcher sets is undone after the test: a worker ends with the process of this name.
    for name in (THREADS, COMMAND_PROCESS):
        monkeypatch.setenv(name, "1")
    with handle_signals(raise_interrupt, [signal.SIGTERM]), pytest.raises(KeyboardInterrupt):
        launcher.run(lambda config: None, ["unit"])


@pytest.mark.parametrize("workers", [0, True])
def test_workers_are_a_whole_number_from_1(workers: int) -> None:
    with pytest.raises(LabError, match=r"hydra.launcher.workers cannot be used"):
        ClusterLauncher("ray", OmegaConf.create(), workers)


def test_every_worker_has_its_share_of_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(THREADS, "7")
    assert ClusterLauncher("joblib", OmegaConf.create(), 3).threads == 2
    monkeypatch.delenv(THREADS)
    cores = ClusterLauncher("ray", OmegaConf.create(), None).workers
    assert ClusterLauncher("ray", OmegaConf.create(), None).threads == 1
    assert ClusterLauncher("ray", OmegaConf.create(), 1).threads == cores
    assert ClusterLauncher("ray", OmegaConf.create(), 10 * cores).threads == 1
    assert ClusterLauncher("joblib", OmegaConf.create({"n_jobs": 7}), 3).engine.n_jobs == 3


@pytest.mark.parametrize("name", ["joblib", "ray", "slurm"])
def test_our_files_are_read_without_the_schemas_of_plugins(name: str) -> None:
    store = ConfigStore.instance()
    store.store(name, {"other": 1}, group="hydra/launcher")
    OwnConfigs().manipulate_search_path(None)  # type: ignore[arg-type]
    assert name == "slurm" or f"{name}.yaml" not in store.repo["hydra"]["launcher"]
    written = OmegaConf.load(CONF / "hydra" / "launcher" / f"{name}.yaml")
    assert written.name == name
    store.repo["hydra"]["launcher"].pop(f"{name}.yaml", None)
