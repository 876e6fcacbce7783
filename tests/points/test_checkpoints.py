"""Checkpoints are kept bit for bit, and damaged ones are refused."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from pipeline.backends.contract import State
from pipeline.backends.shared.history import History
from pipeline.points.checkpoint import (
    Checkpoint,
    read_checkpoint,
    stack_snapshots,
    unstack_snapshots,
    write_checkpoint,
)
from pipeline.system.formats import read_arrays
from tests.support.damage import refused

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
        points_in_stack=draw(st.integers(1, 100)),
    )


def bits(state: State) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in state.items()}


def all_but_metrics(history: History) -> dict[str, Any]:
    """All but the metrics, which are in the journal."""
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
    assert all_but_metrics(read.history) == all_but_metrics(history)
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
        with refused():
            read_checkpoint(file)


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    """Some bytes of a zip mean nothing, such as times; those may change. For all bits see test_formats.py."""
    file = small(tmp_path)
    whole, content = read_checkpoint(file), file.read_bytes()
    refused = 0
    for position in range(len(content)):
        bit = position % 8
        broken = bytearray(content)
        broken[position] ^= 1 << bit
        file.write_bytes(broken)
        try:
            read = read_checkpoint(file)
        except ValueError:
            refused += 1
            continue
        assert bits(read.state) == bits(whole.state), (position, bit)
        assert all_but_metrics(read.history) == all_but_metrics(whole.history), (position, bit)
        assert (read.epoch, read.journal_rows, read.journal_bytes) == (8, 3, 40), (position, bit)
    assert refused > 0.7 * len(content)


RECORDS: list[bytes] = [b"", b"null", b"[]", b"{}", b"3", b"[" * 100_000, b"\xff", b'{"epoch": 1}']


@pytest.mark.parametrize("record", RECORDS)
def test_another_record_is_refused(tmp_path: Path, record: bytes) -> None:
    np.savez(tmp_path / "c.npz", allow_pickle=False, record=np.frombuffer(record, np.uint8))
    with refused():
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
    with refused():
        read_checkpoint(file)


# --- snapshots


@given(histories())
def test_snapshots_are_stacked_and_unstacked(history: History) -> None:
    again = History()
    unstack_snapshots(stack_snapshots(history.snapshots), again)
    assert all_but_metrics(again)["snapshots"] == all_but_metrics(history)["snapshots"]
    assert list(again.snapshots) == sorted(history.snapshots)
