from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends.shared.history import History
from pipeline.points.point import Point, outcome_of
from pipeline.report.published.recorded import read_recorded
from pipeline.report.published.reproduction import (
    Cell,
    cells,
    digits_that_agree,
    find_point,
    relative_difference,
    significant,
)
from pipeline.report.published.statements import Statement, statements
from pipeline.report.published.tables import ROUNDING_COLUMNS, Key, read_spreads
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT
from tests.support.trained import config, sweep

PUBLISHED = PROJECT / "published"
numbers = st.floats(1e-6, 1e6) | st.floats(-1e6, -1e-6)


@pytest.mark.parametrize(
    ("value", "published", "printed", "digits"),
    [
        (0.5, 0.5, 12, 12),
        (0.49641003190272, 0.496410031903, 12, 12),
        (0.00225381368217, 0.00224922117381, 12, 2),
        (0.4499925, 0.45, 2, 2),
        (0.46, 0.45, 2, 1),
        (1.0, 2.0, 12, 0),
        (-0.5, 0.5, 12, 0),
        (0.0, 0.0, 12, 12),
        (-0.0, 0.0, 12, 12),
        (0.0, -0.0, 1, 1),
        (0.1, 0.0, 12, 0),
        (math.inf, 3.0, 12, 0),
        (math.nan, 3.0, 12, 0),
    ],
)
def test_digits_by_value(value: float, published: float, printed: int, digits: int) -> None:
    assert digits_that_agree(value, published, printed) == digits


@given(numbers, st.integers(1, 15))
def test_a_number_agrees_with_itself_and_with_its_rounding_on_every_digit(number: float, printed: int) -> None:
    assert digits_that_agree(number, number, printed) == printed
    assert digits_that_agree(number, float(f"{number:.{printed - 1}e}"), printed) == printed


@given(numbers, st.integers(1, 11))
def test_a_difference_in_the_nth_place_leaves_n_digits(number: float, digits: int) -> None:
    assert digits_that_agree(number * (1 + 3 * 10.0 ** -(digits + 1)), number, 13) == digits


@given(numbers, numbers, st.integers(1, 12))
def test_digits_stay_between_none_and_all_and_do_not_depend_on_scale(a: float, b: float, printed: int) -> None:
    digits = digits_that_agree(a, b, printed)
    assert 0 <= digits <= printed
    assert digits_that_agree(-a, -b, printed) == digits
    if digits < printed:
        assert 10.0**-digits * (1 + 1e-9) >= relative_difference(a, b) or digits == 0


def test_significant_digits_of_numbers_with_decimals() -> None:
    assert [significant(n, 8) for n in (-14.87601886, 4.52597806, 0.45953952, 0.0)] == [10, 9, 8, 1]
    assert [significant(n, 2) for n in (45.0, 4.5, 0.45)] == [4, 3, 2]


@pytest.fixture(scope="module")
def short_run() -> dict[str, dict[str, list[Point]]]:
    """three_bits at one rate for ten epochs and line_y3x for three: they have iteration 0 and epoch 1, and no more."""
    bits = sweep(
        ["experiment=three_bits", "training.epochs=10"], [["optimizer.learning_rate=10", "model.hidden_size=4"]]
    )
    rates = [[f"optimizer.learning_rate={rate}"] for rate in ("0.01", "0.1", "1")]
    return {
        "three_bits": {"numpy": bits},
        "line_y3x": {"numpy": sweep(["experiment=line_y3x", "training.epochs=3"], rates)},
    }


def test_every_published_cell_has_a_row_for_each_backend(short_run: dict[str, dict[str, list[Point]]]) -> None:
    found = cells(short_run, PUBLISHED)
    printed = sum(sum(1 for _ in csv.DictReader(file.open())) for file in PUBLISHED.glob("three_bits*.csv"))
    assert printed > 100
    for backend in ("numpy", "keras"):
        assert sum(cell.backend == backend for cell in found) == printed + 3


def test_cells_of_a_real_short_run(short_run: dict[str, dict[str, list[Point]]]) -> None:
    found = cells(short_run, PUBLISHED)
    seen = [cell for cell in found if cell.value is not None]
    assert [(c.quantity, c.learning_rate, c.place, c.digits) for c in seen] == [
        ("error", 10.0, "iteration 0", "12"),
        ("weight after one epoch", 0.01, "epoch 1", "2"),
        ("weight after one epoch", 0.1, "epoch 1", "3"),
        ("weight after one epoch", 1.0, "epoch 1", "4"),
    ]
    assert all(cell.agrees for cell in seen)
    assert {c.digits for c in found if c.value is None} == {"not run"}
    assert not any(cell.agrees for cell in found if cell.value is None)


def finished_three_bits(seed: int = 1) -> Point:
    """A made-up point that has trained 60,000 epochs at rate 10 and hidden size 4."""
    one = config("experiment=three_bits", "optimizer.learning_rate=10", "model.hidden_size=4", f"seed={seed}")
    history = History(epochs=60_000)
    history.record(10_000, {"train/mean_absolute_error": 0.00313})
    history.snapshot(0, {"layer_0/weights": np.zeros((3, 4)), "layer_1/weights": np.zeros((4, 1))})
    first = np.zeros((3, 4))
    first[0, 0] = 4.525978061
    history.snapshot(60_000, {"layer_0/weights": first, "layer_1/weights": np.zeros((4, 1))})
    history.tables["direction_changes"] = [
        {"layer": 0, "row": 0, "column": 0, "count": 7},
        {"layer": 0, "row": 0, "column": 1, "count": 18},
    ]
    return Point("made", Path(), one, history, outcome_of(history))


def test_cells_say_what_differs() -> None:
    found = cells({"three_bits": {"keras": [finished_three_bits()]}}, PUBLISHED)
    by_key = {(c.quantity, c.place): c for c in found if c.value is not None and c.backend == "keras"}

    def digits(quantity: str, place: str) -> tuple[str, bool]:
        cell: Cell = by_key[quantity, place]
        return cell.digits, cell.agrees

    assert digits("error", "iteration 10000") == ("3", False)
    assert digits("final weight", "layer 0, row 0, column 0") == ("9", True)
    assert digits("final weight", "layer 0, row 0, column 1") == ("0", False)
    assert digits("direction changes", "layer 0, row 0, column 0") == ("exact", True)
    assert digits("direction changes", "layer 0, row 0, column 1") == ("not exact", False)


SEEN = Cell("s", "numpy", "error", 4, 10.0, "iteration 0", 1.001, 1.0, 0.001, "3", 12)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "differs"),
        ({"rounding_smallest": 1.0, "rounding_largest": 1.001}, "within rounding"),
        ({"rounding_smallest": 0.9, "rounding_largest": 1.0009}, "differs"),
        ({"rounding_smallest": 1.0001, "rounding_largest": 1.1}, "differs"),
        ({"rounding_smallest": 0.9, "rounding_largest": 1.0}, "differs"),
        ({"rounding_smallest": 1.0}, "differs"),
        ({"value": 0.5, "rounding_smallest": 0.9, "rounding_largest": 1.1}, "differs"),
        ({"digits": "12"}, "reproduced"),
        ({"digits": "12", "rounding_smallest": 2.0, "rounding_largest": 3.0}, "reproduced"),
        ({"digits": "exact", "printed_digits": None}, "reproduced"),
        ({"digits": "not exact", "printed_digits": None}, "differs"),
        ({"value": None, "digits": "not run", "rounding_smallest": 0.0, "rounding_largest": 2.0}, "not run"),
    ],
)
def test_verdicts(change: dict[str, Any], verdict: str) -> None:
    assert SEEN._replace(**change).verdict == verdict


def test_a_measured_spread_is_put_beside_its_number_on_both_backends() -> None:
    key = Key("three_bits", "error", 4, 10.0, "iteration 10000")
    points = {"three_bits": {"numpy": [finished_three_bits()], "keras": [finished_three_bits()]}}
    found = cells(points, PUBLISHED, {key: (0.003, 0.004)})
    beside = [cell for cell in found if cell.rounding_smallest is not None or cell.rounding_largest is not None]
    assert [cell.key for cell in beside] == [key, key]
    assert [(c.backend, c.rounding_smallest, c.rounding_largest, c.verdict) for c in beside] == [
        ("numpy", 0.003, 0.004, "within rounding"),
        ("keras", 0.003, 0.004, "within rounding"),
    ]
    assert [cell._replace(rounding_smallest=None, rounding_largest=None) for cell in found] == cells(points, PUBLISHED)


def write_spread(file: Path, *rows: str) -> Path:
    file.write_text("\n".join([",".join(ROUNDING_COLUMNS), *rows]) + "\n")
    return file


def test_spreads_are_read_under_the_keys_of_their_cells(tmp_path: Path) -> None:
    file = write_spread(
        tmp_path / "rounding.csv",
        "three_bits,error,32,10.0,iteration 10000,65,0.25,0.5,0.3,0.8,0.3",
        'line_y3x,final weight,,0.01,"layer 0, row 1, column 0",3,-2.5,-2.5,-2.5,0.0,',
    )
    assert read_spreads(file) == {
        Key("three_bits", "error", 32, 10.0, "iteration 10000"): (0.25, 0.5),
        Key("line_y3x", "final weight", None, 0.01, "layer 0, row 1, column 0"): (-2.5, -2.5),
    }
    assert read_spreads(tmp_path / "none.csv") == {}


@pytest.mark.parametrize(
    "row",
    [
        "three_bits,error,32,10.0,iteration 10000,65,0.25",
        "three_bits,error,32,10.0,iteration 10000,65,0.5,0.25,0.3,0.8,0.3",
        "three_bits,error,32,10.0,iteration 10000,65,nan,0.25,0.3,0.8,0.3",
        "three_bits,error,32,10.0,iteration 10000,65,0.25,inf,0.3,0.8,0.3",
        "three_bits,error,many,10.0,iteration 10000,65,0.25,0.5,0.3,0.8,0.3",
        "three_bits,error,32,,iteration 10000,65,0.25,0.5,0.3,0.8,0.3",
    ],
)
def test_spreads_that_are_broken_are_named(tmp_path: Path, row: str) -> None:
    with pytest.raises(LabError, match=r"rounding\.csv cannot be read(.|\n)*python -m pipeline\.rounding"):
        read_spreads(write_spread(tmp_path / "rounding.csv", row))


@pytest.mark.parametrize("content", [b"", b"study,quantity\n", b"\xff\xfe\x00"])
def test_a_file_that_is_not_a_table_of_spreads_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rounding.csv").write_bytes(content)
    with pytest.raises(LabError, match=r"rounding\.csv cannot be read"):
        read_spreads(tmp_path / "rounding.csv")


def test_only_the_texts_own_seed_is_compared() -> None:
    assert find_point({"three_bits": {"numpy": [finished_three_bits(seed=2)]}}, "three_bits", "numpy", 10, 4) is None
    assert find_point({"three_bits": {"numpy": [finished_three_bits()]}}, "three_bits", "numpy", 10, 4) is not None


def test_published_table_that_is_broken_is_named(tmp_path: Path) -> None:
    for file in PUBLISHED.glob("*.csv"):
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "three_bits.csv").write_text("hidden_size,learning_rate,iteration\n4,0.1,0\n")
    with pytest.raises(LabError, match=r"three_bits\.csv.*cannot be read"):
        cells({}, tmp_path)
    with pytest.raises(LabError, match="published=DIR"):
        cells({}, tmp_path / "nowhere")


def verdicts(found: list[Statement], study: str, backend: str = "numpy") -> dict[str, str]:
    return {one.text: one.verdict for one in found if one.study == study and one.backend == backend}


def test_line_statements_hold_for_real_runs() -> None:
    def line(study: str, *rates: str) -> list[Point]:
        return sweep([f"experiment={study}"], [[f"optimizer.learning_rate={rate}"] for rate in rates])

    found = statements(
        {
            "line_y2x": {"numpy": line("line_y2x", "0.1", "0.5")},
            "line_y3x": {"numpy": line("line_y3x", "0.01", "0.1", "1")},
        }
    )
    assert list(verdicts(found, "line_y2x").values()) == ["holds", "holds"]
    assert list(verdicts(found, "line_y3x").values()) == ["holds", "holds", "holds"]
    assert set(verdicts(found, "line_y3x", "keras").values()) == {"not run"}


def test_a_line_that_diverges_is_not_stuck() -> None:
    points = sweep(["experiment=line_y3x", "gradient=backpropagation"], [["optimizer.learning_rate=1"]])
    found = statements({"line_y3x": {"keras": points}})
    (stuck,) = [one for one in found if one.backend == "keras" and "stays there" in one.text]
    assert stuck.verdict == "differs"
    assert f"diverged after {points[0].outcome.diverged_step} updates" in stuck.seen
    assert "backpropagation" in stuck.seen


def test_a_short_run_gives_no_verdict(short_run: dict[str, dict[str, list[Point]]]) -> None:
    found = statements(short_run)
    assert {one.verdict for one in found} == {"not run"}
    assert {one.seen for one in found} == {""}


def three_bits_ends(size: int, ends: dict[float, float]) -> list[Point]:
    points = []
    for rate, end in ends.items():
        one = config("experiment=three_bits", f"optimizer.learning_rate={rate}", f"model.hidden_size={size}")
        history = History(epochs=60_000)
        history.record(60_000, {"train/mean_absolute_error": end})
        points.append(Point("made", Path(), one, history, outcome_of(history)))
    return points


def test_three_bits_statements_follow_the_numbers() -> None:
    ends = {0.001: 0.48, 0.01: 0.08, 0.1: 0.01, 1: 0.003, 10: 0.001, 100: 0.1252, 1000: 0.5}
    moved = ends | {1: 0.0005, 100: 0.3}
    found = statements({"three_bits": {"numpy": three_bits_ends(4, ends) + three_bits_ends(32, moved)}})
    assert verdicts(found, "three_bits") == {
        "10 is the best rate for hidden size 4": "holds",
        "rate 100 is stuck near 0.125 with hidden size 4": "holds",
        "rate 1000 is stuck near 0.5 with hidden size 4": "holds",
        "10 is the best rate for hidden size 32": "differs",
        "rate 100 is stuck near 0.5 with hidden size 32": "differs",
        "rate 1000 is stuck near 0.5 with hidden size 32": "holds",
    }


RECORDED = """learning_rate,epoch,train/loss,test/accuracy
0.0001,1,0.9,0.9
0.0001,2,0.5,0.95
0.0001,3,0.3,0.96
0.01,1,0.5,0.97
0.01,2,0.1,0.98
0.01,3,0.2,{last}
0.1,1,9.0,0.2
0.1,2,2.4,0.1
0.1,3,{loss},0.1
"""


@pytest.mark.parametrize(
    ("last", "loss", "expected"),
    [(0.91, 2.3, ["holds", "holds", "holds"]), (0.98, 0.4, ["differs", "holds", "differs"])],
)
def test_recorded_mnist_statements_follow_the_numbers(
    tmp_path: Path, last: float, loss: float, expected: list[str]
) -> None:
    (tmp_path / "mnist.csv").write_text(RECORDED.format(last=last, loss=loss))
    found = statements({}, read_recorded(tmp_path / "mnist.csv"))
    assert list(verdicts(found, "mnist", "recorded").values()) == expected
    assert set(verdicts(found, "mnist", "numpy").values()) == {"not run"}


def test_a_metric_that_some_rates_of_a_recorded_run_lack_gives_no_verdict(tmp_path: Path) -> None:
    rows = ("0.0001,1,,,", "0.0001,2,0.5,,nan", "0.01,1,0.9,,", "0.01,2,0.5,,", "0.1,1,,0.2,")
    (tmp_path / "mnist.csv").write_text("\n".join(["learning_rate,epoch,train/loss,test/accuracy,test/loss", *rows]))
    run = read_recorded(tmp_path / "mnist.csv")
    assert {rate: list(metrics) for rate, metrics in run.items()} == {
        0.0001: ["train/loss"],
        0.01: ["train/loss"],
        0.1: ["test/accuracy"],
    }
    assert list(verdicts(statements({}, run), "mnist", "recorded").values()) == ["not run", "differs", "not run"]


@pytest.mark.parametrize("rows", ["", "0.1,1,,\n", "0.1,1,nan,inf\n", "0.1,,2,3\n", "nan,1,2,3\n"])
def test_a_recorded_run_without_a_number_is_named(tmp_path: Path, rows: str) -> None:
    (tmp_path / "mnist.csv").write_text(f"learning_rate,epoch,train/loss,test/accuracy\n{rows}")
    with pytest.raises(LabError, match=r"mnist\.csv cannot be read"):
        read_recorded(tmp_path / "mnist.csv")


def test_recorded_run_that_is_not_a_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "mnist.csv").write_text("learning_rate,epoch,train/loss\n0.1,one,2\n")
    with pytest.raises(LabError, match=r"mnist\.csv cannot be read"):
        read_recorded(tmp_path / "mnist.csv")
