"""The short names and colours of points in MLflow's list of runs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.drawing.colours import rate_colour
from pipeline.points.point import name_of
from pipeline.tracking.pages.labels import is_one_point, labels, settings_of
from tests.support.trained import config

SWEEP = [
    f"learning_rate={rate} hidden_size=4 optimizer=sgd seed={seed}" for rate in ("1", "3", "10") for seed in (1, 2)
]


def test_what_all_points_have_is_left_out() -> None:
    assert labels(SWEEP).name(SWEEP[-1]) == "lr 10 · s 2"
    assert labels(SWEEP).name(SWEEP[-1], without="seed") == "lr 10"
    assert labels([*SWEEP, "learning_rate=1 hidden_size=8"]).name(SWEEP[0]) == "lr 1 · h 4 · optimizer sgd · s 1"


def test_the_name_of_a_single_point_has_all_its_settings_and_the_rate_stays_in_any_case() -> None:
    assert labels(SWEEP[:1]).name(SWEEP[0]) == "lr 1 · h 4 · optimizer sgd · s 1"
    assert labels(SWEEP[:2]).name(SWEEP[1]) == "lr 1 · s 2"
    assert labels(["it", "that"]).name("it") == "it"


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,12}", fullmatch=True),
        st.text(st.characters(codec="ascii", exclude_characters="= ", categories=["L", "N", "P"]), min_size=1),
        min_size=1,
    )
)
def test_a_name_is_read_as_it_was_written(knobs: dict[str, str]) -> None:
    assert settings_of(name_of(knobs)) == list(knobs.items())


def test_neighbouring_rates_have_colours_that_differ_clearly() -> None:
    points = {rate: config(f"optimizer.learning_rate={rate}") for rate in ("0.1", "0.3", "1")}
    shown = labels(f"learning_rate={rate}" for rate in points)
    colours = [shown.colour(point) for point in points.values()]
    near = [rate_colour(float(rate)) for rate in points]
    for found, before in ((colours[:2], near[:2]), (colours[1:], near[1:])):
        assert distance(*found) > 1.5 * distance(*before)
    alone = config("optimizer.learning_rate=0.7")
    assert shown.colour(alone) == rate_colour(0.7), "a point of no sweep has the colour that it has in the plots"


def distance(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return math.dist(one, other)


@pytest.mark.parametrize(
    ("names", "one"),
    [(SWEEP[:1], True), (SWEEP[:2], True), (SWEEP, False), (["learning_rate=1", "learning_rate=1 seed=2"], True)],
)
def test_seeds_are_one_point(names: list[str], one: bool) -> None:
    assert is_one_point(names) is one
