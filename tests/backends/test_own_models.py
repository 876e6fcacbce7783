"""Keras models of one's own: trained, stopped and continued as dense networks are, and their errors in one message."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.backends.keras import own_description
from pipeline.backends.keras.saving import plain_model
from pipeline.backends.keras.training import train
from pipeline.backends.shared.history import History
from pipeline.config.own_model import KerasModel
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays
from pipeline.system.errors import LabError
from tests.backends.test_backends import through_a_file
from tests.backends.test_numpy_training import Keeper
from tests.support.trained import config

SMALL = ("experiment=convnet", "model.filters=2", "training.epochs=3", "training.batch_size=16", "training.rows=null")
CONVNET_ARRAYS = {
    "conv2d/kernel": (3, 3, 1, 2),
    "conv2d/bias": (2,),
    "conv2d_1/kernel": (3, 3, 2, 4),
    "conv2d_1/bias": (4,),
    "dense/kernel": (4, 3),
    "dense/bias": (3,),
}
MODEL = """
import keras

def build(input_shape, outputs, units=4):
    return keras.Sequential([
        keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(units),
        keras.layers.BatchNormalization(), keras.layers.Dropout(0.5), keras.layers.Dense(outputs)])
"""
LAYER = """
import keras

class Scale(keras.layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, inputs):
        return inputs * self.scale

def build(input_shape, outputs):
    return keras.Sequential([
        keras.Input(input_shape), keras.layers.Flatten(), Scale(), keras.layers.Dense(outputs)])
"""


@pytest.fixture(scope="module")
def pictures() -> Arrays:
    """40 + 8 grey images of 6 x 6 pixels, of 3 classes: a bright third of the rows each."""
    random = np.random.default_rng(0)
    labels = np.arange(48) % 3
    images = random.integers(0, 60, (48, 6, 6), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 2] += 150
    flat = images.reshape(48, 36)
    return Arrays(flat[:40], labels[:40], flat[40:], labels[40:], 3, {"table": "0" * 64}, row_shape=(6, 6, 1))


def written(folder: Path, text: str, *more: str, name: str = "net") -> Config:
    """The small study with a model of this code."""
    (folder / f"{name}.py").write_text(text)
    model = KerasModel.model_validate({"_target_": f"{name}.build", "_folder_": str(folder)})
    return config(*SMALL, *more).model_copy(update={"model": model})


def run(one: Config, arrays: Arrays) -> History:
    history = History()
    train([one], replace(arrays, dtype=one.dtype), [history], lambda epoch, loss: None)
    return history


def assert_same_bits(one: History, other: History) -> None:
    assert [(m.step, m.name, m.value) for m in one.metrics] == [(m.step, m.name, m.value) for m in other.metrics]
    assert one.tables == other.tables
    assert one.architecture == other.architecture
    for epoch, weights in one.snapshots.items():
        assert {n: a.tobytes() for n, a in weights.items()} == {
            n: a.tobytes() for n, a in other.snapshots[epoch].items()
        }


# --- training


@pytest.fixture(scope="module")
def convnet(pictures: Arrays) -> History:
    return run(config(*SMALL, "training.epochs=30", "optimizer.learning_rate=0.03"), pictures)


def test_the_example_learns_and_records_what_dense_networks_record(convnet: History) -> None:
    final = convnet.final()
    assert {name: array.shape for name, array in convnet.snapshots[30].items()} == CONVNET_ARRAYS
    assert final["train/loss"] < 0.5 * math.log(3)
    assert final["test/accuracy"] > 0.8
    weights = convnet.snapshots[30].values()
    assert final["weights/norm"] == pytest.approx(math.sqrt(sum(float((a**2).sum()) for a in weights)), rel=1e-6)
    assert {"gradient_norm", "weights/update_ratio", "train/accuracy", "test/loss"} <= final.keys()


def test_the_model_that_comes_out_gives_the_recorded_test_loss(convnet: History, pictures: Arrays) -> None:
    assert pictures.test_inputs is not None
    assert pictures.test_targets is not None
    model = plain_model(config(*SMALL), convnet.snapshots[30], convnet.architecture)
    shares = model.predict(pictures.scaled(pictures.test_inputs), verbose=0)
    assert shares.shape == (8, 3)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    loss = -np.log(shares[np.arange(8), pictures.test_targets]).mean()
    assert loss == pytest.approx(convnet.final()["test/loss"], abs=1e-6)


@pytest.fixture(scope="module")
def norm_of_one_epoch(pictures: Arrays) -> float:
    return run(config(*SMALL, "training.epochs=1"), pictures).final()["weights/norm"]


@pytest.mark.parametrize(
    ("knob", "value"), [("model.filters", "3"), ("model.kernel_size", "2"), ("model.dropout", "0.5"), ("seed", "2")]
)
def test_no_knob_of_the_example_is_dead(knob: str, value: str, pictures: Arrays, norm_of_one_epoch: float) -> None:
    other = run(config(*SMALL, "training.epochs=1", f"{knob}={value}"), pictures)
    assert other.final()["weights/norm"] != norm_of_one_epoch


@pytest.mark.parametrize(("size", "optimizer"), [("16", "adamw"), ("null", "momentum")])
def test_stopped_and_continued_is_never_stopped(size: str, optimizer: str, pictures: Arrays, tmp_path: Path) -> None:
    """With dropout, whose seeds go on, and the moving statistics of a batch normalization."""
    more = (f"optimizer={optimizer}", "optimizer.learning_rate=0.003", f"training.batch_size={size}")
    point = written(tmp_path, MODEL, *more, "training.epochs=6", "recording.direction_changes=true")
    undisturbed = run(point, pictures)
    assert {"batch_normalization/moving_mean", "dense_1/kernel"} <= undisturbed.snapshots[6].keys()
    assert {row["layer"] for row in undisturbed.tables["direction_changes"]} == {0, 1}
    history, keeper = History(), Keeper()
    for keeper.stop in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            train([point], pictures, [history], lambda epoch, loss: None, keeper)
        history, keeper.states = through_a_file(keeper, history, tmp_path / "checkpoint.npz")
    keeper.stop = math.inf
    train([point], pictures, [history], lambda epoch, loss: None, keeper)
    assert_same_bits(history, undisturbed)


@pytest.mark.parametrize("size", ["16", "null"])
def test_what_a_layer_adds_to_the_loss_is_trained_and_is_no_penalty(
    size: str, pictures: Arrays, tmp_path: Path
) -> None:
    more = (f"training.batch_size={size}", "training.epochs=2")
    regularized = MODEL.replace("Dense(units)", "Dense(units, activity_regularizer='l2', kernel_regularizer='l2')")
    kernel_alone = MODEL.replace("Dense(units)", "Dense(units, kernel_regularizer='l2')")
    both, kernel = (
        run(written(tmp_path, text, *more, name=name), pictures)
        for name, text in (("both", regularized), ("kernel", kernel_alone))
    )
    first = {metric.name: metric.value for metric in both.metrics if metric.step == 0}
    assert first["weights/penalty"] == pytest.approx(
        0.01 * (both.snapshots[0]["dense/kernel"].astype(float) ** 2).sum(), rel=1e-6
    )
    assert both.final()["weights/norm"] != kernel.final()["weights/norm"]


def test_a_dense_model_of_ones_own_is_our_dense_network(pictures: Arrays, tmp_path: Path) -> None:
    """From the same weights it comes to the same numbers: nothing is added to it or left out."""
    text = """
import keras, numpy

def build(input_shape, outputs):
    drawn = numpy.load(__file__.replace("net.py", "start.npz"))
    def start(name):
        return lambda shape, dtype: keras.ops.convert_to_tensor(drawn[name], dtype)
    return keras.Sequential([
        keras.Input(input_shape), keras.layers.Flatten(),
        keras.layers.Dense(5, activation="relu", kernel_initializer=start("a")),
        keras.layers.Dense(outputs, kernel_initializer=start("b"))])
"""
    more = ("backend=keras", "model.hidden_size=5", "dtype=float64", "optimizer=momentum", "training.clip_norm=0.5")
    shared = ("training.epochs=4", "training.batch_size=16", "schedule=cosine", "optimizer.learning_rate=0.1")
    dense = run(config(*more, *shared), pictures)
    first = dense.snapshots[0]
    np.savez(tmp_path / "start.npz", a=first["layer_0/weights"], b=first["layer_1/weights"])
    settings = ("optimizer=momentum", "dtype=float64", "training.clip_norm=0.5", *shared)
    own = run(written(tmp_path, text, *settings), pictures)
    assert list(own.final().values()) == pytest.approx([dense.final()[name] for name in own.final()], rel=1e-12)
    assert own.architecture == ""  # a function is no config


def test_divergence_is_told_with_its_update(pictures: Arrays, tmp_path: Path) -> None:
    point = written(tmp_path, MODEL, "optimizer=sgd", "optimizer.learning_rate=1e30", "training.batch_size=null")
    assert run(point, pictures).diverged_step is not None


def test_a_layer_of_ones_own_is_described_with_its_class(pictures: Arrays, tmp_path: Path) -> None:
    point = written(tmp_path, LAYER)
    history = run(point, pictures)
    assert own_description.modules_of(history.architecture) == {"Scale": "net"}
    assert json.loads(history.architecture)["input_shape"] == [6, 6, 1]
    model = plain_model(point, history.snapshots[3], history.architecture)
    assert model.predict(np.zeros((2, 36), np.float32), verbose=0).shape == (2, 3)


def test_modules_of_two_folders_may_have_one_name(pictures: Arrays, tmp_path: Path) -> None:
    for name, units in (("a", 2), ("b", 3), ("a", 2)):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "sizes.py").write_text(f"UNITS = {units}\n")
        text = MODEL.replace("import keras", "import keras\nfrom sizes import UNITS").replace("units=4", "units=UNITS")
        history = run(written(tmp_path / name, text, "training.epochs=1"), pictures)
        assert history.snapshots[1]["dense/kernel"].shape == (36, units)


# --- errors


BROKEN = {
    "raises": ("def build(input_shape, outputs):\n    return 1 / 0\n", "line 2: net.build fails", "ZeroDivisionError"),
    "fails in import": ("import no_such_package\n", "line 1: net.build fails", "No module named 'no_such_package'"),
    "no function": ("def built(): ...\n", "net has no function build", "did you mean model._target_=net.built?"),
    "not a function": ("build = 3\n", "net has no function build", "build is of type int"),
    "no model": (
        "def build(input_shape, outputs):\n    return 3\n",
        "line 1: net.build does not return a model",
        "int",
    ),
    "another output": (MODEL.replace("(outputs)", "(5)"), "line 4: net.build returns a model whose", "(None, 5)"),
    "too many dimensions": (MODEL.replace("keras.layers.Flatten(), ", ""), "whose output does not fit", "6, 6, 3"),
    "ends with softmax": (
        MODEL.replace("(outputs)", "(outputs, activation='softmax')"),
        "net.build returns a model that ends with softmax",
        "activation=softmax in the last layer, dense_1",
    ),
    "ends with a layer of softmax": (
        MODEL.replace("Dense(outputs)", "Dense(outputs), keras.layers.Softmax()"),
        "net.build returns a model that ends with softmax",
        "activation=softmax in the last layer, softmax",
    ),
    "ends with sigmoid": (
        MODEL.replace("(outputs)", "(outputs, activation='sigmoid')"),
        "net.build returns a model that ends with sigmoid",
        "loss=cross_entropy applies softmax",
    ),
    "ends with softmax inside another model": (
        MODEL.replace("keras.layers.Dense(outputs)]", "keras.Sequential([keras.layers.Dense(outputs, 'softmax')])]"),
        "net.build returns a model that ends with softmax",
        "activation=softmax in the last layer, dense_1",
    ),
    "ends with an operation of softmax": (
        "import keras\n\ndef build(input_shape, outputs):\n    rows = keras.Input(input_shape)\n"
        "    sums = keras.layers.Dense(outputs)(keras.layers.Flatten()(rows))\n"
        "    return keras.Model(rows, keras.ops.softmax(sums))\n",
        "net.build returns a model that ends with softmax",
        "activation=softmax in the last layer, softmax",
    ),
    "exits": (
        "import sys\n\ndef build(input_shape, outputs):\n    sys.exit(2)\n",
        "line 4: net.build fails",
        "SystemExit: 2",
    ),
    "another shape": (MODEL.replace("keras.Input(input_shape)", "keras.Input((5,))"), "net.build fails", "(None, 5)"),
    "a parameter too many": (
        "def build(input_shape, outputs, width):\n    pass\n",
        "line 1: net.build does not take these knobs",
        "missing a required argument: 'width'",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_with_the_code_is_one_message_with_its_line(case: str, pictures: Arrays, tmp_path: Path) -> None:
    text, *words = BROKEN[case]
    with pytest.raises(LabError) as caught:
        run(written(tmp_path, text), pictures)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'net.py'}, line ")
    assert [word for word in words if word not in message] == [], message
    assert "Traceback" not in message
    assert "expected:" in message
    assert "to do:" in message


def test_an_unknown_knob_names_the_nearest_parameter(pictures: Arrays) -> None:
    with pytest.raises(LabError, match=r"convnet\.py, line \d+: examples.*(?s:.*)did you mean model\.filters\?"):
        run(config(*SMALL, "+model.filter=3"), pictures)


def test_images_that_a_table_has_none_of_are_said_to_be_missing(pictures: Arrays) -> None:
    with pytest.raises(LabError) as caught:
        run(config(*SMALL), replace(pictures, row_shape=None))
    assert "convnet.py, line " in str(caught.value)
    assert "a row of this data is 36 numbers, and no image" in str(caught.value)


def test_a_layer_that_fails_in_training_is_said_with_its_line(pictures: Arrays, tmp_path: Path) -> None:
    text = LAYER.replace(
        "def call(self, inputs):", "def call(self, inputs, training=False):\n        if training: 1 / 0"
    )
    with pytest.raises(LabError, match=r"net\.py, line 9: net\.build fails(?s:.*)ZeroDivisionError"):
        run(written(tmp_path, text), pictures)


def test_a_module_whose_name_is_taken_is_refused(pictures: Arrays, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"another module is already named json(?s:.*)rename the file"):
        run(written(tmp_path, MODEL, name="json"), pictures)
