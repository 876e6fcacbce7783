"""Which points are repeats of one point, also where each of them has a split of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.points.repeats import (
    RAW_ROWS,
    differ_in_seeds_only,
    groups_of_repeats,
    in_order,
    keys_of_points,
    split_anew,
)
from tests.support.trained import config

# A seed and a split seed.
SAME_SPLIT = [(1, 1), (2, 1), (3, 1)]
SAME_AS_SEED = [(1, 1), (2, 2), (3, 3)]
OWN_SPLITS = [(1, 4), (2, 5), (3, 6)]
LAST = 2**32 - 1


def settings(seeds: Sequence[tuple[int, int]], rate: float = 0.1) -> list[dict[str, Any]]:
    return [
        config("data=mnist", f"optimizer.learning_rate={rate}", f"seed={seed}", f"data.split_seed={split}").model_dump(
            mode="json"
        )
        for seed, split in seeds
    ]


@pytest.mark.parametrize(
    ("seeds", "anew"),
    [(OWN_SPLITS, True), ([(LAST, 1), (0, 2)], True), (SAME_SPLIT, False), ([(1, 1)], False),
     ([(1, 1), (1, 2)], False), ([(1, 1), (2, 2), (2, 1)], False), ([(1, None), (2, None)], False)],
)  # fmt: skip
def test_rows_are_split_anew_where_the_split_seed_goes_with_the_seed(
    seeds: list[tuple[int, int | None]], anew: bool
) -> None:
    assert split_anew(seeds) == anew


@pytest.mark.parametrize("seeds", [SAME_SPLIT, OWN_SPLITS])
def test_repeats_of_two_rates_are_two_points(seeds: list[tuple[int, int]]) -> None:
    both = [*settings(seeds), *settings(seeds, 0.01)]
    assert groups_of_repeats(both) == [[0, 1, 2], [3, 4, 5]]
    signed = [{"config": one, "data": {"train_inputs.npy": "ab"}} for one in both]
    keys = keys_of_points(signed)
    assert len(set(keys)) == 2
    assert keys == [keys[0]] * 3 + [keys[3]] * 3
    # More repeats, and other ones, are the same point.
    assert keys_of_points(signed[1:3]) == keys[1:3]
    assert differ_in_seeds_only(signed[0], signed[2])
    assert not differ_in_seeds_only(signed[0], signed[3])


def test_a_split_seed_that_is_swept_is_a_setting() -> None:
    swept = settings([(seed, split) for split in (1, 2) for seed in (1, 2)])
    assert groups_of_repeats(swept) == [[0, 1], [2, 3]]
    assert groups_of_repeats(settings([(1, 1), (1, 2), (1, 3)])) == [[0], [1], [2]]


def test_repeats_with_splits_of_their_own_are_another_point_than_those_of_one_split() -> None:
    kept, own = (
        keys_of_points([{"config": one, "data": {}} for one in settings(seeds)])
        for seeds in (SAME_SPLIT, [(seed, seed) for seed, _ in SAME_SPLIT])
    )
    assert not set(kept) & set(own)


def test_other_data_is_another_point() -> None:
    content = settings(OWN_SPLITS)
    keys = keys_of_points([{"config": one, "data": {"sum": data}} for data in ("ab", "cd") for one in content])
    assert len(set(keys)) == 2


def test_repeats_on_splits_of_their_own_files_share_the_raw_rows() -> None:
    signed = [
        {"config": one, "data": {"train_inputs.npy": f"{raw}{split}"}, "row_shape": [split], RAW_ROWS: raw}
        for raw in ("ab", "cd")
        for split, one in enumerate(settings(OWN_SPLITS))
    ]
    keys = keys_of_points(signed)
    assert keys == [keys[0]] * 3 + [keys[3]] * 3
    assert keys[0] != keys[3]
    assert differ_in_seeds_only(signed[0], signed[1])
    assert not differ_in_seeds_only(signed[0], signed[3])
    # One split alone keeps the key that it has without its raw rows.
    alone = [{"config": one, "data": {}} for one in settings(SAME_SPLIT)]
    assert keys_of_points([{**one, RAW_ROWS: "ab"} for one in alone]) == keys_of_points(alone)


@pytest.mark.parametrize(
    ("seeds", "groups"),
    [
        # data.split_seed=1,101 repeats=3
        ([*SAME_AS_SEED, (1, 101), (2, 102), (3, 103)], [[0, 1, 2], [3, 4, 5]]),
        # data.split_seed=1,2 repeats=2
        ([(1, 1), (2, 2), (1, 2), (2, 3)], [[0, 1], [2, 3]]),
        # seed=1,11,21 repeats=2
        ([(1, 1), (2, 2), (11, 1), (12, 2), (21, 1), (22, 2)], [[0, 1], [2, 3], [4, 5]]),
        # One of the second split is left, and two of another one that is the same for both.
        ([*SAME_AS_SEED, (1, 101), (50, 7), (60, 7)], [[0, 1, 2], [3], [4, 5]]),
        # All pairs of swept seeds and splits, but for one that failed.
        ([(seed, split) for split in (1, 2, 3) for seed in (1, 2, 3)][:-1], [[0, 1, 2], [3, 4, 5], [6, 7]]),
    ],
)  # fmt: skip
def test_repeats_that_have_their_own_splits_are_one_point_for_each_distance(
    seeds: list[tuple[int, int]], groups: list[list[int]]
) -> None:
    found = settings(seeds)
    assert groups_of_repeats(found) == groups
    keys = keys_of_points([{"config": one, "data": {}} for one in found])
    assert [len({keys[index] for index in members}) for members in groups] == [1] * len(groups)
    assert len(set(keys)) == len(groups)


@pytest.mark.parametrize(
    ("seeds", "ordered"), [([3, 1, 2, 2], [1, 2, 3]), ([0, LAST, 1], [LAST, 0, 1]), ([7], [7]), ([5, 1], [1, 5])]
)
def test_after_the_largest_seed_comes_0(seeds: list[int], ordered: list[int]) -> None:
    assert in_order(seeds) == ordered
