"""Repeats with a split of their own are compared, judged and counted as repeats of one point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.backends.shared.history import History
from pipeline.data.prepared import write_arrays
from pipeline.points.point import Point, outcome_of, point_name
from pipeline.points.sweep_record import extremes
from pipeline.studies.grids import cells
from pipeline.studies.kinds import headline
from pipeline.studies.knobs import RATE, SEED, differ_in, layout, numeric_keys
from pipeline.studies.ranking import rank
from pipeline.studies.reach import judged_together
from pipeline.sweep.jobs import JobMaker
from pipeline.sweep.seeds import repeated
from pipeline.tracking.pages.repeats import repeats_note
from tests.support.trained import config

METRIC = "validation/accuracy"
# By seed: an easy split, and two harder ones. The larger rate is better on each of them, by less than splits differ.
ACCURACIES = {0.01: [0.98, 0.90, 0.94], 0.1: [0.985, 0.904, 0.946]}

IMAGES = {
    f"{part}_{role}": np.zeros((10, 4)[: 1 + (role == "inputs")], np.uint8)
    for part in ("train", "test")
    for role in ("inputs", "targets")
}


def trained_at(rate: float, seed: int, accuracy: float, split: int | None = None) -> Point:
    seeds = (f"seed={seed}", f"data.split_seed={split or seed}", "repeats_split=true")
    overrides = (f"optimizer.learning_rate={rate}", *seeds)
    one = config("data=mnist", *overrides)
    history = History(epochs=2)
    history.record(0, {"train/loss": 2.3, METRIC: 0.1})
    history.record(2, {"train/loss": 1 - accuracy, METRIC: accuracy})
    return Point(point_name(one, overrides), Path(), one, history, outcome_of(history))


@pytest.fixture
def points() -> list[Point]:
    return [
        trained_at(rate, seed, accuracy)
        for rate, values in ACCURACIES.items()
        for seed, accuracy in enumerate(values, start=1)
    ]


def test_they_are_one_point_that_is_compared_split_by_split(points: list[Point]) -> None:
    found = cells(points, layout(points), METRIC)
    assert [sorted(cell.by_seed) for cell in found] == [[1, 2, 3], [1, 2, 3]]
    assert [knob.key for knob in layout(points).knobs] == [RATE]
    assert differ_in(points, RATE, SEED)
    assert numeric_keys([point.config for point in points]) == [RATE]
    ranking = rank(found, METRIC)
    assert ranking.found.tested
    assert [cell.points[0].learning_rate for cell in ranking.members] == [0.1]
    assert headline(points).startswith("best: rate 0.1, validation accuracy 0.94 ± 0.10 (3 seeds)")


def test_they_show_the_noise_of_their_point(points: list[Point]) -> None:
    reaches = [point.reach for point in judged_together(points)]
    assert all(reach is not None and reach.points == 6 for reach in reaches)
    assert all(reach is not None and reach.noise[METRIC] > 0.02 for reach in reaches)


def test_the_best_of_a_sweep_is_their_mean(points: list[Point]) -> None:
    assert extremes(points)[f"best/{METRIC}"] == pytest.approx(0.945)


def test_a_split_seed_that_is_swept_is_a_knob(points: list[Point]) -> None:
    first = points[0]
    data = first.config.data.model_copy(update={"split_seed": 2})
    other = Point("", Path(), first.config.model_copy(update={"data": data}), first.history, first.outcome)
    assert [knob.key for knob in layout([first, other]).knobs] == ["data.split_seed"]


@pytest.mark.parametrize(
    ("seeds", "shown"),
    [
        # data.split_seed=1,101 repeats=2
        ([(1, 1), (2, 2), (1, 101), (2, 102)], (1, 101)),
        # seed=1,11 repeats=2: both begin with the same split.
        ([(1, 1), (2, 2), (11, 1), (12, 2)], ("seed+0", "seed-10")),
    ],
)
def test_several_first_splits_are_a_knob(seeds: list[tuple[int, int]], shown: tuple[int | str, ...]) -> None:
    points = [trained_at(rate, seed, 0.9 + rate, split) for rate in (0.01, 0.05) for seed, split in seeds]
    found = layout(points)
    assert [(knob.key, knob.values) for knob in found.knobs] == [
        (RATE, (0.01, 0.05)),
        ("data.split_seed", shown),
    ]
    assert [len(cell.points) for cell in cells(points, found, METRIC)] == [2, 2, 2, 2]


def test_names_have_the_split_seed_where_the_seed_does_not_tell(tmp_path: Path) -> None:
    write_arrays(tmp_path / "data" / "prepared" / "mnist", {"name": "mnist", "classes": 10}, IMAGES, {})
    common = ("data=mnist", "repeats=2", "repeats_split=true")
    maker = JobMaker(tmp_path, config(*common))
    names = []
    for typed in ("data.split_seed=1", "data.split_seed=101"):
        names += [maker.job(one, overrides).name for one, overrides in repeated(config(*common, typed), [typed])]
    assert [name.partition(" seed")[2] for name in names] == ["=1", "=2", "=1 split_seed=101", "=2 split_seed=102"]


def test_the_command_of_repeats_asks_for_seeds_that_begin_again_at_0() -> None:
    last = 2**32 - 1
    around = [trained_at(0.1, seed, 0.9, split) for seed, split in ((0, 6), (last, 5), (1, 7))]
    command = f"seed={last} data.split_seed=5 repeats=3 repeats_split=true"
    assert f"Run it again: `python -m pipeline.train {command}`" in repeats_note("rate", around, [])
    apart = [trained_at(0.1, seed, 0.9) for seed in (1, 5000)]
    assert "Run it again" not in repeats_note("rate", apart, [])
