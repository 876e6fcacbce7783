"""Training on the NumPy backend: numbers from the source texts, stacks that equal single runs, divergence."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.backends.contract import State
from pipeline.backends.numpy.descent import Plateau
from pipeline.backends.numpy.losses import measure
from pipeline.backends.numpy.network import forward, predict, stack
from pipeline.backends.numpy.packed import Packed
from pipeline.backends.numpy.state import Progress
from pipeline.backends.numpy.training import train
from pipeline.backends.shared.history import History
from pipeline.backends.shared.schedules import factors
from pipeline.config.optimizer import ReduceOnPlateau
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, load
from pipeline.system.project import PROJECT
from tests.support.methods import OPTIMIZERS, SCHEDULES
from tests.support.trained import config, trained

RATES = (0.001, 0.01, 0.1, 1, 10, 100, 1000)
IMAGES = ("experiment=mnist", "training.epochs=3", "training.batch_size=16", "model.hidden_size=5")


def published(name: str) -> list[dict[str, float]]:
    with (PROJECT / "published" / f"{name}.csv").open(newline="") as stream:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]


def assert_same(a: History, b: History) -> None:
    """Bit for bit, but for when and how fast."""
    assert [(m.step, m.name, m.value) for m in a.metrics] == [(m.step, m.name, m.value) for m in b.metrics]
    assert list(a.snapshots) == list(b.snapshots)
    for step, weights in a.snapshots.items():
        assert {k: v.tobytes() for k, v in weights.items()} == {k: v.tobytes() for k, v in b.snapshots[step].items()}
    assert a.tables == b.tables
    assert (a.diverged_step, a.last_finite_loss, a.epochs) == (b.diverged_step, b.last_finite_loss, b.epochs)


class Keeper:
    """Checkpoints that are due at every epoch, stop training at the first one from `stop` on, and go on from there."""

    def __init__(self, stop: float = math.inf) -> None:
        self.epoch = 0
        self.states: Sequence[State] = ()
        self.stop = stop
        self.kept: list[int] = []

    def due(self) -> bool:
        return True

    def keep(self, epoch: int, states: Sequence[State]) -> None:
        self.kept.append(epoch)
        if epoch >= self.stop:
            self.epoch, self.states = epoch, states
            raise KeyboardInterrupt


# --- the numbers of the texts


@pytest.fixture(scope="module")
def three_bits() -> dict[tuple[int, float], History]:
    """The whole study of the 13-line network, all 60,000 iterations of its 14 points."""
    runs: dict[tuple[int, float], History] = {}
    for size in (4, 32):
        own = [
            config("experiment=three_bits", f"model.hidden_size={size}", f"optimizer.learning_rate={r}") for r in RATES
        ]
        runs |= {(size, rate): history for rate, history in zip(RATES, trained(*own), strict=True)}
    return runs


@pytest.mark.slow
def test_three_bits_errors_are_the_published_ones(three_bits: dict[tuple[int, float], History]) -> None:
    compared = set()
    for row in published("three_bits"):
        size, rate = int(row["hidden_size"]), row["learning_rate"]
        steps, errors = three_bits[size, rate].series("train/mean_absolute_error")
        found = dict(zip(steps.tolist(), errors.tolist(), strict=True))[int(row["iteration"])]
        # With 32 units and rate 10 rounding alone moves the result by a percent.
        chaotic = (size, rate) == (32, 10) and row["iteration"] > 0
        assert found == pytest.approx(row["error"], rel=2e-2 if chaotic else 1e-9), row
        compared.add((size, rate))
    assert len(compared) >= 8


@pytest.mark.slow
def test_three_bits_direction_changes_are_the_published_ones(three_bits: dict[tuple[int, float], History]) -> None:
    rows = published("three_bits_direction_changes")
    for rate in {row["learning_rate"] for row in rows}:
        expected = [
            {k: v for k, v in row.items() if k != "learning_rate"} for row in rows if row["learning_rate"] == rate
        ]
        assert three_bits[4, rate].tables["direction_changes"] == expected


@pytest.mark.slow
def test_three_bits_final_weights_are_the_published_ones(three_bits: dict[tuple[int, float], History]) -> None:
    for row in published("three_bits_final_weights"):
        last = three_bits[4, row["learning_rate"]].snapshots[60000]
        found = last[f"layer_{int(row['layer'])}/weights"][int(row["row"]), int(row["column"])]
        assert found == pytest.approx(row["weight"], abs=0.51e-8, rel=0), row


@pytest.mark.slow
def test_rate_10_is_best_and_100_is_stuck(three_bits: dict[tuple[int, float], History]) -> None:
    for size in (4, 32):
        final = {rate: three_bits[size, rate].final()["train/mean_absolute_error"] for rate in RATES}
        assert min(final, key=lambda rate: final[rate]) == 10
        assert final[1000] == 0.5
    assert three_bits[4, 100].final()["train/mean_absolute_error"] == pytest.approx(0.125, abs=1e-3)
    assert three_bits[32, 100].final()["train/mean_absolute_error"] == pytest.approx(0.5, abs=1e-9)


def test_a_13_line_loop_goes_the_same_way() -> None:
    """The network of the title as plain NumPy, from the same weights, at its own rate."""
    (history,) = trained(config("experiment=thirteen_lines", "training.epochs=500", "recording.metrics_every=1"))
    x, y = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]]), np.array([[0, 1, 1, 0]]).T
    random = np.random.RandomState(1)
    syn0, syn1 = 2 * random.random_sample((3, 4)) - 1, 2 * random.random_sample((4, 1)) - 1
    for _ in range(500):
        l1 = 1 / (1 + np.exp(-(x @ syn0)))
        l2 = 1 / (1 + np.exp(-(l1 @ syn1)))
        l2_delta = (y - l2) * (l2 * (1 - l2))
        l1_delta = l2_delta.dot(syn1.T) * (l1 * (1 - l1))
        syn1 += 0.5 * l1.T.dot(l2_delta)
        syn0 += 0.5 * x.T.dot(l1_delta)
    np.testing.assert_allclose(history.snapshots[500]["layer_0/weights"], syn0, rtol=1e-10)
    np.testing.assert_allclose(history.snapshots[500]["layer_1/weights"], syn1, rtol=1e-10)


def test_line_y2x_reaches_2_or_runs_away() -> None:
    rates = (0.01, 0.1, 0.5)
    points = [config("experiment=line_y2x", f"optimizer.learning_rate={rate}") for rate in rates]
    slow, good, wild = trained(*points)
    assert good.final()["weights/weight"] == pytest.approx(2, abs=1e-3)
    assert slow.final()["weights/weight"] == pytest.approx(2, abs=1e-2)
    assert abs(wild.final()["weights/weight"]) > 1000
    assert slow.series("weights/weight")[1][0] == np.float32(1.477)


def test_line_y3x_sticks_in_float32_and_leaves_in_float64() -> None:
    study = ("experiment=line_y3x", "optimizer.learning_rate=1")
    (single,), (double,) = trained(config(*study)), trained(config(*study, "dtype=float64"))
    weights = single.series("weights/weight")[1]
    assert weights[1] == pytest.approx(45, abs=0.01)
    assert np.all(weights[3:] == weights[3])
    assert abs(weights[3]) > 2000
    assert single.diverged_step is None
    assert np.abs(double.series("weights/weight")[1]).max() > 1e6 * abs(weights[3])
    (exact,) = trained(config(*study, "gradient=backpropagation"))
    assert exact.diverged_step is not None


def test_line_y3x_is_smooth_at_a_hundredth_and_swings_at_a_tenth() -> None:
    smooth, swinging = trained(
        *(config("experiment=line_y3x", f"optimizer.learning_rate={rate}") for rate in (0.01, 0.1))
    )
    early = smooth.series("weights/weight")[1][:20]
    assert np.all(np.diff(early) > 0)
    signs = np.sign(np.diff(swinging.series("weights/weight")[1][:8]))
    assert np.all(signs[1:] == -signs[:-1])
    for history in (smooth, swinging):
        assert history.final()["weights/weight"] == pytest.approx(3, abs=0.05)


# --- a stack is its points


@pytest.mark.parametrize("size", [4, 32])
def test_a_stack_of_rates_equals_each_alone(size: int) -> None:
    study = ("experiment=three_bits", f"model.hidden_size={size}", "training.epochs=700", "recording.metrics_every=50")
    points = [config(*study, f"optimizer.learning_rate={rate}") for rate in RATES]
    for point, together in zip(points, trained(*points), strict=True):
        (alone,) = trained(point)
        assert_same(together, alone)
        assert (together.points_in_stack, alone.points_in_stack) == (7, 1)


BITS = ("experiment=three_bits", "model.hidden_size=4", "model.bias=true", "training.epochs=12")
METHODS = OPTIMIZERS | {
    name: (*OPTIMIZERS["sgd, the last layer at a rate of its own"], *SCHEDULES[name]) for name in SCHEDULES
}


def with_rates(one: Config, pairs: Sequence[tuple[float, int]]) -> list[Config]:
    """A config with other rates and seeds."""
    return [
        one.model_copy(update={"seed": seed, "optimizer": one.optimizer.model_copy(update={"learning_rate": rate})})
        for rate, seed in pairs
    ]


@pytest.mark.parametrize("study", [(*IMAGES, "training.epochs=6"), BITS], ids=["minibatches", "full batch"])
@pytest.mark.parametrize("case", METHODS)
def test_a_stack_is_each_of_its_points_alone_also_when_it_was_stopped(
    tiny_images: Arrays, case: str, study: tuple[str, ...]
) -> None:
    points = with_rates(config(*study, *METHODS[case]), [(0.001, 1), (0.01, 2), (1.0, 1)])
    arrays = load(points[0].data, points[0].dtype, Path()) if study is BITS else tiny_images
    alone = [trained(point, arrays=arrays)[0] for point in points]
    histories, keeper = [History() for _ in points], Keeper(stop=2)
    with pytest.raises(KeyboardInterrupt):
        train_on(points, arrays, histories, keeper)
    keeper.stop = math.inf
    train_on(points, arrays, histories, keeper)
    for history, expected in zip(histories, alone, strict=True):
        assert_same(history, expected)
    assert ("learning_rate" in alone[0].names()) == (case in SCHEDULES)
    if case == "reduce_on_plateau" and study is BITS:
        rates = [history.final()["learning_rate"] for history in alone]
        assert any(rate < point.optimizer.learning_rate for rate, point in zip(rates, points, strict=True))


def test_points_with_seeds_of_their_own_see_minibatches_of_their_own(tiny_images: Arrays) -> None:
    histories = assert_stack_is_its_points([(0.01, 1), (0.01, 2), (0.02, 3)], tiny_images)
    assert histories[0].final() != histories[1].final()


def assert_stack_is_its_points(grid: list[tuple[float, int]], arrays: Arrays, *more: str) -> list[History]:
    points = [config(*IMAGES, *more, f"optimizer.learning_rate={rate}", f"seed={seed}") for rate, seed in grid]
    histories = trained(*points, arrays=arrays)
    for point, together in zip(points, histories, strict=True):
        (alone,) = trained(point, arrays=arrays)
        assert_same(together, alone)
        assert "test/accuracy" in alone.names()
    return histories


def test_a_wide_network_in_a_stack_equals_itself_alone() -> None:
    random = np.random.default_rng(2)
    inputs = random.uniform(size=(300, 784)).astype(np.float32)
    arrays = Arrays(inputs[:256], random.integers(0, 10, 256), inputs[256:], random.integers(0, 10, 44), 10, {})
    study = ("experiment=mnist", "training.epochs=2", "training.batch_size=100", "model.hidden_size=64")
    points = [config(*study, f"optimizer.learning_rate={rate}") for rate in (0.0001, 0.01, 0.1)]
    for point, together in zip(points, trained(*points, arrays=arrays), strict=True):
        assert_same(together, trained(point, arrays=arrays)[0])


def test_a_point_that_diverges_harms_no_other_and_ends_as_it_does_alone() -> None:
    study = (
        "experiment=line_y2x",
        "gradient=backpropagation",
        "training.epochs=300",
        "recording.direction_changes=true",
    )
    points = [config(*study, f"optimizer.learning_rate={rate}") for rate in (0.01, 0.9, 0.05, 1e30, 0.1)]
    histories = trained(*points)
    assert [history.diverged_step is not None for history in histories] == [False, True, False, True, False]
    for point, together in zip(points, histories, strict=True):
        assert_same(together, trained(point)[0])


def test_a_minibatch_network_that_diverges_harms_no_other(tiny_images: Arrays) -> None:
    grid = [(0.1, 1), (1e30, 1), (0.01, 1)]
    histories = assert_stack_is_its_points(grid, tiny_images, "optimizer=sgd", "training.epochs=6")
    assert [history.diverged_step is not None for history in histories] == [False, True, False]


# --- divergence


def divergence_by_hand(rate: float) -> tuple[int, float]:
    """Updates made when the loss of w * x + b against 2 * x first is not finite, and the loss before that."""
    w, b, updates, last = 1.477, 0.0, 0, math.nan
    while True:
        errors = [w * x + b - 2 * x for x in (1, 2, 3, 4)]
        loss = sum(e * e for e in errors) / 4
        if not math.isfinite(loss):
            return updates, last
        last, updates = loss, updates + 1
        w -= rate * sum(2 * e * x for e, x in zip(errors, (1, 2, 3, 4), strict=True)) / 4
        b -= rate * sum(2 * e for e in errors) / 4


@pytest.mark.parametrize("every", [1, 7, 1000])
def test_divergence_is_reported_with_its_update_and_the_last_finite_loss(every: int) -> None:
    study = ("experiment=line_y2x", "gradient=backpropagation", "dtype=float64", f"recording.metrics_every={every}")
    rates = (0.3, 1.0, 50.0)
    points = [config(*study, f"optimizer.learning_rate={rate}") for rate in rates]
    for rate, history in zip(rates, trained(*points), strict=True):
        step, last = divergence_by_hand(rate)
        assert history.diverged_step == step
        assert history.last_finite_loss == pytest.approx(last, rel=1e-6)
        assert step <= history.epochs < step + every
        assert history.epochs < 1000 or every == 1000
        assert max(history.snapshots) == history.epochs
        assert all(math.isfinite(metric.value) for metric in history.metrics)
        assert max(metric.step for metric in history.metrics) < step


def test_a_loss_that_comes_back_after_inf_has_diverged_all_the_same() -> None:
    progress = Progress(Packed({}, 3, "float64", grid_last=True), {}, 0, np.full(3, -1), np.full(3, np.nan))
    for progress.updates, losses in enumerate([(5, 6, 7), (math.inf, 4, 4), (3, 2, math.nan), (1, 1, 1)]):
        progress.see_losses(np.array(losses))
    assert progress.diverged_step.tolist() == [1, -1, 2]
    assert progress.last_finite_loss.tolist() == [5, 1, 4]


def test_a_run_that_stays_finite_has_not_diverged() -> None:
    (history,) = trained(config("experiment=two_bits", "training.epochs=50"))
    assert history.diverged_step is None
    assert history.epochs == 50
    assert history.last_finite_loss == history.final()["train/loss"]


# --- schedules


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "reduce_on_plateau"])
def test_an_update_is_made_at_the_rate_of_the_table(name: str) -> None:
    """Gradient descent, one update after the other: the change is the rate times the factor times the gradient."""
    rate, epochs = 3.0, 12
    study = (*BITS, "recording.metrics_every=1", "recording.snapshots=13", "model.bias=false")
    point = config(*study, *SCHEDULES[name], f"optimizer.learning_rate={rate}")
    (history,) = trained(point)
    table = factors(point.schedule, epochs)
    assert history.series("learning_rate")[0].tolist() == list(range(1, epochs + 1))
    assert history.series("learning_rate")[1].tolist() == (rate * table).tolist()
    norms = history.series("weights/update_ratio")[1] * history.series("weights/norm")[1][-epochs:]
    assert norms == pytest.approx(rate * table * history.series("gradient_norm")[1], rel=1e-12, abs=1e-15)


def test_a_rate_falls_where_the_loss_does_not_as_keras_has_it() -> None:
    """ReduceLROnPlateau.on_epoch_end in plain words, with cooldown 0 and no lower bound."""
    schedule = ReduceOnPlateau(name="reduce_on_plateau", factor=0.1, patience=2, min_delta=0.5)
    losses = [5, 4.6, 4.4, 3.9, math.nan, 3.5, 3.4, math.inf, 1, 1, 1]
    point, best, waited, rate, found = Plateau(np.array([math.inf]), np.zeros(1, int), np.ones(1)), math.inf, 0, 1.0, []
    for loss in losses:
        if loss < best - 0.5:
            best, waited = loss, 0
        else:
            waited += 1
            if waited >= 2:
                rate, waited = 0.1 * rate, 0
        point.see(schedule, np.array([loss]))
        found.append(float(point.factor[0]))
        assert found[-1] == pytest.approx(rate, rel=1e-15)
    assert found == pytest.approx([1, 1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001])


# --- learning, repeating, restoring


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam", "rmsprop", "nadam", "lion"])
def test_the_loss_of_a_line_goes_down(optimizer: str) -> None:
    study = ("experiment=line_y2x", "gradient=backpropagation", "training.epochs=400", f"optimizer={optimizer}")
    (history,) = trained(config(*study, "optimizer.learning_rate=0.01"))
    losses = history.series("train/loss")[1]
    assert losses[-1] < losses[0] / 20
    if optimizer == "sgd":
        assert np.all(np.diff(losses) <= 0)


def test_softmax_regression_learns_every_label_it_can_tell_apart(tiny_images: Arrays) -> None:
    study = ("experiment=mnist", "model.hidden_size=null", "training.batch_size=null", "training.epochs=300")
    (history,) = trained(config(*study, "optimizer=sgd", "optimizer.learning_rate=0.5"), arrays=tiny_images)
    assert np.all(np.diff(history.series("train/loss")[1]) < 0)
    assert history.final()["train/accuracy"] > 0.9


def test_the_seed_decides_everything(tiny_images: Arrays) -> None:
    point = config(*IMAGES)
    (first,), (again,) = trained(point, arrays=tiny_images), trained(point, arrays=tiny_images)
    assert_same(first, again)
    (other,) = trained(config(*IMAGES, "seed=2"), arrays=tiny_images)
    assert [m.value for m in other.metrics] != [m.value for m in first.metrics]


def test_the_last_snapshot_gives_the_last_loss() -> None:
    point = config("experiment=three_bits", "training.epochs=300")
    (history,) = trained(point)
    inputs = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=np.float64)
    outputs = predict(point.dense, stack([history.snapshots[300]]), inputs)[0]
    targets = np.array([[0.0], [1], [1], [0]])
    assert history.final()["train/loss"] == 0.5 * float(((outputs - targets) ** 2).sum())


def test_the_last_snapshot_of_a_minibatch_network_gives_the_last_test_loss(tiny_images: Arrays) -> None:
    point = config(*IMAGES)
    (history,) = trained(point, arrays=tiny_images)
    assert tiny_images.test_inputs is not None
    assert tiny_images.test_targets is not None
    sums = forward(point.dense, stack([history.snapshots[3]]), tiny_images.test_inputs)[-1]
    values = measure(point.loss, point.dense.output_activation, sums, tiny_images.test_targets)
    for name, value in values.items():
        assert history.final()[f"test/{name}"] == pytest.approx(float(value[0]), rel=1e-6)


def test_training_measures_of_minibatches_are_means_over_the_rows(tiny_images: Arrays) -> None:
    """With a rate too small to move anything every batch is measured at the first weights."""
    still = ("optimizer=sgd", "optimizer.learning_rate=1e-30", "model.initializer=glorot_uniform")
    point = config(*IMAGES, *still, "training.epochs=1")
    (history,) = trained(point, arrays=tiny_images)
    sums = forward(point.dense, stack([history.snapshots[0]]), tiny_images.train_inputs)[-1]
    expected = measure(point.loss, "softmax", sums, tiny_images.train_targets)
    for name, value in expected.items():
        assert history.final()[f"train/{name}"] == pytest.approx(float(value[0]), rel=1e-5)


def test_evaluation_in_blocks_is_evaluation_in_one(tiny_images: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = trained(config(*IMAGES), arrays=tiny_images)
    monkeypatch.setattr("pipeline.backends.numpy.batches.EVALUATION_ROWS", 5)
    (blocks,) = trained(config(*IMAGES), arrays=tiny_images)
    assert blocks.final() == pytest.approx(whole.final(), rel=1e-6)


# --- what is recorded


def test_what_a_full_batch_records_and_when() -> None:
    point = config("experiment=three_bits", "training.epochs=1000", "recording.snapshots=5")
    (history,) = trained(point)
    measured = ["train/loss", "train/accuracy", "train/mean_absolute_error"]
    moving = ["gradient_norm", "weights/norm", "weights/update_ratio"]
    assert sorted(history.names()) == sorted(measured + moving)
    steps = history.series("train/loss")[0]
    assert steps[0] == 0
    assert steps[-1] == 1000
    assert {250, 500, 750} <= set(steps.tolist())
    assert len(history.snapshots) == 5
    assert {0, 1000} <= set(history.snapshots)


def test_what_minibatches_record(tiny_images: Arrays) -> None:
    (history,) = trained(config(*IMAGES), arrays=tiny_images)
    assert history.series("train/loss")[0].tolist() == [1, 2, 3]
    assert history.series("test/loss")[0].tolist() == [0, 1, 2, 3]
    assert {"train/accuracy", "test/accuracy", "gradient_norm", "weights/norm", "weights/update_ratio"} <= set(
        history.names()
    )


def test_norms_are_those_of_the_last_update() -> None:
    study = ("experiment=three_bits", "training.epochs=1", "recording.metrics_every=1")
    (history,) = trained(config(*study, "optimizer.learning_rate=0.5"))
    before, after = history.snapshots[0], history.snapshots[1]
    moved = math.sqrt(sum(float(((after[name] - before[name]) ** 2).sum()) for name in before))
    norm = math.sqrt(sum(float((after[name] ** 2).sum()) for name in after))
    assert history.final()["weights/norm"] == pytest.approx(norm, rel=1e-12)
    assert history.final()["weights/update_ratio"] == pytest.approx(moved / norm, rel=1e-9)
    assert history.final()["gradient_norm"] == pytest.approx(moved / 0.5, rel=1e-9)


def test_the_report_is_called_at_every_recorded_epoch() -> None:
    reported: list[tuple[int, float]] = []
    point = config("experiment=line_y2x", "training.epochs=20", "recording.metrics_every=10")
    better = point.model_copy(update={"optimizer": point.optimizer.model_copy(update={"learning_rate": 0.05})})
    data = np.array([[1], [2], [3], [4]], np.float32)
    histories = [History(), History()]
    train(
        [point, better],
        Arrays(data, 2 * data, None, None, 1, {}),
        histories,
        lambda e, loss: reported.append((e, loss)),
    )
    steps = histories[0].series("train/loss")[0].tolist()
    assert [epoch for epoch, _ in reported] == steps[1:]
    lowest = np.minimum(histories[0].series("train/loss")[1], histories[1].series("train/loss")[1])
    assert [loss for _, loss in reported] == pytest.approx(lowest[1:].tolist(), rel=1e-12)


@pytest.mark.parametrize("study", ["three_bits", "line_y2x"])
def test_training_begins_from_the_weights_that_are_given(study: str) -> None:
    one = config(f"experiment={study}", "training.epochs=30")
    arrays = load(one.data, one.dtype, Path())
    (drawn,) = trained(one)
    others = [{name: array + shift for name, array in drawn.snapshots[0].items()} for shift in (0, 0.25)]
    kept = [{name: array.copy() for name, array in weights.items()} for weights in others]
    histories = [History(), History()]
    train([one, one], arrays, histories, lambda epoch, loss: None, initial=others)
    assert_same(histories[0], drawn)
    assert histories[1].final() != drawn.final()
    for history, own, before in zip(histories, others, kept, strict=True):
        for name, array in before.items():
            np.testing.assert_array_equal(history.snapshots[0][name], array)
            np.testing.assert_array_equal(own[name], array)


def test_arrays_are_left_as_they_were(tiny_images: Arrays) -> None:
    copies = replace(tiny_images, train_inputs=tiny_images.train_inputs.copy())
    trained(config(*IMAGES), arrays=copies)
    assert np.array_equal(copies.train_inputs, tiny_images.train_inputs)


def test_direction_changes_are_counted_per_weight() -> None:
    """At rate 0.1 the weight of y = 3x overshoots at every update; at 0.01 it never does."""
    study = ("experiment=line_y3x", "gradient=backpropagation", "training.epochs=7", "recording.direction_changes=true")
    smooth, swinging = trained(*(config(*study, f"optimizer.learning_rate={rate}") for rate in (0.01, 0.1)))
    assert smooth.tables["direction_changes"] == [{"layer": 0, "row": 0, "column": 0, "count": 0}]
    assert swinging.tables["direction_changes"] == [{"layer": 0, "row": 0, "column": 0, "count": 6}]


# --- stopping and going on


def train_on(points: Sequence[Config], arrays: Arrays, histories: Sequence[History], keeper: Keeper) -> None:
    train(points, arrays, histories, lambda epoch, loss: None, keeper)


def test_finite_differences_and_their_table_go_on_where_they_stopped() -> None:
    point = config("experiment=line_y3x", "optimizer.learning_rate=1", "training.epochs=30", "recording.table_epochs=6")
    (undisturbed,) = trained(point)
    assert point.gradient == "finite_difference"
    assert len(undisturbed.tables["first_epochs"]) == 6
    arrays, history, keeper = load(point.data, point.dtype, Path()), History(), Keeper()
    for keeper.stop in (1, 4, 17):
        with pytest.raises(KeyboardInterrupt):
            train_on([point], arrays, [history], keeper)
    keeper.stop = math.inf
    train_on([point], arrays, [history], keeper)
    assert_same(history, undisturbed)


STACK = ((0.001, 1), (1e30, 1), (0.01, 2), (0.1, 1), (0.02, 3))


@cache
def stack_points(case: str, batch: str) -> list[Config]:
    study = (*IMAGES, "training.epochs=7", f"training.batch_size={batch}", "recording.direction_changes=true")
    return with_rates(config(*study, *METHODS[case]), STACK)


@settings(max_examples=25)
@given(
    stop=st.integers(1, 6),
    case=st.sampled_from(["sgd", "nesterov", "adamw", "amsgrad", "nadam", "cosine", "reduce_on_plateau"]),
    batch=st.sampled_from(["null", "16"]),
    order=st.permutations(range(len(STACK))),
    cuts=st.sets(st.integers(1, len(STACK) - 1)),
)
def test_the_points_of_a_stopped_stack_go_on_in_any_company(
    tiny_images: Arrays, stop: int, case: str, batch: str, order: list[int], cuts: set[int]
) -> None:
    """Those that have ended are left out; the others go on in another order, together, in smaller stacks or alone."""
    points = stack_points(case, batch)
    histories, keeper = [History() for _ in points], Keeper(stop)
    with pytest.raises(KeyboardInterrupt):
        train_on(points, tiny_images, histories, keeper)
    for first, end in pairwise([0, *sorted(cuts), len(order)]):
        going = [place for place in order[first:end] if not histories[place].epochs]
        if going:
            later = Keeper()
            later.epoch, later.states = keeper.epoch, [keeper.states[place] for place in going]
            train_on([points[place] for place in going], tiny_images, [histories[place] for place in going], later)
    for point, history in zip(points, histories, strict=True):
        assert_same(history, trained(point, arrays=tiny_images)[0])


def test_a_checkpoint_after_the_end_of_some_points_is_of_all(tiny_images: Arrays) -> None:
    study = (*IMAGES, "optimizer=sgd", "training.epochs=4")
    points = [config(*study, f"optimizer.learning_rate={rate}") for rate in (1e38, 0.1)]
    histories, keeper = [History(), History()], Keeper(3)
    with pytest.raises(KeyboardInterrupt):
        train_on(points, tiny_images, histories, keeper)
    assert [history.epochs for history in histories] == [1, 0]
    assert keeper.kept == [1, 2, 3]
    assert [set(state) for state in keeper.states] == [set(keeper.states[0])] * 2
    assert all(history.seconds > 0 and history.points_in_stack == 2 for history in histories)


def test_a_long_training_of_a_toy_network_has_about_300_records() -> None:
    """48 of these points are about 15,000 rows of each metric, and not 96,000."""
    study = ("data=three_bits", "training.batch_size=null", "training.epochs=2000", "model.hidden_size=4")
    (history,) = trained(config(*study))
    assert len({metric.step for metric in history.metrics}) == 301
    assert len(history.metrics) < 1600
