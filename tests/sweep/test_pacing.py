"""The times of checkpoints: the first one is soon, and all of them together take less than 2 % of the time."""

from __future__ import annotations

import threading
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends.contract import State
from pipeline.backends.shared.history import History
from pipeline.points.checkpoint import Checkpoint
from pipeline.points.folder import PointFolder
from pipeline.sweep import pacing
from pipeline.sweep.pacing import COST_FACTOR, FIRST_SECONDS, StackCheckpoints


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Kept:
    """Stands in for a point's folder: records what is kept, and takes as long as it is set to."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.seconds, self.epochs = clock, 0.0, list[int]()

    def keep(self, epoch: int, state: State, history: History) -> None:
        self.clock.now += self.seconds
        self.epochs.append(epoch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pacing, "time", clock)
    return clock


def no_error(index: int, error: Exception) -> None:
    raise error


def of_stack(clock: Clock, points: int = 1) -> tuple[StackCheckpoints, list[Kept], list[History], threading.Event]:
    folders, stop = [Kept(clock) for _ in range(points)], threading.Event()
    filled = [History() for _ in range(points)]
    return StackCheckpoints(cast(list[PointFolder], folders), filled, [], stop, no_error), folders, filled, stop


def test_the_first_is_due_after_two_seconds(clock: Clock) -> None:
    kept, _, _, _ = of_stack(clock)
    assert not kept.due()
    clock.now += 0.9 * FIRST_SECONDS
    assert not kept.due()
    clock.now += 0.1 * FIRST_SECONDS
    assert kept.due()
    assert (kept.epoch, kept.states) == (0, [])


def test_the_share_of_the_time_is_below_two_percent() -> None:
    assert 1 / (1 + COST_FACTOR) < 0.02


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 10)), min_size=1, max_size=30), st.integers(1, 3))
def test_a_slow_checkpoint_is_followed_by_a_long_pause(epochs: list[tuple[float, float]], points: int) -> None:
    """Whatever they take: a checkpoint of c seconds is followed by 60 c without one, and all take 1/60 of the time."""
    with pytest.MonkeyPatch.context() as patched:
        clock = Clock()
        patched.setattr(pacing, "time", clock)
        kept, folders, _, _ = of_stack(clock, points)
        begun, quiet_until, ended, saving = clock.now, clock.now + FIRST_SECONDS, 0, 0.0
        for epoch, (training, seconds) in enumerate(epochs, 1):
            clock.now += training
            if not kept.due():
                assert clock.now < quiet_until + 1e-6
                continue
            assert clock.now >= quiet_until - 1e-6
            # Copying the states counts too.
            clock.now += seconds / 2
            for folder in folders:
                folder.seconds = seconds / 2 / points
            kept.keep(epoch, [{}] * points)
            ended, saving = ended + 1, saving + seconds
            quiet_until = max(clock.now + max(FIRST_SECONDS, 60 * seconds), begun + 60 * (saving + seconds))
        assert all(len(folder.epochs) == ended for folder in folders)


def test_a_point_that_has_ended_is_kept_once(clock: Clock) -> None:
    kept, (one, other), (history, _), _ = of_stack(clock, 2)
    for epoch in range(1, 6):
        if epoch == 3:
            # As if it had diverged.
            history.epochs = 3
        kept.keep(epoch, [{}, {}])
    assert one.epochs == [1, 2, 3]
    assert other.epochs == [1, 2, 3, 4, 5]


def test_a_stop_makes_one_due_at_once_and_ends_training_when_all_are_kept(clock: Clock) -> None:
    kept, folders, _, stop = of_stack(clock, 3)
    assert not kept.due()
    stop.set()
    assert kept.due()
    with pytest.raises(KeyboardInterrupt):
        kept.keep(7, [{}, {}, {}])
    assert [folder.epochs for folder in folders] == [[7], [7], [7]]


def test_a_stack_begins_where_its_checkpoints_are(clock: Clock) -> None:
    states: list[State] = [{"a": np.array(1)}, {"a": np.array(2)}]
    start = [Checkpoint(5, state, History(), 0, 0, "") for state in states]
    kept = StackCheckpoints([], [], start, threading.Event(), no_error)
    assert kept.epoch == 5
    assert kept.states == states
