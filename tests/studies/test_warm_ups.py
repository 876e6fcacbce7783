"""The shortest warm-up that trains, from hand-made losses and curvatures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.backends.shared.history import History
from pipeline.points.point import Point, outcome_of
from pipeline.studies.certainty import ONE_SEED
from pipeline.studies.kinds import answers, headline, study_kind
from pipeline.studies.warm_ups.picture import warm_up_study
from pipeline.studies.warm_ups.sentences import warm_up_sentences
from pipeline.studies.warm_ups.warm_ups import BREAKING, CURVATURE, breaking_rate, may_fail, shortest, warm_ups
from tests.support.trained import config

# Records of the 12 epochs. The target is a loss of 0.2 x log(10) = 0.46.
RECORDS = (0, 1, 2, 4, 8, 12)
SHARES = (0.0, 0.1, 0.4)
GOOD = 0.1
BAD = 2.0
DIVERGED = math.inf


def point(rate: float, share: float, seed: int, loss: float, curvatures: Sequence[float] = (8, 7, 4, 2, 1, 1)) -> Point:
    """A point that ended at a validation loss, with the curvature at each record; inf: it diverged."""
    one = config("experiment=warm_up", f"schedule.warm_up={share}", f"optimizer.learning_rate={rate}", f"seed={seed}")
    history = History(epochs=12, diverged_step=3 if loss == DIVERGED else None)
    for epoch, curvature in zip(RECORDS, curvatures, strict=False):
        history.record(epoch, {CURVATURE: curvature, BREAKING: 2 / curvature})
    history.record(12, {"train/loss": loss, "validation/loss": loss})
    name = f"learning_rate={rate:g} warm_up={share:g} seed={seed}"
    return Point(name, Path(), one, history, outcome_of(history))


def rate(of: float, *losses: Sequence[float]) -> list[Point]:
    """The points of one rate: for each warm-up the losses of the seeds."""
    return [
        point(of, share, seed, loss)
        for share, own in zip(SHARES, losses, strict=True)
        for seed, loss in enumerate(own, start=1)
    ]


@pytest.fixture(scope="module")
def points() -> list[Point]:
    """Rate 0.25 trains at once, 0.5 with a tenth, 1.25 with none."""
    return [
        *rate(0.25, (GOOD, GOOD), (GOOD, GOOD), (GOOD, GOOD)),
        *rate(0.5, (GOOD, DIVERGED), (GOOD, GOOD), (GOOD, GOOD)),
        *rate(1.25, (DIVERGED, DIVERGED), (BAD, DIVERGED), (GOOD, BAD)),
    ]


def test_the_shortest_warm_up_that_trains_every_seed_is_found(points: list[Point]) -> None:
    found = warm_ups(points)
    assert list(found) == [0.25, 0.5, 1.25]
    assert [warm_up.share for warm_up in found[0.25]] == list(SHARES)
    chosen = [shortest(along) for along in found.values()]
    assert [warm_up.share if warm_up else None for warm_up in chosen] == [0.0, 0.1, None]
    assert [warm_up.trained for warm_up in found[1.25]] == [0, 0, 1]


def test_the_curvature_after_a_warm_up_is_that_of_the_first_record_after_it(points: list[Point]) -> None:
    without, short, long = warm_ups(points)[0.5]
    assert without.at_the_start(CURVATURE).mean == long.at_the_start(CURVATURE).mean == 8
    # It ends at epochs 0, 1.2 and 4.8.
    assert [one.afterwards(CURVATURE).mean for one in (without, short, long)] == [7, 4, 1]
    assert [one.afterwards(BREAKING).mean for one in (without, short, long)] == pytest.approx([2 / 7, 0.5, 2])


def test_sentences_name_the_warm_up_of_each_rate_and_why(points: list[Point]) -> None:
    assert study_kind(points).name == "warm_ups"
    # Both seeds have the same curvature and the same losses, so that the intervals have no width.
    said = [sentence.replace(" ± 0", "") for sentence in warm_up_sentences(points)]
    assert said == [
        "at rate 0.25 training needs no warm-up, at rate 0.5 a warm-up over 0.1 of the updates is needed, "
        "at rate 1.25 no warm-up of the grid trains "
        "(where all of 2 seeds train, up to 78% of others may not: 95 % bound).",
        "rate 0.25, 1 times the breaking rate 0.25 at the start, trains without a warm-up (loss 0.1); "
        "the curvature is 8 at the start and 7 after an epoch, which allows 0.2857.",
        "rate 0.5, 2 times the breaking rate 0.25 at the start, needs a warm-up of 0.1 of the updates "
        "(loss 0.1, 1 of 2 seeds at 0); the curvature is 8 at the start and 4 after it, which allows 0.5.",
        "rate 1.25, 5 times the breaking rate 0.25 at the start, trains with no warm-up of the grid "
        "(1 of 2 seeds at 0.4 of the updates); the curvature is 8 at the start and 1 after it.",
    ]
    assert list(answers(points)) == warm_up_sentences(points)
    assert headline(points).startswith("At rate 0.25 training needs no warm-up")


def test_rates_with_the_same_warm_up_are_named_together() -> None:
    points = [*rate(0.25, (GOOD,), (GOOD,), (GOOD,)), *rate(0.5, (GOOD,), (GOOD,), (GOOD,))]
    assert warm_up_sentences(points)[0].startswith("at rates 0.25 and 0.5 training needs no warm-up (")


def test_longer_warm_ups_that_fail_again_are_named() -> None:
    points = rate(0.5, (BAD,), (GOOD,), (DIVERGED,))
    assert "(loss 0.1, 0 of 1 seed at 0, but not 0.4)" in warm_up_sentences(points)[1]
    assert warm_up_sentences(points)[0] == (f"at rate 0.5 a warm-up over 0.1 of the updates is needed ({ONE_SEED}).")


def test_all_diverged_and_no_curvature_after_the_start() -> None:
    points = [point(2.0, share, seed, DIVERGED, (8,)) for share in SHARES for seed in (1, 2)]
    said = warm_up_sentences(points)[1]
    assert "trains with no warm-up of the grid (0 of 2 seeds at 0.4 of the updates)" in said
    assert said.endswith("at the start, and unknown after it.")


def test_without_any_record_rates_are_no_multiples() -> None:
    points = [point(2.0, share, 1, DIVERGED, ()) for share in SHARES]
    assert warm_up_sentences(points)[1] == (
        "rate 2 trains with no warm-up of the grid (0 of 1 seed at 0.4 of the updates)."
    )
    assert breaking_rate(points).values == ()


def test_a_loss_that_is_not_a_number_does_not_train() -> None:
    points = rate(0.5, (GOOD,), (GOOD,), (GOOD,))
    points[0].outcome.final["validation/loss"] = math.nan
    assert [warm_up.trained for warm_up in warm_ups(points)[0.5]] == [0, 1, 1]


@pytest.mark.parametrize(("seeds", "share"), [(1, 0.95), (2, 0.776), (3, 0.632), (59, 0.0495)])
def test_how_many_seeds_may_fail_is_the_bound_of_clopper_and_pearson(seeds: int, share: float) -> None:
    assert may_fail(seeds) == pytest.approx(share, abs=5e-4)
    assert (1 - may_fail(seeds)) ** seeds == pytest.approx(0.05)


def test_one_warm_up_another_schedule_or_no_curvature_are_another_study(points: list[Point]) -> None:
    assert study_kind([one for one in points if "warm_up=0.1" in one.name]).name == "network"
    unrecorded = [config("experiment=warm_up", f"schedule.warm_up={share}", "recording.curvature=false")
                  for share in SHARES]  # fmt: skip
    others = [Point(f"warm_up={one.schedule}", Path(), one, History(), outcome_of(History())) for one in unrecorded]
    assert study_kind(others).name == "network"
    constant = config("experiment=warm_up", "~schedule.final", "~schedule.warm_up", "schedule.name=constant")
    assert study_kind([*points, Point("constant", Path(), constant, History(), points[0].outcome)]).name != "warm_ups"


def test_the_page_has_a_table_of_all_warm_ups(points: list[Point]) -> None:
    (heading, lines), (what, text) = study_kind(points).sections(points)
    assert heading == "All warm-ups"
    assert lines[0] == (
        "A warm-up trains where each seed ends at a validation loss of 0.46 or less, 20% of the baseline."
    )
    assert len(lines) == 2 + 2 + 9
    assert lines[4].startswith("| 0.25 | 0 | 2 of 2 | ")
    assert what == "What a warm-up does"
    assert text[-1] == "Here `TARGET` = 0.2."


def test_the_picture_has_losses_and_the_breaking_rate_beside_the_rate(points: list[Point]) -> None:
    losses, rates = warm_up_study("warm_up", {"numpy": points}).axes
    crosses = [line for line in losses.lines if line.get_marker() == "x"]
    assert sum(len(np.asarray(line.get_xdata())) for line in crosses) == 4
    solid = [line for line in rates.lines if line.get_marker() == "."]
    assert np.asarray(solid[0].get_ydata()) == pytest.approx(2 / np.array([8, 7, 4, 2, 1, 1]))
    dashed = [line for line in rates.lines if line.get_linestyle() == "--"]
    assert [float(np.asarray(line.get_ydata())[-1]) for line in dashed] == [0.25, 0.5, 1.25]


def test_a_breaking_rate_of_zero_is_no_multiple() -> None:
    """2 / L of a curvature that is as large as floats go."""
    points = [point(0.5, share, 1, GOOD, [math.inf] * 6) for share in SHARES]
    assert breaking_rate(points).mean == 0.0
    assert warm_up_sentences(points)[1].startswith("rate 0.5 trains without a warm-up")
