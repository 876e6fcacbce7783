"""What the command says while workers train."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import cast

import pytest

from pipeline.points.job import Job
from pipeline.sweep.workers.watching import complete_in_mlflow, counting
from pipeline.system.errors import LabError
from pipeline.tracking.tracker import Tracker


def test_points_are_counted_while_workers_train(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.system.last_line.pause", lambda elapsed: 0.0)
    monkeypatch.setattr("pipeline.system.last_line.TICK_SECONDS", 0.001)
    asked = threading.Event()
    numbers = iter([1, 2])

    def complete() -> int:
        number = next(numbers, 3)
        if number == 3:
            asked.set()
        return number

    with counting("mnist, ray", 3, complete, 0.01):
        assert asked.wait(60)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "mnist, ray: 3 points"
    assert lines[-1].startswith("mnist, ray: ")


def test_points_that_workers_have_sent_are_counted_on_the_server() -> None:
    jobs = [cast(Job, SimpleNamespace(signature=name)) for name in ("a", "b", "c")]
    tags = [
        {"signature": "a", "lab.attempt": "1", "lab.complete": "true"},
        {"signature": "b", "lab.attempt": "2"},
        # An attempt that `force` is to replace, and a point of another command.
        {"signature": "c", "lab.attempt": "3", "lab.complete": "true"},
        {"signature": "d", "lab.attempt": "4", "lab.complete": "true"},
    ]
    away = [False]

    def tracker() -> Tracker:
        if away[0]:
            raise LabError("MLflow does not answer.")
        return cast(Tracker, SimpleNamespace(runs=lambda: [SimpleNamespace(tags=one) for one in tags]))

    complete = complete_in_mlflow(jobs, tracker, {"c": ["3", None]})
    assert complete() == 1
    tags[1]["lab.complete"] = "true"
    assert complete() == 2
    away[0] = True
    assert complete() == 2
