"""Which values of a committed report came out again: made-up reports beside each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from pipeline.report.committed.comparison import (
    BACKENDS,
    DIVERGED,
    NEAR_ZERO,
    PARITY,
    PERTURBED,
    REWORDED,
    Comparison,
    compare_reports,
)
from pipeline.report.committed.values import is_compared, study_of, values_of
from pipeline.report.earlier import PLACE

PAGE = "studies/bits.md"


def points(*rows: Sequence[object]) -> str:
    head = "study,backend,name,optimizer.learning_rate,outcome,diagnosis,final/train/loss"
    return "\r\n".join([head, *(",".join(map(str, row)) for row in rows), ""])


def of_points(one: Sequence[object], other: Sequence[object], **tables: str) -> Comparison:
    names = {"points.csv": points(one)} | {f"{name}.csv": text for name, text in tables.items()}
    return compare_reports(names, names | {"points.csv": points(other)})


def row(loss: str, outcome: str = "finished", diagnosis: str = "converged") -> list[object]:
    return ["bits", "numpy", "rate=1", 1.0, outcome, diagnosis, loss]


def test_a_report_that_is_the_same_came_out_again() -> None:
    files = {
        "points.csv": points(row("0.1234")),
        PAGE: "**Lowest loss 0.12 at rate 10.**\n",
        "metrics/bits/numpy.json": '{"points": 14, "best": {"train/loss": 0.5}}',
    }
    assert compare_reports(files, files) == Comparison(values=4 + 2 + 2, same=8)


@pytest.mark.parametrize(
    ("committed", "now", "again"),
    [
        ("0.1234", "0.1235", True),
        ("0.1234", "0.1236", False),
        # Tables drop the zeros at the end: this is 0.1200.
        ("0.12", "0.1201", True),
        ("0.12", "0.1202", False),
        ("1566000000.0", "1567000000.0", True),
        ("1566000000.0", "1568000000.0", False),
        ("2.079e-05", "2.078e-05", True),
        # Whole numbers are counts.
        ("7", "8", False),
        ("nan", "0.5", False),
    ],
)
def test_one_unit_of_the_last_digit_is_no_difference(committed: str, now: str, again: bool) -> None:
    found = of_points(row(committed), row(now))
    assert (found.values, found.same, found.last_digit) == (4, 3, int(again))
    assert len(found.differences) == int(not again)


@pytest.mark.parametrize(
    ("committed", "now", "again"),
    [
        # Shares have four decimals, whatever their size.
        ("0.0974", "0.0975", True),
        ("0.0974", "0.0976", False),
        ("0.0", "0.0001", True),
        ("1.0", "0.9998", False),
    ],
)
@pytest.mark.parametrize(
    ("file", "table"),
    [
        ("points.csv", "study,backend,name,final/test/accuracy\r\nbits,numpy,rate=1,{}\r\n"),
        ("metrics/bits/numpy.json", '{{"best": {{"map/converged_share": {}}}}}'),
        ("reproduction.csv", f"{','.join(PLACE)},value\r\nbits,numpy,test/accuracy,,1.0,epoch 1,{{}}\r\n"),
    ],
)
def test_one_unit_of_a_share_is_that_of_its_last_decimal(
    file: str, table: str, committed: str, now: str, again: bool
) -> None:
    found = compare_reports({file: table.format(committed)}, {file: table.format(now)})
    assert found == Comparison(1, 0, int(again), found.differences)


@pytest.mark.parametrize(("now", "why"), [("9e-05", "differs"), ("1e-30", NEAR_ZERO), ("-1e-17", NEAR_ZERO)])
def test_a_number_that_was_0_has_no_last_digit(now: str, why: str) -> None:
    for one, other in (("0.0", now), (now, "0.0")):
        (found,) = of_points(row(one), row(other)).differences
        assert found.why.startswith(why)


def test_in_pages_the_digits_are_those_that_are_printed() -> None:
    before = "numpy: loss 0.12 after 37,000 epochs, 5 runs; accuracy 0.977 ± 0.003.\n"
    found = compare_reports({PAGE: before}, {PAGE: before.replace("0.12", "0.13").replace("0.977", "0.975")})
    assert (found.values, found.same, found.last_digit) == (5, 3, 1)
    (other,) = found.differences
    assert (other.committed, other.now, other.why) == ("0.977", "0.975", "differs by 0.2 %")


def test_a_word_that_judges_is_a_value_and_comes_first() -> None:
    before = "| rate | diagnosis |\n| 0.1 | too slow |\n| 1 | converged |\n"
    found = compare_reports({PAGE: before}, {PAGE: before.replace("too slow", "stalled")})
    assert (found.values, found.same) == (4, 3)
    (flipped,) = found.differences
    assert (flipped.committed, flipped.now, flipped.relative) == ("too slow", "stalled", math.inf)


def test_a_difference_has_a_reason() -> None:
    parity = "study,quantity,kind,value\r\nbits,train/loss,relative,0.04\r\n"
    for one, other, why in (
        (row("0.1"), row("0.13"), "differs by 30 %"),
        (row("0.1"), row("0.103"), BACKENDS),
        (row("1e-17"), row("3e-16"), NEAR_ZERO),
        (row("1e30", "diverged"), row("1e33", "diverged"), DIVERGED),
    ):
        (found,) = of_points(one, other, parity=parity).differences
        assert found.why == why
        assert found.place == "bits numpy rate=1 final/train/loss"


def test_a_point_of_which_rounding_was_measured_may_move_as_far() -> None:
    rounding = (
        "study,quantity,model.hidden_size,optimizer.learning_rate,place,relative_spread\r\n"
        "bits,error,,1.0,iteration 1,0.02\r\n"
    )
    for loss, why in (("0.101", PERTURBED), ("0.11", "differs by 10 %")):
        (found,) = of_points(row("0.1"), row(loss), rounding=rounding).differences
        assert found.why == why


def test_between_the_backends_rounding_decides() -> None:
    parity = "study,quantity,kind,value,point\r\nbits,train/loss,relative,0.04,rate=1\r\n"
    found = compare_reports({"parity.csv": parity}, {"parity.csv": parity.replace("0.04,rate=1", "0.07,rate=10")})
    assert [one.why for one in found.differences] == [PARITY, PARITY]


def test_numbers_in_the_text_of_a_cell_may_be_a_unit_away() -> None:
    one = row("0.1", diagnosis='"loss 0.469; still falling, 60,000 epochs"')
    for text, again in (("0.470", 1), ("0.471", 0), ("0.469; rising", 0)):
        other = row("0.1", diagnosis=f'"loss {text}; still falling, 60,000 epochs"')
        assert of_points(one, other).last_digit == again


def test_a_point_that_diverges_only_once_explains_all_its_values() -> None:
    found = of_points(row("0.1"), row("1e33", "diverged", "diverged"))
    assert {one.why for one in found.differences} == {DIVERGED}
    assert [one.committed for one in found.differences] == ["finished", "converged", "0.1"]


def test_what_is_not_there_any_more_did_not_come_out_again() -> None:
    files = {"points.csv": points(row("0.1")), PAGE: "Rates 0.1 and 1 converge.\n"}
    found = compare_reports(files, {PAGE: "Only rate 0.1 converges.\n"})
    assert (found.values, found.same) == (6, 0)
    assert {one.why for one in found.differences} == {"not there any more", REWORDED}


def test_a_row_is_found_wherever_it_is() -> None:
    others = [["bits", "keras", "rate=1", 1.0, "finished", "converged", "0.2"], row("0.1")]
    found = compare_reports({"points.csv": points(row("0.1"))}, {"points.csv": points(*others)})
    assert (found.values, found.same) == (4, 4)


def test_numbers_within_names_are_no_values() -> None:
    assert list(values_of(PAGE, "See layer_0/weights, float32 and 2.5x.\n").values()) == []
    assert list(values_of(PAGE, "At -3.5, 1e-05 (2%) and 1,000: done 4.\n").values()) == [
        "-3.5", "1e-05", "2", "1,000", "4"
    ]  # fmt: skip


def test_only_what_is_computed_is_compared() -> None:
    files = ["README.md", "points.csv", PAGE, "metrics/bits/keras.json", "benchmarks.md", "recorded/long.csv", "x/y.md"]
    assert [is_compared(file) for file in files] == [True] * 4 + [False] * 3
    assert [study_of(file) for file in files[:4]] == ["", "", "bits", "bits"]
