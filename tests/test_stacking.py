"""Which points train in one pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import stacking
from pipeline.config import Config
from pipeline.data import load
from pipeline.stacking import passes, stack_key
from tests.trained import config

BASE = ("experiment=three_bits",)
TEMPLATE = config(*BASE)


def grouped(*points: Config) -> list[list[int]]:
    return passes([(point, load(point.data, point.dtype, Path())) for point in points])


def test_rates_share_a_pass_and_hidden_sizes_do_not() -> None:
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
def test_what_sets_points_apart(other: str) -> None:
    assert stack_key(config(*BASE, other)) != stack_key(config(*BASE))


@pytest.mark.parametrize("knob", ["beta_1=0.5", "beta_2=0.5", "epsilon=0.1", "learning_rate=0.5"])
def test_all_knobs_of_an_optimizer_fit_on_the_grid_axis(knob: str) -> None:
    assert stack_key(config(*BASE, "optimizer=adam", f"optimizer.{knob}")) == stack_key(config(*BASE, "optimizer=adam"))


def test_momentum_and_nesterov_are_apart() -> None:
    assert stack_key(config(*BASE, "optimizer=momentum")) != stack_key(config(*BASE, "optimizer=nesterov"))


def test_keras_trains_one_point_at_a_time() -> None:
    points = [config(*BASE, "backend=keras", f"optimizer.learning_rate={rate}") for rate in (0.1, 1)]
    assert grouped(*points, config(*BASE), config(*BASE, "seed=2")) == [[0], [1], [2, 3]]


def with_size(template: Config, size: int, seed: int) -> Config:
    return template.model_copy(update={"model": template.model.model_copy(update={"hidden_size": size}), "seed": seed})


def test_a_stack_that_is_too_large_is_split() -> None:
    size = 1_000_000
    groups = grouped(*(with_size(TEMPLATE, size, seed) for seed in range(20)))
    assert [place for group in groups for place in group] == list(range(20))
    assert 1 < len(groups) < 20
    assert max(map(len, groups)) * 8 * 4 * size <= stacking.PASS_BYTES  # four weights of eight bytes for each unit


@given(st.lists(st.tuples(st.sampled_from([4, 32]), st.integers(0, 5)), max_size=12), st.integers(1, 2**24))
def test_every_point_is_in_one_pass_whatever_the_memory(cells: list[tuple[int, int]], memory: int) -> None:
    points = [with_size(TEMPLATE, size, seed) for size, seed in cells]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stacking, "PASS_BYTES", memory)
        groups = grouped(*points)
    assert sorted(place for group in groups for place in group) == list(range(len(points)))
    for group in groups:
        assert group == sorted(group)
        assert len({points[place].model.hidden_size for place in group}) == 1
