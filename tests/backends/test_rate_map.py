"""Training a map: against a plain loop, with other blocks, stopped and resumed."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.backends.numpy.maps import rate_map
from pipeline.backends.numpy.network import stack
from pipeline.backends.numpy.stack import Stack
from pipeline.backends.shared.history import History
from pipeline.backends.shared.initial_weights import draw
from pipeline.config.schema import Config
from pipeline.data.arrays import load
from pipeline.points.reading import read_point
from pipeline.sweep import grouping as stacking
from pipeline.sweep import sweep as sweep_module
from pipeline.sweep import training as training_module
from pipeline.sweep.pacing import StackCheckpoints
from pipeline.system.errors import LabError
from tests.backends.test_numpy_training import Keeper
from tests.support.hostile import NoSync
from tests.support.maps import listed, map_config, trained_map
from tests.support.methods import OPTIMIZERS, SCHEDULES
from tests.support.plain_network import backpropagation
from tests.support.swept import killed, swept


def plain_losses(one: Config, rate: float, output_rate: float, size: int, seed: int) -> list[float]:
    """The losses of one network under gradient descent, in the plainest words: one more than there are updates."""
    arrays = load(one.data, one.dtype, Path())
    model = one.dense.model_copy(update={"hidden_size": size})
    parameters = stack([draw(model, arrays.features, arrays.outputs, seed, one.dtype)])
    losses = []
    with np.errstate(over="ignore"):
        for _ in range(one.training.epochs + 1):
            loss, gradient, _ = backpropagation(one.loss, model, parameters, arrays.train_inputs, arrays.train_targets)
            losses.append(float(loss[0]))
            for name, array in parameters.items():
                array -= (output_rate if name.startswith("layer_1") else rate) * gradient[name]
    return losses


def same(one: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]]) -> bool:
    """Whether two maps are the same, bit for bit."""
    return list(one) == list(other) and all(one[name].tobytes() == other[name].tobytes() for name in one)


def test_each_point_is_what_a_plain_loop_makes_of_it() -> None:
    one = map_config("training.epochs=25", "grid.x.logspace.stop=30", "grid.y.logspace.stop=30")
    arrays = trained_map(one).map_arrays
    for row, column in ((0, 0), (0, 8), (6, 0), (6, 8), (3, 4)):
        losses = plain_losses(one, arrays["x"][column], arrays["y"][row], 4, one.seed)
        first = losses[0]
        last = float(np.mean(losses[-20:]))
        expected = {
            "first_loss": first,
            "final_loss": losses[-1],
            "last_losses": last,
            "sum_of_losses": sum(losses) / first,
            "diverged_step": -1,
        }
        expected["measure"] = sum(losses) / first if last < first else -sum(first / loss for loss in losses)
        received = {name: arrays[name][row, column] for name in expected}
        assert received == pytest.approx(expected, rel=1e-9), (row, column)


def test_hidden_sizes_and_seeds_are_axes_too() -> None:
    one = map_config(
        "training.epochs=10", *listed("x", "model.hidden_size", "[1,3,7]"), *listed("y", "seed", "[0,5]"),
        "optimizer.learning_rate=2", "optimizer.output_learning_rate=0.5",
    )  # fmt: skip
    arrays = trained_map(one).map_arrays
    expected = [[plain_losses(one, 2, 0.5, size, seed)[-1] for size in (1, 3, 7)] for seed in (0, 5)]
    np.testing.assert_allclose(arrays["final_loss"], expected, rtol=1e-9)
    assert arrays["knobs"].tolist() == ["model.hidden_size", "seed"]


@pytest.mark.parametrize("case", [*OPTIMIZERS, *(name for name in SCHEDULES if name != "reduce_on_plateau")])
def test_a_point_of_a_map_is_that_point_alone_in_every_bit(case: str) -> None:
    chosen = OPTIMIZERS.get(case) or (*OPTIMIZERS["sgd"], *SCHEDULES[case])
    axes = (*listed("x", "optimizer.learning_rate", "[0.02,0.3]"), *listed("y", "seed", "[1,2]"))
    one = map_config(*chosen, *axes, "training.epochs=30")
    found, arrays = trained_map(one).map_arrays, load(one.data, one.dtype, Path())
    for row, seed in enumerate((1, 2)):
        for column, rate in enumerate((0.02, 0.3)):
            optimizer = one.optimizer.model_copy(update={"learning_rate": rate})
            point = one.model_copy(update={"grid": None, "seed": seed, "optimizer": optimizer})
            alone = Stack([point], arrays, [draw(point.dense, arrays.features, arrays.outputs, seed, point.dtype)])
            for _ in range(30):
                alone.differentiate([], measured=False)
                alone.move()
            losses, _ = alone.differentiate([], measured=False)
            assert found["final_loss"][row, column] == losses[0]
    assert len(np.unique(found["final_loss"])) == 4


@pytest.mark.parametrize("block_bytes", [1, 5_000])
def test_the_size_of_the_blocks_changes_no_bit(monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    one = map_config()
    whole = trained_map(one).map_arrays
    monkeypatch.setattr(rate_map, "BLOCK_BYTES", block_bytes)
    assert len(rate_map.blocks(one, load(one.data, one.dtype, Path()))) > 2
    assert same(trained_map(one).map_arrays, whole)


def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    one = map_config()
    monkeypatch.setattr(rate_map, "BLOCK_BYTES", 1)
    monkeypatch.setattr(rate_map, "cores", lambda: 1)
    alone = trained_map(one).map_arrays
    monkeypatch.setattr(rate_map, "cores", lambda: 5)
    assert same(trained_map(one).map_arrays, alone)


def test_a_part_of_a_map_is_that_part_of_the_whole_bit_for_bit() -> None:
    whole = trained_map(map_config()).map_arrays
    values = {name: ",".join(repr(float(value)) for value in whole[name][2:5]) for name in ("x", "y")}
    part = trained_map(
        map_config(
            *listed("x", "optimizer.learning_rate", f"[{values['x']}]"),
            *listed("y", "optimizer.output_learning_rate", f"[{values['y']}]"),
        )
    ).map_arrays
    for name in part.keys() - {"x", "y", "knobs"}:
        assert part[name].tobytes() == whole[name][2:5, 2:5].tobytes(), name


def test_every_point_is_in_one_block() -> None:
    for one in (map_config(), map_config(*listed("y", "model.hidden_size", "[2,900]"))):
        blocks = rate_map.blocks(one, load(one.data, one.dtype, Path()))
        assert one.grid is not None
        assert sorted(place for block in blocks for place in block.tolist()) == list(range(one.grid.points))
        assert min(map(len, blocks)) >= 2


def test_what_was_stopped_goes_on_with_the_next_block_and_ends_in_the_same_map(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_map, "BLOCK_BYTES", 5_000)
    one, history, keeper = map_config(), History(), Keeper(stop=3)
    whole = trained_map(one)
    with pytest.raises(KeyboardInterrupt):
        trained_map(one, keeper, history)
    half = history.map_arrays["measure"].copy()
    assert np.isnan(half).any()
    assert not np.isnan(half).all()
    assert (history.epochs, keeper.epoch) == (0, 3)
    keeper.stop = 10**6
    trained = []
    kept = rate_map.train_block
    monkeypatch.setattr(rate_map, "train_block", lambda *given: trained.append(given[2]) or kept(*given))  # type: ignore[func-returns-value]
    trained_map(one, keeper, history)
    assert len(trained) == len(rate_map.blocks(one, load(one.data, one.dtype, Path()))) - 3
    assert same(history.map_arrays, whole.map_arrays)
    assert [metric[0::2] for metric in history.metrics] == [metric[0::2] for metric in whole.metrics]
    assert history.epochs == whole.epochs == 60


def test_a_block_that_is_no_longer_needed_ends_at_once() -> None:
    one, stop = map_config("training.epochs=100000"), threading.Event()
    stop.set()
    arrays = load(one.data, one.dtype, Path())
    found = rate_map.train_block(one, arrays, np.arange(4), stop)
    assert found["sum_of_losses"].max() < 10


def test_progress_is_recorded_as_shares_of_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_map, "BLOCK_BYTES", 5_000)
    history = trained_map(map_config())
    steps, points = history.series("map/points")
    assert len(steps) > 2
    assert steps.tolist() == list(range(1, len(steps) + 1))
    assert points[-1] == 63
    assert (np.diff(points) > 0).all()
    assert (np.diff(history.series("map/best_loss")[1]) <= 0).all()
    share = history.final()["map/converged_share"]
    assert share == np.mean(history.map_arrays["measure"] > 0)


@pytest.fixture
def without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_module, "SyncThread", NoSync)
    monkeypatch.setattr(sweep_module, "code_state", lambda project: {})
    monkeypatch.setattr(training_module, "point_figures", lambda *arguments: [])


def test_a_command_that_is_stopped_goes_on_and_leaves_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_mlflow: None
) -> None:
    monkeypatch.setattr(rate_map, "BLOCK_BYTES", 5_000)
    requests = [(map_config(), ["experiment=trainability_map"])]
    swept(tmp_path / "calm", requests)
    with monkeypatch.context() as patched:

        def keep_and_stop(self: StackCheckpoints, epoch: int, states: Any) -> None:
            original(self, epoch, states)
            raise KeyboardInterrupt

        original = StackCheckpoints.keep
        patched.setattr(StackCheckpoints, "due", lambda self: True)
        patched.setattr(StackCheckpoints, "keep", keep_and_stop)
        killed(tmp_path / "stopped", requests)
    assert list((tmp_path / "stopped" / ".points").glob("*.training/checkpoint.npz"))
    swept(tmp_path / "stopped", requests)
    points = []
    for project in (tmp_path / "calm", tmp_path / "stopped"):
        (folder,) = (file.parent for file in (project / ".points").glob("*/outcome.json"))
        points.append(read_point(folder, "map"))
    assert same(points[0].history.map_arrays, points[1].history.map_arrays)
    assert points[0].outcome.final == points[1].outcome.final


def test_a_damaged_map_is_reported_and_trained_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], without_mlflow: None
) -> None:
    requests = [(map_config(), ["experiment=trainability_map"])]
    swept(tmp_path, requests)
    (file,) = (tmp_path / ".points").glob("*/map.npz")
    whole = file.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole.replace(b"measure", b"nonsens")):
        file.write_bytes(damaged)
        swept(tmp_path, requests)
        assert "is retrained. The trained point in" in capsys.readouterr().err
        assert file.read_bytes() == whole


def test_maps_train_one_at_a_time_and_must_fit_in_memory() -> None:
    one = map_config()
    arrays = load(one.data, one.dtype, Path())
    assert stacking.stacks([(one, arrays), (map_config("seed=2"), arrays)]) == [[0], [1]]
    assert stacking.steps(one, arrays)[1] == "block"
    large = map_config("grid.x.logspace.count=100000", "grid.y.logspace.count=100000")
    with pytest.raises(LabError, match=r"The map does not fit in memory(.|\n)*choose a smaller grid.x or grid.y"):
        stacking.check_memory(large, arrays)
