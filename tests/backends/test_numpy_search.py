"""The loss and gradient that SciPy gets for a network, and the record of its search."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.backends.numpy.methods.search import Search
from pipeline.backends.shared.history import History, record_epochs
from pipeline.backends.shared.recorder import Recorder
from pipeline.data.arrays import Arrays, load
from tests.backends.test_numpy_training import Keeper
from tests.support.plain_network import backpropagation
from tests.support.trained import config

BITS = ("experiment=three_bits", "model.hidden_size=4", "training.epochs=45", "optimizer=bfgs")
IMAGES = ("experiment=mnist", "model.hidden_size=5", "training.batch_size=null", "training.epochs=3", "optimizer=lbfgs")


def search(*study: str, arrays: Arrays | None = None, keeper: Keeper | None = None) -> tuple[Search, History]:
    point, history = config(*study), History()
    data = arrays or load(point.data, point.dtype, Path())
    recorder = Recorder([point], [history], lambda epoch, loss: None, keeper)
    return Search(point, data, recorder), history


@pytest.mark.parametrize("study", [(*BITS, "model.bias=true"), (*IMAGES, "dtype=float64")])
def test_loss_and_gradient_are_those_of_backpropagation(study: tuple[str, ...], tiny_images: Arrays) -> None:
    point = config(*study)
    arrays = tiny_images if point.data.kind == "idx" else load(point.data, point.dtype, Path())
    one, history = search(*study, arrays=arrays)
    one.begin()
    weights = one.start + 0.1
    parameters = {name: np.atleast_2d(array)[None] + 0.1 for name, array in history.snapshots[0].items()}
    inputs, targets = arrays.scaled(arrays.train_inputs), arrays.train_targets
    losses, gradients, _ = backpropagation(point.loss, point.dense, parameters, inputs, targets)
    loss, gradient = one.loss_and_gradient(weights)
    assert loss == pytest.approx(losses[0], rel=1e-6)
    flat = np.concatenate([gradients[name].ravel() for name in parameters])
    np.testing.assert_allclose(gradient, flat, rtol=1e-5, atol=1e-7)
    assert one.evaluations == 1


@pytest.mark.parametrize("study", [BITS, (*BITS, "training.l2=0.01"), IMAGES])
def test_the_loss_alone_is_the_loss_with_a_gradient(study: tuple[str, ...], tiny_images: Arrays) -> None:
    one, _ = search(*study, arrays=tiny_images if study is IMAGES else None)
    places = [one.start, one.start + 0.1, one.start]
    assert [one.loss(weights) for weights in places] == [one.loss_and_gradient(weights)[0] for weights in places]
    assert one.loss(one.start) != one.loss(one.start + 0.1)


def test_an_epoch_is_recorded_where_it_is_reached_whatever_was_looked_at_in_between() -> None:
    one, history = search(*BITS, "recording.metrics_every=10", "recording.snapshots=1000")
    one.begin()
    places = [one.start + epoch / 10 for epoch in range(46)]
    for weights in places[1:]:
        one.loss(weights)
        one.loss(weights + 5)
        one.reach(weights)
    one.finish()
    due = record_epochs(45, 10)
    assert history.series("train/loss")[0].tolist() == list(history.snapshots) == due
    assert history.series("loss_evaluations")[1].tolist() == [2 * epoch for epoch in due[1:]]
    for epoch, network in history.snapshots.items():
        np.testing.assert_allclose(np.concatenate([a.ravel() for a in network.values()]), places[epoch], rtol=1e-15)
    assert history.final()["weights/update_ratio"] == pytest.approx(0.1 * 4 / history.final()["weights/norm"])
    assert {row["count"] for row in history.tables["direction_changes"]} == {0}
    assert (history.epochs, history.diverged_step) == (45, None)


def test_a_search_that_ends_between_two_records_is_recorded_at_its_end() -> None:
    one, history = search(*BITS, "recording.metrics_every=30")
    one.begin()
    for epoch in range(1, 18):
        one.reach(one.start + epoch)
    one.finish()
    assert history.series("train/loss")[0][-1] == max(history.snapshots) == history.epochs == 17


def test_a_search_that_ends_early_is_measured_on_test_rows_at_its_end(tiny_images: Arrays) -> None:
    data = replace(tiny_images, validation_inputs=tiny_images.test_inputs, validation_targets=tiny_images.test_targets)
    one, history = search(*IMAGES, "training.epochs=9", arrays=data)
    one.begin()
    for epoch in range(1, 4):
        one.reach(one.start + epoch / 10)
    one.finish()
    assert history.series("validation/loss")[0].tolist() == [0, 1, 2, 3]
    assert history.series("train/loss")[0].tolist() == [0, 1, 2, 3]
    assert history.series("test/loss")[0].tolist() == [3]
    assert history.final()["test/loss"] == history.final()["validation/loss"]


def test_a_search_that_makes_no_step_ends_at_epoch_1_where_it_began() -> None:
    one, history = search(*BITS)
    one.begin()
    one.finish()
    assert history.epochs == 1
    assert history.final()["weights/update_ratio"] == 0
    np.testing.assert_array_equal(history.snapshots[0]["layer_0/weights"], history.snapshots[1]["layer_0/weights"])


def test_a_checkpoint_that_is_due_has_no_state_and_the_largest_epoch() -> None:
    keeper = Keeper()
    keeper.epoch = 3
    one, history = search(*BITS, keeper=keeper)
    one.begin()
    for epoch in range(1, 6):
        one.reach(one.start + epoch)
    assert keeper.kept == [3, 3, 3, 4, 5]
    assert 3 not in history.series("train/loss")[0]
