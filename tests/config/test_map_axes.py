"""The axes of a map, and the axes that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.map_axes import Axis, LinearRange, LogRange
from pipeline.system.errors import LabError
from tests.support.maps import listed, map_config

RATE, SIZE = "optimizer.learning_rate", "model.hidden_size"
Ends = st.floats(1e-6, 1e6)


@given(Ends, st.floats(1.01, 1e6), st.integers(2, 300))
def test_a_logarithmic_range_runs_from_start_to_stop_by_equal_factors(start: float, times: float, count: int) -> None:
    span = LogRange(start=start, stop=start * times, count=count)
    values = Axis(knob=RATE, logspace=span).values()
    assert len(values) == count
    assert (values[0], values[-1]) == (span.start, span.stop)
    np.testing.assert_allclose(np.diff(np.log(values)), np.log(times) / (count - 1), rtol=1e-6, atol=1e-12)


@given(Ends, st.floats(0.01, 1e6), st.integers(2, 300))
def test_a_linear_range_runs_from_start_to_stop_by_equal_steps(start: float, more: float, count: int) -> None:
    values = Axis(knob=RATE, linspace=LinearRange(start=start, stop=start + more, count=count)).values()
    assert (len(values), values[0], values[-1]) == (count, start, start + more)
    np.testing.assert_allclose(np.diff(values), more / (count - 1), rtol=1e-3)


@given(st.sets(st.integers(1, 10**6), min_size=2, max_size=20))
def test_a_list_is_taken_as_it_stands(sizes: set[int]) -> None:
    assert Axis(knob=SIZE, list=tuple(sorted(sizes))).values().tolist() == sorted(sizes)


def test_whole_knobs_that_a_range_misses_by_rounding_are_whole() -> None:
    powers = Axis(knob=SIZE, logspace=LogRange(start=1, stop=1024, count=11))
    assert powers.values().tolist() == [2.0**power for power in range(11)]
    assert Axis(knob="seed", linspace=LinearRange(start=0, stop=7, count=8)).values().tolist() == list(range(8))


REFUSED = {
    "an unknown knob": (["grid.x.knob=optimizer.momentum"], "grid.x.knob: input should be 'optimizer.learning_rate'"),
    "one knob twice": ([f"grid.y.knob={RATE}"], f"a different knob for each axis, received {RATE} for both"),
    "one value": (["grid.x.logspace.count=1"], "grid.x.logspace.count: input should be greater than or equal to 2"),
    "a list of one": (listed("x", RATE, "[1]"), "grid.x.list: "),
    "a rate of 0": (["grid.x.logspace.start=0"], "grid.x.logspace.start: input should be greater than 0, received 0"),
    "a negative rate": (listed("x", RATE, "[-1,1]"), f"grid.x: expected {RATE} above 0, received -1, 1"),
    "backwards": (["grid.x.logspace.stop=0.01"], f"grid.x: expected {RATE} in increasing order, received 0.1"),
    "half a unit": (listed("x", SIZE, "[2,2.5]"), f"expected whole numbers from 1 for {SIZE}, received 2, 2.5"),
    "no units": (listed("x", SIZE, "[0,2]"), f"expected whole numbers from 1 for {SIZE}, received 0, 2"),
    "a seed below 0": (listed("x", "seed", "[-1,2]"), "expected whole numbers from 0 for seed, received -1, 2"),
    "two ranges": (["grid.x.list=[1,2]"], "expected one of logspace, linspace and list, received logspace and list"),
    "no range": (["grid.x.logspace=null"], "expected one of logspace, linspace and list, received none"),
    "infinity": (["grid.x.logspace.stop=inf"], "grid.x.logspace.stop: input should be a finite number"),
    "another key": (["+grid.x.logspace.steps=3"], "grid.x.logspace.steps: no such key"),
    "one axis": (["~grid.y"], "grid.y: field required"),
    "Keras": (["backend=keras"], "backend: a map (grid.x, grid.y) needs backend=numpy; received keras"),
    "images": (
        ["data=mnist", "loss=cross_entropy", "model.output_activation=softmax"],
        "data: a map (grid.x, grid.y) needs a table, such as data=three_bits; received idx",
    ),
    "minibatches": (["training.batch_size=2"], "training.batch_size: a map (grid.x, grid.y) needs"),
    "a second hidden layer": (
        ["model.further_hidden_sizes=[3]"],
        "model.further_hidden_sizes: a map (grid.x, grid.y) needs model.further_hidden_sizes=[]; received [3]",
    ),
    "another activation": (
        ["model.hidden_activation=tanh"],
        "model.hidden_activation: a map (grid.x, grid.y) needs model.hidden_activation=sigmoid, or relu; received tanh",
    ),
    "batch normalization": (["model.batch_normalization=true"], "needs model.batch_normalization=false; received true"),
    "dropout": (["model.dropout=0.5"], "needs model.dropout=0; received 0.5"),
    "DropConnect": (["model.drop_connect=0.5"], "needs model.drop_connect=0; received 0.5"),
    "a penalty": (["training.l2=0.1"], "needs training.l2=0; received 0.1"),
    "clipping": (["training.clip_norm=1"], "needs training.clip_norm=null; received 1.0"),
    "forward differences": (["gradient=finite_difference"], "gradient: a map (grid.x, grid.y) needs"),
    "weights as metrics": (["recording.weight_metrics=true"], "recording.weight_metrics: a map"),
    "tables": (["recording.table_epochs=2"], "recording.table_epochs: a map"),
    "counts of turns": (["recording.direction_changes=true"], "recording.direction_changes: a map"),
    "a rate that goes by the loss": (
        ["schedule=reduce_on_plateau"],
        "schedule: a map (grid.x, grid.y) needs a schedule that does not depend on the loss, such as schedule=cosine; "
        "received reduce_on_plateau",
    ),
    "a last layer's rate under Adam": (["optimizer=adam"], "optimizer: a map (grid.x, grid.y) needs optimizer=sgd"),
}


@pytest.mark.parametrize(("overrides", "message"), REFUSED.values(), ids=REFUSED)
def test_what_a_map_cannot_be_combined_with_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(LabError) as error:
        map_config(*overrides)
    assert message in str(error.value)


def test_a_map_is_zoomed_by_its_config() -> None:
    axes = map_config("grid.x.logspace.start=3", "grid.x.logspace.stop=8").grid
    assert axes is not None
    assert axes.x.values()[[0, -1]].tolist() == [3, 8]
    assert axes.points == 63
    assert (axes.x.name, axes.y.name) == ("learning_rate", "output_learning_rate")


def test_a_key_that_follows_from_a_refused_one_is_not_refused_too() -> None:
    with pytest.raises(LabError) as caught:
        map_config("recording.weight_metrics=true")
    assert "recording.weight_metrics: a map" in str(caught.value)
    assert "direction_changes" not in str(caught.value)
