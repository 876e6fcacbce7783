from __future__ import annotations

import copy
import csv
import math
import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from pipeline.backends.shared.history import History
from pipeline.points.point import Point, outcome_of
from pipeline.report.published.reproduction import Results, cells
from pipeline.report.published.tables import ROUNDING_COLUMNS, Key, read_spreads
from pipeline.rounding import _printed, measure, numbers, perturbed, rounding, spread, train_perturbed
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT
from tests.support.hostile import refuses_without_results
from tests.support.trained import config, sweep, write_results

PUBLISHED = PROJECT / "published"
KEY = Key("three_bits", "error", 4, 10.0, "iteration 0")
floats32 = arrays(np.float32, (3, 2), elements=st.floats(-(2.0**100), 2.0**100, width=32))
floats64 = arrays(np.float64, (3, 2), elements=st.floats(-1e300, 1e300))


def three_bits(epochs: int, rate: float, size: int) -> Point:
    knobs = [f"optimizer.learning_rate={rate:g}", f"model.hidden_size={size}"]
    (point,) = sweep(["experiment=three_bits", f"training.epochs={epochs}"], [knobs])
    return point


@pytest.fixture(scope="module")
def short() -> Point:
    return three_bits(20, 10, 4)


@pytest.fixture
def tampered(tmp_path: Path) -> Path:
    """The published tables with another error at iteration 0 of the point with rate 10 and hidden size 4."""
    folder = tmp_path / "published"
    shutil.copytree(PUBLISHED, folder)
    file = folder / "three_bits.csv"
    [line] = [line for line in file.read_text().splitlines() if line.startswith("4,10,0,")]
    file.write_text(file.read_text().replace(line, "4,10,0,0.5"))
    return folder


@given(floats32 | floats64, st.integers(0, 1000))
def test_a_perturbed_number_is_the_next_one_of_its_dtype(array: NDArray[np.floating], seed: int) -> None:
    before = array.copy()
    after = perturbed({"layer_0/weights": array}, np.random.default_rng(seed))["layer_0/weights"]
    assert after.dtype == array.dtype
    up, down = np.nextafter(array, np.array(np.inf, array.dtype)), np.nextafter(array, np.array(-np.inf, array.dtype))
    assert ((after == up) | (after == down)).all()
    assert (after != array).all()
    np.testing.assert_array_equal(array, before)


def test_numbers_move_up_and_down_each_on_its_own() -> None:
    generator = np.random.default_rng(0)
    array = np.ones(1000)
    first, second = (perturbed({"a": array, "b": array}, generator) for _ in range(2))
    for weights in (first, second):
        for one in weights.values():
            assert 400 < (one > 1).sum() < 600
    assert (first["a"] != first["b"]).any()
    assert (first["a"] != second["a"]).any()


def test_the_first_network_is_the_point_and_the_others_begin_beside_it(short: Point) -> None:
    control, *others = train_perturbed(short, 3, seed=0, project=PROJECT)
    assert len(others) == 3
    assert [m[2:] for m in control.history.metrics] == [m[2:] for m in short.history.metrics]
    begun = short.history.snapshots[0]["layer_0/weights"]
    seen = [other.history.snapshots[0]["layer_0/weights"] for other in others]
    for weights in seen:
        difference = np.abs(weights - begun)
        assert (difference > 0).all()
        assert (difference <= np.spacing(np.abs(begun))).all()
    assert len({weights.tobytes() for weights in seen}) == 3
    assert [other.name for other in others] == [short.name] * 3
    assert {other.outcome.epochs for other in others} == {20}
    again, elsewhere = (train_perturbed(short, 1, seed=seed, project=PROJECT)[1] for seed in (0, 5))
    assert again.history.snapshots[0]["layer_0/weights"].tobytes() == seen[0].tobytes()
    assert elsewhere.history.snapshots[0]["layer_0/weights"].tobytes() != seen[0].tobytes()


@given(st.lists(st.floats(-1e6, 1e6) | st.none(), min_size=1).filter(lambda v: any(one is not None for one in v)))
def test_a_spread_sums_up_the_networks_that_trained_far_enough(values: list[float | None]) -> None:
    reached = sorted(value for value in values if value is not None)
    found = spread(KEY, values)
    assert found[:5] == KEY
    assert (found.networks, found.smallest, found.largest) == (len(reached), reached[0], reached[-1])
    assert (found.median, found.control) == (statistics.median(reached), values[0])
    assert found.relative_spread >= 0


def test_the_relative_spread_by_value() -> None:
    assert spread(KEY, [4.0, 5.0, 3.0]).relative_spread == 0.5
    assert spread(KEY, [-4.0, -5.0, None, -3.0]).relative_spread == 0.5
    assert spread(KEY, [0.0, 0.0]).relative_spread == 0
    assert spread(KEY, [0.0, 1.0, -1.0]).relative_spread == float("inf")


def test_a_number_that_agrees_is_not_measured(short: Point) -> None:
    assert measure({"three_bits": {"numpy": [short]}}, PUBLISHED, 2, 0, PROJECT) == []


def test_a_number_that_does_not_agree_is_measured_alone_and_rounding_does_not_excuse_it(
    short: Point, tampered: Path
) -> None:
    results: Results = {"three_bits": {"numpy": [short]}}
    [found] = measure(results, tampered, 4, 0, PROJECT)
    assert found[:5] == KEY
    assert found.networks == 5
    assert found.control == numbers("three_bits", short, tampered)[KEY]
    assert found.smallest <= found.control <= found.largest
    assert 0 < found.relative_spread < 1e-14
    [cell] = [c for c in cells(results, tampered, {KEY: (found.smallest, found.largest)}) if c.value and not c.agrees]
    assert (cell.key, cell.verdict) == (KEY, "differs")


def test_a_number_that_differs_on_keras_only_is_measured_on_numpy(short: Point) -> None:
    other = copy.deepcopy(short)
    other.history.metrics[:] = [metric._replace(value=metric.value + 0.01) for metric in other.history.metrics]
    [found] = measure({"three_bits": {"numpy": [short], "keras": [other]}}, PUBLISHED, 2, 0, PROJECT)
    assert found[:5] == KEY
    assert measure({"three_bits": {"keras": [other]}}, PUBLISHED, 2, 0, PROJECT) == []


@pytest.mark.parametrize(("rate", "least", "most"), [(10, 1e-4, 1), (1, 0, 1e-12)])
def test_rounding_decides_with_32_hidden_units_at_rate_10_and_not_at_1(rate: int, least: float, most: float) -> None:
    one = config("experiment=three_bits", f"optimizer.learning_rate={rate}", "model.hidden_size=32",
                 "training.epochs=10000", "recording.metrics_every=10000", "recording.snapshots=2")  # fmt: skip
    point = Point("made", Path(), one, History(), outcome_of(History()))
    seen = [numbers("three_bits", network, PUBLISHED) for network in train_perturbed(point, 6, 0, PROJECT)]
    spreads = {key[4]: spread(key, [each[key] for each in seen]) for key in seen[0]}
    assert set(spreads) == {"iteration 0", "iteration 10000"}
    assert spreads["iteration 0"].relative_spread < 1e-14
    assert least <= spreads["iteration 10000"].relative_spread < most


def composed(results: Path, published: Path, reports: Path) -> DictConfig:
    paths = {"results": str(results), "published": str(published), "reports": str(reports)}
    return OmegaConf.create({**paths, "networks": 3, "seed": 0})


def test_the_command_writes_what_compare_reads(
    short: Point, tampered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(tmp_path / "results", "three_bits", "numpy", [short])
    reports = tmp_path / "made" / "reports"
    rounding(composed(tmp_path / "results", tampered, reports))
    assert [file.name for file in reports.iterdir()] == ["rounding.csv"]
    first = (reports / "rounding.csv").read_bytes()
    [row] = csv.DictReader(first.decode().splitlines())
    [found] = measure({"three_bits": {"numpy": [short]}}, tampered, 3, 0, PROJECT)
    # A narrow range keeps all digits.
    assert [float(row[name]) for name in ("smallest", "largest", "median", "control")] == [
        found.smallest, found.largest, found.median, found.control
    ]  # fmt: skip
    assert float(row["relative_spread"]) == pytest.approx(found.relative_spread, rel=0.05)
    assert (row["optimizer.learning_rate"], row["model.hidden_size"], row["networks"]) == ("10.0", "4", "4")
    assert read_spreads(reports / "rounding.csv") == {KEY: (found.smallest, found.largest)}
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].split()[:5] == ["three_bits", "error", "4", "10", "iteration"]
    rounding(composed(tmp_path / "results", tampered, reports))
    assert (reports / "rounding.csv").read_bytes() == first


def test_a_wide_range_has_two_digits_of_its_width() -> None:
    wide = spread(KEY, [0.123456789, 0.12, 0.1260001])
    assert _printed(wide)[-6:] == (3, 0.12, 0.126, 0.1235, 0.049, 0.1235)
    assert _printed(spread(KEY, [None, 1.0, 1.00000123456]))[-5:] == (1.0, 1.0000012, 1.0000006, 1.2e-06, None)
    assert _printed(spread(KEY, [-0.5, 0.0, 0.25]))[-4:] == (0.25, 0.0, math.inf, -0.5)


def test_rows_on_numbers_that_are_not_trained_here_are_kept(
    short: Point, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(tmp_path / "results", "three_bits", "numpy", [short])
    mine = f"three_bits,error,4,10.0,{KEY.place},65,0.25,0.5,0.3,0.8,0.3"
    others = ["three_bits,error,32,10.0,iteration 60000,65,0.25,0.5,0.3,0.8,0.3",
              "line_y3x,weight after one epoch,,0.1,epoch 1,65,0.25,0.5,0.3,0.8,"]  # fmt: skip
    (tmp_path / "rounding.csv").write_text("\n".join([",".join(ROUNDING_COLUMNS), others[0], mine, others[1]]) + "\n")
    rounding(composed(tmp_path / "results", PUBLISHED, tmp_path))
    assert (tmp_path / "rounding.csv").read_text().splitlines()[1:] == others
    assert "kept: 2 earlier rows of numbers that are not trained here" in capsys.readouterr().out
    (tmp_path / "rounding.csv").write_text("study,quantity\n")
    rounding(composed(tmp_path / "results", PUBLISHED, tmp_path))
    assert read_spreads(tmp_path / "rounding.csv") == {}


def test_where_everything_agrees_the_table_is_empty(
    short: Point, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(tmp_path / "results", "three_bits", "numpy", [short])
    rounding(composed(tmp_path / "results", PUBLISHED, tmp_path / "reports"))
    assert read_spreads(tmp_path / "reports" / "rounding.csv") == {}
    assert (tmp_path / "reports" / "rounding.csv").read_text().count("\n") == 1
    assert "nothing to measure" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change", [{"networks": 0}, {"networks": 1001}, {"networks": True}, {"networks": "many"}, {"networks": 2.5},
               {"networks": None}, {"seed": -1}, {"published": None}],
)  # fmt: skip
def test_knobs_that_cannot_be_used_are_named(tmp_path: Path, change: dict[str, Any]) -> None:
    [key] = change
    asked = composed(tmp_path, PUBLISHED, tmp_path)
    asked[key] = change[key]
    with pytest.raises(LabError, match=f"(Invalid {key}|{key} is not )"):
        rounding(asked)


def test_a_file_in_place_of_the_reports_is_one_message(short: Point, tmp_path: Path) -> None:
    write_results(tmp_path / "results", "three_bits", "numpy", [short])
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match=r"file cannot be the folder of a report(.|\n)*which is a file"):
        rounding(composed(tmp_path / "results", PUBLISHED, tmp_path / "file"))


def test_entry_point_refuses_without_a_traceback_and_loads_nothing_heavy(tmp_path: Path) -> None:
    refuses_without_results("rounding", tmp_path)
