"""AW-SGD: its mean gradient is the full gradient, varies less than with uniform draws, and training resumes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from pipeline.backends.numpy.losses import measure
from pipeline.backends.numpy.methods.aw_sgd import train, weighted_gradient
from pipeline.backends.numpy.network import forward, stack
from pipeline.backends.shared.history import History
from pipeline.backends.shared.initial_weights import draw
from pipeline.data.arrays import Arrays, load
from pipeline.diagnosis.networks import diagnose
from tests.backends.test_backends import through_a_file
from tests.backends.test_numpy_training import Keeper, assert_same
from tests.support.plain_network import backpropagation
from tests.support.trained import config, trained

BITS = ("experiment=three_bits", "optimizer=aw_sgd", "training.batch_size=2", "model.hidden_size=4")
SHORT = (*BITS, "training.epochs=30", "recording.metrics_every=1", "optimizer.learning_rate=1")
LINE = ("experiment=line_y2x", "gradient=backpropagation", "optimizer=aw_sgd", "training.batch_size=2")
IMAGES = ("experiment=mnist", "training.epochs=3", "training.batch_size=16", "model.hidden_size=5", "optimizer=aw_sgd")
CASES = {
    "half the summed squares": (*BITS, "model.bias=true"),
    "mean squares": (*LINE, "dtype=float64", "data.targets=[[1,2],[3,1],[0,5],[2,2]]"),
    "absolute errors": (*LINE, "dtype=float64", "loss=mean_absolute_error"),
    "huber": (*LINE, "dtype=float64", "loss=huber", "data.targets=[[1,2],[3,1],[0,5],[2,2]]"),
    "two classes": (*BITS, "loss=binary_cross_entropy", "model.bias=true"),
    "cross-entropy": (*IMAGES, "dtype=float64"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_weighted_gradient_is_the_full_one_on_average(case: str, tiny_images: Arrays) -> None:
    """Every row, each as often as it is likely, for a distribution that is far from uniform."""
    point = config(*CASES[case])
    arrays = tiny_images if point.data.kind == "idx" else load(point.data, point.dtype, Path())
    inputs, targets = arrays.scaled(arrays.train_inputs).astype(np.float64), arrays.train_targets
    weights = draw(point.dense, arrays.features, arrays.outputs, 3, "float64")
    parameters = stack([{name: array + 0.1 for name, array in weights.items()}])
    losses, full, sums = backpropagation(point.loss, point.dense, parameters, inputs, targets)
    likely = np.random.default_rng(4).dirichlet(np.ones(len(inputs)))
    counts = 1 / (len(inputs) * likely)
    rows = len(inputs) if point.loss == "half_summed_squared_error" else 1  # that loss is a sum over the rows
    mean = {name: np.zeros(gradient.shape[1:]) for name, gradient in full.items()}
    for row, (share, count) in enumerate(zip(likely, counts, strict=True)):
        one = slice(row, row + 1)
        found = weighted_gradient(
            point.loss, point.dense, parameters, inputs[one], targets[one], rows * share * np.array([count])
        )
        own = backpropagation(point.loss, point.dense, parameters, inputs[one], targets[one])[1]
        assert found.squares[0] == pytest.approx(sum(np.square(g).sum() for g in own.values()), rel=1e-12)
        mean = {name: mean[name] + gradient for name, gradient in found.gradients.items()}
    together = weighted_gradient(point.loss, point.dense, parameters, inputs, targets, rows * likely * counts)
    for name, gradient in full.items():
        np.testing.assert_allclose(mean[name], gradient[0], atol=1e-12, rtol=0)
        np.testing.assert_allclose(np.atleast_2d(together.gradients[name]), gradient[0], atol=1e-12, rtol=0)
    assert rows * together.losses.mean() == pytest.approx(losses[0], rel=1e-12)
    np.testing.assert_allclose(together.sums, sums[0], rtol=1e-14)


def test_on_a_few_hard_rows_the_gradient_comes_to_vary_less() -> None:
    """Thirty rows on the line and two far off it, at a rate that hardly moves the weights."""
    rows = [[x / 10] for x in range(32)]
    targets = [[2 * x] if place not in (7, 20) else [2 * x + 20] for place, (x,) in enumerate(rows)]
    data = (f"data.inputs={rows}", f"data.targets={targets}", "model.initial_weight=2", "dtype=float64")
    study = (*LINE, *data, "training.batch_size=4", "training.epochs=200", "optimizer.learning_rate=0.00001")
    (history,) = trained(config(*study, "optimizer.sampling_learning_rate=0.0001"))
    moments, rows_left = history.series("sampling/second_moment")[1], history.series("sampling/effective_rows")[1]
    assert np.mean(moments[:2]) > 0.9
    assert np.mean(moments[-10:]) < 0.3
    assert rows_left[0] > 30
    assert rows_left[-1] < 8
    shares = [row["probability"] for row in history.tables["sampling"]]
    assert np.argsort(shares)[-2:].tolist() in ([7, 20], [20, 7])
    assert sum(shares) == pytest.approx(1)


@pytest.mark.parametrize("by", ["row", "target"])
def test_it_trains_what_sgd_trains(by: str, tiny_images: Arrays) -> None:
    (bits,) = trained(config(*BITS, "training.epochs=1000", "optimizer.learning_rate=5", f"optimizer.sampled_by={by}"))
    assert bits.final()["train/mean_absolute_error"] < 0.1
    study = (*IMAGES, "training.epochs=30", "optimizer.learning_rate=0.5", f"optimizer.sampled_by={by}")
    (images,) = trained(config(*study), arrays=tiny_images)
    assert images.final()["test/accuracy"] > 0.8


def test_few_rows_are_all_measured_after_an_epoch(tiny_images: Arrays) -> None:
    for study, arrays in ((SHORT, None), (IMAGES, tiny_images)):
        point = config(*study)
        (history,) = trained(point, arrays=arrays)
        data = arrays or load(point.data, point.dtype, Path())
        last = stack([history.snapshots[history.epochs]])
        sums = forward(point.dense, last, data.scaled(data.train_inputs))[-1]
        for name, value in measure(point.loss, point.dense.output_activation, sums, data.train_targets).items():
            assert history.final()[f"train/{name}"] == pytest.approx(float(value[0]), rel=1e-6)


def test_of_many_rows_those_drawn_are_measured(tiny_images: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a rate too small to move anything, and drawn uniformly, an epoch's mean is about that of all rows."""
    study = (*IMAGES, "optimizer.learning_rate=1e-30", "optimizer.sampling_learning_rate=0")
    (exact,) = trained(config(*study), arrays=tiny_images)
    monkeypatch.setattr("pipeline.backends.numpy.methods.aw_sgd.FEW_ROWS", 1)
    (drawn,) = trained(config(*study), arrays=tiny_images)
    assert drawn.final()["train/loss"] != exact.final()["train/loss"]
    assert drawn.final()["train/loss"] == pytest.approx(exact.final()["train/loss"], rel=0.2)
    assert 0 <= drawn.final()["train/accuracy"] <= 1
    assert drawn.tables == {}
    assert drawn.final()["sampling/second_moment"] == pytest.approx(1)


@pytest.mark.parametrize("study", [SHORT, (*IMAGES, "training.epochs=9"), (*SHORT, "optimizer.learning_rate=1e200")])
def test_stopped_and_continued_is_never_stopped(study: tuple[str, ...], tiny_images: Arrays, tmp_path: Path) -> None:
    point = config(*study, "optimizer.sampling_learning_rate=5", "recording.metrics_every=4")
    arrays = tiny_images if point.data.kind == "idx" else load(point.data, point.dtype, Path())
    (undisturbed,) = trained(point, arrays=arrays)
    history, keeper = History(), Keeper()
    for keeper.stop in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            train([point], arrays, [history], lambda epoch, loss: None, keeper)
        assert keeper.epoch == keeper.stop
        history, keeper.states = through_a_file(keeper, history, tmp_path / "checkpoint.npz")
    keeper.stop = math.inf
    train([point], arrays, [history], lambda epoch, loss: None, keeper)
    assert_same(history, undisturbed)


def test_the_seed_decides_everything() -> None:
    (first,), (again,), (other,) = (trained(config(*SHORT, f"seed={seed}")) for seed in (1, 1, 2))
    assert_same(first, again)
    assert other.tables["sampling"] != first.tables["sampling"]


def test_divergence_is_reported() -> None:
    (history,) = trained(config(*LINE, "optimizer.learning_rate=1e30"))
    assert history.diverged_step is not None
    assert history.epochs < 1000
    assert "sampling/effective_rows" not in history.final() or history.final()["sampling/effective_rows"] <= 4


def test_the_diagnosis_counts_no_turns_of_minibatches() -> None:
    """Their updates are more than their epochs."""
    point = config(*SHORT, "optimizer.learning_rate=10")
    (history,) = trained(point)
    assert "direction_changes" in history.tables
    assert "reversals" not in diagnose(point, history).values


def test_another_optimizer_is_refused() -> None:
    point = config("experiment=three_bits")
    with pytest.raises(ValueError, match="expected aw_sgd, received sgd"):
        train([point], load(point.data, point.dtype, Path()), [History()], lambda epoch, loss: None)
