"""Intervals and the set of the best rates on a quadratic bowl that a config of this project describes, and trains.

A network of 32 weights w without biases sees 32 rows, each with one input a and the target 0, so that its loss is the
mean of (a w)^2: a bowl, steeper along the weights with a = 2 than along those with a = 1. One step of gradient descent
multiplies a weight by 1 - 2 rate a^2 / 32. The weights start uniformly between -1 and 1, where w^2 is 1/3 on average,
so that the loss after two steps is on average the mean of a^2 (1 - 2 rate a^2 / 32)^4 / 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pipeline.points.point import Point, outcome_of
from pipeline.studies.grids import Cell, cells
from pipeline.studies.kinds import headline
from pipeline.studies.knobs import layout
from pipeline.studies.ranking import rank
from pipeline.studies.reach import judged_together
from tests.support.trained import config, trained

INPUTS = np.repeat([1.0, 2.0], 16)
RATES = (4.0, 4.5, 5.0, 5.5, 6.0)
EXPECTED = [float(np.mean(INPUTS**2 * (1 - 2 * rate * INPUTS**2 / 32) ** 4) / 3) for rate in RATES]
BEST = RATES[int(np.argmin(EXPECTED))]
DRAWS = 200
SEEDS = 5
BOWL = (
    "experiment=line_y2x",
    f"data.inputs={np.diag(INPUTS).tolist()}",
    f"data.targets={np.zeros((32, 1)).tolist()}",
    "gradient=backpropagation",
    "model.bias=false",
    "model.initializer=uniform",
    "model.initial_weight=0",
    "training.epochs=2",
    "recording.snapshots=2",
    "recording.weight_metrics=false",
    "report.metric=train/loss",
)


@pytest.fixture(scope="module")
def draws() -> list[list[Point]]:
    """The points of each draw: all rates, with seeds that no other draw has. They train as one stack."""
    base = config(*BOWL)
    rates = [base.model_copy(update={"optimizer": base.optimizer.model_copy(update={"learning_rate": rate})})
             for rate in RATES]  # fmt: skip
    configs = [one.model_copy(update={"seed": seed}) for seed in range(DRAWS * SEEDS) for one in rates]
    points = [
        Point(f"learning_rate={one.optimizer.learning_rate} seed={one.seed}", Path(), one, history, outcome_of(history))
        for one, history in zip(configs, trained(*configs), strict=True)
    ]
    size = len(RATES) * SEEDS
    return [points[start : start + size] for start in range(0, len(points), size)]


@pytest.fixture(scope="module")
def by_rate(draws: Sequence[Sequence[Point]]) -> list[list[Cell]]:
    """A cell for each rate, of each draw."""
    return [cells(points, layout(points), "train/loss") for points in draws]


def test_intervals_of_95_percent_have_the_known_mean_loss_in_so_many_draws(by_rate: Sequence[Sequence[Cell]]) -> None:
    intervals = np.array([[cell.estimate.interval for cell in found] for found in by_rate])
    covered = np.sum((intervals[..., 0] <= EXPECTED) & (intervals[..., 1] >= EXPECTED), axis=0)
    # Of 200 draws 190 on average; by chance each of the five rates is outside in one of 1,000 tests.
    low, high = stats.binom.interval(0.999, DRAWS, 0.95)
    assert low <= covered.min()
    assert covered.max() <= high


def test_the_best_rate_is_in_the_set_in_95_percent_of_draws(by_rate: Sequence[Sequence[Cell]]) -> None:
    rankings = [rank(found, "train/loss") for found in by_rate]
    sets = [{cell.points[0].learning_rate for cell in ranking.members} for ranking in rankings]
    # At most 5 % are wrong, and two standard deviations of the count of 200 draws, 3 points.
    wrong = sum(BEST not in one for one in sets)
    assert wrong / DRAWS <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / DRAWS)
    # The sets say something: they leave most rates out.
    assert np.mean([len(one) for one in sets]) < 3


def test_the_best_rate_of_a_bowl_is_said_and_is_not_behind_itself(draws: Sequence[Sequence[Point]]) -> None:
    """All targets are 0, so that no network is better than a constant answer: the other trainings show what is good."""
    points = judged_together(draws[0])
    assert headline(points).startswith("best: rate 5, training loss 0.037 ± 0.013 (5 seeds); ")
    assert "rates 5 and 4, 4.5 and 5.5 (4 of 5 seeds each) still improve" in headline(points)
    verdicts = {point.diagnosis.label for point in points if point.learning_rate == BEST}
    assert verdicts == {"improving"}
    assert "behind" not in min(points, key=lambda point: point.outcome.score).diagnosis.evidence
