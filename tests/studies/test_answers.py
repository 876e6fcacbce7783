"""The sentences about a sweep agree with its numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.points.point import Point
from pipeline.studies.groups import groups, overall
from pipeline.studies.kinds import answers, headline
from pipeline.studies.knobs import layout
from pipeline.studies.reach import judged_together
from tests.support.curves import study
from tests.support.maps import map_point
from tests.support.trained import sweep

LINE = ("experiment=line_y3x", "recording.snapshots=2", "training.epochs=60")
BITS = ("experiment=three_bits", "recording.snapshots=2", "training.epochs=3000")


def rated(*rates: str) -> list[list[str]]:
    return [[f"optimizer.learning_rate={rate}"] for rate in rates]


@pytest.fixture(scope="module")
def line() -> list[Point]:
    """Too slow, low, low and first, stalled by rounding."""
    return sweep(LINE, rated("0.00001", "0.01", "0.1", "1"))


@pytest.fixture(scope="module")
def bits() -> list[Point]:
    """Two hidden sizes: slow, good, stalled."""
    grid = [
        [f"optimizer.learning_rate={rate}", f"model.hidden_size={size}"]
        for rate in (0.01, 10, 1000)
        for size in (4, 32)
    ]
    return judged_together(sweep(BITS, grid))


def test_a_line_of_four_rates(line: list[Point]) -> None:
    error = line[2].outcome.final["train/mean_absolute_error"]
    said = list(answers(line))
    best = f"the best rate is 0.1 (training mean absolute error {error:.3g}, and nothing in the training is random)."
    assert said[0] == best
    assert said[1] == "rate 1e-05 is too slow; 0.01 and 0.1 converge; 1 stalls (rounding)."
    assert said[2].startswith("at rate 1, loss 1.47e+09")
    assert "; it grew to this value; " in said[2]
    way = "98% of the way from a constant answer to the best loss"
    assert said[3] == f"{way} is first reached at epoch 8 with rate 0.1 and 18 with 0.01."
    assert len(said) == 4


def test_what_diverges_is_reported_with_its_step() -> None:
    points = sweep([*LINE, "gradient=backpropagation"], rated("0.1", "0.5", "1"))
    steps = {point.learning_rate: point.outcome.diverged_step for point in points}
    said = list(answers(points))
    assert said[1] == "rate 0.1 converges; 0.5 and 1 diverge."
    assert said[2].startswith(f"at rate 0.5, the loss was not a finite number after {steps[0.5]} updates")
    assert headline(points).endswith("rate 0.1 converges; 0.5 and 1 diverge")


def test_two_hidden_sizes(bits: list[Point]) -> None:
    said = list(answers(bits))
    assert said[0].startswith("for every hidden size, the lowest training mean absolute error is at rate 10: 0.0")
    assert "for hidden size 4 and 0.00455 for 32 (one seed: " in said[0]
    assert said[1] == "rate 0.01 is too slow; 10 converges; 1000 stalls (saturation)."
    assert said[2].startswith("at rate 1000 with hidden size 4, loss ")
    best = groups(bits, layout(bits))
    assert {group.name: group.best.points[0].learning_rate for group in best} == {
        "hidden size 4": 10.0, "hidden size 32": 10.0
    }  # fmt: skip


def test_one_seed_does_not_say_that_a_rate_is_the_best_or_too_large(bits: list[Point]) -> None:
    small, good, _ = (point for point in bits if point.hidden_size == 4)
    optimizer = small.config.optimizer.model_copy(update={"learning_rate": 500.0})
    beyond = replace(small, name="beyond", config=small.config.model_copy(update={"optimizer": optimizer}))
    said = list(answers([good, beyond]))
    assert said[-1] == "rate 10 converges; 500 is too slow."
    assert not any("the best" in sentence for sentence in said)


def test_one_point_alone_gets_its_diagnosis(line: list[Point]) -> None:
    (said,) = answers(line[2:3])
    assert said.startswith("converged: loss ")
    assert headline(line[2:3]).endswith("; converged")
    assert headline(line[2:3]).startswith("rate 0.1, training mean absolute error ")


def test_the_headline_names_sizes_only_where_they_differ(bits: list[Point]) -> None:
    assert headline(bits).endswith("rate 0.01 is too slow; 10 converges; 1000 stalls (saturation)")
    other = replace(bits[1], config=bits[3].config, name=bits[3].name)  # hidden size 32 is too slow at 10
    said = "rates 0.01 and 10 (only hidden size 32) are too slow; 10 (only hidden size 4) converges; 1000 stalls"
    assert said in headline([*bits[:3], other, *bits[4:]])


def test_the_best_point_has_not_diverged() -> None:
    points = sweep([*LINE, "gradient=backpropagation"], rated("0.1", "1"))
    best = overall(points, layout(points)).best
    assert best is not None
    assert best.points == (points[0],)
    assert overall(points[1:], layout(points[1:])).best is None
    assert groups(points[1:], layout(points[1:])) == []
    assert next(answers(points[1:])).startswith("diverged: ")
    assert headline(points[1:]) == "diverged"
    apart = sweep([*LINE, "gradient=backpropagation"], rated("1", "2"))
    assert list(answers(apart))[:2] == ["no point trained to the end.", "rates 1 and 2 diverge."]
    assert headline(apart) == "all diverged; rates 1 and 2 diverge"


def test_another_number_takes_the_place_of_the_size() -> None:
    common = [*LINE, "optimizer=momentum", "gradient=backpropagation"]
    grid = [[f"optimizer.learning_rate={rate}", f"optimizer.momentum={m}"] for rate in (0.01, 0.2) for m in (0, 0.9)]
    points = sweep(common, grid)
    verdicts = [point.diagnosis.verdict for point in points]
    assert verdicts == ["converged", "converged", "diverged", "oscillating"]
    said = list(answers(points))
    assert said[0].startswith(
        "the best rate is the same for every value of momentum: 0.01 (training mean absolute error 0.26 for momentum 0"
    )
    assert said[1] == "rate 0.01 converges; 0.2 (only momentum 0) diverges; 0.2 (only momentum 0.9) oscillates."
    assert any(sentence.startswith("at rate 0.2 with momentum 0, ") for sentence in said)
    assert any(sentence.startswith("at rate 0.2 with momentum 0.9, ") for sentence in said)
    assert headline(points).endswith("; " + said[1].removesuffix("."))


def test_a_map_says_how_much_of_it_converges_and_where_it_is_best() -> None:
    point, other = map_point(), map_point("seed=2")
    final = point.outcome.final
    said = (
        f"{final['map/converged_share']:.1%} of 63 points converge; the smallest loss is {final['map/best_loss']:.3g} "
        f"at learning_rate {final['map/best_learning_rate']:.4g} and "
        f"output_learning_rate {final['map/best_output_learning_rate']:.4g}"
    )
    assert headline([point]) == said
    assert list(answers([point])) == [f"map: {said}."]
    assert len(list(answers([point, other]))) == len(headline([point, other]).split("; the smallest")) - 1 == 2
    assert point.name == "learning_rate=0.1..1000 hidden_size=4 output_learning_rate=0.1..1000 points=9x7"
    assert other.name == f"{point.name} seed=2"


def test_a_map_whose_losses_overflow_says_so() -> None:
    point = map_point("model.output_activation=identity")
    assert point.outcome.final["map/not_finite_share"] > 0
    assert "end with a loss that is not finite" in headline([point])
    assert point.outcome.outcome == "finished"


def test_the_number_of_random_starts_needed_is_among_the_answers() -> None:
    rates = [f"optimizer.learning_rate={rate}" for rate in ("0.001", "0.01", "0.1")]
    said = list(answers(study("curve_restarts", *rates)))
    assert any("the number of starts needed is " in sentence for sentence in said)
    assert any("the valleys cover these shares" in sentence for sentence in said)
