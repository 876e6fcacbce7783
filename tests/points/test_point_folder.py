"""The folder of a point in training: locked by one process, and enough to continue from at any moment."""

from __future__ import annotations

import csv
import errno
import json
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.backends.contract import State
from pipeline.backends.shared.history import History, Metric
from pipeline.points.folder import CHECKPOINT, JOURNAL, PointFolder
from pipeline.points.point import POINTS
from pipeline.points.reading import RunRecord, read_point, read_run
from pipeline.system.errors import LabError
from pipeline.system.files import SUMS
from pipeline.system.project import PROJECT
from tests.points.test_reading import HISTORY, ONE
from tests.support.damage import RUN_JSON, Trap, cut, flipped, lengthened, refused, replaced

SIGN = "a" * 16
STATE: State = {"updates": np.array(3), "parameters/layer_0/weights": np.array([[0.5], [np.nan]])}


def metrics(count: int, first: int = 0) -> list[Metric]:
    return [Metric(step, 1_700_000_000_000 + step, "train/loss", 1 / (step + 1)) for step in range(first, count)]


def kept(root: Path, rows: int = 4) -> PointFolder:
    """A folder in training with one checkpoint."""
    folder = PointFolder(root, SIGN)
    folder.begin()
    folder.keep(rows, STATE, History(metrics=metrics(rows)))
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- from the beginning to the end


def test_nothing_is_written_before_it_begins(tmp_path: Path) -> None:
    folder = PointFolder(tmp_path, SIGN)
    assert not folder.can_resume()
    assert folder.resume() is None
    assert read_run(folder.path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_beside_its_place_until_it_is_complete(tmp_path: Path) -> None:
    folder = PointFolder(tmp_path, SIGN)
    folder.begin()
    folder.write_json("config.json", ONE.model_dump(mode="json"))
    folder.keep(2, STATE, History(metrics=HISTORY.metrics[:5]))
    assert [path.name for path in (tmp_path / POINTS).iterdir()] == [f"{SIGN}.training"]
    folder.write_history(HISTORY)
    assert not folder.final.exists()
    assert folder.complete() == folder.final == tmp_path / POINTS / SIGN
    assert [path.name for path in (tmp_path / POINTS).iterdir()] == [SIGN]
    assert set(content(folder.final)) == {
        "config.json", "metrics.csv", "weights.npz", "outcome.json", "direction_changes.csv", "first_epochs.csv", SUMS
    }  # fmt: skip
    assert read_point(folder.final, "x").history.metrics == HISTORY.metrics


def test_an_earlier_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = PointFolder(tmp_path, SIGN)
    for _ in range(2):
        folder.begin()
        folder.write_json("config.json", ONE.model_dump(mode="json"))
        folder.write_history(HISTORY)
        folder.complete()
        assert read_point(folder.final, "x").history.metrics == HISTORY.metrics
        assert not (folder.final / "left_over.txt").exists()
        (folder.final / "left_over.txt").write_text("from before")


def test_to_begin_deletes_what_was_begun(tmp_path: Path) -> None:
    folder = kept(tmp_path)
    folder.begin()
    assert content(folder.path) == {JOURNAL: b"step,timestamp,name,value\n"}
    assert (folder.rows, folder.can_resume()) == (0, False)


def test_a_discarded_folder_is_gone_and_may_be_discarded_again(tmp_path: Path) -> None:
    folder = kept(tmp_path)
    folder.discard()
    folder.discard()
    assert list((tmp_path / POINTS).iterdir()) == []


def test_the_journal_grows_with_full_precision(tmp_path: Path) -> None:
    folder = PointFolder(tmp_path, SIGN)
    folder.begin()
    rows = [Metric(0, 5, "train/loss", 0.1 + 0.2), Metric(1, 6, "x,y", 1e-300)]
    for row in rows:
        folder.append([row])
    with (folder.path / JOURNAL).open(newline="") as stream:
        read = list(csv.DictReader(stream))
    assert [Metric(int(r["step"]), int(r["timestamp"]), r["name"], float(r["value"])) for r in read] == rows
    assert folder.rows == 2


@pytest.mark.parametrize("call", ["begin", "lock", "json", "append", "keep", "history", "complete"])
def test_where_nothing_can_be_written(tmp_path: Path, call: str) -> None:
    """A file stands where a folder is needed: that stops root too."""
    folder = kept(tmp_path)
    in_the_way = tmp_path / POINTS
    shutil.rmtree(in_the_way)
    in_the_way.write_text("a file")
    calls: dict[str, Callable[[], object]] = {
        "begin": folder.begin,
        "lock": folder.lock,
        "json": lambda: folder.write_json("config.json", {}),
        "append": lambda: folder.append(HISTORY.metrics),
        "keep": lambda: folder.keep(1, STATE, HISTORY),
        "history": lambda: folder.write_history(HISTORY),
        "complete": folder.complete,
    }
    with pytest.raises(LabError, match="cannot be written"):
        calls[call]()
    folder.discard()
    assert in_the_way.read_text() == "a file"


# --- going on


def test_a_folder_goes_on_where_its_checkpoint_is(tmp_path: Path) -> None:
    kept(tmp_path)
    again = PointFolder(tmp_path, SIGN)
    assert again.can_resume()
    checkpoint = again.resume()
    assert checkpoint is not None
    assert checkpoint.epoch == 4
    assert checkpoint.history.metrics == metrics(4)
    assert {name: array.tobytes() for name, array in checkpoint.state.items()} == {
        name: array.tobytes() for name, array in STATE.items()
    }


@given(st.integers(0, 6), st.integers(0, 6), st.binary(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_what_the_journal_has_beyond_the_checkpoint_is_cut_off(
    tmp_path: Path, rows: int, beyond: int, half: bytes
) -> None:
    """However far it got: whole rows, half a row, or zeros that a power cut leaves."""
    folder = kept(tmp_path, rows)
    journal = (folder.path / JOURNAL).read_bytes()
    folder.append(metrics(rows + beyond, rows))
    with (folder.path / JOURNAL).open("ab") as stream:
        stream.write(half)
    again = PointFolder(tmp_path, SIGN)
    checkpoint = again.resume()
    assert checkpoint is not None
    assert checkpoint.history.metrics == metrics(rows)
    assert (again.path / JOURNAL).read_bytes() == journal
    assert again.rows == rows


def test_a_folder_that_was_interrupted_ends_like_one_that_was_not(tmp_path: Path) -> None:
    def run(root: Path, stops: bool) -> dict[str, bytes]:
        folder = PointFolder(root, SIGN)
        folder.begin()
        for rows in range(1, 9, 2):
            folder.keep(rows, STATE, History(metrics=HISTORY.metrics[:rows]))
            if stops:
                folder.append(metrics(30))
                (folder.path / "plots" / "half.png").write_text("")
                folder = PointFolder(root, SIGN)
                checkpoint = folder.resume()
                assert checkpoint is not None
                assert checkpoint.history.metrics == HISTORY.metrics[:rows]
        folder.write_json("config.json", ONE.model_dump(mode="json"))
        folder.write_history(HISTORY)
        return content(folder.complete())

    assert run(tmp_path / "a", stops=True) == run(tmp_path / "b", stops=False)


def test_a_folder_that_goes_on_is_no_longer_sealed(tmp_path: Path) -> None:
    folder = kept(tmp_path)
    (folder.path / SUMS).write_text("")
    assert folder.is_sealed()
    folder.resume()
    assert not folder.is_sealed()
    assert folder.can_resume()


@given(
    st.sampled_from([JOURNAL, CHECKPOINT]),
    st.sampled_from([cut, flipped, replaced, lengthened]),
    st.integers(0, 2**20),
    st.integers(0, 7),
    st.binary(min_size=1, max_size=80),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_a_damaged_journal_or_checkpoint_is_refused_or_the_same_is_read(
    tmp_path: Path, name: str, damage: Callable[..., bytes], position: int, bit: int, foreign: bytes
) -> None:
    """Some bytes of a zip mean nothing, and behind the rows of the checkpoint the journal may hold anything."""
    folder = kept(tmp_path)
    before = content(folder.path)
    (folder.path / name).write_bytes(damage(before[name], position, bit, foreign))
    try:
        checkpoint = PointFolder(tmp_path, SIGN).resume()
    except ValueError:
        return
    assert checkpoint is not None
    assert damage in (lengthened, flipped)
    assert checkpoint.history.metrics == metrics(4)
    assert {n: a.tobytes() for n, a in checkpoint.state.items()} == {n: a.tobytes() for n, a in STATE.items()}
    assert content(folder.path)[JOURNAL] == before[JOURNAL]


def test_a_journal_with_any_bit_flipped_or_cut_anywhere_is_refused(tmp_path: Path) -> None:
    folder = kept(tmp_path, 2)
    before = (folder.path / JOURNAL).read_bytes()
    damaged = [before[:length] for length in range(len(before))]
    damaged += [flipped(before, position, position % 8, b"") for position in range(len(before))]
    for journal in damaged:
        (folder.path / JOURNAL).write_bytes(journal)
        with refused():
            folder.resume()


def test_a_missing_journal_is_refused(tmp_path: Path) -> None:
    folder = kept(tmp_path)
    (folder.path / JOURNAL).unlink()
    with pytest.raises(FileNotFoundError):
        folder.resume()


def test_a_checkpoint_or_a_journal_of_another_point_is_refused(tmp_path: Path) -> None:
    one, other = kept(tmp_path / "one"), kept(tmp_path / "other", 7)
    for name in (JOURNAL, CHECKPOINT):
        own = (one.path / name).read_bytes()
        shutil.copy(other.path / name, one.path / name)
        if name == CHECKPOINT:
            with refused():
                one.resume()
        else:  # it begins with the same rows: those are what counts
            checkpoint = one.resume()
            assert checkpoint is not None
            assert checkpoint.history.metrics == metrics(4)
        (one.path / name).write_bytes(own)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    folder, trap = kept(tmp_path), tmp_path / "sprung"
    objects = np.array([Trap(trap)], dtype=object)
    (folder.path / CHECKPOINT).write_bytes(pickle.dumps(Trap(trap)))
    with refused():
        folder.resume()
    for name in ("record", "state/updates", "snapshots/steps"):
        arrays: dict[str, Any] = {"record": np.zeros(1, np.uint8), "snapshots/steps": np.zeros(0)}
        np.savez(folder.path / CHECKPOINT, allow_pickle=True, **(arrays | {name: objects}))
        with refused():
            folder.resume()
    assert not trap.exists()


@pytest.mark.parametrize(
    "text",
    ["", "null", "[1]", "3", "{", "\udcff", "[" * 100_000, "{}", '{"attempt": "1"}']
    + [json.dumps(RUN_JSON | {key: 1.5}) for key in RUN_JSON],
    ids=str.__len__,
)
def test_a_run_json_that_cannot_be_read_counts_as_missing(tmp_path: Path, text: str) -> None:
    folder = kept(tmp_path)
    (folder.path / "run.json").write_bytes(text.encode(errors="surrogateescape"))
    assert read_run(folder.path) is None


def test_a_run_json_is_read_back(tmp_path: Path) -> None:
    folder = kept(tmp_path)
    folder.write_json("run.json", RUN_JSON)
    assert read_run(folder.path) == RunRecord(**RUN_JSON)


# --- the lock

HOLD = """\
import sys, time
from pathlib import Path
from pipeline.points.folder import PointFolder
from pipeline.points.reading import read_run
folder = PointFolder(Path(sys.argv[1]), sys.argv[2])
print(folder.lock(), flush=True)
time.sleep(600)
"""


@contextmanager
def other_process(root: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that locks the point, with whether it got it."""
    command = [sys.executable, "-c", HOLD, str(root), SIGN]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_a_lock_keeps_other_processes_out_and_ends_with_its_own(tmp_path: Path) -> None:
    folder = PointFolder(tmp_path, SIGN)
    with other_process(tmp_path) as (process, got):
        assert got == "True"
        assert not folder.lock()
        assert PointFolder(tmp_path, "b" * 16).lock()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert folder.lock()


def test_a_lock_is_held_until_it_is_released(tmp_path: Path) -> None:
    folder = PointFolder(tmp_path, SIGN)
    assert folder.lock()
    folder.begin()
    with other_process(tmp_path) as (_, got):
        assert got == "False"
    folder.unlock()
    with other_process(tmp_path) as (_, got):
        assert got == "True"


def test_two_holders_in_one_process_shut_each_other_out(tmp_path: Path) -> None:
    one, other = PointFolder(tmp_path, SIGN), PointFolder(tmp_path, SIGN)
    assert one.lock()
    assert not other.lock()
    one.unlock()
    assert other.lock()


def test_a_limit_of_open_files_is_named_and_not_taken_for_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(lock: FileLock, timeout: float) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(FileLock, "acquire", refused)
    with pytest.raises(LabError, match=r"Too many files are open.*\n.*\n.*a limit of \d+\n.*ulimit -n") as refusal:
        PointFolder(tmp_path, "a" * 16).lock()
    assert "disk" not in str(refusal.value)
