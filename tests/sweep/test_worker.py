"""A worker trains a unit, and ends with its parent process. Complete sweeps: test_distribution.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from omegaconf import OmegaConf

from pipeline.config.schema import Tracking
from pipeline.points.sweep_record import SweepRecord
from pipeline.sweep.workers import worker
from pipeline.sweep.workers.unit import Unit, UnitPoint, pack
from pipeline.sweep.workers.worker import Report, train_unit
from pipeline.system.errors import LabError
from pipeline.system.processes import COMMAND_PROCESS
from pipeline.system.project import PROJECT


def report_of(monkeypatch: pytest.MonkeyPatch, ends: BaseException | Report) -> Report:
    """Return the report of a unit that ends with an exception, or with a report of its own."""
    unit = Unit(
        sweep=SweepRecord("0" * 16, "study", "numpy", True, "", Tracking(name="local", uri=None), {}, 0),
        total=2,
        project=None,
        sender=("somewhere", 1, 2),
        clone="a clone",
        tags={"command": "typed"},
        engine="tensorflow",
        deadline=None,
        points=[
            UnitPoint(number, f"seed={number}", {"seed": 1}, ["seed=1"], name, [None])
            for number, name in enumerate("ab", 1)
        ],
    )
    seen: list[Unit] = []

    class Ending:
        def __init__(self, unit: Unit) -> None:
            seen.append(unit)

        def run(self) -> Report:
            if isinstance(ends, BaseException):
                raise ends
            return ends

    monkeypatch.setattr(worker, "_Worker", Ending)
    report = train_unit(OmegaConf.create({"unit": pack(unit)}))
    assert seen == [unit]
    return report


def test_what_became_of_a_unit_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    report: Report = [{"signature": "a", "state": "complete", "error": None}]
    assert report_of(monkeypatch, report) == report


def test_an_error_counts_for_every_point_and_a_stop_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert report_of(monkeypatch, LabError("No data.")) == [
        {"signature": sign, "state": "failed", "error": "No data."} for sign in "ab"
    ]
    assert report_of(monkeypatch, KeyboardInterrupt()) == [
        {"signature": sign, "state": "killed", "error": None} for sign in "ab"
    ]


def test_a_bug_of_ours_reaches_the_engine_and_signal_handlers_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError):
        report_of(monkeypatch, ZeroDivisionError())
    assert signal.getsignal(signal.SIGTERM) is before


CHILD = """
import os, time
from pipeline.sweep.workers import worker
worker.PARENT_SECONDS = 0.05
worker._end_with_parent()
print(os.getpid(), flush=True)
time.sleep(600)
"""
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}])
time.sleep(600)
"""


def test_a_worker_ends_with_its_parent_process(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    try:
        child.wait(timeout=60)
    finally:
        if child.is_running():
            child.kill()


def test_a_worker_whose_parent_ended_while_it_was_starting_ends_too() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    environment = os.environ | {COMMAND_PROCESS: str(gone.pid)}
    worker = subprocess.Popen([sys.executable, "-c", CHILD], cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL)
    try:
        assert worker.wait(timeout=60) == 1
    finally:
        worker.kill()


def test_the_only_worker_of_joblib_is_the_command_itself_and_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that joblib trains like this: test_your_own.py."""
    ended = threading.Event()
    monkeypatch.setattr(os, "_exit", lambda code: ended.set())
    monkeypatch.setenv(COMMAND_PROCESS, str(os.getpid()))
    report_of(monkeypatch, [])
    assert not ended.wait(0.5)
