from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends.shared.history import History
from pipeline.points.point import Point, outcome_of
from pipeline.report.parity import Parity, pairs, parity
from pipeline.report.parity_page import parity_lines
from tests.support.trained import config, sweep

Series = Mapping[str, Mapping[int, float]]
PLAIN = config("experiment=three_bits", "optimizer.learning_rate=10", "model.hidden_size=4")


def made(
    metrics: Series,
    weights: Mapping[int, Sequence[float]] | None = None,
    name: str = "made",
    diverged_at: int | None = None,
) -> Point:
    """A made-up point; `metrics` by name and epoch, `weights` of its only array by epoch."""
    history = History(epochs=diverged_at or 100, diverged_step=diverged_at)
    for metric, series in metrics.items():
        for epoch, value in series.items():
            history.record(epoch, {metric: value})
    for epoch, values in (weights or {}).items():
        history.snapshot(epoch, {"layer_0/weights": np.array([values])})
    return Point(name, Path(), PLAIN, history, outcome_of(history))


def compare(mine: Sequence[Point], theirs: Sequence[Point]) -> dict[tuple[str, str], Parity]:
    rows = parity({"made": {"numpy": mine, "keras": theirs}}, "made")
    found: dict[tuple[str, str], Parity] = {(row.quantity, row.kind): row for row in rows}
    assert len(found) == len(rows)
    assert {row.study for row in rows} <= {"made"}
    return found


def test_the_largest_absolute_and_the_largest_relative_difference_may_be_at_different_epochs() -> None:
    a = made({"train/loss": {0: 100.0, 1: 0.1, 2: 5.0}})
    b = made({"train/loss": {0: 101.0, 1: 0.2, 2: 5.0}})
    found = compare([a], [b])
    assert found["train/loss", "absolute"] == ("made", "train/loss", "absolute", 1.0, "made", 0, 100.0, 101.0)
    assert found["train/loss", "relative"] == ("made", "train/loss", "relative", 0.5, "made", 1, 0.1, 0.2)


def test_only_epochs_and_metrics_that_both_recorded_count() -> None:
    a = made({"train/loss": {0: 1.0, 5: 2.0, 7: 0.0}, "test/loss": {0: 1.0}, "train/accuracy": {3: 1.0}})
    b = made({"train/loss": {5: 2.5, 6: 90.0, 7: 0.0}, "train/accuracy": {4: 0.0}, "gradient_norm": {5: 1.0}})
    found = compare([a], [b])
    assert set(found) == {("train/loss", "absolute"), ("train/loss", "relative")}
    assert (found["train/loss", "absolute"].value, found["train/loss", "absolute"].epoch) == (0.5, 5)
    assert found["train/loss", "relative"].value == pytest.approx(0.2)


def test_opposite_numbers_differ_by_twice_their_size_and_zeros_do_not_differ() -> None:
    found = compare([made({"a": {0: -3.0}, "b": {0: 0.0}})], [made({"a": {0: 3.0}, "b": {0: 0.0}})])
    assert (found["a", "absolute"].value, found["a", "relative"].value) == (6.0, 2.0)
    assert (found["b", "absolute"].value, found["b", "relative"].value) == (0.0, 0.0)


def test_the_worst_point_is_named_and_points_of_one_backend_are_left_out() -> None:
    mine = [made({"train/loss": {0: 1.0}}, name=name) for name in ("x", "y", "z")]
    theirs = [made({"train/loss": {0: end}}, name=name) for name, end in (("y", 1.5), ("x", 1.25), ("w", 9))]
    found = compare(mine, theirs)
    assert (found["train/loss", "absolute"].value, found["train/loss", "absolute"].point) == (0.5, "y")
    assert [(a.name, b.name) for a, b in pairs({"made": {"numpy": mine, "keras": theirs}}, "made")] == [
        ("x", "x"),
        ("y", "y"),
    ]


def test_weights_are_compared_in_the_last_snapshot_of_both() -> None:
    a = made({}, {0: [1.0, 2.0], 50: [1.0, 2.0], 100: [0.0, 0.0]})
    b = made({}, {0: [9.0, 9.0], 50: [1.5, 0.0], 90: [0.0, 0.0]})
    found = compare([a], [b])
    assert found["layer_0/weights", "absolute"] == ("made", "layer_0/weights", "absolute", 2.0, "made", 50, 2.0, 0.0)
    assert ("layer_0/weights", "relative") not in found


def test_weights_of_a_point_that_diverged_or_is_not_finite_are_those_before() -> None:
    whole = made({}, {0: [1.0], 10: [2.0], 20: [4.0]})
    cut = made({}, {0: [1.5], 10: [5.0], 20: [3e30]}, diverged_at=20)
    broken = made({}, {0: [1.0], 10: [math.nan], 20: [math.inf]})
    for found in (compare([whole], [cut]), compare([cut], [whole])):
        assert (found["layer_0/weights", "absolute"].value, found["layer_0/weights", "absolute"].epoch) == (3.0, 10)
    assert compare([whole], [broken])["layer_0/weights", "absolute"].epoch == 0
    assert ("layer_0/weights", "absolute") not in compare([broken], [made({}, {20: [1.0]})])


def test_arrays_of_another_shape_are_left_out() -> None:
    assert set(compare([made({}, {0: [1.0]})], [made({}, {0: [1.0, 2.0]})])) == set()


def test_nothing_is_said_of_a_study_that_one_backend_trained() -> None:
    point = made({"train/loss": {0: 1.0}})
    for backends in ({}, {"numpy": [point]}, {"keras": [point]}):
        assert parity({"made": backends}, "made") == []
    assert parity({}, "made") == []
    assert parity_lines({"made": {"numpy": [point]}}) == ["No point was trained by both backends."]


values = st.dictionaries(st.integers(0, 20), st.floats(-1e6, 1e6), max_size=8)


@given(values, values)
def test_a_backend_beside_itself_differs_nowhere_and_sides_do_not_matter(
    a: dict[int, float], b: dict[int, float]
) -> None:
    one, other = made({"train/loss": a}), made({"train/loss": b})
    assert all(row.value == 0 for row in compare([one], [one]).values())
    forward, backward = compare([one], [other]), compare([other], [one])
    assert {key: row.value for key, row in forward.items()} == {key: row.value for key, row in backward.items()}
    common = set(a) & set(b)
    if common:
        assert forward["train/loss", "absolute"].value == max(abs(a[epoch] - b[epoch]) for epoch in common)
        assert 0 <= forward["train/loss", "relative"].value <= 2
    else:
        assert ("train/loss", "absolute") not in forward


@pytest.fixture(scope="module")
def line() -> dict[str, list[Point]]:
    """Y = 3x at two rates, by finite differences and by backpropagation: at rate 1 the latter runs away."""
    rates = [["optimizer.learning_rate=0.01"], ["optimizer.learning_rate=1"]]
    common = ["experiment=line_y3x", "training.epochs=60"]
    return {"numpy": sweep(common, rates), "keras": sweep([*common, "backend=keras"], rates)}


def test_the_report_says_which_points_are_different_computations_and_which_diverged(
    line: dict[str, list[Point]],
) -> None:
    text = "\n".join(parity_lines({"line_y3x": line}))
    step = line["keras"][1].outcome.diverged_step
    assert (
        "- line_y3x is not in the table: at every point, gradient is finite_difference on NumPy and backpropagation "
        "on Keras, so the computations are not comparable."
    ) in text
    ended = f"`learning_rate=1` stayed finite for 60 epochs on NumPy and diverged after {step} updates on Keras."
    assert f"- line_y3x: {ended}" in text
    assert "`learning_rate=0.01`" not in text
    assert text.count("not comparable") == 1
    assert "| train/loss |" not in text
    assert "| line_y3x | 2 | `learning_rate=1`, epoch " in text


def test_a_study_of_like_and_unlike_points_is_in_the_table_and_names_the_unlike_ones(
    line: dict[str, list[Point]],
) -> None:
    mixed = {"numpy": line["numpy"], "keras": [line["numpy"][0], line["keras"][1]]}
    text = "\n".join(parity_lines({"mixed": mixed}))
    assert (
        "- mixed: at `learning_rate=1`, gradient is finite_difference on NumPy and backpropagation on Keras, " in text
    )
    assert "| train/loss |" in text
    assert "weights/weight" not in text
    assert "| layer_0/bias |" in text


def test_the_tables_have_a_column_for_each_study_and_its_numbers() -> None:
    first = {"numpy": [made({"train/loss": {4: 2.0}}, {0: [1.0]})],
             "keras": [made({"train/loss": {4: 2.5}}, {0: [1.25]})]}  # fmt: skip
    second = {backend: [made({"train/loss": {1: 1.0}, "test/loss": {1: 7.0}})] for backend in first}
    lines = parity_lines({"first": first, "second": second, "third": {"numpy": first["numpy"]}})
    start = lines.index("|  | first | second |")
    assert lines[start + 2 : start + 6] == [
        "| train/loss | 0.5 (0.2) | 0 |",
        "| test/loss |  | 0 |",
        "| layer_0/weights | 0.2 |  |",
        "",
    ]
    assert lines[-2:] == [
        "| first | 1 | `made`, epoch 4 | 2 and 2.5 |",
        "| second | 1 |  |  |",
    ]
