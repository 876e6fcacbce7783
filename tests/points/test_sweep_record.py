"""The record of a command: found again for the same points, and trusted only if its paths stay in its folder."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.backends.shared.history import History, Metric
from pipeline.config.schema import Tracking
from pipeline.points.point import Point, folder_name, outcome_of
from pipeline.points.sweep_record import (
    SweepPoint,
    SweepRecord,
    all_sweeps,
    earlier_sweep,
    extremes,
    list_points,
    read_sweep,
    referenced,
    sweep_folder,
    sweep_key,
    write_sweep,
)
from pipeline.system.errors import LabError
from pipeline.system.failures import Failures
from tests.support.damage import MACHINE, check_machine_error, fail_at
from tests.support.trained import config
from tests.sweep.test_tables import ended

HEX = st.text("0123456789abcdef", min_size=16, max_size=16)
RECORD = SweepRecord(
    key="0123456789abcdef",
    study="three_bits",
    backend="numpy",
    parent=True,
    command="python -m pipeline.train -m 'a=1,2'",
    tracking=Tracking(name="local", uri=None),
    tags={"git.dirty": "false"},
    started=1_700_000_000_000,
    ended=1_700_000_001_000,
    status="FINISHED",
    values={"points": 2, "best/train/loss": 0.25},
    points=[
        SweepPoint("learning_rate=1", "a" * 16, "learning_rate=1"),
        SweepPoint("größe=2", "b" * 16, folder_name("größe=2")),
    ],
)
PLAIN: dict[str, Any] = RECORD.to_dict()


def put(folder: Path, content: str | bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(LabError) as caught:
        read_sweep(folder)
    assert earlier_sweep(folder) is None
    return str(caught.value)


# --- the key


LOCAL, SERVER = Tracking(name="local", uri=None), Tracking(name="server", uri="http://127.0.0.1:5000")


@given(st.lists(HEX, max_size=5), st.randoms(use_true_random=False))
def test_commands_for_the_same_points_share_a_key(members: list[str], random: Any) -> None:
    turned = [*members, *members]
    random.shuffle(turned)
    own = sweep_key("a", "numpy", LOCAL, members)
    assert re.fullmatch("[0-9a-f]{16}", own)
    assert own == sweep_key("a", "numpy", LOCAL, turned)


@given(st.sets(HEX, max_size=4), st.sets(HEX, max_size=4))
def test_commands_for_other_points_do_not(one: set[str], other: set[str]) -> None:
    assert (sweep_key("a", "numpy", LOCAL, one) == sweep_key("a", "numpy", LOCAL, other)) == (one == other)


def test_another_study_backend_or_store_has_another_key() -> None:
    keys = {
        sweep_key(study, backend, tracking, members)
        for study in ("a", "b")
        for backend in ("numpy", "keras")
        for tracking in (LOCAL, SERVER)
        for members in ([], ["a" * 16], ["a" * 16, "b" * 16])
    }
    assert len(keys) == 2 * 2 * 2 * 3


# --- written and read


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = sweep_folder(tmp_path, RECORD.key)
    write_sweep(folder, RECORD)
    assert read_sweep(folder) == RECORD
    assert sorted(path.name for path in folder.iterdir()) == ["plots", "sweep.json"]
    assert list(all_sweeps(tmp_path)) == [(folder, RECORD)]
    assert RECORD.name == "three_bits numpy"


def test_the_file_keeps_its_shape(tmp_path: Path) -> None:
    """What earlier versions wrote can be read, and the other way round."""
    folder = put(
        tmp_path,
        """{
  "key": "0123456789abcdef", "study": "three_bits", "backend": "numpy", "parent": true,
  "command": "python -m pipeline.train -m 'a=1,2'", "tracking": {"name": "local", "uri": null},
  "tags": {"git.dirty": "false"}, "started": 1700000000000, "ended": 1700000001000, "status": "FINISHED",
  "values": {"points": 2.0, "best/train/loss": 0.25}, "asked": 0,
  "points": [{"name": "learning_rate=1", "signature": "aaaaaaaaaaaaaaaa", "folder": "learning_rate=1"}]
}""",
    )
    plain = json.loads((folder / "sweep.json").read_text())
    record = read_sweep(folder)
    assert record == replace(RECORD, points=RECORD.points[:1])
    write_sweep(folder, record)
    # The file above is that of an earlier version, which did not say what a study asks, and made models of all points.
    added = {"question": None, "report": None, "models": "all"}
    assert json.loads((folder / "sweep.json").read_text()) == plain | added


@given(
    st.builds(
        SweepRecord,
        key=HEX,
        study=st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z"),
        backend=st.sampled_from(["numpy", "keras"]),
        parent=st.booleans(),
        command=st.text(),
        tracking=st.sampled_from([LOCAL, SERVER]),
        tags=st.dictionaries(st.text(), st.text(), max_size=2),
        started=st.integers(0, 2**50),
        ended=st.none() | st.integers(0, 2**50),
        values=st.dictionaries(st.text(), st.integers(0, 9) | st.floats(allow_nan=False), max_size=2),
        points=st.lists(st.builds(lambda name, sign: SweepPoint(name, sign, folder_name(name)), st.text(), HEX)),
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_command_writes_can_be_read(tmp_path: Path, record: SweepRecord) -> None:
    write_sweep(tmp_path / "s", record)
    assert read_sweep(tmp_path / "s") == record


def test_a_record_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / ".points").write_text("a file")
    with pytest.raises(LabError, match="cannot be written"):
        write_sweep(sweep_folder(tmp_path, RECORD.key), RECORD)


def test_all_points_that_some_sweep_has() -> None:
    assert referenced([RECORD, RECORD]) == {"a" * 16, "b" * 16}
    assert referenced([]) == set()


# --- damage and malice


def test_one_that_is_not_there(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path)
    assert list(all_sweeps(tmp_path)) == []


@pytest.mark.parametrize("content", ["", "null", "[]", "3", "{}", '{"points": []}', b"\xff\xfe\x00", "[" * 100_000])
def test_a_file_with_something_else_in_it(tmp_path: Path, content: str | bytes) -> None:
    assert str(tmp_path) in refusal(put(tmp_path, content))


def test_a_file_cut_anywhere(tmp_path: Path) -> None:
    content = json.dumps(PLAIN, indent=2)
    for length in range(len(content)):
        refusal(put(tmp_path, content[:length]))


REQUIRED = ["key", "study", "backend", "parent", "command", "tracking", "tags", "started"]


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key(tmp_path: Path, key: str) -> None:
    refusal(put(tmp_path, json.dumps({name: value for name, value in PLAIN.items() if name != key})))


@pytest.mark.parametrize("key", ["name", "signature", "folder"])
def test_a_point_with_a_missing_key(tmp_path: Path, key: str) -> None:
    plain = copy.deepcopy(PLAIN)
    del plain["points"][1][key]
    refusal(put(tmp_path, json.dumps(plain)))


@pytest.mark.parametrize("wrong", [3, None, "text", [3], {"a": 3}, True, [None]])
@pytest.mark.parametrize("key", PLAIN)
def test_a_value_of_another_type_is_refused(tmp_path: Path, key: str, wrong: Any) -> None:
    if (key, wrong) in [("question", None), ("question", "text"), ("report", None)]:
        return  # an earlier version wrote none, and any text is a question
    fitting: dict[str, list[Any]] = {
        "started": [3],
        "asked": [3],
        "ended": [3, None],
        "parent": [True],
        "command": ["text"],
        "status": ["text"],
    }
    fitting |= {"study": ["text"], "backend": ["text"], "values": [{"a": 3}]}
    folder = put(tmp_path, json.dumps(PLAIN | {key: wrong}))
    if any(value == wrong and type(value) is type(wrong) for value in fitting.get(key, [])):
        assert getattr(read_sweep(folder), key) == wrong
    else:
        refusal(folder)


OUTSIDE = ["..", ".", "", "/", "/etc", "../..", "a/b", "../" + "a" * 16, "a" * 16 + "/..", ".\0", "a\nb", "a" * 101]


@pytest.mark.parametrize("name", [*OUTSIDE, 3, None, ["a"]])
@pytest.mark.parametrize("key", ["folder", "signature"])
def test_a_point_that_leads_out_of_the_folder(tmp_path: Path, key: str, name: Any) -> None:
    """`pipeline.remove` deletes what these names lead to."""
    plain = copy.deepcopy(PLAIN)
    plain["points"][0][key] = name
    refusal(put(tmp_path / ".points" / ".sweeps" / "x", json.dumps(plain)))
    assert list(all_sweeps(tmp_path)) == []


@pytest.mark.parametrize("name", [".locks", ".sweeps", "A" * 16, "a" * 15, "a" * 16 + ".training", "a" * 16 + "\n"])
def test_a_signature_that_is_not_one(tmp_path: Path, name: str) -> None:
    plain = copy.deepcopy(PLAIN)
    plain["points"][0]["signature"] = name
    refusal(put(tmp_path, json.dumps(plain)))


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("key", ["key", "study", "backend"])
def test_a_sweep_that_leads_out_of_the_folder(tmp_path: Path, key: str, name: str) -> None:
    refusal(put(tmp_path, json.dumps(PLAIN | {key: name})))


def test_one_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    write_sweep(sweep_folder(tmp_path, RECORD.key), RECORD)
    put(sweep_folder(tmp_path, "f" * 16), "{")
    (sweep_folder(tmp_path, "0" * 16) / "sweep.json").mkdir(parents=True)
    assert [sweep.key for _, sweep in all_sweeps(tmp_path)] == [RECORD.key]


def test_the_best_of_a_sweep_leaves_out_what_diverged() -> None:
    points = [
        of(ended(0.5), seed=1),
        of(ended(0.25), loss="mean_absolute_error"),
        of(ended(0.001, diverged=3), loss="huber"),
    ]
    assert extremes(points) == {"best/train/loss": 0.25, "best/train/mean_absolute_error": 0.5}
    assert extremes([ended(0.5, diverged=1)]) == {}
    assert extremes([]) == {}


def test_the_best_of_a_sweep_is_a_mean_and_not_the_luckiest_seed() -> None:
    unlucky = [of(ended(loss), seed=seed) for seed, loss in enumerate((0.1, 0.9))]
    steady = [of(ended(loss), seed=seed, loss="mean_absolute_error") for seed, loss in enumerate((0.3, 0.4))]
    assert extremes([*unlucky, *steady])["best/train/loss"] == pytest.approx(0.35)
    # Trained for another study, it is a seed of the same point.
    steady[1] = of(steady[1], study="earlier")
    assert extremes([*unlucky, *steady])["best/train/loss"] == pytest.approx(0.35)
    lost = [of(ended(0.01), loss="huber"), of(ended(0.01, diverged=1), seed=7, loss="huber")]
    assert extremes([*unlucky, *lost])["best/train/loss"] == pytest.approx(0.5)
    assert extremes(lost)["best/train/loss"] == pytest.approx(0.01)


def test_test_rows_choose_nothing_where_validation_rows_judge() -> None:
    points = []
    for hidden_size, validation, test in ((16, 0.9, 0.8), (32, 0.7, 0.95)):
        history = History([Metric(1, 0, "validation/accuracy", validation), Metric(1, 0, "test/accuracy", test)])
        point = Point("", Path(), config(f"model.hidden_size={hidden_size}"), history, outcome_of(history))
        points += [replace(point, config=point.config.model_copy(update={"seed": seed})) for seed in (1, 2)]
    assert extremes(points) == {"best/validation/accuracy": 0.9, "best/test/accuracy": 0.8}
    held_back = points[0].config.data.model_copy(update={"validation_share": 0.0})
    assert extremes([of(point, data=held_back) for point in points])["best/test/accuracy"] == 0.95


def of(point: Point, **keys: Any) -> Point:
    """The point with other settings."""
    return replace(point, config=point.config.model_copy(update=keys))


def test_points_of_the_same_name_get_folders_of_their_own() -> None:
    points = list_points([("seed=1", "a" * 16), ("seed=2", "b" * 16), ("seed=1", "c" * 16)])
    assert [point.folder for point in points] == ["seed=1", "seed=2", f"seed=1-{'c' * 16}"]
    assert [point.name for point in points] == ["seed=1", "seed=2", "seed=1"]


def test_long_names_stay_names_of_folders() -> None:
    long = "x" * 300
    points = list_points([(long, "a" * 16), (long, "b" * 16)])
    assert len({point.folder for point in points}) == 2
    assert all(len(point.folder) <= 100 for point in points)


@pytest.mark.parametrize("error", MACHINE, ids=repr)
def test_one_that_the_machine_does_not_let_be_read_stops_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError | MemoryError
) -> None:
    """It is not left out: `pipeline.remove` deletes the points that no sweep has."""
    folder = sweep_folder(tmp_path, RECORD.key)
    write_sweep(folder, RECORD)
    fail_at(monkeypatch, folder / "sweep.json", error)
    for read in (lambda: read_sweep(folder), lambda: list(all_sweeps(tmp_path))):
        with pytest.raises(LabError) as raised:
            read()
        check_machine_error(raised.value, error, folder)


def test_one_that_the_machine_does_not_let_be_read_is_kept_apart_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = [replace(RECORD, key=digit * 16) for digit in "abc"]
    for sweep in written:
        write_sweep(sweep_folder(tmp_path, sweep.key), sweep)
    folder = sweep_folder(tmp_path, "b" * 16)
    fail_at(monkeypatch, folder / "sweep.json", MACHINE[0])
    unread = Failures()
    assert [sweep for _, sweep in all_sweeps(tmp_path, unread)] == [written[0], written[2]]
    ((item, error),) = unread.errors.items()
    assert item == f".points/.sweeps/{'b' * 16}/sweep.json"
    check_machine_error(error, MACHINE[0], folder)
