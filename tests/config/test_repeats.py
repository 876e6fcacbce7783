"""A point with several repeats is trained with that many seeds."""

import pytest

from pipeline.config.data import SEEDS
from pipeline.config.schema import flatten
from pipeline.points.identity import signature
from pipeline.points.point import point_name
from pipeline.sweep.seeds import repeated
from pipeline.system.errors import LabError
from tests.support.trained import config


@pytest.mark.parametrize(("seed", "expected"), [(1, [1, 2, 3]), (7, [7, 8, 9]), (SEEDS - 2, [SEEDS - 2, SEEDS - 1, 0])])
def test_each_repeat_has_the_next_seed(seed: int, expected: list[int]) -> None:
    found = config(f"seed={seed}", "repeats=3").seeds()
    assert [one.seed for one in found] == expected
    assert {one.repeats for one in found} == {1}


def test_a_point_of_one_seed_is_the_same_however_many_repeats_were_asked_for() -> None:
    alone = config("seed=2")
    among_others = config("seed=1", "repeats=5").seeds()[1]
    assert signature(alone, {}) == signature(among_others, {})
    assert dict(flatten(alone)) == dict(flatten(among_others))


@pytest.mark.parametrize(("split", "expected"), [(1, [1, 2, 3]), (SEEDS - 1, [SEEDS - 1, 0, 1])])
def test_each_repeat_has_the_next_split_if_that_is_asked_for(split: int, expected: list[int]) -> None:
    asked = config("data=mnist", f"data.split_seed={split}", "seed=7", "repeats=3", "repeats_split=true")
    found = asked.seeds()
    assert [one.data.model_dump()["split_seed"] for one in found] == expected
    assert [one.seed for one in found] == [7, 8, 9]
    assert asked.model_copy(update={"repeats_split": False}).seeds()[2].data == asked.data


def test_the_first_repeat_is_the_same_point_without_a_split_for_each() -> None:
    alone = config("data=mnist")
    first, second = config("data=mnist", "repeats=2", "repeats_split=true").seeds()
    assert signature(first, {}) == signature(alone, {})
    assert signature(second, {}) == signature(config("data=mnist", "seed=2", "data.split_seed=2"), {})
    assert dict(flatten(first)) == dict(flatten(alone))


def test_a_repeat_is_asked_for_and_named_by_its_seed() -> None:
    typed = ["data.split_seed=3", "optimizer.learning_rate=0.1", "repeats=2", "repeats_split=true"]
    *_, (second, overrides) = repeated(config("data=mnist", *typed), typed)
    own = ["optimizer.learning_rate=0.1", "repeats_split=true", "seed=2", "data.split_seed=4", "repeats=1"]
    assert overrides == own
    assert config("data=mnist", *overrides) == second
    assert point_name(second, overrides) == "learning_rate=0.1 hidden_size=128 seed=2"


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [(["experiment=three_bits"], "needs data of which rows are held back, such as mnist; three_bits is a table"),
     (["data=mnist", "data.validation_share=0"], "needs rows that are drawn.* received data.validation_share=0"),
     (["data=iris", "data.validation_share=0", "data.test_share=0"], "needs rows that are drawn"),
     (["data=churn", "data.validation_share=0", "data.test_path=b.csv"], "needs rows that are drawn"),
     (["data=churn", "data.validation_share=0", "data.split_column=side"], "needs rows that are drawn")],
)  # fmt: skip
def test_a_split_for_each_repeat_needs_rows_that_are_drawn(overrides: list[str], problem: str) -> None:
    with pytest.raises(LabError, match=problem):
        config(*overrides, "repeats_split=true")


@pytest.mark.parametrize(
    "overrides", [["data=iris", "data.validation_share=0"], ["data=churn", "data.test_path=b.csv"]]
)
def test_a_split_for_each_repeat_of_data_whose_test_or_validation_rows_are_drawn(overrides: list[str]) -> None:
    config(*overrides, "repeats_split=true")
