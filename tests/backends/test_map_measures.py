"""The signed number of a point, and the metrics of a map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as array_of

from pipeline.backends.numpy.maps.measures import (
    LAST,
    MapArrays,
    Tally,
    best_position,
    check_map_arrays,
    empty_map,
    map_metrics,
)
from pipeline.config.map_axes import GridAxes
from tests.support.maps import map_config


def tallied(*losses: list[float]) -> MapArrays:
    """What is kept of points with these losses, all equally many."""
    tally = Tally(len(losses), len(losses[0]))
    with np.errstate(all="ignore"):
        for at_once in np.array(losses).T:
            tally.see(at_once)
        return tally.arrays()


def test_a_point_that_converges_has_the_sum_of_its_losses_over_the_first() -> None:
    losses = [4.0] * 5 + [2.0] * 10 + [1.0] * 25
    found = tallied(losses)
    assert found["measure"].tolist() == [sum(losses) / 4]
    assert found["last_losses"].tolist() == [1.0]
    assert found["diverged_step"].tolist() == [-1]


def test_a_point_that_does_not_has_the_sum_of_the_inverses_turned_negative() -> None:
    losses = [4.0] * 5 + [2.0] * 10 + [8.0] * 25
    assert tallied(losses)["measure"].tolist() == [-(5 + 20 + 12.5)]
    assert tallied([3.0] * 30)["measure"].tolist() == [-30]


def test_the_mean_of_the_last_losses_decides_not_the_last_one() -> None:
    assert tallied([1.0] * 30 + [1.2] * (LAST - 1) + [0.1])["measure"][0] < 0
    assert tallied([1.0] * 30 + [0.9] * (LAST - 1) + [1.5])["measure"][0] > 0


def test_what_is_no_number_counts_nothing_and_is_not_converged() -> None:
    found = tallied([2.0, 4.0, np.inf, np.nan, np.nan], [2.0, 1.0, 1.0, 1.0, 1.0], [1.0, np.inf, 0.1, 0.1, 0.1])
    assert found["measure"].tolist() == pytest.approx([-1.5, 3.0, -31.0])
    assert found["diverged_step"].tolist() == [2, -1, 1]
    assert found["sum_of_losses"].tolist() == pytest.approx([3.0, 3.0, 1.3])


def test_a_network_that_begins_without_an_error_has_converged() -> None:
    found = tallied([0.0] * 25)
    assert found["measure"].tolist() == [0.0]
    assert np.signbit(found["measure"]).tolist() == [False]


@given(array_of(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=st.floats(1e-6, 1e6)))
def test_the_neighbours_of_a_point_change_nothing(losses: np.ndarray) -> None:
    neighbours = np.vstack([losses, np.full((1, losses.shape[1]), np.nan)])
    together, beside = tallied(*losses.tolist()), tallied(*neighbours.tolist())
    for name, values in together.items():
        assert values.tobytes() == beside[name][:-1].tobytes()
        alone = np.concatenate([tallied(row)[name] for row in losses.tolist()])
        assert values.tobytes() == alone.tobytes()


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=60))
def test_no_measure_lies_between_minus_one_and_one(losses: list[float]) -> None:
    assert abs(tallied(losses)["measure"][0]) >= 1 - 1e-9


def grid_of() -> GridAxes:
    axes = map_config().grid
    assert axes is not None
    return axes


def test_a_map_in_numbers() -> None:
    arrays = empty_map(grid_of())
    assert map_metrics(arrays) == {"map/points": 0.0}
    arrays["measure"][0, :4] = [5, -3, 7, 2]
    arrays["final_loss"][0, :4] = [0.5, 0.001, 0.2, 0.4]
    arrays["diverged_step"][0, 1] = 9
    values = map_metrics(arrays)
    assert values == {
        "map/points": 4.0,
        "map/converged_share": 0.75,
        "map/not_finite_share": 0.25,
        "map/best_loss": 0.2,
        "map/best_learning_rate": arrays["x"][2],
        "map/best_output_learning_rate": arrays["y"][0],
    }
    assert best_position(arrays) == (0, 2)


def test_a_map_of_which_no_point_converges_has_no_best() -> None:
    arrays = empty_map(grid_of())
    arrays["measure"][...] = -1
    assert best_position(arrays) is None
    assert "map/best_loss" not in map_metrics(arrays)


def test_arrays_of_another_map_are_refused() -> None:
    arrays = empty_map(grid_of())
    check_map_arrays(arrays, grid_of())
    for name in arrays:
        with pytest.raises(ValueError, match="7 rows and 9 columns"):
            check_map_arrays({**arrays, name: arrays[name][:-1]}, grid_of())
        with pytest.raises(ValueError, match="7 rows and 9 columns"):
            check_map_arrays({key: array for key, array in arrays.items() if key != name}, grid_of())
    with pytest.raises(ValueError, match="7 rows and 9 columns"):
        check_map_arrays({**arrays, "measure": arrays["measure"] > 0}, grid_of())
