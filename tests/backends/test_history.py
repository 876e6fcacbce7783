"""The record of a run: epochs, names, best values, and the values that are skipped."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends.shared.history import (
    History,
    direction_change_rows,
    record_epochs,
    snapshot_epochs,
    weight_metrics,
)
from pipeline.diagnosis.trends import roughness


def test_only_finite_values_are_recorded() -> None:
    history = History()
    history.record(3, {"a": 1.5, "b": math.inf, "c": math.nan, "d": -math.inf, "e": 0.0})
    assert [(m.step, m.name, m.value) for m in history.metrics] == [(3, "a", 1.5), (3, "e", 0.0)]


@given(st.dictionaries(st.text(max_size=5), st.floats(), max_size=6))
def test_any_finite_value_is_kept_exactly(values: dict[str, float]) -> None:
    history = History()
    history.record(0, values)
    assert {m.name: m.value for m in history.metrics} == {k: v for k, v in values.items() if math.isfinite(v)}


def test_numbers_of_numpy_become_floats_and_are_timed_in_milliseconds() -> None:
    history = History()
    before = time.time_ns() // 1_000_000
    history.record(0, {"a": np.float64(0.5)})
    after = time.time_ns() // 1_000_000
    assert type(history.metrics[0].value) is float
    assert before <= history.metrics[0].timestamp <= after


def test_a_snapshot_is_a_copy() -> None:
    history, weights = History(), {"layer_0/weights": np.zeros((2, 1))}
    history.snapshot(0, weights)
    weights["layer_0/weights"] += 1
    assert np.all(history.snapshots[0]["layer_0/weights"] == 0)


def some_history() -> History:
    history = History()
    rows = [(0, 5.0, 0.1, 3.0, 9.0), (1, 2.0, 0.9, 1.0, 8.0), (2, 4.0, 0.5, 2.0, 10.0)]
    for step, loss, accuracy, error, norm in rows:
        history.record(
            step,
            {"train/loss": loss, "test/accuracy": accuracy, "train/mean_absolute_error": error, "weights/norm": norm},
        )
    return history


def test_final_is_the_last_of_every_metric() -> None:
    history = some_history()
    history.record(3, {"weights/norm": 1.0, "train/loss": math.nan})
    assert history.final() == {
        "train/loss": 4.0,
        "test/accuracy": 0.5,
        "train/mean_absolute_error": 2.0,
        "weights/norm": 1.0,
    }


def test_best_is_the_smallest_loss_and_error_and_the_largest_accuracy() -> None:
    assert some_history().best() == {"train/loss": 2.0, "test/accuracy": 0.9, "train/mean_absolute_error": 1.0}


def test_series_and_names() -> None:
    history = some_history()
    steps, values = history.series("train/loss")
    assert (steps.tolist(), values.tolist()) == ([0, 1, 2], [5, 2, 4])
    assert history.names() == ["train/loss", "test/accuracy", "train/mean_absolute_error", "weights/norm"]
    steps, values = history.series("no such")
    assert (len(steps), len(values)) == (0, 0)


def test_an_empty_history() -> None:
    assert (History().final(), History().best(), History().names()) == ({}, {}, [])


# --- which epochs


@given(st.integers(1, 100_000), st.integers(1, 5_000))
def test_recorded_epochs(epochs: int, every: int) -> None:
    recorded = record_epochs(epochs, every)
    assert recorded == sorted(set(recorded))
    assert (recorded[0], recorded[-1]) == (0, epochs)
    assert set(range(0, epochs + 1, every)) <= set(recorded)
    between = [step for step in recorded if step % every and step != epochs]
    assert all(step < every for step in between)
    if every > 1 and epochs > 1:
        assert 1 in recorded
    assert max(np.diff(recorded), default=0) <= every
    assert len(between) <= 4 * len(str(every))


@given(st.integers(1, 2**53 - 1))
def test_about_300_epochs_are_recorded_unless_more_are_asked_for(epochs: int) -> None:
    recorded = record_epochs(epochs, "auto")
    gaps = np.diff(recorded)
    assert (recorded[0], recorded[-1]) == (0, epochs)
    assert recorded[:51] == list(range(min(epochs, 50) + 1))
    if epochs <= 300:
        assert recorded == list(range(epochs + 1))
        return
    assert 300 < len(recorded) <= 302
    # Each of the first epochs, then every k-th, with one shorter gap between the two.
    assert (np.diff(gaps) != 0).sum() <= 2
    assert gaps[0] == 1
    assert gaps[-1] % 2 == 1


def test_a_loss_that_rises_and_falls_in_turn_is_seen_between_records() -> None:
    recorded = np.array(record_epochs(2000, "auto"))
    assert roughness((-1.0) ** recorded) > 0.4


def test_recorded_epochs_of_the_three_bit_study_hold_those_of_the_text() -> None:
    assert {0, 10000, 20000, 30000, 40000, 50000, 60000} <= set(record_epochs(60000, 250))


def test_every_epoch_is_recorded_where_asked_for() -> None:
    assert record_epochs(7, 1) == list(range(8))


@given(st.integers(1, 20_000), st.integers(1, 500), st.integers(2, 100))
def test_snapshots(epochs: int, every: int, count: int) -> None:
    recorded = record_epochs(epochs, every)
    chosen = snapshot_epochs(recorded, count)
    assert chosen <= set(recorded)
    assert {0, epochs} <= chosen
    assert len(chosen) <= count
    if count >= len(recorded):
        assert chosen == set(recorded)
    elif count >= 3:
        assert recorded[1] in chosen


def test_snapshots_are_log_spaced() -> None:
    chosen = sorted(snapshot_epochs(record_epochs(1000, 1), 5))
    assert chosen == [0, 1, 10, 100, 1000]


# --- names of weights


def test_the_single_weight_of_a_line_is_called_weight() -> None:
    weights = {"layer_0/weights": np.array([[2.0]]), "layer_0/bias": np.array([0.5])}
    assert weight_metrics(weights) == {"weights/weight": 2.0, "weights/bias": 0.5}


def test_two_weights_have_their_places() -> None:
    weights = {"layer_0/weights": np.array([[2.0], [3.0]])}
    assert weight_metrics(weights) == {"weights/weight_0_0": 2.0, "weights/weight_1_0": 3.0}


def test_weights_of_two_layers_have_their_layer() -> None:
    weights = {
        "layer_0/weights": np.array([[1.0, 2.0]]),
        "layer_0/bias": np.array([3.0, 4.0]),
        "layer_1/weights": np.array([[5.0], [6.0]]),
        "layer_1/bias": np.array([7.0]),
    }
    assert weight_metrics(weights) == {
        "weights/layer_0/weight_0_0": 1.0,
        "weights/layer_0/weight_0_1": 2.0,
        "weights/layer_0/bias_0": 3.0,
        "weights/layer_0/bias_1": 4.0,
        "weights/layer_1/weight_0_0": 5.0,
        "weights/layer_1/weight_1_0": 6.0,
        "weights/layer_1/bias": 7.0,
    }


@pytest.mark.parametrize("bias", [False, True])
def test_direction_changes_are_rows_as_in_the_published_table(bias: bool) -> None:
    counts = {"layer_0/weights": np.array([[1, 2], [3, 4]])}
    if bias:
        counts["layer_0/bias"] = np.array([[9, 9]])
    counts["layer_1/weights"] = np.array([[5], [6]])
    rows = direction_change_rows(counts)
    assert [tuple(row.values()) for row in rows] == [
        (0, 0, 0, 1),
        (0, 0, 1, 2),
        (0, 1, 0, 3),
        (0, 1, 1, 4),
        (1, 0, 0, 5),
        (1, 1, 0, 6),
    ]
    assert list(rows[0]) == ["layer", "row", "column", "count"]
