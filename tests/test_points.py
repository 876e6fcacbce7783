"""A trained point on disk: its signature, its folder, and that nothing in a folder is trusted."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config import Config, flatten, read_config
from pipeline.errors import LabError
from pipeline.history import History, Metric
from pipeline.points import (
    PointFolder,
    folder_name,
    outcome_of,
    point_name,
    read_point,
    signature,
)
from tests.trained import config, trained

ONE = config("experiment=line_y3x", "training.epochs=4", "recording.direction_changes=true", "model.hidden_size=null")
(HISTORY,) = trained(ONE)
SUMS = {"table": "0" * 64}
FILES = ("config.json", "metrics.csv", "weights.npz", "outcome.json")


def write(project: Path, history: History = HISTORY, point: Config = ONE) -> Path:
    folder = PointFolder(project, signature(point, SUMS))
    folder.write_json("config.json", point.model_dump(mode="json"))
    folder.write_json("run.json", {})
    folder.append(history.metrics)
    folder.write_history(history)
    return folder.complete()


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return write(tmp_path)


# --- signature


def test_a_signature_is_16_digits_and_depends_on_config_and_data() -> None:
    own = signature(ONE, SUMS)
    assert re.fullmatch("[0-9a-f]{16}", own)
    assert signature(ONE, SUMS) == own
    assert signature(ONE, {"table": "1" * 64}) != own
    assert signature(ONE, {"other": "0" * 64}) != own


def test_the_order_of_keys_and_the_way_a_number_is_written_do_not_count() -> None:
    def turned(value: Any) -> Any:
        return {key: turned(value[key]) for key in reversed(value)} if isinstance(value, dict) else value

    plain = ONE.model_dump(mode="json")
    assert list(turned(plain)) != list(plain)
    assert signature(read_config(turned(plain)), SUMS) == signature(ONE, SUMS)
    whole, real = config("optimizer.learning_rate=1"), config("optimizer.learning_rate=1.0")
    assert signature(whole, {"a": "1", "b": "2"}) == signature(real, {"b": "2", "a": "1"})


def other_value(value: Any) -> Any:
    """Another value of about the same kind; whether a run could use it does not matter here."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, value[-1]]
    return "other" if value is None else f"{value}x"


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("base", [ONE, config("optimizer=adam"), config("backend=keras", "optimizer=nesterov")])
def test_every_key_but_those_of_tracking_and_results_counts(base: Config) -> None:
    seen = {signature(base, SUMS): "none"}
    for key, value in flatten(base):
        *sections, last = key.split(".")
        parts: list[Any] = [base]
        for section in sections:
            part = parts[-1]
            parts.append(part[section] if isinstance(part, dict) else getattr(part, section))
        new: Any = other_value(value)
        for part, name in zip(reversed(parts), [last, *reversed(sections)], strict=True):
            new = {**part, name: new} if isinstance(part, dict) else part.model_copy(update={name: new})
        own = signature(new, SUMS)
        if key.startswith(("tracking.", "results")):
            assert own == signature(base, SUMS), key
        else:
            assert own not in seen, f"{key} does not count, or like {seen.get(own)}"
            seen[own] = key
    assert len(seen) > 25


# --- names


def test_a_name_tells_what_varies() -> None:
    three_bits = config("experiment=three_bits", "optimizer.learning_rate=10", "model.hidden_size=4")
    overrides = ["optimizer.learning_rate=10", "model.hidden_size=4"]
    assert point_name(three_bits, overrides) == "learning_rate=10 hidden_size=4"
    assert point_name(three_bits, ["experiment=three_bits", "backend=numpy", "profile=small", "results=a"]) == (
        "learning_rate=10 hidden_size=4"
    )
    assert point_name(three_bits, [*overrides, "seed=2", "tracking.uri=x", "hydra/launcher=basic"]) == (
        "learning_rate=10 hidden_size=4 seed=2"
    )
    assert point_name(three_bits, ["optimizer=sgd", "+model.bias=true"]) == (
        "learning_rate=10 hidden_size=4 optimizer=sgd bias=true"
    )
    assert point_name(config("experiment=line_y2x", "optimizer.learning_rate=1e-05"), []) == "learning_rate=1e-05"


@given(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300))
def test_other_rates_have_other_names(one: float, other: float) -> None:
    def named(rate: float) -> str:
        return point_name(
            ONE.model_copy(update={"optimizer": ONE.optimizer.model_copy(update={"learning_rate": rate})}), []
        )

    assert (named(one) == named(other)) == (one == other)
    assert (named(one) == named(np.nextafter(one, 1e301).item())) is False


@given(st.text(max_size=200))
def test_a_folder_name_is_safe_whatever_the_name(name: str) -> None:
    safe = folder_name(name)
    assert re.fullmatch(r"[A-Za-z0-9=_.,-]*", safe)
    assert len(safe) <= 100
    assert len(Path("results", safe).parts) <= 2


@given(st.lists(st.text(max_size=120), unique=True, max_size=8))
def test_other_names_have_other_folders(names: list[str]) -> None:
    assert len({folder_name(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "name",
    ["learning_rate=10 hidden_size=4", "größe=ü", "../../etc/passwd", "a/b", "", ".", "..", "x" * 300, "a\nb", "\0"],
)
def test_a_folder_of_that_name_can_be_made_below_its_parent(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "points" / folder_name(name)
    folder.mkdir(parents=True)
    assert folder.resolve().parent == tmp_path / "points"


def test_a_plain_name_stays_readable() -> None:
    assert folder_name("learning_rate=0.001 hidden_size=4") == "learning_rate=0.001,hidden_size=4"


# --- writing


def test_a_folder_is_written_beside_and_renamed(tmp_path: Path) -> None:
    own = signature(ONE, SUMS)
    folder = PointFolder(tmp_path, own)
    folder.write_json("config.json", {})
    assert not (tmp_path / ".points" / own).exists()
    assert [path.name for path in (tmp_path / ".points").iterdir()] == [f"{own}.partial-{os.getpid()}"]
    folder.write_history(HISTORY)
    final = folder.complete()
    assert final == tmp_path / ".points" / own
    assert [path.name for path in (tmp_path / ".points").iterdir()] == [own]
    expected = {"config.json", "metrics.csv", "weights.npz", "outcome.json", "plots"}
    assert {path.name for path in final.iterdir()} == expected | {"direction_changes.csv", "first_epochs.csv"}


def test_an_earlier_folder_is_replaced_as_a_whole(written: Path, tmp_path: Path) -> None:
    (written / "left_over.txt").write_text("from before")
    assert write(tmp_path) == written
    assert not (written / "left_over.txt").exists()
    assert read_point(written, "again").history.metrics == HISTORY.metrics


def test_what_a_killed_process_left_is_swept_away_by_the_next_of_its_number(tmp_path: Path) -> None:
    PointFolder(tmp_path, "a" * 16).append([Metric(0, 0, "old", 1.0)])
    again = PointFolder(tmp_path, "a" * 16)
    assert (again.path / "metrics.csv").read_text() == "step,timestamp,name,value\n"


def test_a_discarded_folder_is_gone_and_may_be_discarded_again(tmp_path: Path) -> None:
    folder = PointFolder(tmp_path, "a" * 16)
    folder.discard()
    folder.discard()
    assert list((tmp_path / ".points").iterdir()) == []


def test_the_journal_grows_with_full_precision(tmp_path: Path) -> None:
    folder = PointFolder(tmp_path, "a" * 16)
    metrics = [Metric(0, 5, "train/loss", 0.1 + 0.2), Metric(1, 6, "x,y", 1e-300)]
    for metric in metrics:
        folder.append([metric])
    with (folder.path / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [Metric(int(r["step"]), int(r["timestamp"]), r["name"], float(r["value"])) for r in rows] == metrics


@pytest.mark.parametrize("call", ["new", "json", "append", "history", "complete"])
def test_where_nothing_can_be_written(tmp_path: Path, call: str) -> None:
    """A file stands where a folder is needed: that stops root too."""
    in_the_way = tmp_path / ".points"
    if call == "new":
        in_the_way.write_text("a file")
        with pytest.raises(LabError, match=r"\.points.* cannot be written"):
            PointFolder(tmp_path, "a" * 16)
        return
    folder = PointFolder(tmp_path, "a" * 16)
    shutil.rmtree(in_the_way)
    in_the_way.write_text("a file")
    calls: dict[str, Any] = {
        "json": lambda: folder.write_json("config.json", {}),
        "append": lambda: folder.append(HISTORY.metrics),
        "history": lambda: folder.write_history(HISTORY),
        "complete": folder.complete,
    }
    with pytest.raises(LabError, match="cannot be written"):
        calls[call]()
    folder.discard()
    assert in_the_way.read_text() == "a file"


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
    for name in ("diverged_step", "last_finite_loss", "seconds", "epochs", "points_in_pass"):
        assert getattr(a, name) == getattr(b, name)


def test_a_point_read_back_is_the_one_that_was_written(written: Path) -> None:
    point = read_point(written, "mine")
    assert (point.name, point.folder, point.config) == ("mine", written, ONE)
    assert point.outcome == outcome_of(HISTORY)
    assert_same(point.history, HISTORY)


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
    assert "train it again" in refusal(tmp_path / "nothing")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(written: Path, name: str) -> None:
    (written / name).unlink()
    assert name in refusal(written)


@pytest.mark.parametrize("share", [0, 0.3, 0.7, 0.97])
@pytest.mark.parametrize("name", ["config.json", "weights.npz", "outcome.json"])
def test_a_file_cut_short(written: Path, name: str, share: float) -> None:
    content = (written / name).read_bytes()
    (written / name).write_bytes(content[: int(len(content) * share)])
    assert "cannot be" in refusal(written)


def test_a_journal_cut_within_a_row(written: Path) -> None:
    content = (written / "metrics.csv").read_text()
    (written / "metrics.csv").write_text(content[: content.rindex(",") - 3])
    refusal(written)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "content", [b"\x00\xff\xfe", b"null", b"[]", b"[1]", b"3", b'{"a": 1}', b"PK\x05\x06" + bytes(18)]
)
def test_a_file_with_something_else_in_it(written: Path, name: str, content: bytes) -> None:
    (written / name).write_bytes(b"step,timestamp,name,value\n" + content if name == "metrics.csv" else content)
    refusal(written)


@pytest.mark.parametrize("change", [{"extra": 1}, {"outcome": None}])
def test_an_outcome_with_other_keys(written: Path, change: dict[str, Any]) -> None:
    told = asdict(outcome_of(HISTORY)) | change
    for key in [key for key, value in change.items() if value is None]:
        del told[key]
    (written / "outcome.json").write_text(json.dumps(told))
    refusal(written)


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.file,)


def poisoned(trap: Path) -> Sequence[bytes]:
    """A bare pickle, an .npy of objects, an .npz that holds one beside the steps, one in the place of the steps."""
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
    refusal(written)


@given(st.sampled_from([*FILES, "direction_changes.csv", "first_epochs.csv"]), st.integers(0), st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_a_flipped_bit_is_read_as_a_point_or_refused(written: Path, name: str, place: int, bit: int) -> None:
    """Text has no checksum: another digit is another number. Weights have one each."""
    content = (written / name).read_bytes()
    broken = bytearray(content)
    broken[place % len(broken)] ^= 1 << bit
    (written / name).write_bytes(broken)
    try:
        point = read_point(written, "x")
    except LabError as error:
        assert str(written) in str(error) or "config" in str(error)  # noqa: PT017 - either outcome is right
    else:
        if name == "weights.npz":
            assert_same(replace(HISTORY, tables=point.history.tables), point.history)
    finally:
        (written / name).write_bytes(content)
