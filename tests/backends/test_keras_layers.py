"""Keras' dropout and DropConnect with their gradients; its batch normalization and initializers against ours."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest

from pipeline.backends.keras.building import build
from pipeline.backends.keras.layers import DropConnect
from pipeline.backends.keras.network import LoopedNetwork, Network
from pipeline.backends.keras.precision import floatx
from pipeline.backends.numpy.layers import keep_moving, normalize
from pipeline.backends.shared.initial_weights import TRUNCATED_DEVIATION, draw
from pipeline.data.arrays import Arrays, load
from tests.support.trained import config

BITS = ("experiment=three_bits", "backend=keras", "training.batch_size=null", "model.hidden_size=5", "model.bias=true",
        "recording.direction_changes=false")  # fmt: skip


@pytest.fixture(scope="module")
def bits() -> Arrays:
    point = config(*BITS)
    return load(point.data, point.dtype, Path())


def network(*overrides: str, arrays: Arrays) -> Network:
    with floatx("float64"):
        return build(config(*BITS, *overrides), arrays)[0]


@pytest.mark.parametrize("dropped", [0.2, 0.5])
def test_drop_connect_leaves_out_its_share_of_the_weights_and_keeps_the_mean(dropped: float) -> None:
    layer = DropConnect(400, dropped, seed=3, dtype="float64", bias_initializer="ones")
    layer.build((None, 50))
    layer.kernel.assign(np.ones((50, 400)))
    one_input = np.eye(50)
    drawn = np.stack([np.asarray(layer(one_input, training=True)) for _ in range(10)]) - 1
    assert np.unique(drawn.round(12)).tolist() == [0, round(1 / (1 - dropped), 12)]
    share = (drawn == 0).mean()
    assert abs(share - dropped) < 5 * math.sqrt(dropped * (1 - dropped) / drawn.size)
    assert drawn.var() == pytest.approx(dropped / (1 - dropped), rel=0.02)
    assert (np.asarray(layer(one_input)) == 2).all()
    # One mask for all rows of a batch, another at the next update.
    twice = np.asarray(layer(np.ones((2, 50)), training=True))
    assert np.array_equal(twice[0], twice[1])
    assert not np.array_equal(twice, np.asarray(layer(np.ones((2, 50)), training=True)))


def test_dropout_and_drop_connect_keep_the_mean_of_the_sums(bits: Arrays) -> None:
    linear = "model.hidden_activation=relu", "model.output_activation=identity"  # where all weights are above 0
    model = network("model.dropout=0.5", "model.drop_connect=0.25", *linear, arrays=bits)
    for variable in model.trainable_variables:
        variable.assign(np.full(variable.shape, 0.5))
    expected = np.asarray(model(bits.train_inputs))
    drawn = np.stack([np.asarray(model(bits.train_inputs, training=True)) for _ in range(150)])
    deviation = drawn.std(axis=0)
    assert (deviation > 0.1).all()
    assert (np.abs(drawn.mean(axis=0) - expected) < 5 * deviation / math.sqrt(len(drawn))).all()


def test_every_update_of_a_loop_draws_again_and_inference_draws_nothing(bits: Arrays) -> None:
    """The gradient of the loop's single updates; and the seeds count them."""
    model = network("model.dropout=0.5", "model.drop_connect=0.25", arrays=bits)
    assert isinstance(model, LoopedNetwork)
    assert len({int(seed.numpy()[0]) for seed in model.seeds}) == len(model.seeds) == 3
    before = [seed.numpy() for seed in model.seeds]
    model.updates_per_call.assign(7)
    model.train_on_batch(bits.train_inputs, bits.train_targets)
    assert [(after.numpy() - old).tolist() for after, old in zip(model.seeds, before, strict=True)] == [[0, 7]] * 3
    model.test_on_batch(bits.train_inputs, bits.train_targets)
    assert [(after.numpy() - old).tolist() for after, old in zip(model.seeds, before, strict=True)] == [[0, 7]] * 3


def test_a_step_with_what_is_left_out_is_the_slope_of_the_loss(bits: Arrays) -> None:
    study = ("model.dropout=0.4", "model.drop_connect=0.3", "model.batch_normalization=true", "optimizer=sgd",
             "optimizer.learning_rate=1", "model.hidden_activation=tanh", "training.l2=0.01")  # fmt: skip
    model = network(*study, arrays=bits)
    begin = [variable.numpy() for variable in model.trainable_variables]
    moving = [v for layer in model.layers for v in layer.non_trainable_weights]
    statistics, seeds = ([variable.numpy() for variable in some] for some in (moving, model.seeds))

    from keras import ops  # after the package has made its settings

    def loss() -> float:
        for variable, value in zip([*moving, *model.seeds], [*statistics, *seeds], strict=True):
            variable.assign(value)
        outputs = model(bits.train_inputs, training=True)
        squares = float(ops.sum(ops.square(outputs - bits.train_targets))) / 2
        return squares + float(sum(model.losses))

    slopes = []
    for variable, value in zip(model.trainable_variables, begin, strict=True):
        slope = np.empty_like(value)
        for index in np.ndindex(value.shape):
            found = []
            for step in (1e-6, -1e-6):
                moved = value.copy()
                moved[index] += step
                variable.assign(moved)
                found.append(loss())
            slope[index] = (found[0] - found[1]) / 2e-6
        variable.assign(value)
        slopes.append(slope)
    loss()  # back to the statistics and the seeds of the beginning
    for variable, value in zip([*moving, *model.seeds], [*statistics, *seeds], strict=True):
        variable.assign(value)
    model.train_on_batch(bits.train_inputs, bits.train_targets)
    for variable, value, slope in zip(model.trainable_variables, begin, slopes, strict=True):
        np.testing.assert_allclose(value - variable.numpy(), slope, rtol=1e-5, atol=1e-8)


def test_batch_normalization_is_keras_layer_in_training_and_after() -> None:
    import keras

    random = np.random.default_rng(8)
    layer = keras.layers.BatchNormalization(dtype="float64")
    layer.build((None, 3))
    scale, shift = random.normal(size=3), random.normal(size=3)
    layer.gamma.assign(scale)
    layer.beta.assign(shift)
    mean, variance = np.zeros((1, 3)), np.ones((1, 3))
    for _ in range(30):
        sums = random.normal(-1, 3, size=(8, 3))
        found = normalize(sums)
        np.testing.assert_allclose(found.values * scale + shift, layer(sums, training=True), rtol=1e-11, atol=1e-12)
        keep_moving(mean, found.mean)
        keep_moving(variance, found.variance)
    np.testing.assert_allclose(mean[0], layer.moving_mean.numpy(), rtol=1e-12)
    np.testing.assert_allclose(variance[0], layer.moving_variance.numpy(), rtol=1e-12)


@pytest.mark.parametrize("shape", ["uniform", "normal"])
@pytest.mark.parametrize("name", ["glorot", "he", "lecun"])
def test_scaled_initializers_draw_what_keras_draws(name: str, shape: str) -> None:
    import keras

    model = config("model.hidden_size=300", f"model.initializer={name}_{shape}").dense
    own = draw(model, 200, 1, 3, "float64")["layer_0/weights"]
    keras_own = keras.initializers.get(f"{name}_{shape}")((200, 300), dtype="float64")
    assert kstest(own.ravel(), np.asarray(keras_own).ravel()).pvalue > 1e-3
    variance = {"glorot": 2 / 500, "he": 2 / 200, "lecun": 1 / 200}[name]
    assert own.var() == pytest.approx(variance, rel=0.02)
    assert abs(own.mean()) < 5 * np.sqrt(variance / own.size)
    widest = np.sqrt(3 * variance) if shape == "uniform" else 2 * np.sqrt(variance) / TRUNCATED_DEVIATION
    assert 0.98 * widest < np.abs(own).max() <= widest
