"""The properties that both backends must have, and that both give the same numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.backends.contract import State, Train
from pipeline.backends.shared.history import History, record_epochs
from pipeline.backends.shared.initial_weights import Weights, draw, is_trained
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, load
from pipeline.points.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from tests.backends.test_numpy_training import Keeper, assert_same, divergence_by_hand
from tests.support.methods import OPTIMIZERS, SCHEDULES
from tests.support.trained import config

NAMES = ("numpy", "keras")
IMAGES = ("experiment=mnist", "training.epochs=3", "training.batch_size=16", "model.hidden_size=5")
BITS = ("experiment=three_bits", "model.hidden_size=4", "training.epochs=30", "recording.metrics_every=1")
LINE = ("experiment=line_y2x", "gradient=backpropagation", "training.batch_size=2", "recording.metrics_every=20")
FEATURES = (
    "model.further_hidden_sizes=[4]",
    "model.hidden_activation=softplus",
    "model.batch_normalization=true",
    "training.l1=0.001",
    "training.l2=0.01",
    "training.clip_value=0.1",
    "training.clip_norm=0.2",
    "recording.direction_changes=true",
)
BY_CHANCE = ("model.dropout=0.4", "model.drop_connect=0.3")


STOPS = {
    "sgd, a rate that goes by the loss": (
        (13,),
        (*BITS, "optimizer=sgd", "optimizer.learning_rate=10", *SCHEDULES["reduce_on_plateau"]),
    ),
    "adam, from the first epoch to the last": (
        (1, 29),
        (*BITS, "optimizer=adam", "optimizer.learning_rate=0.3", "model.bias=true"),
    ),
    "a full batch that diverges later": ((5,), (*LINE, "training.batch_size=null", "optimizer.learning_rate=0.5")),
    "minibatches that diverge later": ((5,), (*LINE, "optimizer.learning_rate=0.3")),
    "minibatches that have diverged, not yet recorded": ((19,), (*LINE, "optimizer.learning_rate=0.3")),
    "images": ((1, 2), (*IMAGES, "optimizer=adam", "recording.direction_changes=true")),
    "images, with what chance and batches do": ((2,), (*IMAGES, *FEATURES, *BY_CHANCE, "training.batch_size=null")),
    "images, between records": (
        (4,),
        (*IMAGES, "training.epochs=11", "optimizer=momentum", "recording.metrics_every=9", "recording.snapshots=3"),
    ),
}


@dataclass
class Backend:
    """A backend, and what it has trained already."""

    name: str
    train: Train
    done: dict[tuple[str, ...], History] = field(default_factory=dict)

    def config(self, *overrides: str) -> Config:
        return config(*overrides, f"backend={self.name}")

    def fresh(self, *overrides: str, arrays: Arrays | None = None, told: list[int] | None = None) -> History:
        """Train one point."""
        point, history = self.config(*overrides), History()
        data = arrays or load(point.data, point.dtype, Path())
        self.train([point], data, [history], lambda epoch, loss: told.append(epoch) if told is not None else None)
        return history

    def run(self, *overrides: str, arrays: Arrays | None = None) -> History:
        """Train one point, or remember how it went."""
        if overrides not in self.done:
            self.done[overrides] = self.fresh(*overrides, arrays=arrays)
        return self.done[overrides]


BACKENDS: dict[str, Backend] = {}


def get(name: str) -> Backend:
    if name not in BACKENDS:
        if name == "keras":
            from pipeline.backends.keras.training import train
        else:
            from pipeline.backends.numpy.training import train
        BACKENDS[name] = Backend(name, train)
    return BACKENDS[name]


@pytest.fixture(params=NAMES)
def backend(request: pytest.FixtureRequest) -> Backend:
    return get(request.param)


@pytest.fixture
def both() -> tuple[Backend, Backend]:
    return get("numpy"), get("keras")


ACTIVATIONS_BY_HAND: dict[str, Callable[[Any], Any]] = {
    "identity": lambda z: z,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "relu": lambda z: np.where(z > 0, z, 0),
    "tanh": np.tanh,
    "leaky_relu": lambda z: np.where(z > 0, z, 0.2 * z),
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "gelu": lambda z: z / 2 * (1 + np.vectorize(math.erf)(z / math.sqrt(2))),
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
}


def loss_by_hand(
    point: Config,
    weights: Weights,
    inputs: NDArray[np.floating],
    targets: NDArray[np.generic],
    in_training: bool = False,
) -> float:
    """The loss in its simplest form, only for the test; dropout and DropConnect are not applied."""
    values = inputs
    added = sum(
        point.training.l1 * np.abs(array).sum() + point.training.l2 * (array**2).sum()
        for name, array in weights.items()
        if name.endswith("weights")
    )
    layers = sum(name.endswith("weights") for name in weights)
    for layer in range(layers):
        values = values @ weights[f"layer_{layer}/weights"] + weights.get(f"layer_{layer}/bias", np.zeros(1))
        if f"layer_{layer}/scale" in weights:
            scale, shift, mean, variance = (
                weights[f"layer_{layer}/{kind}"] for kind in ("scale", "shift", "moving_mean", "moving_variance")
            )
            if in_training:
                mean, variance = values.mean(axis=0), values.var(axis=0)
            values = scale * (values - mean) / np.sqrt(variance + 0.001) + shift
        name = point.dense.hidden_activation if layer < layers - 1 else point.dense.output_activation
        values = ACTIVATIONS_BY_HAND[name](values)
    if point.loss == "cross_entropy":
        return float(added - np.log(values[np.arange(len(targets)), targets.astype(int)]).mean())
    if point.loss == "binary_cross_entropy":
        return float(added - (targets * np.log(values) + (1 - targets) * np.log(1 - values)).mean())
    sizes = np.abs(values - targets.astype(float))
    if point.loss == "mean_absolute_error":
        return float(added + sizes.mean())
    if point.loss == "huber":
        return float(added + np.where(sizes > 1, sizes - 0.5, sizes**2 / 2).mean())
    squares = sizes**2
    return float(added + (squares.sum() / 2 if point.loss == "half_summed_squared_error" else squares.mean()))


def clipped_by_hand(point: Config, slopes: Weights) -> Weights:
    """First no component above a value, then no more than a length."""
    value, length = point.training.clip_value or math.inf, point.training.clip_norm or math.inf
    slopes = {name: np.maximum(np.minimum(slope, value), -value) for name, slope in slopes.items()}
    norm = math.sqrt(sum(float((slope**2).sum()) for slope in slopes.values()))
    return {name: slope * (length / norm) if norm > length else slope for name, slope in slopes.items()}


GRADIENT_CASES = {
    "line": ("data=two_bits", "model=linear", "loss=mean_squared_error", "model.initializer=uniform"),
    "13 lines": (
        "data=two_bits",
        "loss=half_summed_squared_error",
        "model.output_activation=sigmoid",
        "model.hidden_activation=sigmoid",
        "model.bias=false",
        "model.initializer=uniform",
    ),
    "relu, sigmoid": ("data=two_bits", "loss=mean_squared_error", "model.output_activation=sigmoid"),
    "sigmoid, identity": (
        "data=two_bits",
        "loss=half_summed_squared_error",
        "model.output_activation=identity",
        "model.hidden_activation=sigmoid",
        "model.initial_bias=0.3",
    ),
    "absolute error": ("data=two_bits", "loss=mean_absolute_error", "model.output_activation=identity"),
    "absolute error, sigmoid": ("data=two_bits", "loss=mean_absolute_error", "model.output_activation=sigmoid"),
    "huber, far targets": (
        "data=two_bits",
        "loss=huber",
        "model.output_activation=identity",
        "model.hidden_activation=tanh",
    ),
    "huber, sigmoid": ("data=two_bits", "loss=huber", "model.output_activation=sigmoid", "training.l2=0.01"),
    "binary cross-entropy": ("data=two_bits", "loss=binary_cross_entropy", "model.output_activation=sigmoid"),
    "binary cross-entropy, features": (
        "data=two_bits",
        "loss=binary_cross_entropy",
        "model.output_activation=sigmoid",
        "model.further_hidden_sizes=[4]",
        "model.hidden_activation=softplus",
        "model.batch_normalization=true",
    ),
    "relu, softmax": ("model.initial_bias=0.1",),
    "sigmoid, softmax": ("model.hidden_activation=sigmoid", "model.bias=false"),
    "tanh, three layers, softmax": ("model.hidden_activation=tanh", "model.further_hidden_sizes=[4,3]"),
    "gelu, clipped by value, softmax": ("model.hidden_activation=gelu", "training.clip_value=0.03"),
    "leaky relu, penalties": (
        "data=two_bits",
        "loss=mean_squared_error",
        "model.output_activation=identity",
        "model.hidden_activation=leaky_relu",
        "training.l1=0.02",
        "training.l2=0.03",
    ),
    "relu, penalties, clipped, the grid axis last": (
        "data=two_bits",
        "loss=mean_squared_error",
        "model.output_activation=identity",
        "training.l1=0.02",
        "training.l2=0.03",
        "training.clip_value=0.1",
        "training.clip_norm=0.2",
    ),
    "softplus, batch normalization, clipped by norm, softmax": (
        "model.hidden_activation=softplus",
        "model.batch_normalization=true",
        "model.further_hidden_sizes=[4]",
        "training.clip_norm=0.3",
    ),
}


class TestContract:
    """Every test runs on each backend."""

    @pytest.mark.parametrize("case", GRADIENT_CASES)
    def test_a_step_of_sgd_is_the_rate_times_the_slope_of_the_loss(self, backend: Backend, case: str) -> None:
        rate, step = 0.25, 1e-6
        hidden = "model.hidden_size=" + ("null" if case == "line" else "5")
        overrides = (*GRADIENT_CASES[case], hidden, "dtype=float64", "training.epochs=1", "training.batch_size=null")
        random = np.random.default_rng(4)
        inputs = random.uniform(-1, 1, (7, 3))
        labels = "softmax" in case
        spread = 5 if "far" in case else 1
        targets = random.integers(0, 2, 7) if labels else random.uniform(0, spread, (7, 2))
        arrays = Arrays(inputs, targets, None, None, 2, {})
        chosen = (*overrides, "optimizer=sgd", f"optimizer.learning_rate={rate}")
        history = backend.fresh(*chosen, arrays=arrays)
        point = backend.config(*chosen)
        before, after = history.snapshots[0], history.snapshots[1]
        slopes: Weights = {}
        for name in filter(is_trained, before):
            array = before[name]
            slope = slopes[name] = np.empty_like(array)
            for place in np.ndindex(array.shape):
                up, down = array.copy(), array.copy()
                up[place] += step
                down[place] -= step
                higher, lower = (
                    loss_by_hand(point, {**before, name: moved}, inputs, targets, in_training=True)
                    for moved in (up, down)
                )
                slope[place] = (higher - lower) / (2 * step)
        longest = math.sqrt(sum(float((slope**2).sum()) for slope in slopes.values()))
        assert history.final()["gradient_norm"] == pytest.approx(longest, rel=1e-6)
        # Keras has these constants, 0.2 and the root of 2, in float32.
        close = 1e-8 if point.dense.hidden_activation in ("gelu", "leaky_relu") else 1e-9
        cut = clipped_by_hand(point, slopes)
        assert ("clipped" in case) == any(not np.array_equal(cut[name], slopes[name]) for name in slopes)
        for name, slope in cut.items():
            moved = (after[name] - before[name]) / -rate
            np.testing.assert_allclose(moved, slope, rtol=1e-6, atol=1e-6 * max(np.abs(slope).max(), 1e-3))
        assert history.final()["train/loss"] == pytest.approx(loss_by_hand(point, after, inputs, targets), rel=close)

    def test_training_starts_from_the_drawn_weights(self, backend: Backend) -> None:
        study = ("experiment=three_bits", "training.epochs=2")
        drawn = draw(backend.config(*study).dense, 3, 1, 1, "float64")
        first = backend.run(*study).snapshots[0]
        assert list(first) == list(drawn)
        assert all(np.array_equal(first[name], drawn[name]) for name in drawn)

    def test_the_loss_of_a_line_goes_down(self, backend: Backend) -> None:
        study = ("experiment=line_y2x", "gradient=backpropagation", "training.epochs=200")
        losses = backend.run(*study, "optimizer.learning_rate=0.02").series("train/loss")[1]
        assert losses[-1] < losses[0] / 50
        assert np.all(np.diff(losses) <= 0)

    def test_classes_that_can_be_told_apart_are_learned(self, backend: Backend, tiny_images: Arrays) -> None:
        study = (*IMAGES, "training.epochs=40", "optimizer.learning_rate=0.02", "model.hidden_size=12")
        history = backend.run(*study, arrays=tiny_images)
        assert history.final()["test/accuracy"] > 0.8
        assert history.final()["train/loss"] < history.series("train/loss")[1][0] / 3

    def test_the_seed_decides_everything(self, backend: Backend, tiny_images: Arrays) -> None:
        first, again = backend.run(*IMAGES, arrays=tiny_images), backend.fresh(*IMAGES, arrays=tiny_images)
        assert [(m.step, m.name, m.value) for m in first.metrics] == [(m.step, m.name, m.value) for m in again.metrics]
        other = backend.fresh(*IMAGES, "seed=2", arrays=tiny_images)
        assert other.final()["train/loss"] != first.final()["train/loss"]

    @pytest.mark.parametrize("every", [1, 10])
    def test_a_full_batch_is_recorded_at_the_epochs_that_are_due(self, backend: Backend, every: int) -> None:
        told: list[int] = []
        study = ("experiment=three_bits", "training.epochs=45", f"recording.metrics_every={every}")
        history = backend.fresh(*study, told=told)
        due = record_epochs(45, every)
        assert history.series("train/loss")[0].tolist() == due
        assert history.series("train/mean_absolute_error")[0].tolist() == due
        assert history.series("gradient_norm")[0].tolist() == due[1:]
        assert told == due[1:]
        assert (history.epochs, history.points_in_stack, history.diverged_step) == (45, 1, None)
        assert history.seconds > 0

    def test_minibatches_are_measured_on_the_way_and_the_test_rows_after(
        self, backend: Backend, tiny_images: Arrays
    ) -> None:
        history = backend.run(*IMAGES, arrays=tiny_images)
        assert history.series("train/loss")[0].tolist() == [1, 2, 3]
        assert history.series("train/accuracy")[0].tolist() == [1, 2, 3]
        assert history.series("test/loss")[0].tolist() == [0, 1, 2, 3]
        assert history.series("weights/update_ratio")[0].tolist() == [1, 2, 3]

    def test_validation_rows_are_measured_as_test_rows_are_and_those_at_the_end_alone(
        self, backend: Backend, tiny_images: Arrays
    ) -> None:
        plain = backend.run(*IMAGES, arrays=tiny_images)
        history = backend.fresh(*IMAGES, arrays=held_back(tiny_images))
        for name in ("loss", "accuracy"):
            every, values = plain.series(f"test/{name}")
            steps, held = history.series(f"validation/{name}")
            assert steps.tolist() == every.tolist()
            assert held.tolist() == values.tolist()
            steps, told = history.series(f"test/{name}")
            assert steps.tolist() == [3]
            assert told.tolist() == [values[-1]]
        assert set(history.names()) - set(plain.names()) == {"validation/loss", "validation/accuracy"}
        assert_same_weights(history, plain)

    def test_a_point_that_diverges_has_no_value_on_test_rows(self, backend: Backend, tiny_images: Arrays) -> None:
        study = (*IMAGES, "optimizer=sgd", "optimizer.learning_rate=1e38")
        history = backend.fresh(*study, arrays=held_back(tiny_images))
        assert history.diverged_step is not None
        assert [name for name in history.names() if name.startswith("test/")] == []

    def test_stopped_and_continued_with_validation_rows(
        self, backend: Backend, tiny_images: Arrays, tmp_path: Path
    ) -> None:
        data = held_back(tiny_images)
        point, history, keeper = backend.config(*IMAGES), History(), Keeper(stop=2)
        with pytest.raises(KeyboardInterrupt):
            backend.train([point], data, [history], lambda epoch, loss: None, keeper)
        history, keeper.states = through_a_file(keeper, history, tmp_path / "checkpoint.npz")
        keeper.stop = math.inf
        backend.train([point], data, [history], lambda epoch, loss: None, keeper)
        assert_same(history, backend.fresh(*IMAGES, arrays=data))

    def test_the_loss_of_every_minibatch_is_kept_where_asked_for(self, backend: Backend, tiny_images: Arrays) -> None:
        rising = ("optimizer=sgd", "optimizer.learning_rate=0.001", "schedule=exponential", "schedule.final=100")
        chosen = (*IMAGES, *rising, "recording.update_losses=true")
        history = backend.run(*chosen, arrays=tiny_images)
        rows, updates = history.tables["updates"], 3 * 4  # 3 epochs of 4 minibatches
        assert [row["update"] for row in rows] == list(range(updates))
        rates = 0.001 * 100 ** (np.arange(updates) / updates)
        np.testing.assert_allclose([row["learning_rate"] for row in rows], rates, rtol=1e-6)
        # The epoch's mean is over the rows of its minibatches, the last of which is smaller.
        sizes = np.diff([*range(0, len(tiny_images.train_inputs), 16), len(tiny_images.train_inputs)])
        losses = np.array([row["loss"] for row in rows]).reshape(3, 4)
        means = losses @ sizes / sizes.sum()
        np.testing.assert_allclose(history.series("train/loss")[1], means, rtol=1e-5)

    def test_what_a_loss_has_of_the_penalty_stands_beside_it(self, backend: Backend, tiny_images: Arrays) -> None:
        penalties, plain = ("training.l1=0.002", "training.l2=0.003"), (*IMAGES, "recording.update_losses=true")
        history = backend.run(*plain, *penalties, "recording.snapshots=9", arrays=tiny_images)
        weights = {
            epoch: [a for n, a in arrays.items() if n.endswith("weights")]
            for epoch, arrays in history.snapshots.items()
        }
        by_hand = {
            epoch: sum(0.002 * np.abs(array).sum() + 0.003 * (array**2).sum() for array in arrays)
            for epoch, arrays in weights.items()
        }
        assert list(by_hand) == [0, 1, 2, 3]
        epochs, recorded = history.series("weights/penalty")
        np.testing.assert_allclose(recorded, [by_hand[epoch] for epoch in epochs], rtol=1e-5)
        rows = history.tables["updates"]
        np.testing.assert_allclose([row["penalty"] for row in rows[::4]], list(by_hand.values())[:3], rtol=1e-5)
        # The first update sees the weights that training without a penalty begins from.
        without = backend.run(*plain, arrays=tiny_images)
        assert rows[0]["loss"] - rows[0]["penalty"] == pytest.approx(without.tables["updates"][0]["loss"], rel=1e-5)
        assert "weights/penalty" not in without.names()
        assert "penalty" not in without.tables["updates"][0]

    def test_snapshots_are_few_with_the_first_and_the_last(self, backend: Backend) -> None:
        for count in (2, 7):
            study = ("experiment=three_bits", "training.epochs=60", f"recording.snapshots={count}")
            steps = list(backend.run(*study).snapshots)
            assert steps == sorted(steps)
            assert (steps[0], steps[-1]) == (0, 60)
            assert len(steps) <= count

    def test_the_last_snapshot_gives_the_last_loss(self, backend: Backend, tiny_images: Arrays) -> None:
        study = ("experiment=three_bits", "training.epochs=60", "recording.snapshots=7")
        history, point = backend.run(*study), backend.config(*study)
        data = load(point.data, point.dtype, Path())
        for step, weights in history.snapshots.items():
            steps, losses = history.series("train/loss")
            recorded = losses[steps == step][0]
            assert loss_by_hand(point, weights, data.train_inputs, data.train_targets) == pytest.approx(recorded, 1e-9)
        images, point = backend.run(*IMAGES, arrays=tiny_images), backend.config(*IMAGES)
        assert tiny_images.test_inputs is not None
        assert tiny_images.test_targets is not None
        last = loss_by_hand(point, images.snapshots[3], tiny_images.test_inputs, tiny_images.test_targets)
        assert images.final()["test/loss"] == pytest.approx(last, rel=1e-5)

    @pytest.mark.parametrize(("rate", "every"), [(1.0, 1), (1.0, 50), (50.0, 7)])
    def test_divergence_is_told_with_its_update(self, backend: Backend, rate: float, every: int) -> None:
        study = ("experiment=line_y2x", "gradient=backpropagation", "dtype=float64", f"recording.metrics_every={every}")
        history = backend.fresh(*study, f"optimizer.learning_rate={rate}")
        step, last = divergence_by_hand(rate)
        assert history.diverged_step == step
        assert history.last_finite_loss == pytest.approx(last, rel=1e-6)
        assert step <= history.epochs < step + every
        assert max(history.snapshots) == history.epochs
        assert max(metric.step for metric in history.metrics) < step
        assert all(math.isfinite(metric.value) for metric in history.metrics)

    def test_minibatches_that_diverge(self, backend: Backend, tiny_images: Arrays) -> None:
        study = (*IMAGES, "optimizer=sgd", "optimizer.learning_rate=1e38", "training.epochs=9")
        history = backend.fresh(*study, arrays=tiny_images)
        assert history.diverged_step is not None
        assert 0 < history.diverged_step <= 4  # of an epoch's four updates
        assert history.last_finite_loss is not None
        assert history.epochs < 9
        assert list(history.snapshots) == [0, history.epochs]

    def test_a_loss_that_is_infinite_from_the_start(self, backend: Backend) -> None:
        study = ("experiment=line_y2x", "gradient=backpropagation", "model.initial_weight=1e30", "training.epochs=20")
        history = backend.fresh(*study, "recording.metrics_every=5")
        assert history.diverged_step == 0
        assert history.last_finite_loss is None
        assert history.metrics == []
        assert history.snapshots[0]["layer_0/weights"].item() == np.float32(1e30)

    def test_single_weights_are_metrics_where_asked_for(self, backend: Backend) -> None:
        study = ("experiment=line_y2x", "gradient=backpropagation", "training.epochs=5")
        history = backend.run(*study)
        steps, weights = history.series("weights/weight")
        assert steps.tolist() == list(range(6))
        assert weights.tolist() == [history.snapshots[s]["layer_0/weights"].item() for s in range(6)]
        assert history.series("weights/bias")[1].tolist() == [
            history.snapshots[s]["layer_0/bias"].item() for s in range(6)
        ]

    def test_direction_changes_are_a_table(self, backend: Backend) -> None:
        study = ("experiment=three_bits", "model.hidden_size=2", "training.epochs=300", "recording.metrics_every=1")
        history = backend.run(*study, "optimizer.learning_rate=10", "recording.snapshots=301")
        expected = []
        for layer, rows in ((0, 3), (1, 2)):
            path = np.stack([weights[f"layer_{layer}/weights"] for weights in history.snapshots.values()])
            upwards = np.diff(path, axis=0) > 0
            counts = (upwards[1:] != upwards[:-1]).sum(axis=0)
            expected += [
                {"layer": layer, "row": row, "column": column, "count": int(counts[row, column])}
                for row in range(rows)
                for column in range(counts.shape[1])
            ]
        assert history.tables["direction_changes"] == expected
        assert sum(row["count"] for row in expected) > 0

    def test_several_points_each_get_their_own(self, backend: Backend) -> None:
        study = ("experiment=three_bits", "training.epochs=30")
        rates = (0.1, 5.0)
        points = [backend.config(*study, f"optimizer.learning_rate={rate}") for rate in rates]
        histories = [History(), History()]
        backend.train(points, load(points[0].data, "float64", Path()), histories, lambda epoch, loss: None)
        for rate, history in zip(rates, histories, strict=True):
            assert history.final() == backend.fresh(*study, f"optimizer.learning_rate={rate}").final()

    @pytest.mark.parametrize("case", STOPS)
    def test_stopped_and_continued_is_never_stopped(
        self, backend: Backend, case: str, tiny_images: Arrays, tmp_path: Path
    ) -> None:
        stops, study = STOPS[case]
        images = tiny_images if "images" in case else None
        undisturbed = backend.run(*study, arrays=images)
        assert ("diverge" in case) == (undisturbed.diverged_step is not None)
        assert ("direction_changes" in undisturbed.tables) == backend.config(*study).recording.direction_changes
        point, history, keeper = backend.config(*study), History(), Keeper()
        data = images or load(point.data, point.dtype, Path())
        for keeper.stop in stops:
            with pytest.raises(KeyboardInterrupt):
                backend.train([point], data, [history], lambda epoch, loss: None, keeper)
            assert keeper.epoch == keeper.stop or point.training.batch_size is None
            assert history.epochs == 0
            history, keeper.states = through_a_file(keeper, history, tmp_path / "checkpoint.npz")
        keeper.stop = math.inf
        backend.train([point], data, [history], lambda epoch, loss: None, keeper)
        assert_same(history, undisturbed)

    def test_checkpoints_between_the_first_epoch_and_the_last_change_nothing(
        self, backend: Backend, tiny_images: Arrays
    ) -> None:
        point, history, keeper = backend.config(*IMAGES), History(), Keeper()
        backend.train([point], tiny_images, [history], lambda epoch, loss: None, keeper)
        assert keeper.kept == [1, 2]
        assert_same(history, backend.run(*IMAGES, arrays=tiny_images))

    def test_who_goes_on_tells_the_rest_and_adds_to_the_seconds(self, backend: Backend, tiny_images: Arrays) -> None:
        point, history, keeper, told = backend.config(*IMAGES), History(), Keeper(stop=2), list[int]()
        with pytest.raises(KeyboardInterrupt):
            backend.train([point], tiny_images, [history], lambda epoch, loss: told.append(epoch), keeper)
        assert told == [1, 2]
        assert history.seconds > 0
        history.seconds += 1000
        keeper.stop = math.inf
        backend.train([point], tiny_images, [history], lambda epoch, loss: told.append(epoch), keeper)
        assert told == [1, 2, 3]
        assert 1000 < history.seconds < 2000

    def test_no_checkpoint_is_made_that_is_not_due(
        self, backend: Backend, tiny_images: Arrays, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keeper = Keeper()
        monkeypatch.setattr(keeper, "due", lambda: False)
        backend.train([backend.config(*IMAGES)], tiny_images, [History()], lambda epoch, loss: None, keeper)
        assert keeper.kept == []


def held_back(arrays: Arrays) -> Arrays:
    """The same data with its test rows as validation rows too."""
    return replace(arrays, validation_inputs=arrays.test_inputs, validation_targets=arrays.test_targets)


def assert_same_weights(one: History, other: History) -> None:
    assert list(one.snapshots) == list(other.snapshots)
    for epoch, weights in one.snapshots.items():
        assert all(np.array_equal(array, other.snapshots[epoch][name]) for name, array in weights.items())


def through_a_file(keeper: Keeper, history: History, file: Path) -> tuple[History, list[State]]:
    """What a new process finds: the history and the state of a checkpoint that was written and read."""
    (state,) = keeper.states
    write_checkpoint(file, Checkpoint(keeper.epoch, state, history, len(history.metrics), 0, ""))
    read = read_checkpoint(file)
    assert read.epoch == keeper.epoch
    assert list(read.state) == list(state)
    for name, array in state.items():
        assert (read.state[name].dtype, read.state[name].shape) == (array.dtype, array.shape)
        assert read.state[name].tobytes() == array.tobytes()
    read.history.metrics = history.metrics  # these stand in the journal
    assert_same(read.history, history)
    return read.history, [read.state]


# --- the two compute the same


def series_of(history: History) -> dict[str, tuple[list[int], NDArray[np.float64]]]:
    return {name: (steps.tolist(), values) for name in history.names() for steps, values in [history.series(name)]}


def assert_alike(a: History, b: History, rel: float, floor: float) -> None:
    """Same metrics at the same steps, values and weights equal up to `rel`."""
    of_a, of_b = series_of(a), series_of(b)
    assert set(of_a) == set(of_b)
    for name, (steps, values) in of_a.items():
        assert steps == of_b[name][0], name
        np.testing.assert_allclose(of_b[name][1], values, rtol=rel, atol=floor, err_msg=name)
    assert list(a.snapshots) == list(b.snapshots)
    for step, weights in a.snapshots.items():
        assert list(weights) == list(b.snapshots[step])
        for name, array in weights.items():
            assert b.snapshots[step][name].dtype == array.dtype
            np.testing.assert_allclose(b.snapshots[step][name], array, rtol=rel, atol=floor, err_msg=f"{step} {name}")
    assert a.epochs == b.epochs
    assert a.diverged_step == b.diverged_step


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_every_optimizer_goes_the_same_way_on_both(both: tuple[Backend, Backend], case: str) -> None:
    study = ("experiment=three_bits", "model.hidden_size=4", "model.bias=true", "training.epochs=200")
    a, b = (backend.run(*study, *OPTIMIZERS[case]) for backend in both)
    assert_alike(a, b, rel=1e-6 if case == "nadam" else 1e-11, floor=1e-12)  # Keras rounds Nadam's 0.96 to float32
    assert a.tables == b.tables


@pytest.mark.parametrize("name", ["cosine", "reduce_on_plateau"])
@pytest.mark.parametrize("batch_size", ["null", "3"])
def test_schedules_go_the_same_way_on_both(both: tuple[Backend, Backend], name: str, batch_size: str) -> None:
    """The others are tables that both read, as that of cosine is."""
    study = ("experiment=three_bits", "model.hidden_size=4", "training.epochs=60", f"training.batch_size={batch_size}")
    rates = ("optimizer.learning_rate=5", "optimizer.output_learning_rate=2")
    a, b = (backend.run(*study, *SCHEDULES[name], *rates) for backend in both)
    assert_alike(a, b, rel=1e-11, floor=1e-12)
    assert a.tables == b.tables
    steps, found = a.series("learning_rate")
    assert steps.tolist() == a.series("train/loss")[0].tolist()[batch_size == "null" :]
    assert found[-1] < 1 < max(found)


@pytest.mark.parametrize("case", ["sgd", "adam"])
def test_one_epoch_of_minibatches_is_the_same_on_both(
    both: tuple[Backend, Backend], tiny_images: Arrays, case: str
) -> None:
    study = (*IMAGES, *OPTIMIZERS[case], "training.epochs=1", "optimizer.learning_rate=0.01")
    a, b = (backend.run(*study, arrays=tiny_images) for backend in both)
    assert_alike(a, b, rel=1e-4, floor=1e-6)


def test_features_without_chance_are_the_same_on_both(both: tuple[Backend, Backend], tiny_images: Arrays) -> None:
    assert tiny_images.test_inputs is not None
    train, test = (rows.astype(np.float64) for rows in (tiny_images.train_inputs, tiny_images.test_inputs))
    arrays = replace(tiny_images, train_inputs=train, test_inputs=test)
    study = (*IMAGES, *FEATURES, "dtype=float64", "training.epochs=4", "recording.snapshots=5")
    a, b = (backend.run(*study, arrays=arrays) for backend in both)
    assert_alike(a, b, rel=1e-9, floor=1e-12)
    assert a.tables == b.tables
    assert all(np.ptp(a.snapshots[4][f"layer_{layer}/moving_mean"]) > 0.1 for layer in (0, 1))


@pytest.mark.parametrize(
    ("backend", "dtype", "size"),
    [
        *(("numpy", dtype, size) for dtype in ("float32", "float64") for size in ("16", "null")),
        ("keras", "float32", "16"),
        ("keras", "float64", "null"),
    ],
    indirect=["backend"],
)
def test_grey_values_train_like_the_numbers_that_they_stand_for(
    backend: Backend, tiny_images: Arrays, dtype: str, size: str
) -> None:
    train, test = (
        np.rint(255 * np.asarray(rows)).astype(np.uint8) for rows in (tiny_images.train_inputs, tiny_images.test_inputs)
    )
    grey = replace(tiny_images, train_inputs=train, test_inputs=test, dtype=dtype)
    floats = replace(grey, train_inputs=grey.scaled(train), test_inputs=grey.scaled(test))
    study = (*IMAGES, f"training.batch_size={size}", f"dtype={dtype}")
    assert_same(backend.fresh(*study, arrays=grey), backend.fresh(*study, arrays=floats))


def test_a_line_is_the_same_on_both(both: tuple[Backend, Backend]) -> None:
    study = ("experiment=line_y3x", "gradient=backpropagation", "training.epochs=100", "dtype=float64")
    a, b = (backend.run(*study, "optimizer.learning_rate=0.05") for backend in both)
    assert_alike(a, b, rel=1e-9, floor=1e-12)


def test_divergence_is_the_same_on_both(both: tuple[Backend, Backend]) -> None:
    study = ("experiment=line_y3x", "gradient=backpropagation", "training.epochs=1000", "recording.metrics_every=30")
    a, b = (backend.run(*study, "optimizer.learning_rate=1", "recording.snapshots=4") for backend in both)
    assert a.diverged_step is not None
    assert a.diverged_step == b.diverged_step
    assert a.epochs == b.epochs
    assert list(a.snapshots) == list(b.snapshots)
    assert series_of(a)["train/loss"][0] == series_of(b)["train/loss"][0]
    assert b.last_finite_loss == pytest.approx(a.last_finite_loss, rel=1e-2)
