"""A compiled network that serves several points, and one call for many minibatches: the numbers stay the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.backends.keras import building, network
from pipeline.backends.keras.network import MinibatchNetwork, Network
from pipeline.backends.keras.precision import floatx
from pipeline.backends.keras.training import train
from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, load
from tests.support.trained import config

BITS = ("experiment=three_bits", "backend=keras", "training.epochs=6", "recording.metrics_every=2", "dtype=float64",
        "model.hidden_size=5")  # fmt: skip


def point(*overrides: str) -> Config:
    return config(*BITS, *overrides)


def arrays_of(config: Config) -> Arrays:
    return load(config.data, config.dtype, Path())


def numbers(history: History) -> dict[str, Any]:
    """Return all that a history has, but for times."""
    return {
        "metrics": [(metric.step, metric.name, metric.value.hex()) for metric in history.metrics],
        "snapshots": {
            epoch: {name: array.tobytes() for name, array in weights.items()}
            for epoch, weights in history.snapshots.items()
        },
        "tables": {name: repr(rows) for name, rows in history.tables.items()},
        "diverged": (history.diverged_step, repr(history.last_finite_loss)),
    }


def trained(*points: Config) -> list[dict[str, Any]]:
    histories = [History() for _ in points]
    train(points, arrays_of(points[0]), histories, lambda epoch, loss: None)
    return [numbers(history) for history in histories]


STUDIES = [
    ("optimizer=sgd", "optimizer.output_learning_rate=0.3"),
    ("optimizer=nesterov", "training.batch_size=3"),
    ("optimizer=adam", "model.batch_normalization=true", "training.batch_size=3"),
    ("optimizer=adagrad", "training.l2=0.01"),
    ("optimizer=adamw", "dtype=float32", "training.clip_norm=0.5"),
    ("optimizer=rmsprop", "model.dropout=0.3", "training.batch_size=4"),
    ("optimizer=momentum", "schedule=reduce_on_plateau", "schedule.patience=1"),
    ("optimizer=sgd", "schedule=exponential", "training.batch_size=3"),
]


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: " ".join(study))
def test_a_point_has_the_same_bits_after_others_and_alone(study: tuple[str, ...]) -> None:
    first = point(*study, "optimizer.learning_rate=1e30", "seed=1", "recording.direction_changes=true")
    second = point(*study, "optimizer.learning_rate=0.1", "seed=2", "recording.direction_changes=true")
    together = trained(first, second, first)
    building.kept.clear()
    assert together[1] == trained(second)[0]
    assert together[2] == together[0]


def test_points_that_differ_in_rate_and_seed_are_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = []
    step = MinibatchNetwork.train_step

    def counted(self: MinibatchNetwork, data: Any) -> Any:
        traced.append(self)
        return step(self, data)

    monkeypatch.setattr(MinibatchNetwork, "train_step", counted)
    grid = [(size, rate, seed) for rate in (0.1, 1) for size in (3, 4) for seed in (1, 2)]
    trained(*(
        point("training.batch_size=2", f"model.hidden_size={size}", f"optimizer.learning_rate={rate}", f"seed={seed}")
        for size, rate, seed in grid
    ))  # fmt: skip
    assert len(traced) == 2


OTHER_GRAPHS = (
    "optimizer=momentum",
    "training.epochs=7",
    "model.bias=true",
    "training.l1=0.1",
    "training.batch_size=3",
    "dtype=float32",
    "training.clip_value=1",
    "recording.direction_changes=true",
)


def test_a_point_with_another_graph_gets_its_own() -> None:
    plain = ("optimizer=sgd", "recording.direction_changes=false")
    before = point(*plain)
    network_before = building.build(before, arrays_of(before))[0]
    kept_before = dict(building.kept)
    assert building.build(before, arrays_of(before))[0] is network_before
    for other in OTHER_GRAPHS:
        # Else the first would make room for the ninth, and not be found for that reason.
        building.kept.clear()
        building.kept.update(kept_before)
        after = point(*(one for one in plain if one.partition("=")[0] != other.partition("=")[0]), other)
        assert building.build(after, arrays_of(after))[0] is not network_before, other


def test_few_networks_are_kept_and_no_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "KEPT", 2)
    monkeypatch.setattr(building, "LARGEST", 200)
    for size in (2, 3, 2, 4, 100):
        one = point(f"model.hidden_size={size}")
        building.build(one, arrays_of(one))
    sizes = [one.network.layers[0].units for one in building.kept.values()]
    assert sizes == [2, 4]


@pytest.mark.parametrize(
    "study",
    [
        ("optimizer=adam", "training.batch_size=3"),
        ("optimizer=sgd", "training.batch_size=1", "model.dropout=0.4", "model.drop_connect=0.2"),
        ("optimizer=sgd", "optimizer.learning_rate=1e30", "training.batch_size=3"),
        ("optimizer=sgd", "schedule=exponential", "training.batch_size=7", "training.l1=0.01"),
    ],
    ids=" ".join,
)
def test_many_minibatches_in_one_call_have_the_bits_of_one_each(
    study: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "UPDATES", 2)
    monkeypatch.setattr(network, "SECONDS", 1e6)
    together = trained(point(*study))
    assert isinstance(next(iter(building.kept.values())).network, MinibatchNetwork)
    building.kept.clear()
    monkeypatch.setattr(building, "of_layers", lambda config, layers, names, _: Network(layers, config.dtype, names))
    assert trained(point(*study)) == together


def test_the_metrics_of_each_minibatch_are_its_own() -> None:
    one = point("training.batch_size=3", "optimizer=sgd", "optimizer.learning_rate=1e-30")
    arrays = arrays_of(one)
    with floatx("float64"):
        model = building.build(one, arrays)[0]
        assert isinstance(model, MinibatchNetwork)
        order = np.random.default_rng(0).permutation(len(arrays.train_inputs))
        found = model.update_on(order, arrays.train_inputs, arrays.train_targets)
        for start, logs in zip(range(0, len(order), 3), found, strict=True):
            chosen = order[start : start + 3]
            outputs = np.asarray(model(arrays.train_inputs[chosen]))
            assert logs["loss"] == pytest.approx(((outputs - arrays.train_targets[chosen]) ** 2).sum() / 2)


@pytest.mark.parametrize(("seconds", "calls"), [(1e6, [1, 3]), (0.0, [1] * 4)])
def test_a_call_is_no_longer_than_a_signal_may_wait(
    seconds: float, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "SECONDS", seconds)
    one = point("training.batch_size=1")
    arrays = arrays_of(one)
    with floatx("float64"):
        model = building.build(one, arrays)[0]
        assert isinstance(model, MinibatchNetwork)
        made: list[int] = []
        update = model.train_on_batch

        def counted(*given: Any, **more: Any) -> Any:
            made.append(int(model._minibatches.updates.numpy()))  # noqa: SLF001 - nothing else tells
            return update(*given, **more)

        monkeypatch.setattr(model, "train_on_batch", counted)
        measured = model.update_on(np.arange(4), arrays.train_inputs, arrays.train_targets)
    assert made == calls
    assert len(measured) == 4
