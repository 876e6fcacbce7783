from __future__ import annotations

from typing import Any

import pytest

from pipeline.report.published.page import WORST, reproduction_lines, statement_lines, verdict_table
from pipeline.report.published.reproduction import Cell
from pipeline.report.published.statements import Statement

AGREES = Cell("three_bits", "numpy", "error", 4, 0.1, "iteration 0", 0.5, 0.5, 0.0, "12", 12)
OFF = Cell("three_bits", "numpy", "error", 32, 10.0, "iteration 10000", 1.01, 1.0, 0.01, "2", 12)
NOT_RUN = AGREES._replace(backend="keras", value=None, relative_difference=None, digits="not run")
SPREAD: dict[str, Any] = {"rounding_smallest": 0.99, "rounding_largest": 1.02}
NARROW: dict[str, Any] = {"rounding_smallest": 1.0, "rounding_largest": 1.00001}


def section_of(*cells: Cell) -> str:
    return "\n".join(reproduction_lines(cells))


def test_verdicts_are_counted_by_quantity_and_backend_in_the_order_of_merit() -> None:
    count = AGREES._replace(quantity="direction changes", digits="exact", printed_digits=None)
    cells = [NOT_RUN, OFF, AGREES, OFF._replace(**SPREAD), AGREES._replace(backend="keras"), count, AGREES]
    assert verdict_table(cells) == [
        ["quantity", "verdict", "numpy", "keras"],
        ["error", "reproduced", "2", "1"],
        ["error", "within rounding", "1", "0"],
        ["error", "differs", "1", "0"],
        ["error", "not run", "0", "1"],
        ["direction changes", "reproduced", "1", "0"],
    ]


def test_where_everything_agrees_rounding_is_not_mentioned() -> None:
    section = section_of(AGREES, NOT_RUN)
    assert "- numpy: 1 of 1 numbers match (to every printed digit, or exactly for counts)." in section
    assert "- keras: not run." in section
    assert "not match" not in section
    assert "| point |" not in section


def test_a_number_within_its_spread_is_said_to_be_decided_by_rounding() -> None:
    keras = OFF._replace(backend="keras", value=0.995, **SPREAD)
    section = section_of(OFF._replace(**SPREAD), keras, AGREES)
    assert "1 published number does not match on every backend." in section
    assert "changes it by 3% of the published number." in section
    explained = "this range includes both the published and the reproduced values, so rounding explains the difference."
    assert f"- In 1 of 1 cases, {explained}" in section
    assert "does not explain" not in section
    assert "not measured" not in section
    row = "| three_bits, rate 10, hidden size 32 | error, iteration 10000 | 1 | 1.01 | 0.995 | 0.99 to 1.02 "
    assert section.count(row + "| within rounding |") == 1


def test_a_number_outside_of_its_spread_is_not_excused() -> None:
    other = OFF._replace(place="iteration 20000")
    section = section_of(OFF._replace(**SPREAD), other._replace(**NARROW))
    assert "2 published numbers do not match on every backend." in section
    assert "changes them by 0.001% to 3% of the published number." in section
    assert "- In 1 of 2 cases, this range includes" in section
    assert "- In 1 of 2 cases, it does not, so rounding does not explain the difference." in section
    alone = section_of(OFF._replace(**NARROW))
    assert "rounding explains" not in alone
    assert "- In 1 of 1 cases, it does not" in alone
    assert "| 1 to 1.00001 | differs |" in alone


def test_a_number_that_only_one_backend_keeps_within_its_spread_is_a_difference() -> None:
    section = section_of(OFF._replace(**SPREAD), OFF._replace(backend="keras", value=7.0, **SPREAD))
    assert "- In 1 of 1 cases, it does not" in section
    assert "| numpy: within rounding, keras: differs |" in section


def test_a_spread_that_was_not_measured_is_said_to_be_missing() -> None:
    section = section_of(OFF, OFF._replace(backend="keras"), OFF._replace(place="iteration 20000", **SPREAD))
    assert "1 published number does not match, and the effect of rounding has not been measured; " in section
    assert "run `python -m pipeline.rounding`." in section
    assert "| not measured | differs |" in section
    assert "In 1 of 1 cases, this range includes" in section


def test_a_backend_that_agrees_stands_beside_the_one_that_does_not() -> None:
    right = OFF._replace(backend="keras", value=1.0, relative_difference=0.0, digits="12", **SPREAD)
    section = section_of(OFF._replace(**SPREAD), right)
    assert "| numpy: within rounding, keras: reproduced |" in section
    assert "| 1 | 1.01 | 1 |" in section
    assert "- In 1 of 1 cases, this range includes" in section


@pytest.mark.parametrize(("digits", "shown"), [("2", "0.123457"), ("6", "0.12345679"), ("11", "0.123456789012")])
def test_numbers_are_shown_with_two_digits_more_than_agree(digits: str, shown: str) -> None:
    assert f"| {shown} |" in section_of(OFF._replace(value=0.1234567890123, digits=digits))


def test_the_furthest_off_are_shown_in_the_order_of_the_text() -> None:
    off = [OFF._replace(place=f"iteration {n}", relative_difference=0.001 * (n % 7 + 1)) for n in range(12)]
    section = section_of(*off)
    shown = [line.split(" | ")[1] for line in section.splitlines() if line.startswith("| three_bits")]
    assert f"The {WORST} numbers with the largest differences:" in section
    assert shown == [f"error, iteration {n}" for n in (2, 3, 4, 5, 6, 9, 10, 11)]
    assert "Numbers that do not match:" in section_of(*off[:WORST])


def test_statements_keep_their_order_and_their_backends_together() -> None:
    said = [Statement("s", backend, text, "rule", "holds", f"{text}{backend}")
            for backend in ("numpy", "keras") for text in ("b", "a")]  # fmt: skip
    assert [line.split(" | ")[-1] for line in statement_lines(said)[2:]] == [
        "bnumpy |",
        "bkeras |",
        "anumpy |",
        "akeras |",
    ]
