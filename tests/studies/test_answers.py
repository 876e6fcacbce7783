"""The sentences about a sweep agree with its numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.points.point import Point
from pipeline.studies.kinds import answers, headline
from pipeline.studies.knobs import layout
from pipeline.studies.networks import best_cells, best_point
from pipeline.studies.reach import judged_together
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
    assert said[0] == f"the best rate is 0.1, mean absolute error {error:.4g}."
    assert said[1].startswith("stalled (rounding) at rate 1; at 1: loss 1.47e+09")
    assert "; it grew to this value; " in said[1]  # so that nothing says that no rate diverges
    low = "the loss first drops to 2% of the baseline at epoch 8 (rate 0.1), 18 (rate 0.01)"
    assert said[2] == f"{low}; at rate 1e-05, it is not on track to get there."
    assert len(said) == 3


def test_that_no_rate_diverges_is_said_where_none_ran_away(line: list[Point]) -> None:
    assert "no rate up to 0.1 diverges." in answers(line[:3])


def test_the_first_rate_that_diverges_is_reported_with_its_step() -> None:
    points = sweep([*LINE, "gradient=backpropagation"], rated("0.1", "0.5", "1"))
    steps = {point.learning_rate: point.outcome.diverged_step for point in points}
    said = list(answers(points))
    start = f"0.5 is the first rate that diverges: the loss was not a finite number after {steps[0.5]} updates"
    assert any(sentence.startswith(start) and sentence.endswith("; 1 also diverges.") for sentence in said)
    assert not any("no rate" in sentence for sentence in said)
    assert headline(points).endswith("converged: 0.1; diverged: 0.5, 1")


def test_two_hidden_sizes(bits: list[Point]) -> None:
    said = list(answers(bits))
    assert said[2] == "the best rate is the same for every hidden size."
    assert (
        sum(sentence.startswith("hidden size 4: stalled (saturation) at rate 1000; at 1000:") for sentence in said) == 1
    )
    best = best_cells(bits, layout(bits))
    assert {size: cell.points[0].learning_rate for size, cell in best.items()} == {4: 10.0, 32: 10.0}


def test_a_rate_beyond_the_best_is_not_called_too_small(bits: list[Point]) -> None:
    small, good, _ = (point for point in bits if point.hidden_size == 4)
    optimizer = small.config.optimizer.model_copy(update={"learning_rate": 500.0})
    beyond = replace(small, name="beyond", config=small.config.model_copy(update={"optimizer": optimizer}))
    said = list(answers([good, beyond]))
    assert said[-1] == (
        "hidden size 4: after the same number of epochs, rate 500 is behind 10: too large a rate is also slow."
    )


def test_one_point_alone_gets_its_diagnosis(line: list[Point]) -> None:
    (said,) = answers(line[2:3])
    assert said.startswith("converged: loss ")
    assert headline(line[2:3]).endswith("; converged")
    assert headline(line[2:3]).startswith("rate 0.1, mean absolute error ")


def test_the_headline_names_sizes_only_where_they_differ(bits: list[Point]) -> None:
    assert headline(bits).endswith("too slow: 0.01; converged: 10; stalled (saturation): 1000")
    assert headline(bits).endswith("too slow: 0.01; converged: 10; stalled (saturation): 1000")
    assert "too slow: 0.01 (4); converged" in headline([*bits[:1], *bits[2:]])  # hidden size 32 has no rate 0.01


def test_the_best_point_has_not_diverged() -> None:
    points = sweep([*LINE, "gradient=backpropagation"], rated("0.1", "1"))
    assert best_point(points) is points[0]
    assert best_point(points[1:]) is None
    assert best_cells(points[1:], layout(points[1:])) == {}
    assert next(answers(points[1:])).startswith("diverged: ")
    assert headline(points[1:]) == "diverged"


def test_another_number_takes_the_place_of_the_size() -> None:
    common = [*LINE, "optimizer=momentum", "gradient=backpropagation"]
    grid = [[f"optimizer.learning_rate={rate}", f"optimizer.momentum={m}"] for rate in (0.01, 0.2) for m in (0, 0.9)]
    points = sweep(common, grid)
    verdicts = [point.diagnosis.verdict for point in points]
    assert verdicts == ["converged", "converged", "diverged", "oscillating"]
    error = points[1].outcome.final["train/mean_absolute_error"]
    said = list(answers(points))
    assert said[0].startswith("the best rate for momentum 0 is 0.01, mean absolute error ")
    assert said[1] == f"the best rate for momentum 0.9 is 0.01, mean absolute error {error:.4g}."
    assert said[2] == "the best rate is the same for every momentum."
    assert any(sentence.startswith("momentum 0: 0.2 is the first rate that diverges: ") for sentence in said)
    assert any(sentence.startswith("momentum 0.9: oscillating at rate 0.2; at 0.2: ") for sentence in said)
    assert headline(points).endswith("; converged: 0.01; diverged: 0.2 (0); oscillating: 0.2 (0.9)")


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
