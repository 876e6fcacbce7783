"""A command with a budget: what it leaves is continued to the same bits, wherever it was cut."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.points.reading import read_point
from pipeline.sweep.budget import BudgetSpent, Deadline
from pipeline.sweep.sweep import Sweep
from pipeline.system.errors import LabError
from tests.support.swept import at_epoch, on_disk, rates, request, statuses, swept
from tests.support.trained import config

GRID = ("0.01", "0.1", "0.2")


def with_budget(project: Path, budget: float, requests: list[Any]) -> Sweep:
    sweep = Sweep(project, requests[0][0], len(requests))
    sweep.end_at(time.time() + budget)
    sweep.train_all(requests)
    sweep.finish()
    return sweep


def weights(project: Path) -> dict[str, list[np.ndarray[Any, Any]]]:
    """The weights of every snapshot of each point, by signature."""
    found = {}
    for signature in on_disk(project):
        history = read_point(project / ".points" / signature, signature).history
        found[signature] = [array for snapshot in history.snapshots.values() for array in snapshot.values()]
    return found


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("90", 90), ("1.5", 1.5), ("'90s'", 90), ("20m", 1200), ("1.5h", 5400), ("0", 0), ("null", None)],
)
def test_a_budget_is_typed_as_people_say_it(typed: str, seconds: float | None) -> None:
    assert config(f"budget={typed}").budget == seconds


@pytest.mark.parametrize("typed", ["-1", "tomorrow", "20 minutes", "1d", "true", "[1]", "''"])
def test_what_is_no_length_of_time_is_refused(typed: str) -> None:
    with pytest.raises(LabError, match="budget: "):
        config(f"budget={typed}")


def test_a_deadline_sets_the_event_only_when_it_comes() -> None:
    stop = threading.Event()
    with Deadline(time.time() + 0.02).stopping(stop) as spent:
        assert stop.wait(10)
        assert spent.is_set()
    never = threading.Event()
    with Deadline(time.time() + 0.05).stopping(never) as spent:
        pass
    time.sleep(0.1)
    assert not never.is_set()
    assert not spent.is_set()
    # A signal that came before is the reason.
    stop = threading.Event()
    with Deadline(0).stopping(stop) as spent:
        assert stop.wait(10)
    signalled = threading.Event()
    signalled.set()
    with Deadline(0).stopping(signalled) as spent:
        time.sleep(0.1)
    assert not spent.is_set()
    with Deadline(None).stopping(never):
        Deadline(None).check()
    with pytest.raises(BudgetSpent):
        Deadline(0).check()


@pytest.mark.usefixtures("plain_runs")
@pytest.mark.parametrize("epoch", [1, 17])
def test_what_a_budget_cuts_is_continued_bit_for_bit(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], epoch: int
) -> None:
    requests = [*rates(*GRID), request("dtype=float64", "optimizer.learning_rate=0.1")]
    events: list[threading.Event] = []

    @contextmanager
    def stopping(_: Deadline, stop: threading.Event) -> Iterator[threading.Event]:
        events[:] = [threading.Event(), stop]
        yield events[0]

    def spend() -> None:
        for event in events:
            event.set()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Deadline, "stopping", stopping)
        at_epoch(patch, epoch, spend)
        with_budget(project, 600, requests)
    said = capsys.readouterr().out
    assert "of 4 points 0 are trained, 3 to continue from a checkpoint, 1 not begun. The same command goes on." in said
    assert "FINISHED" not in statuses(project).values()
    assert "RUNNING" not in statuses(project).values()
    swept(project, requests)
    assert set(statuses(project).values()) == {"FINISHED"}
    other = tmp_path / "other"
    (other / "mlruns").mkdir(parents=True)
    swept(other, requests)
    mine, theirs = weights(project), weights(other)
    assert mine.keys() == theirs.keys()
    for signature, arrays in theirs.items():
        for one, two in zip(mine[signature], arrays, strict=True):
            assert np.array_equal(one, two)


@pytest.mark.usefixtures("plain_runs")
def test_a_budget_of_nothing_trains_nothing_and_ends_well(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_budget(project, 0, rates(*GRID))
    assert "of 3 points 0 are trained, 0 to continue from a checkpoint, 3 not begun" in capsys.readouterr().out
    assert on_disk(project) == {}
    with_budget(project, 0, rates(*GRID, more=["force=true"]))
    assert "The same command without force=true goes on." in capsys.readouterr().out
    with_budget(project, 600, rates(*GRID))
    assert "The budget is spent" not in capsys.readouterr().out
    assert len(on_disk(project)) == 3
