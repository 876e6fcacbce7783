"""A point with several repeats is trained with that many seeds."""

import pytest

from pipeline.config.schema import SEEDS, flatten
from pipeline.points.identity import signature
from tests.support.trained import config


@pytest.mark.parametrize(("seed", "expected"), [(1, [1, 2, 3]), (7, [7, 8, 9]), (SEEDS - 2, [SEEDS - 2, SEEDS - 1, 0])])
def test_each_repeat_has_the_next_seed(seed: int, expected: list[int]) -> None:
    repeated = config(f"seed={seed}", "repeats=3").seeds()
    assert [one.seed for one in repeated] == expected
    assert {one.repeats for one in repeated} == {1}


def test_a_point_of_one_seed_is_the_same_however_many_repeats_were_asked_for() -> None:
    alone = config("seed=2")
    among_others = config("seed=1", "repeats=5").seeds()[1]
    assert signature(alone, {}) == signature(among_others, {})
    assert dict(flatten(alone)) == dict(flatten(among_others))
