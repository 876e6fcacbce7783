"""The search for the best rate: its intervals hold the true optimum, it saves runs, and it always ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.studies.statistics.parabola import optimum
from pipeline.sweep.combinations import Combination, combinations, next_round
from pipeline.sweep.refinement import Known, Refinement, Step, mean
from pipeline.system.errors import LabError

DECADES = (0.0001, 0.001, 0.01, 0.1)
HALF_DECADES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
Losses = Callable[[float], list[float]]


def search(listed: Sequence[float] = DECADES, tolerance: float = 0.1, beyond: float = 2.0) -> Refinement:
    return Refinement(tuple(listed), tolerance, beyond)


def searched(refinement: Refinement, losses: Losses, every: int = 2) -> tuple[dict[float, list[float]], str]:
    """Train as a command does; return the losses of all rates in the order of their training, and how it ended."""
    known: dict[float, list[float]] = {}
    step = Step(refinement.start(every), "open")
    while step.rates:
        assert not set(step.rates) & set(known)
        known |= {rate: losses(rate) for rate in step.rates}
        step = refinement.next_step(known)
    return known, step.reason


def parabola(place: float, height: float = 1.0) -> Losses:
    """Return a loss with its smallest value at 10**place."""
    return lambda rate: [height + (math.log10(rate) - place) ** 2]


def best_of(known: Known) -> float:
    return min(known, key=lambda rate: mean(known[rate]))


# --- synthetic sweeps


@pytest.mark.parametrize(("seeds", "noise"), [(1, 0.01), (2, 0.05), (3, 0.001), (3, 0.05), (3, 0.3), (5, 0.1)])
def test_the_interval_holds_the_true_optimum_and_half_of_the_runs_are_enough(seeds: int, noise: float) -> None:
    random = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        place = random.uniform(-3.7, -1.3)
        # What a seed adds to every rate says nothing about the best one.
        heights = 1 + random.normal(0, 0.1, seeds)

        def losses(rate: float, place: float = place, heights: np.ndarray = heights) -> list[float]:
            values = heights + (math.log10(rate) - place) ** 2 + random.normal(0, noise, seeds)
            return [float(value) for value in values]

        refinement = search(HALF_DECADES)
        known, _ = searched(refinement, losses)
        found = optimum(known)
        assert found is not None
        held += math.log10(found.low) <= place <= math.log10(found.high)
        assert min(known) <= found.low <= found.rate <= found.high <= max(known)
        assert len(known) <= refinement.grid_size(known) / 2
    assert held >= 0.93 * 200


@pytest.mark.parametrize("tolerance", [0.01, 0.1, 0.3])
@pytest.mark.parametrize("place", [-3.9, -3.5, -2.71, -2, -1.01])
def test_without_noise_the_best_rate_is_within_the_tolerance(place: float, tolerance: float) -> None:
    refinement = search(tolerance=tolerance)
    known, reason = searched(refinement, parabola(place))
    best = best_of(known)
    assert reason == "tolerance"
    assert abs(math.log10(best) - place) <= tolerance
    found = optimum(known)
    assert found is not None
    # A parabola is found exactly, whatever the rates are.
    assert math.log10(found.rate) == pytest.approx(place, abs=1e-6)
    assert found.high / found.low < 1.001


def test_a_cliff_beside_the_best_rate_does_not_move_the_optimum() -> None:
    def losses(rate: float) -> list[float]:
        cliff = 100.0 if rate > 0.02 else 0.0
        return [1 + (math.log10(rate) + 2) ** 2 + cliff]

    found = optimum(searched(search(HALF_DECADES), losses)[0])
    assert found is not None
    assert math.log10(found.rate) == pytest.approx(-2, abs=0.01)


def test_the_bootstrap_depends_on_its_seed_alone() -> None:
    random = np.random.default_rng(3)
    losses = parabola(-2.5)
    known = {rate: [losses(rate)[0] + float(random.normal(0, 0.1)) for _ in range(3)] for rate in HALF_DECADES}
    assert optimum(known) == optimum(dict(reversed(known.items())))
    other = optimum(known, seed=1)
    assert other is not None
    assert other != optimum(known)
    assert other.rate == pytest.approx(getattr(optimum(known), "rate", None))


def test_an_optimum_needs_three_rates_and_an_interval_a_residual() -> None:
    assert optimum({0.01: [1.0], 0.1: [2.0]}) is None
    assert optimum({0.01: [1.0], 0.1: [2.0], 1.0: [math.inf], 10.0: [math.nan]}) is None
    found = optimum({0.01: [2.0], 0.1: [1.0], 1.0: [2.0]})
    assert found is not None
    assert found == pytest.approx((0.1, 0.01, 1.0))


def test_an_optimum_does_not_leave_the_rates() -> None:
    for losses in ([3.0, 2.0, 1.1, 0.1], [0.1, 1.1, 2.0, 3.0], [1.0, 2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]):
        found = optimum({rate: [loss] for rate, loss in zip(DECADES, losses, strict=True)})
        assert found is not None
        assert DECADES[0] * (1 - 1e-12) <= found.low <= found.high <= DECADES[-1] * (1 + 1e-12)


def test_where_a_parabola_has_no_minimum_the_best_rate_is_the_optimum() -> None:
    losses = [0.0, 0.7, 1.0, 1.1]
    found = optimum({rate: [loss] for rate, loss in zip(DECADES, losses, strict=True)})
    assert found is not None
    assert found.rate == DECADES[0]
    assert (found.low, found.high) == pytest.approx((DECADES[0], DECADES[-1]))


def test_an_optimum_leaves_out_seeds_that_failed_and_rates_that_diverged() -> None:
    losses = parabola(-2.5)
    known = {rate: losses(rate) * 3 for rate in HALF_DECADES}
    whole = optimum(known)
    known[0.001] = [math.nan, *known[0.001][1:]]
    known[1.0] = [0.0, math.inf, 0.0]
    found = optimum(known)
    assert whole is not None
    assert found is not None
    assert found.rate == pytest.approx(whole.rate)


# --- the next rates


def test_a_search_begins_with_every_second_rate_but_with_three_at_least() -> None:
    assert search(HALF_DECADES).start(2) == [0.0001, 0.001, 0.01, 0.1]
    assert search(HALF_DECADES).start(3) == [0.0001, 0.003, 0.1]
    assert search(HALF_DECADES).start(9) == [0.0001, 0.003, 0.1]
    assert search(DECADES).start(2) == [0.0001, 0.01, 0.1]
    assert search(DECADES).start(1) == list(DECADES)
    assert search((0.1, 1.0)).start(2) == [0.1, 1.0]
    assert search((0.1,)).start(2) == [0.1]


def test_listed_rates_are_tried_before_others() -> None:
    known = {0.0001: [3.0], 0.001: [1.0], 0.01: [2.0], 0.1: [3.0]}
    assert search(HALF_DECADES).next_step(known).rates == [0.0003, 0.003]
    assert search().next_step(known).rates == [0.000316, 0.00316]
    assert search((*HALF_DECADES, 0.5)).next_step(known | {0.1: [0.0]}).rates == [0.5]


def test_beyond_an_edge_are_steps_up_to_a_limit() -> None:
    falling = search((0.01, 0.1), beyond=1.5)
    known, reason = searched(falling, lambda rate: [-math.log10(rate)])
    assert list(known)[:4] == [0.01, 0.1, 1.0, 3.16]
    assert falling.limits == (0.000316, 3.16)
    assert reason == "limit"
    known, reason = searched(search((0.01, 0.1), beyond=0), lambda rate: [-math.log10(rate)])
    assert max(known) == 0.1
    assert reason == "limit"


def test_one_rate_is_refined_on_both_sides() -> None:
    refinement = search((0.01,))
    assert refinement.next_step({0.01: [1.0]}).rates == [0.00316, 0.0316]
    known, reason = searched(refinement, parabola(-2.3))
    assert abs(math.log10(best_of(known)) + 2.3) <= 0.1
    assert reason == "tolerance"


def test_where_all_diverged_smaller_rates_are_tried_down_to_the_limit() -> None:
    known, reason = searched(search(), lambda rate: [math.inf])
    assert reason == "diverged"
    assert min(known) == search().limits[0] == 0.000001
    known, reason = searched(search(), lambda rate: [math.inf if rate > 0.00002 else 1 / rate])
    assert reason == "tolerance"
    assert 0.00001 <= best_of(known) <= 0.00002


def test_rates_that_diverged_are_the_worst() -> None:
    losses = parabola(-2)
    known, _ = searched(search(), lambda rate: [math.inf] if rate > 0.02 else losses(rate))
    assert abs(math.log10(best_of(known)) + 2) <= 0.1


def test_failed_rates_do_not_stop_a_search_and_are_not_tried_again() -> None:
    losses = parabola(-2.4)
    known, reason = searched(search(), lambda rate: [math.nan] if rate in (0.000316, 0.00316) else losses(rate))
    assert reason == "tolerance"
    assert math.isnan(known[0.00316][0])
    assert abs(math.log10(best_of(known)) + 2.4) <= 0.1
    assert searched(search(), lambda rate: [math.nan])[1] == "failed"


def test_a_tie_is_searched_between_its_rates() -> None:
    known, _ = searched(search((0.001, 0.01, 0.1, 1.0)), parabola(-1.5), every=1)
    assert abs(math.log10(best_of(known)) + 1.5) <= 0.1
    assert search((0.01, 0.1, 1.0)).next_step({0.01: [1.0], 0.1: [1.0], 1.0: [1.0]}).rates == [0.0316, 0.316]


def test_noise_ends_a_search_only_if_both_neighbours_are_like_the_best() -> None:
    even = {0.006: [1.0, 1.2, 0.9], 0.01: [0.9, 1.1, 1.0], 0.017: [1.1, 0.9, 1.1]}
    refinement = search((0.006, 0.01, 0.017))
    assert refinement.next_step(even) == Step([], "noise")
    # The optimum may lie between two rates that are alike.
    assert refinement.next_step(even | {0.017: [9.0, 9.1, 9.2]}).rates == [0.00775, 0.013]
    assert refinement.next_step({rate: losses[:1] for rate, losses in even.items()}).rates == [0.00775, 0.013]
    # Rates far apart are no reason to end.
    far = {rate**2: losses for rate, losses in even.items()}
    assert search(tuple(far)).next_step(far).rates == [0.00006, 0.00017]


@given(
    listed=st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=6, unique=True),
    tolerance=st.floats(0.01, 1.0),
    beyond=st.floats(0.0, 3.0),
    every=st.integers(1, 4),
    pool=st.lists(st.one_of(st.floats(0, 10), st.just(math.inf), st.just(math.nan)), min_size=1),
)
def test_a_search_proposes_each_rate_once_within_the_limits_and_ends(
    listed: list[float], tolerance: float, beyond: float, every: int, pool: list[float]
) -> None:
    refinement = search(sorted(listed), tolerance, beyond)
    taken = iter(range(10**6))
    # The rates are checked for repetition where they are trained.
    known, reason = searched(refinement, lambda rate: [pool[next(taken) % len(pool)]], every)
    low, high = refinement.limits
    assert all(low <= rate <= high for rate in known)
    assert reason != "open"
    assert len(known) <= len(listed) + 2 * (math.log10(high) - math.log10(low)) / tolerance + 4


# --- all combinations of a command


def points(rates: str, sizes: str) -> list[list[str]]:
    return [
        [f"optimizer.learning_rate={rate}", f"model.hidden_size={size}", "seed=0"]
        for rate in rates.split(",")
        for size in sizes.split(",")
    ]


def train(members: Sequence[Combination], chosen: Sequence[tuple[Combination, float]]) -> None:
    for one, rate in chosen:
        one.known[rate] = parabola(-2)(rate) * one.repeats


def test_each_combination_is_refined_for_itself_in_common_rounds() -> None:
    members = combinations(points("0.001,0.010,0.1", "4,32"), 0.1, 2.0)
    assert [one.name for one in members] == ["model.hidden_size=4", "model.hidden_size=32"]
    chosen = next_round(members, 2, None)
    # As typed, so that the points have the names that they have in a grid.
    assert [one.point(rate)[0] for one, rate in chosen[::2]] == [
        f"optimizer.learning_rate={rate}" for rate in ("0.001", "0.010", "0.1")
    ]
    train(members, chosen)
    chosen = next_round(members, 2, None)
    assert [one.point(rate) for one, rate in chosen] == [
        [f"optimizer.learning_rate={rate}", f"model.hidden_size={size}", "seed=0"]
        for rate in (0.00316, 0.0316)
        for size in (4, 32)
    ]
    while chosen:
        train(members, chosen)
        chosen = next_round(members, 2, None)
    assert members[0].line() == (
        "model.hidden_size=4: best rate 0.01, by a parabola 0.01 (95 % interval 0.01 to 0.01); "
        "the next rates are at most 0.1 decades away; 11 runs, a grid as fine takes 21"
    )


def test_a_budget_gives_each_combination_its_first_rate_before_a_second() -> None:
    members = combinations(points("0.001,0.01,0.1", "4,32"), 0.1, 2.0)
    for one in members:
        one.repeats = 3
    with pytest.raises(LabError, match=r"(?s)does not hold.*at least 18,.*received: 17.*most_points=18"):
        next_round(members, 2, 17)
    train(members, next_round(members, 2, 18))
    assert next_round(members, 2, 18) == []
    assert next_round(members, 2, 20) == []
    assert [rate for _, rate in next_round(members, 2, 25)] == [0.00316, 0.00316]
    assert [one.name for one, _ in next_round(members, 2, 29)] == [members[0].name, members[1].name, members[0].name]
    assert "the budget of most_points is spent; 9 runs, a grid as fine takes 63" in members[0].line()


def test_a_line_says_why_there_is_no_best_rate() -> None:
    (only,) = combinations(points("0.001,0.01,0.1", "4"), 0.1, 2.0)
    only.known = {rate: [math.nan] for rate in (0.001, 0.01, 0.1)}
    assert only.line() == "no rate could be trained; 3 runs, a grid as fine takes 21"
    only.known = dict(searched(only.search, lambda rate: [math.inf])[0])
    assert only.line().startswith("every rate diverged, down to 1e-05; ")
    only.known = dict(searched(only.search, lambda rate: [-math.log10(rate)])[0])
    assert "best rate 10, without an interval, as the losses beside it are no parabola; " in only.line()
    assert "it is the largest rate, beyond which no rate is tried; " in only.line()


@pytest.mark.parametrize(
    ("axes", "received"),
    [
        ([["seed=1"], ["seed=2"]], "received: seed=1"),
        ([["optimizer.learning_rate=0"]], "numbers above 0"),
        ([["optimizer.learning_rate=fast"]], "received: optimizer.learning_rate=fast"),
        ([["optimizer.learning_rate=nan"]], "numbers above 0"),
    ],
)
def test_a_sweep_without_rates_above_0_is_refused(axes: list[list[str]], received: str) -> None:
    with pytest.raises(LabError, match=rf"(?s)hydra/sweeper=refine.*{received}.*to do:"):
        combinations(axes, 0.1, 2.0)
