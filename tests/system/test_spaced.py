"""Lists of spaced values: the numbers, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import given
from hypothesis import strategies as st

from pipeline.system.errors import LabError
from pipeline.system.spaced import extend_hydra, flat, has_spaced, spaced_values, written_out

POSITIVE = st.floats(1e-100, 1e100)
COUNT = st.integers(2, 50)


def written(text: str, whole: bool = False) -> str:
    extend_hydra()
    override = OverridesParser.create().parse_override(text)
    assert has_spaced(override)
    return written_out(override, whole)


def refusal(text: str) -> str:
    extend_hydra()
    with pytest.raises(HydraException) as raised:
        OverridesParser.create().parse_overrides([text])
    assert isinstance(raised.value.__cause__, LabError)
    return str(raised.value.__cause__)


@given(POSITIVE, POSITIVE, COUNT)
def test_a_logarithmic_list_is_numpys(start: float, stop: float, count: int) -> None:
    for name in ("logspace", "geomspace"):
        np.testing.assert_allclose(spaced_values(name, start, stop, count), np.geomspace(start, stop, count), rtol=5e-6)


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6), COUNT)
def test_a_linear_list_is_numpys(start: int, stop: int, count: int) -> None:
    values = spaced_values("linspace", start / 1000, stop / 1000, count)
    np.testing.assert_allclose(values, np.linspace(start / 1000, stop / 1000, count), rtol=5e-6, atol=1e-9)


@given(POSITIVE, POSITIVE, COUNT)
def test_both_ends_are_included_and_the_other_way_round_is_the_same_list(a: float, b: float, count: int) -> None:
    start, stop = float(f"{a:.6g}"), float(f"{b:.6g}")
    for name in ("logspace", "linspace"):
        values = spaced_values(name, start, stop, count)
        assert (values[0], values[-1], len(values)) == (start, stop, count)
        assert spaced_values(name, stop, start, count) == values[::-1]


@given(st.integers(-20, 20), st.integers(1, 12))
def test_decades_are_powers_of_ten_without_a_rest(lowest: int, decades: int) -> None:
    values = spaced_values("logspace", float(f"1e{lowest}"), float(f"1e{lowest + decades}"), decades + 1)
    assert values == [float(f"1e{lowest + power}") for power in range(decades + 1)]


@given(st.integers(0, 10**6), st.integers(1, 1000), COUNT)
def test_whole_steps_are_whole_numbers(start: int, step: int, count: int) -> None:
    values = spaced_values("linspace", start, start + step * (count - 1), count)
    assert values == [start + step * index for index in range(count)]
    assert all(isinstance(value, int) for value in values)


@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9), COUNT)
def test_a_value_is_as_short_as_it_can_be(start: float, stop: float, count: int) -> None:
    for value in spaced_values("logspace", start, stop, count):
        mantissa = f"{value:.17e}".partition("e")[0]
        digits = next(n for n in range(18) if float(f"{value:.{n}e}") == value)
        assert digits <= 13, mantissa


def test_six_digits_are_enough_between_the_ends_unless_values_are_close() -> None:
    assert spaced_values("logspace", 0.001, 1, 7) == [0.001, 0.00316228, 0.01, 0.0316228, 0.1, 0.316228, 1]
    assert spaced_values("linspace", 0.123456789, 1, 3) == [0.123456789, 0.561728, 1]
    close = spaced_values("linspace", 1, 1.000001, 5)
    np.testing.assert_allclose(np.diff(close), 2.5e-7, rtol=1e-3)


def test_texts_on_the_command_line() -> None:
    assert written("optimizer.learning_rate=logspace(1e-4,1,5)") == "optimizer.learning_rate=0.0001,0.001,0.01,0.1,1"
    assert written("a=0.5,logspace( 1 , 100 , 3 ),7") == "a=0.5,1,10,100,7"
    assert written("+model.filters=geomspace(64,4,5)", whole=True) == "+model.filters=64,32,16,8,4"
    assert written("a=sort(logspace(1,100,3),reverse=true)") == "a=100,10,1"
    assert written("a=linspace(-0.1,0.2,4)") == "a=-0.1,0,0.1,0.2"
    assert written("a=logspace(3,9,1)") == "a=3"
    assert written("a=logspace(4,30,3)", whole=True) == "a=4,11,30"


@given(st.integers(1, 5000), st.integers(1, 5000), COUNT)
def test_whole_numbers_are_rounded_and_stay_different_or_are_refused(start: int, stop: int, count: int) -> None:
    text = f"seed=linspace({start},{stop},{count})"
    if start == stop:
        assert "a STOP that differs from START" in refusal(text)
        return
    expected = [round(start + (stop - start) * index / (count - 1)) for index in range(count)]
    if len(set(expected)) < count:
        with pytest.raises(
            LabError, match=r"seed takes whole numbers, and linspace\(.*\) rounds to some of them twice"
        ):
            written(text, whole=True)
    else:
        found = [int(value) for value in written(text, whole=True).removeprefix("seed=").split(",")]
        assert all(math.isclose(a, b, abs_tol=1) for a, b in zip(found, expected, strict=True))
        assert len(set(found)) == count


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("logspace(1,10)", "logspace(START,STOP,COUNT)"),
        ("logspace()", "logspace(START,STOP,COUNT)"),
        ("logspace(1,10,3,4)", "logspace(START,STOP,COUNT)"),
        ("linspace(start=1,stop=2,count=3)", "linspace(START,STOP,COUNT)"),
        ("logspace(0,1,3)", "above 0"),
        ("geomspace(1,-1,3)", "above 0"),
        ("linspace(a,1,3)", "numbers for START and STOP"),
        ("linspace(true,1,3)", "numbers for START and STOP"),
        ("logspace(1,inf,3)", "numbers for START and STOP"),
        ("linspace(nan,1,3)", "numbers for START and STOP"),
        ("logspace(1,10,0)", "a whole number from 1"),
        ("logspace(1,10,-2)", "a whole number from 1"),
        ("logspace(1,10,2.5)", "a whole number from 1"),
        ("logspace(1,10,many)", "a whole number from 1"),
        ("logspace(1,10,99999999999)", "a whole number from 1 to 10000"),
        ("linspace(2,2,3)", "differs from START"),
        ("logspace(logspace(1,2,2),2,3)", "numbers for START and STOP"),
    ],
)
def test_wrong_use_is_one_message(call: str, expected: str) -> None:
    message = refusal(f"optimizer.learning_rate={call}")
    name = call.partition("(")[0]
    assert message.startswith(f"{name} cannot make a list of values.")
    assert expected in message
    assert "to do:    for instance KEY=" in message


def test_other_overrides_stay_as_they_are() -> None:
    extend_hydra()
    parser = OverridesParser.create()
    for text in ("a=1,2", "a=range(1,5)", "a=choice(1,2)", "a='logspace(1,2,3)'", "a=5", "~a", "a=[1,2]", "a=glob(*)"):
        assert not has_spaced(parser.parse_override(text)), text
    assert flat([1, "x"]) == [1, "x"]
