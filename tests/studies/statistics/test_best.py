"""The set of points that cannot be told from the best, on synthetic objectives whose optimum and noise are known."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from pipeline.studies.statistics.best import LEVEL, BestSet, best_set

# Mean losses over seven rates: a bowl, a plateau with one good rate less, all equal, and two equal ones.
BOWL = np.array([2.0, 1.0, 0.4, 0.1, 0.0, 0.3, 1.5])
PLATEAU = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0])
EQUAL = np.zeros(7)
MANY = np.zeros(20)
FAR = np.array([5.0, 5.0, 0.0, 0.0, 5.0, 5.0, 5.0])
DRAWS = 1000


def drawn(means: NDArray[np.float64], seeds: int, widths: Sequence[float], generator: np.random.Generator) -> BestSet:
    """Compare points with normal noise of their own and a noise that the points of a seed share."""
    own = generator.normal(size=(len(means), seeds)) * np.resize(widths, len(means))[:, None]
    shared = generator.normal(0, 0.3, seeds)
    return best_set([dict(enumerate(row)) for row in (means[:, None] + own + shared).tolist()], larger_is_better=False)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("widths", [(0.2,), (0.1, 0.3), (0.05,) * 6 + (1.0,)], ids=["one", "two", "one point's"])
@pytest.mark.parametrize("means", [BOWL, PLATEAU, EQUAL, FAR], ids=["bowl", "plateau", "equal", "far"])
def test_every_true_best_is_in_the_set_in_95_percent_of_1000_draws(
    means: NDArray[np.float64], seeds: int, widths: Sequence[float]
) -> None:
    generator = np.random.default_rng(1)
    best = set(np.flatnonzero(means == means.min()).tolist())
    wrong = sum(not best <= set(drawn(means, seeds, widths, generator).members) for _ in range(DRAWS))
    # 5 %, and two standard deviations of the count of 1,000 draws.
    assert wrong / DRAWS <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / DRAWS)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_no_point_of_many_equal_ones_is_excluded_in_95_percent_of_draws(seeds: int) -> None:
    generator = np.random.default_rng(1)
    wrong = sum(len(drawn(MANY, seeds, (0.2,), generator).members) < len(MANY) for _ in range(DRAWS))
    assert wrong / DRAWS <= 0.05


@pytest.mark.parametrize("seeds", [3, 5])
def test_two_points_are_compared_by_the_paired_t_test(seeds: int) -> None:
    generator = np.random.default_rng(1)
    for shift in np.linspace(0, 1, 30):
        values = generator.normal(size=(2, seeds))
        values[0] += shift
        found = best_set([dict(enumerate(row)) for row in values.tolist()], larger_is_better=True)
        assert (len(found.members) == 1) == (stats.ttest_rel(*values).pvalue <= LEVEL)


def test_three_seeds_of_a_real_grid_tell_most_rates_apart() -> None:
    """Test accuracies of a small MNIST network at the rates 0.001, 0.003, 0.01 and 0.03."""
    rows = [[0.939, 0.9364, 0.9352], [0.9523, 0.9534, 0.9498], [0.9596, 0.9552, 0.9615], [0.9504, 0.951, 0.9472]]
    assert best_set([dict(enumerate(row)) for row in rows], larger_is_better=True, resolution=1e-4).members == (1, 2, 3)


def test_points_that_are_plainly_worse_are_told_apart() -> None:
    generator = np.random.default_rng(1)
    sets = [drawn(FAR, 5, (0.2,), generator) for _ in range(100)]
    assert np.mean([found.members == (2, 3) for found in sets]) > 0.9


def test_how_much_worse_has_an_interval() -> None:
    found = best_set([{1: 0.98, 2: 0.982, 3: 0.981}, {1: 0.90, 2: 0.901, 3: 0.902}], larger_is_better=True)
    assert found.members == (0,)
    assert found.behind[1].mean == pytest.approx(0.08)
    assert found.behind[1].half_width == pytest.approx(0.0025, abs=1e-4)


@pytest.mark.parametrize(
    ("points", "best", "members", "tested"),
    [
        ([], None, (), False),
        ([{1: 0.5}], 0, (0,), False),
        ([{1: 0.5, 2: 0.6}], 0, (0,), True),
        ([{1: 0.5}, {1: 0.4}], 1, (1,), False),
        ([{1: math.nan}, {1: math.inf}], None, (), False),
        ([{1: 0.5, 2: 0.5}, {1: 0.5, 2: 0.5}], 0, (0, 1), True),
        ([{1: 0.5, 2: math.nan}, {1: 0.9, 2: 0.9}], 1, (1,), True),
    ],
    ids=["none", "one point, one seed", "one point", "one seed", "all diverged", "a tie", "one diverged seed"],
)
def test_small_cases(points: list[dict[int, float]], best: int | None, members: tuple[int, ...], tested: bool) -> None:
    found = best_set(points, larger_is_better=False)
    assert (found.best, found.members, found.tested) == (best, members, tested)


def test_a_point_of_which_a_seed_diverged_is_no_candidate_beside_others() -> None:
    found = best_set([{1: 0.1, 2: 0.1, 3: math.inf}, {1: 0.9, 2: 0.91, 3: 0.9}], larger_is_better=False)
    assert found.best == 1
    assert found.partly == (0,)


def test_accuracies_that_differ_by_one_row_in_each_seed_are_not_told_apart() -> None:
    points = [{1: 0.90, 2: 0.93, 3: 0.96}, {1: 0.93, 2: 0.96, 3: 0.99}]
    assert best_set(points, larger_is_better=True).members == (1,)
    assert best_set(points, larger_is_better=True, resolution=0.03).members == (0, 1)


@given(
    values=st.lists(st.lists(st.floats(-100, 100) | st.just(math.nan), min_size=3, max_size=3), min_size=1, max_size=6)
)
def test_the_best_mean_is_always_in_the_set(values: list[list[float]]) -> None:
    found = best_set([dict(enumerate(row)) for row in values], larger_is_better=True)
    if found.best is not None:
        assert found.best in found.members
        assert not set(found.members) & set(found.behind)


@pytest.mark.filterwarnings("error")
def test_losses_near_the_largest_float_do_not_hide_how_the_others_differ() -> None:
    points = [{1: 0.1, 2: 0.11, 3: 0.1}, {1: 0.5, 2: 0.51, 3: 0.52}, {1: 1e308, 2: 1.7e308, 3: 1e308}]
    found = best_set(points, larger_is_better=False)
    assert found.best == 0
    assert 0 in found.members
