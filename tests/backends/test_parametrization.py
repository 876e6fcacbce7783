from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.backends.numpy.network import forward
from pipeline.backends.shared.initial_weights import array_names, draw
from pipeline.backends.shared.parametrization import rate_scales
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays
from pipeline.system.errors import LabError
from tests.backends.test_backends import Backend, both
from tests.support.trained import config, trained

__all__ = ["both"]
MUP = ("model.initializer=lecun_normal", "model.parametrization=maximal_update")
WIDTHS = (64, 256, 1024)


def point(*overrides: str) -> Config:
    return config("training.epochs=2", "training.batch_size=null", "recording.snapshots=2", *MUP[:1], *overrides)


def images() -> Arrays:
    random = np.random.default_rng(5)
    inputs, labels = random.uniform(0, 1, (64, 784)).astype(np.float32), random.integers(0, 10, 64)
    return Arrays(inputs, labels, None, None, 10, {})


def scales(optimizer: str, *overrides: str) -> dict[str, float]:
    one = point(*MUP, f"optimizer={optimizer}", "model.hidden_size=256", *overrides)
    return rate_scales(one.dense, one.optimizer.name, array_names(one.dense))


# --- what table 3 of arXiv:2203.03466 says at four times the base width


def test_rates_go_by_the_kind_of_layer_and_of_step() -> None:
    assert scales("sgd") == {"layer_0/weights": 4, "layer_0/bias": 4, "layer_1/weights": 1 / 4}
    assert scales("adam") == {"layer_1/weights": 1 / 4}
    deep = "model.further_hidden_sizes=[256]"
    assert scales("momentum", deep) == {
        "layer_0/weights": 4, "layer_0/bias": 4, "layer_1/bias": 4, "layer_2/weights": 1 / 4,
    }  # fmt: skip
    assert scales("lion", deep) == {"layer_1/weights": 1 / 4, "layer_2/weights": 1 / 4}
    assert scales("sgd", "model.parametrization=standard") == scales("sgd", "model.base_hidden_size=256") == {}


def test_the_last_layer_begins_smaller_and_no_other() -> None:
    sizes = ("model.hidden_size=256", "model.further_hidden_sizes=[256]")
    for seed in (1, 2):
        standard, mup = (draw(point(*sizes, *more).dense, 784, 10, seed, "float64") for more in ((), MUP))
        assert np.array_equal(standard["layer_0/weights"], mup["layer_0/weights"])
        assert np.array_equal(standard["layer_1/weights"], mup["layer_1/weights"])
        np.testing.assert_allclose(standard["layer_2/weights"] / 2, mup["layer_2/weights"])


def test_at_the_base_width_both_parametrizations_are_the_same(tiny_images: Arrays) -> None:
    size = ("model.hidden_size=8", "model.base_hidden_size=8", "optimizer=adam")
    one, other = (trained(point(*size, *more), arrays=tiny_images)[0] for more in ((), MUP))
    assert all(np.array_equal(one.snapshots[2][name], other.snapshots[2][name]) for name in one.snapshots[2])


# --- the coordinate check of appendix D.1: by how much the first updates change what a layer computes


def growth(optimizer: str, rate: float, more: Sequence[str]) -> tuple[float, float]:
    """By which power of the width the hidden sums and the outputs change in the first updates."""
    arrays, changes = images(), []
    inputs = arrays.train_inputs
    for width in WIDTHS:
        mean = np.zeros(2)
        for seed in (1, 2, 3):
            one = point(f"optimizer={optimizer}", f"optimizer.learning_rate={rate}", f"model.hidden_size={width}",
                        f"seed={seed}", *more)  # fmt: skip
            snapshots = trained(one, arrays=arrays)[0].snapshots
            values = [
                forward(one.dense, {name: np.atleast_2d(array)[None] for name, array in weights.items()}, inputs)[1:]
                for weights in snapshots.values()
            ]
            # Hidden values that are not cut off by the rectifier change as their sums do.
            mean += [np.abs(new - old).mean() for new, old in zip(values[-1], values[0], strict=True)]
        changes.append(np.log(mean / 3))
    hidden, outputs = np.polyfit(np.log(WIDTHS), np.array(changes), 1)[0]
    return float(hidden), float(outputs)


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 0.05), ("adam", 0.001)])
def test_coordinates_change_alike_at_every_width_and_in_the_standard_parametrization_they_do_not(
    optimizer: str, rate: float
) -> None:
    hidden, outputs = growth(optimizer, rate, MUP)
    assert abs(hidden) < 0.15
    assert abs(outputs) < 0.15
    standard_hidden, standard_outputs = growth(optimizer, rate, ())
    assert max(abs(standard_hidden), abs(standard_outputs)) > 0.3


# --- both backends, and what is refused


@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_both_backends_scale_the_same_rates(both: tuple[Backend, Backend], optimizer: str, tiny_images: Arrays) -> None:
    chosen = ("training.epochs=3", "training.batch_size=16", "dtype=float64", *MUP, "model.base_hidden_size=2",
              "model.hidden_size=6", "model.further_hidden_sizes=[6]", f"optimizer={optimizer}",
              "optimizer.learning_rate=0.01")  # fmt: skip
    ends = [backend.fresh(*chosen, arrays=tiny_images).snapshots[3] for backend in both]
    for name, array in ends[0].items():
        np.testing.assert_allclose(ends[1][name], array, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.initializer=glorot_uniform", "use model.initializer=lecun_normal"),
        ("model.hidden_size=null", "set model.hidden_size"),
        ("model.further_hidden_sizes=[3]", "hidden layers of one width"),
        ("optimizer.output_learning_rate=1", "optimizer.output_learning_rate=null"),
        ("optimizer=bfgs", "use model.parametrization=standard"),
    ],
)
def test_what_it_cannot_be_of_is_refused(override: str, said: str) -> None:
    with pytest.raises(LabError, match=said.replace(".", r"\.")):
        config("training.batch_size=null", "optimizer=sgd", *MUP, override)
