"""Reading a trained point: content is always checked, and damage is distinguished from other failures."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.backends.shared.history import History, Metric
from pipeline.config.schema import Config
from pipeline.points import reading
from pipeline.points.folder import PointFolder
from pipeline.points.identity import signature, signed_text
from pipeline.points.point import outcome_of
from pipeline.points.reading import FILES, read_own_config, read_own_point, read_point, read_run
from pipeline.system.errors import DamagedError, LabError
from pipeline.system.files import SUMS, write_sums
from tests.support.damage import (
    MACHINE,
    RUN_JSON,
    Trap,
    check_machine_error,
    cut,
    fail_at,
    flipped,
    lengthened,
    replaced,
)
from tests.support.trained import config, trained

ONE = config("experiment=line_y3x", "training.epochs=4", "recording.direction_changes=true", "model.hidden_size=null")
(HISTORY,) = trained(ONE)
CHECKSUMS = {"table": "0" * 64}
TABLES = ("direction_changes.csv", "first_epochs.csv")
ALL = sorted([*FILES, *TABLES, "signed.json", "run.json", "plots/loss.png", SUMS])


def write(project: Path, history: History = HISTORY, point: Config = ONE, with_run: bool = False) -> Path:
    folder = PointFolder(project, signature(point, CHECKSUMS))
    folder.begin()
    folder.write_text("signed.json", signed_text(point, CHECKSUMS))
    folder.write_json("config.json", point.model_dump(mode="json"))
    folder.write_json("run.json", RUN_JSON if with_run else {})
    folder.write_history(history)
    (folder.path / "plots" / "loss.png").write_bytes(b"\x89PNG")
    return folder.complete()


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return write(tmp_path)


# --- reading back


def assert_same(a: History, b: History) -> None:
    assert a.metrics == b.metrics
    assert list(a.snapshots) == list(b.snapshots)
    for step, weights in a.snapshots.items():
        assert list(weights) == list(b.snapshots[step])
        for name, array in weights.items():
            assert array.dtype == b.snapshots[step][name].dtype
            assert np.array_equal(array, b.snapshots[step][name], equal_nan=True)
    assert a.tables == b.tables
    for name in ("diverged_step", "last_finite_loss", "seconds", "epochs", "points_in_stack"):
        assert getattr(a, name) == getattr(b, name)


def test_a_point_read_back_is_the_one_that_was_written(written: Path) -> None:
    point = read_point(written, "mine")
    assert (point.name, point.folder, point.config) == ("mine", written, ONE)
    assert point.outcome == outcome_of(HISTORY)
    assert_same(point.history, HISTORY)


def test_a_point_with_moving_statistics_too(tmp_path: Path) -> None:
    deep = config("experiment=three_bits", "model.hidden_size=2", "model.further_hidden_sizes=[3]",
                  "model.batch_normalization=true", "training.epochs=5", "recording.weight_metrics=true")  # fmt: skip
    (history,) = trained(deep)
    assert "weights/layer_1/moving_variance_2" in history.names()
    assert_same(read_point(write(tmp_path, history, deep), "deep").history, history)


def test_a_diverged_point_too(tmp_path: Path) -> None:
    wild = config("experiment=line_y2x", "gradient=backpropagation", "optimizer.learning_rate=5")
    (history,) = trained(wild)
    point = read_point(write(tmp_path, history, wild), "wild")
    assert point.outcome.outcome == "diverged"
    assert point.outcome.diverged_step == history.diverged_step
    assert_same(point.history, history)


@given(
    st.lists(
        st.builds(
            Metric,
            st.integers(0, 10**6),
            st.integers(0, 2**50),
            st.text("ab/,\"' é", min_size=1),
            st.floats(allow_nan=False),
        ),
        max_size=8,
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_metrics_are_read_back_exactly(tmp_path: Path, metrics: list[Metric]) -> None:
    history = replace(HISTORY, metrics=metrics)
    assert read_point(write(tmp_path, history), "x").history.metrics == metrics


def refusal(folder: Path) -> str:
    with pytest.raises(LabError) as caught:
        read_point(folder, "x")
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert "retrain the point" in refusal(tmp_path / "nothing")


def test_a_folder_holds_these_files_and_sha256sum_agrees(written: Path) -> None:
    assert sorted(path.relative_to(written).as_posix() for path in written.rglob("*") if path.is_file()) == ALL
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SUMS], cwd=written, check=True)


@pytest.mark.parametrize("name", ALL)
def test_a_missing_file(written: Path, name: str) -> None:
    (written / name).unlink()
    assert name in refusal(written)


@given(
    st.sampled_from(ALL),
    st.sampled_from([cut, flipped, replaced, lengthened]),
    st.integers(0, 2**20),
    st.integers(0, 7),
    st.binary(min_size=1, max_size=80),
)
@example(SUMS, cut, -1, 0, b"").via("the last end of line is missing")
@example(SUMS, flipped, -1, 0, b"").via("the last end of line is a vertical tab, which splitlines takes for one")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_any_damage_to_any_file_is_refused(
    written: Path, name: str, damage: Callable[..., bytes], position: int, bit: int, foreign: bytes
) -> None:
    content = (written / name).read_bytes()
    damaged = damage(content, position, bit, foreign)
    if damaged == content:
        return
    (written / name).write_bytes(damaged)
    try:
        refusal(written)
    finally:
        (written / name).write_bytes(content)
    assert read_point(written, "x").outcome == outcome_of(HISTORY)


def test_the_list_of_checksums_with_any_bit_flipped_or_cut_anywhere(written: Path) -> None:
    """It is what all others are trusted by, and nothing holds its own checksum."""
    content = (written / SUMS).read_bytes()
    broken = [content[:length] for length in range(len(content))]
    broken += [flipped(content, position, bit, b"") for position in range(len(content)) for bit in range(8)]
    for one in broken[:: max(1, len(broken) // 1500)] + [content[: position + 1] for position in _ends(content)[:-1]]:
        (written / SUMS).write_bytes(one)
        refusal(written)


def _ends(content: bytes) -> list[int]:
    return [position for position, byte in enumerate(content) if byte == ord("\n")]


def test_a_file_of_another_point_is_refused(written: Path, tmp_path: Path) -> None:
    other_config = config("experiment=line_y3x", "training.epochs=4", "optimizer.learning_rate=0.02")
    other = write(tmp_path / "other", trained(other_config)[0], other_config)
    for name in (*FILES, SUMS):
        own = (written / name).read_bytes()
        (written / name).write_bytes((other / name).read_bytes())
        refusal(written)
        (written / name).write_bytes(own)


# --- files that are not what they should be though their checksums hold


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize(
    "content",
    [b"", b"\x00\xff\xfe", b"null", b"[]", b"[1]", b"3", b'{"a": 1}', b"[" * 100_000, b"PK\x05\x06" + bytes(18)],
)
def test_a_file_with_something_else_in_it(written: Path, name: str, content: bytes) -> None:
    (written / name).write_bytes(b"step,timestamp,name,value\n" + content if name == "metrics.csv" else content)
    write_sums(written)
    if (name, content) == ("metrics.csv", b""):
        assert read_point(written, "x").history.metrics == []
    else:
        refusal(written)


def test_a_journal_cut_within_a_row(written: Path) -> None:
    content = (written / "metrics.csv").read_text()
    (written / "metrics.csv").write_text(content[: content.rindex(",") - 3])
    write_sums(written)
    refusal(written)


@pytest.mark.parametrize("change", [{"extra": 1}, {"outcome": None}])
def test_an_outcome_with_other_keys(written: Path, change: dict[str, Any]) -> None:
    outcome = asdict(outcome_of(HISTORY)) | change
    for key in [key for key, value in change.items() if value is None]:
        del outcome[key]
    (written / "outcome.json").write_text(json.dumps(outcome))
    write_sums(written)
    refusal(written)


def poisoned(trap: Path) -> Sequence[bytes]:
    """A bare pickle, an .npy of objects, an .npz that holds one beside the steps, one instead of the steps."""
    objects = np.array([Trap(trap)], dtype=object)
    contents = [pickle.dumps(Trap(trap))]
    stream = io.BytesIO()
    np.save(stream, objects, allow_pickle=True)
    contents.append(stream.getvalue())
    for steps, weights in ((np.array([0]), objects), (objects, np.zeros((1, 1, 1)))):
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=True, **{"steps": steps, "layer_0/weights": weights})
        contents.append(stream.getvalue())
    return contents


@pytest.mark.parametrize("kind", range(4))
def test_a_pickle_is_never_opened(written: Path, tmp_path: Path, kind: int) -> None:
    trap = tmp_path / "sprung"
    (written / "weights.npz").write_bytes(poisoned(trap)[kind])
    write_sums(written)
    refusal(written)
    assert not trap.exists()


def test_the_trap_would_spring(tmp_path: Path) -> None:
    pickle.loads(poisoned(tmp_path / "sprung")[0])
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "arrays", [{}, {"steps": np.array(3)}, {"steps": np.arange(9), "layer_0/weights": np.zeros((2, 1, 1))}]
)
def test_weights_that_do_not_fit_their_steps(written: Path, arrays: dict[str, Any]) -> None:
    np.savez(written / "weights.npz", allow_pickle=False, **arrays)
    write_sums(written)
    refusal(written)


def test_weights_that_can_unfold(written: Path) -> None:
    arrays: dict[str, Any] = {"steps": np.arange(1), "layer_0/weights": np.zeros((1, 10**6))}
    np.savez_compressed(written / "weights.npz", **arrays)
    write_sums(written)
    assert "compressed" in refusal(written)


def test_a_list_of_checksums_that_leaves_a_file_out(written: Path) -> None:
    """Then nothing would vouch for it."""
    for name in sorted(FILES):
        write_sums(written, excluded=name)
        assert f"{SUMS} does not name {name}" in refusal(written)


# --- what is said: of every file, damaged in every way


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A point with everything that training writes."""
    return write(tmp_path, with_run=True)


def missing(file: Path) -> None:
    file.unlink()


def halved(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def changed(file: Path) -> None:
    file.write_bytes(flipped(file.read_bytes(), 5, 3, b""))


def of_another_kind(file: Path) -> None:
    file.write_bytes(pickle.dumps([1]))


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("damage", [missing, halved, changed, of_another_kind, a_folder])
def test_damage_is_reported_as_damage(own: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(own / name)
    with pytest.raises(DamagedError) as raised:
        read_own_point(own, "mine", own.name)
    assert str(raised.value).startswith(f"The trained point in {own} cannot be read.\n")
    assert str(raised.value).endswith(f"delete {own} and retrain the point")


@pytest.mark.parametrize("name", ["config.json", "outcome.json", "metrics.csv", "weights.npz", *TABLES])
@pytest.mark.parametrize("content", [b"", b"null", b"[1]", b"3", b'{"a": 1}', b"[" * 100_000, b"a,b\n1\n", b"a\n1,2\n"])
def test_content_of_another_type_is_damage_though_its_checksum_holds(own: Path, name: str, content: bytes) -> None:
    """Which is seen by looking, not by an error that a wrong type happens to end in."""
    (own / name).write_bytes(content)
    write_sums(own)
    with pytest.raises(DamagedError, match=r"received: (ValidationError|ValueError|JSONDecodeError)"):
        read_own_point(own, "mine", own.name)


KEYS = list(asdict(outcome_of(HISTORY)))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", ["x", [1], {"a": "b"}, True])
def test_a_value_of_an_outcome_of_another_type_is_damage(own: Path, key: str, value: Any) -> None:
    (own / "outcome.json").write_text(json.dumps(asdict(outcome_of(HISTORY)) | {key: value}))
    write_sums(own)
    with pytest.raises(DamagedError, match=key):
        read_own_point(own, "mine", own.name)


def test_a_different_point_and_one_that_does_not_say_how_it_was_trained(own: Path) -> None:
    assert read_own_point(own, "mine", own.name).history.metrics == HISTORY.metrics
    with pytest.raises(DamagedError, match="holds a different point"):
        read_own_point(own, "mine", "0" * 16)
    (own / "run.json").write_text("{}")
    write_sums(own)
    with pytest.raises(DamagedError, match="has no record of how it was trained"):
        read_own_point(own, "mine", own.name)


# --- what is not said of a file that may be whole


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("opening", [0, 1])
@pytest.mark.parametrize("error", MACHINE, ids=repr)
def test_what_the_machine_refuses_is_not_taken_for_damage(
    own: Path, monkeypatch: pytest.MonkeyPatch, name: str, opening: int, error: OSError | MemoryError
) -> None:
    """At the first opening its checksum is looked at, at the second it is read."""
    if opening == 1 and name in ("plots/loss.png", SUMS):
        return  # opened once
    before = (own / name).read_bytes()
    fail_at(monkeypatch, own / name, error, opening)
    with pytest.raises(LabError) as raised:
        read_own_point(own, "mine", own.name)
    check_machine_error(raised.value, error, own)
    monkeypatch.undo()
    assert (own / name).read_bytes() == before
    assert read_own_point(own, "mine", own.name).history.metrics == HISTORY.metrics


@pytest.mark.parametrize("error", MACHINE, ids=repr)
def test_neither_is_a_config_or_a_run(own: Path, monkeypatch: pytest.MonkeyPatch, error: OSError | MemoryError) -> None:
    readers: dict[str, Callable[[Path], object]] = {"config.json": read_own_config, "run.json": read_run}
    for name, read in readers.items():
        with monkeypatch.context() as patched:
            fail_at(patched, own / name, error)
            with pytest.raises(LabError) as raised:
                read(own)
        check_machine_error(raised.value, error, own)


BUGS: list[Exception] = [TypeError("ours"), RuntimeError("ours"), KeyError("ours"), AttributeError("ours")]


@pytest.mark.parametrize("part", ["verify_sums", "read_journal", "read_config", "read_weights", "Point"])
@pytest.mark.parametrize("error", BUGS, ids=repr)
def test_a_bug_of_ours_passes_through(own: Path, monkeypatch: pytest.MonkeyPatch, part: str, error: Exception) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(reading, part, fail)
    with pytest.raises(type(error), match="ours") as raised:
        read_own_point(own, "mine", own.name)
    assert raised.value is error
