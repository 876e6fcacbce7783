"""The recorder of points in training: stops, records, ends, checkpoints."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends.numpy.curves.descent import train_balls
from pipeline.backends.shared.history import History, record_epochs
from pipeline.backends.shared.recorder import Recorder, Standing
from pipeline.data.arrays import load
from tests.backends.test_numpy_training import Keeper
from tests.support.trained import config

STUDY = ("experiment=three_bits", "training.epochs=40", "recording.metrics_every=10", "recording.snapshots=3")
WEIGHTS = {"layer_0/weights": np.ones((2, 1))}


def recorder(points: int = 1, keeper: Keeper | None = None, *more: str) -> Recorder:
    filled = [History() for _ in range(points)]
    return Recorder([config(*STUDY, *more)] * points, filled, lambda epoch, loss: None, keeper)


def standing(loss: float = 0.5, diverged_step: int = -1) -> Standing:
    return Standing({"train/loss": loss}, WEIGHTS, diverged_step, loss)


@given(st.integers(0, 39), st.integers(1, 60))
def test_stops_lead_from_what_was_trained_to_the_last_epoch(begun: int, stride: int) -> None:
    keeper = Keeper()
    keeper.epoch = begun
    stops = list(recorder(1, keeper).stops(stride))
    ends = [epoch for _, epoch in stops]
    assert [before for before, _ in stops] == [begun, *ends[:-1]]
    assert all(1 <= epoch - before <= stride for before, epoch in stops)
    assert set(ends) >= {epoch for epoch in record_epochs(40, 10) if epoch > begun}
    shorter = [epoch for before, epoch in stops if epoch - before < stride]
    assert set(shorter) <= set(record_epochs(40, 10))


def test_a_point_that_has_diverged_ends_at_the_next_record_and_the_other_goes_on() -> None:
    both = recorder(2)
    one, other = both.histories
    for index in both.under_way():
        assert not both.record(0, index, standing(math.inf, 0) if index == 0 else standing())
    assert list(both.under_way()) == [0, 1]  # a loss that is inf before the first update is seen after it
    assert [both.record(1, index, standing(0.25, 0) if index == 0 else standing()) for index in (0, 1)] == [True, False]
    assert list(both.under_way()) == [1]
    assert (one.epochs, one.diverged_step, one.last_finite_loss, list(one.snapshots)) == (1, 0, 0.25, [0, 1])
    assert one.metrics == []
    assert [both.ended] == [False]
    assert both.record(40, 1, standing(0.125))
    assert (other.epochs, other.diverged_step, other.last_finite_loss) == (40, None, 0.125)
    assert other.series("train/loss")[0].tolist() == [0, 1, 40]
    assert both.ended
    assert list(both.stops()) == []


def test_a_point_may_end_before_its_last_epoch_and_an_epoch_is_recorded_once() -> None:
    one = recorder()
    (history,) = one.histories
    assert not one.record(20, 0, standing())
    assert history.snapshots == {}
    ended = Standing({"train/loss": 0.25, "test/loss": 0.75}, WEIGHTS, -1, 0.5)
    assert one.record(20, 0, ended, last=True)
    assert history.series("train/loss")[0].tolist() == [20]
    assert history.final()["train/loss"] == 0.5
    # What the first record of the epoch did not have, because it did not know that it was the last.
    assert history.series("test/loss")[1].tolist() == [0.75]
    assert list(history.snapshots) == [20]
    assert history.epochs == 20


def test_a_loss_that_was_never_finite_is_none() -> None:
    one = recorder()
    assert one.record(1, 0, standing(math.nan, 0))
    assert one.histories[0].last_finite_loss is None


def test_states_are_asked_for_where_a_checkpoint_is_due_and_points_are_left() -> None:
    keeper = Keeper()
    one = recorder(1, keeper)
    one.keep(3, lambda: [{}])
    assert keeper.kept == [3]
    assert one.histories[0].seconds > 0
    keeper.due = lambda: False  # type: ignore[method-assign]
    one.keep(4, lambda: pytest.fail("nothing is due"))
    keeper.due = lambda: True  # type: ignore[method-assign]
    one.record(40, 0, standing())
    one.keep(40, lambda: pytest.fail("the point has ended"))
    assert keeper.kept == [3]


def test_points_of_a_stack_share_the_time_on_top_of_what_they_had() -> None:
    pair = recorder(2)
    pair.histories[0].seconds = 5.0
    later = Recorder(pair.points, pair.histories, pair.report)
    later.note_seconds()
    first, second = (history.seconds for history in pair.histories)
    assert first == pytest.approx(5 + second)
    assert 0 < second < 5
    assert [history.points_in_stack for history in pair.histories] == [2, 2]


def test_every_weight_is_a_metric_where_the_config_says_so() -> None:
    one = recorder(1, None, "recording.weight_metrics=true", "model.hidden_size=null")
    one.record(0, 0, standing())
    assert one.histories[0].names() == ["train/loss", "weights/weight_0_0", "weights/weight_1_0"]


def test_what_trains_a_single_point_refuses_two() -> None:
    point = config("experiment=curve_stuck")
    data = load(point.data, point.dtype, Path())
    with pytest.raises(ValueError, match="expected one point, which trains alone; received 2"):
        train_balls([point, point], data, [History(), History()], lambda epoch, loss: None)
