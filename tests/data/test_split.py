"""Training and test rows: disjoint, complete, the same each time, with whole groups and with each class."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.data import Split
from pipeline.data.split import Sides, by_column, draw
from pipeline.system.errors import LabError

shares = st.floats(0.05, 0.6)
seeds = st.integers(0, 2**32 - 1)


def check_complete(sides: Sides, rows: int) -> None:
    assert sorted([*sides.train, *sides.test]) == list(range(rows))
    assert list(sides.train) == sorted(sides.train)
    assert list(sides.test) == sorted(sides.test)


@given(st.integers(40, 200), shares, seeds)
def test_every_row_is_on_one_side(rows: int, share: float, seed: int) -> None:
    settings = Split(test_share=share, split_seed=seed)
    sides = draw(settings, rows)
    check_complete(sides, rows)
    # scikit-learn rounds the number of test rows up.
    assert len(sides.test) == int(np.ceil(share * rows))
    again = draw(settings, rows)
    assert np.array_equal(sides.train, again.train)


@given(st.lists(st.integers(10, 40), min_size=2, max_size=5), st.floats(0.2, 0.6), seeds)
def test_each_class_has_its_share_of_test_rows(counts: list[int], share: float, seed: int) -> None:
    classes = [str(label) for label, count in enumerate(counts) for _ in range(count)]
    sides = draw(Split(test_share=share, split_seed=seed), len(classes), classes)
    check_complete(sides, len(classes))
    tested = Counter(classes[position] for position in sides.test)
    for label, count in enumerate(counts):
        assert abs(tested[str(label)] - share * count) < 2


@given(st.lists(st.integers(1, 6), min_size=5, max_size=30), shares, seeds)
def test_groups_stay_together(sizes: list[int], share: float, seed: int) -> None:
    groups = [f"group {number}" for number, size in enumerate(sizes) for _ in range(size)]
    sides = draw(Split(test_share=share, split_seed=seed), len(groups), groups=groups)
    check_complete(sides, len(groups))
    assert not {groups[position] for position in sides.train} & {groups[position] for position in sides.test}


def test_another_seed_draws_other_rows() -> None:
    one, other = (draw(Split(split_seed=seed), 100) for seed in (1, 2))
    assert not np.array_equal(one.test, other.test)


def test_without_a_share_there_are_no_test_rows() -> None:
    sides = draw(Split(test_share=0), 3)
    assert (sides.train.tolist(), sides.test.tolist()) == ([0, 1, 2], [])


def test_a_column_says_which_rows_are_test_rows() -> None:
    sides = by_column("file, column side", ["train", "TEST", " test ", "0", "true", "False", "1"])
    assert (sides.train.tolist(), sides.test.tolist()) == ([0, 3, 5], [1, 2, 4, 6])


@pytest.mark.parametrize(("values", "received"), [(["train", "tset"], "'tset'"), (["test", "test"], "test rows only")])
def test_a_column_that_says_something_else(values: list[str], received: str) -> None:
    with pytest.raises(LabError, match="column side") as caught:
        by_column("file, column side", values)
    assert received in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "classes", "groups", "received"),
    [
        (1, None, None, "1 rows"),
        (6, ["a", "a", "b", "b", "c", "c"], None, "6 rows of 3 classes"),
        (4, None, ["one"] * 4, "4 rows of 1 groups"),
    ],
)
def test_too_few_rows_classes_or_groups(
    rows: int, classes: list[str] | None, groups: list[str] | None, received: str
) -> None:
    with pytest.raises(LabError, match=r"test_share=0\.2") as caught:
        draw(Split(), rows, classes, groups)
    # In our words: those of scikit-learn speak of its parameters.
    assert caught.value.received == received
