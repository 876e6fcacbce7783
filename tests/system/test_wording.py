"""The wording of numbers, lists and tables."""

from __future__ import annotations

from pipeline.system.wording import aligned, counted, roughly, short, some, table


def test_short_numbers() -> None:
    assert [short(value) for value in (13341.29, 1.99711, 7.3e17, -2000.0)] == ["13,341", "1.997", "7.3e+17", "-2,000"]


def test_an_extrapolation_has_two_digits() -> None:
    assert [roughly(value) for value in (1234.0, 96.4, 0.0)] == ["1,200", "96", "0"]


def test_a_number_has_its_noun() -> None:
    assert [counted(number, "point") for number in (0, 1, 2, 1000)] == [
        "0 points",
        "1 point",
        "2 points",
        "1,000 points",
    ]


def test_names_beyond_the_first_are_counted() -> None:
    assert some(["a", "b", "c"], 3) == "a, b, c"
    assert some(["a", "b", "c"], 2) == "a, b and 1 more"
    assert some([], 2) == ""


def test_columns_are_aligned() -> None:
    assert aligned([["rate", "loss"], ["0.001", ""], ["1", "2"]]) == "rate   loss\n0.001\n1      2"


def test_bars_in_a_table_do_not_end_its_cells() -> None:
    assert table([["a", "b"], ["|x|", "y"]]) == ["| a | b |", "| --- | --- |", "| \\|x\\| | y |"]
