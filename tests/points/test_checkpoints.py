"""Where a training stands: kept bit for bit, seldom enough to cost nothing, and never believed when damaged."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from pipeline.backends.shared.history import History
from pipeline.points import checkpoint as checkpoints
from pipeline.points.checkpoint import (
    COST_FACTOR,
    FIRST_SECONDS,
    Checkpoint,
    PassCheckpoints,
    State,
    read_checkpoint,
    stack_snapshots,
    unstack_snapshots,
    write_checkpoint,
)
from pipeline.points.folder import PointFolder
from pipeline.points.point import UNREADABLE
from pipeline.system.files import read_arrays

DTYPES = st.sampled_from(["float32", "float64", "int64", "int8", "uint32", "bool"])
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
NAMES = st.text("abm_/0", min_size=1, max_size=12)
STATES = st.dictionaries(NAMES, arrays.arrays(DTYPES, SHAPES), max_size=4)
VALUES = st.floats(allow_nan=False)
TABLES = st.dictionaries(
    st.text("ab", min_size=1), st.lists(st.dictionaries(st.text("xy", min_size=1), VALUES), max_size=3), max_size=2
)


@st.composite
def histories(draw: st.DrawFn) -> History:
    weights = st.fixed_dictionaries(
        {
            "layer_0/weights": arrays.arrays("float32", (2, 3), elements=st.floats(width=32)),
            "layer_0/bias": arrays.arrays("float64", (3,)),
        }
    )
    return History(
        snapshots=draw(st.dictionaries(st.integers(0, 10**9), cast(st.SearchStrategy[Any], weights), max_size=3)),
        tables=draw(TABLES),
        diverged_step=draw(st.none() | st.integers(0, 10**12)),
        last_finite_loss=draw(st.none() | VALUES),
        seconds=draw(st.floats(0, 1e9)),
        epochs=draw(st.integers(0, 10**9)),
        points_in_pass=draw(st.integers(1, 100)),
    )


def bits(state: State) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in state.items()}


def told(history: History) -> dict[str, Any]:
    """All but the metrics, which stand in the journal."""
    plain = {name: value for name, value in vars(history).items() if name not in ("metrics", "snapshots")}
    return plain | {"snapshots": {step: bits(weights) for step, weights in sorted(history.snapshots.items())}}


@given(st.integers(0, 10**9), STATES, histories(), st.integers(0), st.integers(0), st.text("0123456789abcdef"))
def test_a_checkpoint_is_read_as_it_was_written(
    epoch: int, state: State, history: History, rows: int, size: int, sha256: str
) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "checkpoint.npz"
        write_checkpoint(file, Checkpoint(epoch, state, history, rows, size, sha256))
        read = read_checkpoint(file)
        assert [path.name for path in Path(folder).iterdir()] == ["checkpoint.npz"]
    assert (read.epoch, read.journal_rows, read.journal_bytes, read.journal_sha256) == (epoch, rows, size, sha256)
    assert bits(read.state) == bits(state)
    assert told(read.history) == told(history)
    assert read.history.metrics == []


@pytest.mark.parametrize(
    "array", [np.array(7), np.array([np.nan, -np.inf, -0.0, 5e-324]), np.arange(6).reshape(2, 3).T]
)
def test_values_that_are_easily_lost(tmp_path: Path, array: NDArray[Any]) -> None:
    write_checkpoint(tmp_path / "c.npz", Checkpoint(3, {"a/b": array}, History(), 0, 0, ""))
    assert bits(read_checkpoint(tmp_path / "c.npz").state) == bits({"a/b": array})


def test_a_checkpoint_can_be_read_without_the_program(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c.npz", Checkpoint(3, {"m/x": np.zeros(2)}, History(seconds=1.5), 0, 0, ""))
    content = read_arrays(tmp_path / "c.npz")
    assert set(content) == {"record", "state/m/x", "snapshots/steps"}
    assert json.loads(content["record"].tobytes())["seconds"] == 1.5


# --- damage


def small(folder: Path) -> Path:
    history = History(seconds=2.5, last_finite_loss=0.5, tables={"first_epochs": [{"epoch": 1.0}]})
    for step in (0, 8):
        history.snapshot(step, {"layer_0/weights": np.array([[1.0, np.nan]]), "layer_0/bias": np.array([2.0])})
    state = {"updates": np.array(8), "parameters/layer_0/weights": np.arange(8.0)}
    write_checkpoint(folder / "checkpoint.npz", Checkpoint(8, state, history, 3, 40, "0" * 64))
    return folder / "checkpoint.npz"


def test_a_checkpoint_cut_anywhere_is_refused(tmp_path: Path) -> None:
    file = small(tmp_path)
    content = file.read_bytes()
    for length in range(len(content)):
        file.write_bytes(content[:length])
        with pytest.raises(UNREADABLE):
            read_checkpoint(file)


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    """In a zip there are bytes that mean nothing, such as times; those may be any. (All bits: test_files.py.)"""
    file = small(tmp_path)
    whole, content = read_checkpoint(file), file.read_bytes()
    refused = 0
    for place in range(len(content)):
        bit = place % 8
        broken = bytearray(content)
        broken[place] ^= 1 << bit
        file.write_bytes(broken)
        try:
            read = read_checkpoint(file)
        except UNREADABLE:
            refused += 1
            continue
        assert bits(read.state) == bits(whole.state), (place, bit)
        assert told(read.history) == told(whole.history), (place, bit)
        assert (read.epoch, read.journal_rows, read.journal_bytes) == (8, 3, 40), (place, bit)
    assert refused > 0.7 * len(content)


RECORDS: list[bytes] = [b"", b"null", b"[]", b"{}", b"3", b"[" * 100_000, b"\xff", b'{"epoch": 1}']


@pytest.mark.parametrize("record", RECORDS)
def test_another_record_is_refused(tmp_path: Path, record: bytes) -> None:
    np.savez(tmp_path / "c.npz", allow_pickle=False, record=np.frombuffer(record, np.uint8))
    with pytest.raises(UNREADABLE):
        read_checkpoint(tmp_path / "c.npz")


@pytest.mark.parametrize(
    "change",
    [
        {"record": None},
        {"snapshots/steps": None},
        {"snapshots/steps": np.array(3)},
        {"snapshots/steps": np.arange(9)},
        {"snapshots/layer_0/bias": np.zeros(())},
        {"other/thing": np.zeros(2)},
        {"nothing": np.zeros(2)},
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    file = small(tmp_path)
    content = {name: array for name, array in (read_arrays(file) | change).items() if array is not None}
    np.savez(file, allow_pickle=False, **content)
    with pytest.raises(UNREADABLE):
        read_checkpoint(file)


# --- snapshots


@given(histories())
def test_snapshots_are_stacked_and_unstacked(history: History) -> None:
    again = History()
    unstack_snapshots(stack_snapshots(history), again)
    assert told(again)["snapshots"] == told(history)["snapshots"]
    assert list(again.snapshots) == sorted(history.snapshots)


# --- how often


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Kept:
    """Stands in for a point's folder: notes what is kept, and takes its time."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.seconds, self.epochs = clock, 0.0, list[int]()

    def keep(self, epoch: int, state: State, history: History) -> None:
        self.clock.now += self.seconds
        self.epochs.append(epoch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(checkpoints, "time", clock)
    return clock


def of_pass(clock: Clock, points: int = 1) -> tuple[PassCheckpoints, list[Kept], list[History], threading.Event]:
    folders, stop = [Kept(clock) for _ in range(points)], threading.Event()
    filled = [History() for _ in range(points)]
    return PassCheckpoints(cast(list[PointFolder], folders), filled, [], stop), folders, filled, stop


def test_the_first_is_due_after_two_seconds(clock: Clock) -> None:
    kept, _, _, _ = of_pass(clock)
    assert not kept.due()
    clock.now += 0.9 * FIRST_SECONDS
    assert not kept.due()
    clock.now += 0.1 * FIRST_SECONDS
    assert kept.due()
    assert (kept.epoch, kept.states) == (0, [])


def test_the_share_of_the_time_is_below_two_percent() -> None:
    assert 1 / (1 + COST_FACTOR) < 0.02


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 10)), min_size=1, max_size=30), st.integers(1, 3))
def test_what_was_slow_is_not_done_again_soon(epochs: list[tuple[float, float]], points: int) -> None:
    """Whatever an epoch and a checkpoint take: one of c seconds is followed by 60 c without, and all take 1/60."""
    with pytest.MonkeyPatch.context() as patched:
        clock = Clock()
        patched.setattr(checkpoints, "time", clock)
        kept, folders, _, _ = of_pass(clock, points)
        begun, quiet_until, ended, saving = clock.now, clock.now + FIRST_SECONDS, 0, 0.0
        for epoch, (training, seconds) in enumerate(epochs, 1):
            clock.now += training
            if not kept.due():
                assert clock.now < quiet_until + 1e-6
                continue
            assert clock.now >= quiet_until - 1e-6
            clock.now += seconds / 2  # gathering the states counts too
            for folder in folders:
                folder.seconds = seconds / 2 / points
            kept.keep(epoch, [{}] * points)
            ended, saving = ended + 1, saving + seconds
            quiet_until = max(clock.now + max(FIRST_SECONDS, 60 * seconds), begun + 60 * (saving + seconds))
        assert all(len(folder.epochs) == ended for folder in folders)


def test_a_point_that_has_ended_is_kept_once(clock: Clock) -> None:
    kept, (one, other), (history, _), _ = of_pass(clock, 2)
    for epoch in range(1, 6):
        if epoch == 3:
            history.epochs = 3  # diverged, say
        kept.keep(epoch, [{}, {}])
    assert one.epochs == [1, 2, 3]
    assert other.epochs == [1, 2, 3, 4, 5]


def test_a_stop_makes_one_due_at_once_and_ends_the_pass_when_all_are_kept(clock: Clock) -> None:
    kept, folders, _, stop = of_pass(clock, 3)
    assert not kept.due()
    stop.set()
    assert kept.due()
    with pytest.raises(KeyboardInterrupt):
        kept.keep(7, [{}, {}, {}])
    assert [folder.epochs for folder in folders] == [[7], [7], [7]]


def test_a_pass_begins_where_its_checkpoints_are(clock: Clock) -> None:
    states: list[State] = [{"a": np.array(1)}, {"a": np.array(2)}]
    start = [Checkpoint(5, state, History(), 0, 0, "") for state in states]
    kept = PassCheckpoints([], [], start, threading.Event())
    assert kept.epoch == 5
    assert kept.states == states
