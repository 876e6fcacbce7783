"""Repeats with a split of their own are compared, judged and counted as repeats of one point."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.backends.shared.history import History
from pipeline.points.point import Point, outcome_of, point_name
from pipeline.points.sweep_record import extremes
from pipeline.studies.grids import cells
from pipeline.studies.kinds import headline
from pipeline.studies.knobs import RATE, SEED, differ_in, layout, numeric_keys
from pipeline.studies.ranking import rank
from pipeline.studies.reach import judged_together
from tests.support.trained import config

METRIC = "validation/accuracy"
# By seed: an easy split, and two harder ones. The larger rate is better on each of them, by less than splits differ.
ACCURACIES = {0.01: [0.98, 0.90, 0.94], 0.1: [0.985, 0.904, 0.946]}


def trained_at(rate: float, seed: int, accuracy: float) -> Point:
    overrides = (f"optimizer.learning_rate={rate}", f"seed={seed}", f"data.split_seed={seed}", "repeats_split=true")
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
