"""Training, validation and test rows: disjoint, complete, the same each time, with whole groups and with each class."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.data import HeldBack, Split
from pipeline.data.split import Sides, by_column, draw, held_back
from pipeline.data.validation import validation_rows
from pipeline.system.errors import LabError

shares = st.floats(0.05, 0.6)
seeds = st.integers(0, 2**32 - 1)


def check_complete(sides: Sides, rows: int) -> None:
    assert sorted([*sides.train, *sides.validation, *sides.test]) == list(range(rows))
    for side in (sides.train, sides.validation, sides.test):
        assert list(side) == sorted(side)


@given(st.integers(40, 200), shares, seeds)
def test_every_row_is_on_one_side(rows: int, share: float, seed: int) -> None:
    settings = Split(test_share=share, split_seed=seed)
    sides = draw(settings, rows)
    check_complete(sides, rows)
    # scikit-learn rounds the number of test rows up.
    assert len(sides.test) == int(np.ceil(share * rows))
    left = rows - len(sides.test)
    assert len(sides.validation) == max(1, round(0.2 * left))
    again = draw(settings, rows)
    assert np.array_equal(sides.train, again.train)
    assert np.array_equal(sides.validation, again.validation)


@given(st.lists(st.integers(10, 40), min_size=2, max_size=5), st.floats(0.2, 0.6), seeds)
def test_each_class_has_its_share_of_test_and_validation_rows(counts: list[int], share: float, seed: int) -> None:
    classes = [str(label) for label, count in enumerate(counts) for _ in range(count)]
    sides = draw(Split(test_share=share, split_seed=seed), len(classes), classes)
    check_complete(sides, len(classes))
    tested = Counter(classes[position] for position in sides.test)
    held_back = Counter(classes[position] for position in sides.validation)
    for label, count in enumerate(counts):
        assert abs(tested[str(label)] - share * count) < 2
        assert abs(held_back[str(label)] - 0.2 * (count - tested[str(label)])) < 2


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.floats(0.01, 0.9), seeds)
def test_no_class_is_without_a_training_row(counts: list[int], share: float, seed: int) -> None:
    classes = np.repeat(np.arange(len(counts)), counts)
    settings = HeldBack(validation_share=share, split_seed=seed)
    try:
        drawn = validation_rows(settings, len(classes), classes)
    except LabError:
        assert max(1, round(share * len(classes))) > len(classes) - len(counts)
        return
    assert drawn.sum() == max(1, round(share * len(classes)))
    assert set(classes[~drawn]) == set(range(len(counts)))


def test_a_sixth_of_60000_images_is_10000() -> None:
    drawn = validation_rows(HeldBack(), 60_000, np.random.default_rng(0).integers(0, 10, 60_000))
    assert drawn.sum() == 10_000


@given(st.lists(st.integers(1, 6), min_size=5, max_size=30), shares, seeds)
def test_groups_stay_together(sizes: list[int], share: float, seed: int) -> None:
    groups = [f"group {number}" for number, size in enumerate(sizes) for _ in range(size)]
    sides = draw(Split(test_share=share, split_seed=seed), len(groups), groups=groups)
    check_complete(sides, len(groups))
    sets = [{groups[position] for position in side} for side in (sides.train, sides.validation, sides.test)]
    assert sum(map(len, sets)) == len(set(groups))
    assert all(sets)


def test_another_seed_draws_other_rows() -> None:
    one, other = (draw(Split(split_seed=seed), 100) for seed in (1, 2))
    assert not np.array_equal(one.test, other.test)
    assert not np.array_equal(one.validation, other.validation)


def test_without_a_share_there_are_no_test_rows() -> None:
    sides = draw(Split(test_share=0, validation_share=0), 3)
    assert (sides.train.tolist(), sides.validation.tolist(), sides.test.tolist()) == ([0, 1, 2], [], [])


def test_a_column_says_which_rows_are_test_rows() -> None:
    sides = by_column("file, column side", ["train", "TEST", " test ", "0", "true", "False", "1"])
    assert (sides.train.tolist(), sides.test.tolist()) == ([0, 3, 5], [1, 2, 4, 6])
    assert not sides.validation.size


def test_a_column_says_which_rows_are_validation_rows() -> None:
    sides = by_column("file, column side", ["train", "Validation", "test"])
    assert (sides.train.tolist(), sides.validation.tolist(), sides.test.tolist()) == ([0], [1], [2])
    # None are drawn besides those.
    assert held_back(Split(validation_share=0.5), sides) is sides
    with pytest.raises(LabError, match="although the config has none") as caught:
        by_column("file, column side", ["train", "validation"], validation=False)
    assert caught.value.received == "1 validation rows"


@pytest.mark.parametrize(
    ("values", "received"),
    [
        (["train", "tset"], "'tset'"),
        (["test", "test"], "test rows only"),
        (["validation", "test"], "validation and test rows only"),
    ],
)
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


@pytest.mark.parametrize(
    ("rows", "classes", "groups", "received"),
    [
        (1, None, None, "1 training rows"),
        (4, ["a", "b", "c", "d"], None, "4 training rows of 4 classes"),
        (4, None, ["one"] * 4, "4 training rows of 1 groups"),
    ],
)
def test_too_few_training_rows_to_hold_some_back(
    rows: int, classes: list[str] | None, groups: list[str] | None, received: str
) -> None:
    with pytest.raises(LabError, match=r"validation_share=0\.2") as caught:
        draw(Split(test_share=0), rows, classes, groups)
    assert caught.value.received == received
