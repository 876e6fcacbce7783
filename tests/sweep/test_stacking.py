"""The grouping of points into stacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.schema import Config
from pipeline.data.arrays import load
from pipeline.sweep import grouping as stacking
from pipeline.sweep.grouping import stack_key, stacks, units
from tests.support.trained import config

BASE = ("experiment=three_bits",)
TEMPLATE = config(*BASE)


def grouped(*points: Config) -> list[list[int]]:
    return stacks([(point, load(point.data, point.dtype, Path())) for point in points])


def test_rates_share_a_stack_and_hidden_sizes_do_not() -> None:
    points = [
        config(*BASE, f"optimizer.learning_rate={rate}", f"model.hidden_size={size}")
        for rate in (0.1, 1, 10)
        for size in (4, 32)
    ]
    assert grouped(*points) == [[0, 2, 4], [1, 3, 5]]


@pytest.mark.parametrize(
    "other", ["seed=7", "optimizer.learning_rate=3", "model.initial_weight=2", "model.initial_bias=1"]
)
def test_values_that_fit_on_the_grid_axis(other: str) -> None:
    assert stack_key(config(*BASE, other)) == stack_key(config(*BASE))


@pytest.mark.parametrize(
    "other",
    [
        "model.hidden_size=5",
        "model.bias=true",
        "model.hidden_activation=relu",
        "model.initializer=glorot_uniform",
        "optimizer=adam",
        "dtype=float32",
        "loss=mean_squared_error",
        "gradient=finite_difference",
        "finite_difference_step=0.01",
        "training.epochs=7",
        "training.batch_size=2",
        "recording.metrics_every=3",
        "recording.snapshots=9",
        "recording.weight_metrics=true",
        "recording.direction_changes=false",
        "recording.table_epochs=2",
        "data=two_bits",
        "data.inputs=[[1,0,1],[0,1,1],[1,0,1],[1,1,1]]",
    ],
)
def test_settings_that_put_points_into_different_stacks(other: str) -> None:
    assert stack_key(config(*BASE, other)) != stack_key(config(*BASE))


@pytest.mark.parametrize("knob", ["beta_1=0.5", "beta_2=0.5", "epsilon=0.1", "learning_rate=0.5"])
def test_all_knobs_of_an_optimizer_fit_on_the_grid_axis(knob: str) -> None:
    assert stack_key(config(*BASE, "optimizer=adam", f"optimizer.{knob}")) == stack_key(config(*BASE, "optimizer=adam"))


def test_momentum_and_nesterov_are_in_different_stacks() -> None:
    assert stack_key(config(*BASE, "optimizer=momentum")) != stack_key(config(*BASE, "optimizer=nesterov"))


def test_keras_trains_one_point_at_a_time() -> None:
    points = [config(*BASE, "backend=keras", f"optimizer.learning_rate={rate}") for rate in (0.1, 1)]
    assert grouped(*points, config(*BASE), config(*BASE, "seed=2")) == [[0], [1], [2, 3]]


def with_size(template: Config, size: int, seed: int) -> Config:
    return template.model_copy(update={"model": template.model.model_copy(update={"hidden_size": size}), "seed": seed})


def test_a_stack_that_is_too_large_is_split() -> None:
    points = [with_size(TEMPLATE, 100_000, seed) for seed in range(20)]
    groups = grouped(*points)
    assert [index for group in groups for index in group] == list(range(20))
    assert 1 < len(groups) < 20
    one = stacking.memory(points[0], load(TEMPLATE.data, TEMPLATE.dtype, Path()))
    assert max(map(len, groups)) * one <= stacking.STACK_BYTES < (max(map(len, groups)) + 1) * one


def test_weights_gradient_moments_update_and_snapshots_take_the_memory() -> None:
    size = 1_000_000
    arrays = load(TEMPLATE.data, TEMPLATE.dtype, Path())
    weights = 8 * (3 + 1) * size
    activations = 8 * len(arrays.train_inputs) * size
    needed = stacking.memory(with_size(TEMPLATE, size, 1), arrays)
    assert (6 + TEMPLATE.recording.snapshots) * weights <= needed
    assert needed <= (6 + TEMPLATE.recording.snapshots) * weights + 4 * activations + 1000


def test_bytes_are_counted_as_the_numbers_that_they_become() -> None:
    arrays = load(TEMPLATE.data, TEMPLATE.dtype, Path())
    grey = replace(arrays, train_inputs=arrays.train_inputs.astype(np.uint8))
    assert stacking.memory(TEMPLATE, grey) == stacking.memory(TEMPLATE, arrays)


@pytest.mark.parametrize(("rows", "counted"), [(5, 4 * 2), (1000, 1000), (5000, 2048)])
def test_validation_rows_take_the_memory_of_a_block_of_them(rows: int, counted: int) -> None:
    arrays = load(TEMPLATE.data, TEMPLATE.dtype, Path())
    held_back = replace(arrays, validation_inputs=np.zeros((rows, 3)), validation_targets=np.zeros((rows, 1)))
    point = config(*BASE, "training.batch_size=2")
    with_none = stacking.memory(point, arrays)
    units = point.dense.hidden_size or 0
    assert stacking.memory(point, held_back) - with_none == 8 * (counted - 4 * 2) * (units + 1)


def test_a_batch_takes_no_more_than_all_rows() -> None:
    arrays = load(TEMPLATE.data, TEMPLATE.dtype, Path())
    huge = config(*BASE, "training.batch_size=1000000000")
    assert stacking.memory(huge, arrays) == stacking.memory(TEMPLATE, arrays)
    assert stacking.memory(config(*BASE, "training.batch_size=2"), arrays) < stacking.memory(TEMPLATE, arrays)


def test_snapshots_take_memory_but_no_more_than_there_are_records() -> None:
    arrays = load(TEMPLATE.data, TEMPLATE.dtype, Path())

    def needed(*overrides: str) -> int:
        return stacking.memory(config(*BASE, "training.epochs=10", "recording.metrics_every=1", *overrides), arrays)

    # Eight bytes for each weight of three inputs and an output.
    one = 8 * (3 + 1) * (TEMPLATE.model.hidden_size or 0)
    assert needed("recording.snapshots=5") - needed("recording.snapshots=2") == 3 * one
    assert needed("recording.snapshots=1000") == needed("recording.snapshots=11")


@given(st.lists(st.tuples(st.sampled_from([4, 32]), st.integers(0, 5)), max_size=12), st.integers(1, 2**24))
def test_every_point_is_in_one_stack_whatever_the_memory(cells: list[tuple[int, int]], memory: int) -> None:
    points = [with_size(TEMPLATE, size, seed) for size, seed in cells]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stacking, "STACK_BYTES", memory)
        groups = grouped(*points)
    assert sorted(index for group in groups for index in group) == list(range(len(points)))
    for group in groups:
        assert group == sorted(group)
        assert len({points[index].model.hidden_size for index in group}) == 1


def in_units(workers: int, *points: Config) -> list[list[int]]:
    return units([(point, load(point.data, point.dtype, Path())) for point in points], workers)


@given(
    sizes=st.lists(st.sampled_from([4, 32]), min_size=1, max_size=20),
    workers=st.integers(1, 8),
)
def test_units_hold_each_point_once_and_every_worker_has_some(sizes: list[int], workers: int) -> None:
    points = [TEMPLATE.model_copy(update={"model": TEMPLATE.model.model_copy(update={"hidden_size": size})})
              for size in sizes]  # fmt: skip
    found = in_units(workers, *points)
    assert sorted(index for unit in found for index in unit) == list(range(len(points)))
    assert all(len({sizes[index] for index in unit}) == 1 for unit in found)
    assert len(found) >= min(len(points), workers)
    assert len(found) <= max(2 * workers, 2)


def test_the_largest_unit_is_cut_and_comes_first() -> None:
    points = [config(*BASE, f"model.hidden_size={size}", f"seed={seed}") for size in (4, 32) for seed in range(4)]
    assert in_units(1, *points) == [[4, 5, 6, 7], [0, 1, 2, 3]]
    assert in_units(2, *points) == [[6, 7], [4], [5], [0, 1, 2, 3]]
