"""Recorded curvatures beside what the rate allows: when they reach it, how many are near it, and what the loss does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.backends.curvature.prediction import WARM_UP
from pipeline.backends.shared.history import History
from pipeline.drawing.layout import save_png
from pipeline.points.point import Point, outcome_of
from pipeline.studies.kinds import answers, headline, study_kind
from pipeline.studies.stability import SETTLED, allowed_curvature, by_networks, edge_of
from pipeline.studies.stability_picture import MOST_PANELS, stability_study
from pipeline.studies.stability_sentences import stability_numbers, stability_sections
from pipeline.system.wording import paragraph
from tests.support.trained import config

# At rate 0.1 gradient descent allows a curvature of 20, momentum 38, and Adam 380.
ONE = ("experiment=edge_of_stability", "optimizer.learning_rate=0.1")
# Within 10 %: 18.5, 21 and 19; reached with the first of them. Before it 10, after it also 25 and 30.
CURVATURES = (5.0, 10.0, 18.5, 25.0, 21.0, 30.0, 19.0)
# From 18.5 on the loss rises twice, and ends lower.
LOSSES = (9.0, 8.0, 5.0, 6.0, 4.0, 4.5, 1.0)


def point(
    *overrides: str, curvatures: Sequence[float] = CURVATURES, losses: Sequence[float] = LOSSES,
    name: str = "curvature/largest", diverged: bool = False,
) -> Point:  # fmt: skip
    """Return a point whose history has a record every 100 epochs."""
    history = History()
    for index, (curvature, loss) in enumerate(zip(curvatures, losses, strict=True)):
        history.record(100 * index, {name: curvature, "train/loss": loss})
    history.epochs = 100 * len(losses)
    if diverged:
        history.diverged_step = history.epochs
    one = config(*ONE, *overrides)
    return Point(" ".join(overrides), Path(), one, history, outcome_of(history))


def test_the_share_near_the_line_is_that_after_the_first_record_within_ten_percent() -> None:
    edge = edge_of(point())
    assert edge.reached == 2
    assert edge.share == pytest.approx(3 / 5)
    assert edge.rises == 2
    assert edge.fell
    np.testing.assert_allclose(edge.ratios, np.array(CURVATURES) / 20)


def test_a_record_far_above_the_line_reaches_it_too() -> None:
    """The line may be crossed between two records."""
    edge = edge_of(point(curvatures=(5, 10, 50, 20, 20, 20, 20)))
    assert edge.reached == 2
    assert edge.share == pytest.approx(4 / 5)


@pytest.mark.parametrize(
    ("optimizer", "line"),
    [("sgd", 20), ("momentum", 38), ("nesterov", 3.8 / 2.8 / 0.1), ("rmsprop", 20), ("adam", 380), ("adamw", 380)],
)
def test_each_method_has_its_line(optimizer: str, line: float) -> None:
    one = config(*ONE, f"optimizer={optimizer}")
    np.testing.assert_allclose(allowed_curvature(one, History(), np.array([0, 5])), [line, line])


def test_the_line_follows_a_schedule() -> None:
    history = History()
    for step, rate in ((1, 0.1), (3, 0.05)):
        history.record(step, {"learning_rate": rate})
    lines = allowed_curvature(config(*ONE), history, np.array([0, 1, 2, 3]))
    np.testing.assert_allclose(lines, [20, 20, 2 / 0.075, 40])


def test_an_adaptive_method_has_its_preconditioned_curvature_from_update_100_on() -> None:
    """Both are recorded; before the factors know the gradients the second one does not count."""
    assert SETTLED == WARM_UP
    both = point("optimizer=adam", curvatures=(900, 380, 100, 350, 380, 500, 400), name="curvature/preconditioned")
    for step in range(7):
        both.history.record(100 * step, {"curvature/largest": 5.0})
    edge = edge_of(both)
    assert edge.reached == 1
    # Near 380 are 380, 350, 380 and 400, of six.
    assert edge.share == pytest.approx(4 / 6)
    only_largest = point("optimizer=adam")
    assert len(edge_of(only_largest).steps) == 0


def test_the_sentences_say_what_the_records_say() -> None:
    rest = point("optimizer=momentum", curvatures=[36.0] * 7)
    assert study_kind([point(), rest]).name == "stability"
    first, shares, losses, unsure, *_ = answers([point(), rest])
    assert first == (
        "the curvature reaches what the rate allows (2 / rate for sgd, 3.8 / rate for momentum) in 2 of 2 trainings, "
        "in 1 of these from the first record on."
    )
    assert shares == (
        "of the records from there on, these are within 10% of it: sgd 60% in 1 training, momentum 100% in 1 training."
    )
    assert losses == (
        "from there on the loss fell in 2 of these 2, although it rose from one record to the next 2 times in 2 of "
        "them (median 2)."
    )
    assert unsure == "one seed: the noise between seeds is unknown, repeats=5 shows it."
    assert headline([point(), rest]) == paragraph([first, shares]).rstrip(".")
    numbers = stability_numbers([point(), rest])
    assert numbers["line_reached"] == 2
    assert numbers["share_near_line"] == pytest.approx(0.8)


def test_trainings_that_leave_the_line_are_named() -> None:
    left = point("optimizer=momentum", curvatures=(5, 38, 9, 9, 9, 9, 9))
    sentences = list(answers([point(), left]))
    assert "in 1 training fewer than half of these records are near it: momentum at rate 0.1 (1 of 1)." in sentences


def test_one_training_has_an_epoch() -> None:
    sentences = list(answers([point()]))
    assert sentences[0] == "the curvature reaches what the rate allows (2 / rate for sgd) at epoch 200."
    assert sentences[2] == "from there on the loss fell, although it rose from one record to the next 2 times."


def test_a_rate_that_never_reaches_the_line_says_how_far_it_came() -> None:
    low = point(curvatures=(1, 2, 3, 4, 5, 4, 4))
    assert math.isnan(edge_of(low).share)
    assert next(iter(answers([low]))) == (
        "the curvature does not reach what the rate allows (2 / rate for sgd): it is at most 25% of that."
    )
    ((_, table), (_, differences), *_) = stability_sections([low])
    assert "| 0 of 1 |" in table[2]
    assert differences[-1] == "- sgd: the line is not reached; in the papers it is."


def test_what_has_no_line_or_no_record_says_so() -> None:
    nothing = "no curvature was recorded that a rate could be compared with."
    for one in (point(curvatures=[math.nan] * 7), point("optimizer=lion"), point("training.clip_norm=1")):
        assert next(iter(answers([one]))) == nothing
        assert study_kind([one]).name == "stability"


def test_all_may_diverge() -> None:
    wild = point(
        curvatures=(5, 20, 1e8, 1e300, 1e300, 1e300, 1e300), losses=list(np.geomspace(1, 1e300, 7)), diverged=True
    )
    sentences = list(answers([wild, replace(wild, name="again")]))
    assert "the loss did not fall from there on." in sentences
    save_png(stability_study("all diverge", {"numpy": [wild]}), Path("/dev/null"))


def test_networks_are_named_by_what_they_differ_in() -> None:
    points = [
        point(f"optimizer={method}", f"model.hidden_activation={name}", f"model.hidden_size={size}", f"seed={seed}")
        for method in ("sgd", "momentum") for name in ("tanh", "relu") for size in (8, 16) for seed in (1, 2)
    ]  # fmt: skip
    found = by_networks(points)
    assert list(found)[:2] == ["sgd with hidden size 8 and tanh", "sgd with hidden size 16 and tanh"]
    assert [len(members) for rates in found.values() for members in rates.values()] == [2] * 8
    assert list(by_networks(points[:1])) == ["sgd"]


def test_the_picture_has_a_panel_for_each_network_and_a_dashed_line_for_each_rate() -> None:
    points = [point(f"model.hidden_activation={name}", f"optimizer.learning_rate={rate}")
              for name in ("tanh", "relu") for rate in (0.1, 0.2)]  # fmt: skip
    axes = stability_study("study", {"numpy": points}).axes
    assert [ax.get_title(loc="left") for ax in axes] == ["tanh", "relu"]
    for ax in axes:
        dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
        assert [set(np.asarray(line.get_ydata())) for line in dashed] == [{20.0}, {10.0}]
    sizes = [point(f"model.hidden_size={size}") for size in range(1, MOST_PANELS + 3)]
    assert len(stability_study("study", {"numpy": sizes}).axes) == MOST_PANELS


def test_minibatches_and_points_without_curvature_are_other_studies() -> None:
    assert study_kind([point("training.batch_size=4")]).name == "network"
    assert study_kind([point(), point("recording.curvature=false")]).name != "stability"
