from __future__ import annotations

import csv
import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from pipeline.backends.shared.history import History
from pipeline.points.breaking_rates import BreakingRate, key_of
from pipeline.points.point import Point, outcome_of
from pipeline.studies.certainty import ONE_SEED, SOME_SEEDS
from pipeline.studies.kinds import answers, headline, study_kind
from pipeline.studies.transfer.best_rates import Best, best_rates, shift_in_decades
from pipeline.studies.transfer.picture import transfer_study
from pipeline.studies.transfer.rows import DEPTHS, WIDTHS
from pipeline.studies.transfer.sentences import transfer_sentences
from pipeline.system.project import PROJECT
from tests.support.trained import config

RATES = (0.001, 0.01, 0.1, 1.0)
STANDARD = "standard parametrization"
UPDATE = "maximal-update parametrization"


def point(parametrization: str, size: int, rate: float, best: float, largest: float = 0.5) -> Point:
    """A point whose loss is a parabola of log(rate) over log(loss), lowest at the best rate; larger rates diverge."""
    chosen = config(
        "experiment=width_transfer", f"model.parametrization={parametrization}", f"model.hidden_size={size}",
        f"optimizer.learning_rate={rate}",
    )  # fmt: skip
    history = History(epochs=1, diverged_step=3 if rate > largest else None)
    loss = 0.1 * math.exp(0.3 * math.log(rate / best) ** 2)
    history.record(1, {"train/loss": loss, "test/loss": 1.0})
    return Point(f"{parametrization} {size} {rate:g}", Path(), chosen, history, outcome_of(history))


@pytest.fixture(scope="module")
def points() -> list[Point]:
    """With the standard parametrization the best rate falls as the width rises, with the other it does not."""
    grid = [(size, rate) for size in (64, 256) for rate in RATES]
    standard = [point("standard", size, rate, 0.02 * 64 / size) for size, rate in grid]
    return standard + [point("maximal_update", size, rate, 0.02) for size, rate in grid]


def test_the_best_rate_is_the_vertex_of_a_parabola(points: list[Point]) -> None:
    found = best_rates(WIDTHS, points)
    assert list(found) == [STANDARD, UPDATE]
    assert [best.value for best in found[STANDARD]] == [64, 256]
    assert [best.rate for best in found[STANDARD]] == pytest.approx([0.02, 0.005])
    assert [best.rate for best in found[UPDATE]] == pytest.approx([0.02, 0.02])
    assert found[STANDARD][0].losses.tolist()[-1] == math.inf
    assert shift_in_decades(found[STANDARD]) == pytest.approx(-math.log10(4))


def test_at_the_edge_the_best_rate_is_one_of_the_grid() -> None:
    ends = [point(name, 64, rate, 1e-5) for name in ("standard", "maximal_update") for rate in RATES]
    assert [best.rate for sizes in best_rates(WIDTHS, ends).values() for best in sizes] == [0.001, 0.001]


def test_the_best_rate_is_between_the_neighbours_of_the_lowest_loss() -> None:
    # The last two are equal, the first is larger by two units in the last place: rounding alone makes a parabola.
    losses = {0.001: 0.28239694551941696, 0.003: 0.28239694551941685, 0.01: 0.28239694551941685}
    made = [point(name, 64, rate, 0.01) for name in ("standard", "maximal_update") for rate in losses]
    for one in made:
        one.outcome.final["train/loss"] = losses[one.learning_rate]
    for sizes in best_rates(WIDTHS, made).values():
        assert 0.001 <= sizes[0].rate <= 0.01 * (1 + 1e-12)


def test_rates_as_far_apart_as_floats_go_have_a_shift() -> None:
    ends = [
        Best(size, np.array([rate]), np.array([1.0]), rate, {1: rate}, [1])
        for size, rate in ((64, 5e-324), (256, 1.7e308))
    ]
    assert shift_in_decades(ends) == pytest.approx(631.5, abs=0.1)
    assert shift_in_decades(ends[::-1]) == pytest.approx(-631.5, abs=0.1)


def test_sentences_say_where_it_moves_and_where_it_stays(points: list[Point]) -> None:
    assert transfer_sentences(WIDTHS, points) == [
        "standard parametrization: the rate with the lowest loss shifts (-0.6 decades): 0.02 at 64, 0.005 at 256.",
        "maximal-update parametrization: the rate with the lowest loss hardly shifts (+0.0 decades): "
        "0.02 at 64, 0.02 at 256.",
        f"{ONE_SEED}.",
    ]
    assert list(answers(points)) == transfer_sentences(WIDTHS, points)
    assert headline(points).startswith("Standard parametrization: the rate with the lowest loss shifts")


def test_a_size_at_which_every_rate_diverged_has_no_best_rate() -> None:
    names = ("standard", "maximal_update")
    points = [point(name, 64, rate, 0.02, largest=0) for name in names for rate in RATES]
    points += [point(name, 256, rate, 0.02) for name in names for rate in RATES]
    at = "none at 64 (every rate diverged), 0.02 at 256"
    assert transfer_sentences(WIDTHS, points) == [
        f"standard parametrization: the rate with the lowest loss cannot be compared: {at}.",
        f"maximal-update parametrization: the rate with the lowest loss cannot be compared: {at}.",
        f"{ONE_SEED}.",
    ]


def test_points_of_one_parametrization_are_another_study(points: list[Point]) -> None:
    assert best_rates(WIDTHS, points[:8]) == {}


def test_too_few_rates_have_no_best_one() -> None:
    few = [point(name, 64, rate, 0.02) for name in ("standard", "maximal_update") for rate in RATES[:2]]
    assert best_rates(WIDTHS, few) == {}
    assert not any("parametrization: the rate" in sentence for sentence in answers(few))


def test_the_picture_has_axes_for_each_parametrization_with_the_best_rates_marked(points: list[Point]) -> None:
    axes = transfer_study(WIDTHS, "width_transfer", {"numpy": points}).axes
    assert [ax.get_title(loc="left") for ax in axes] == [STANDARD, UPDATE]
    marked = [float(np.asarray(line.get_xdata())[0]) for ax in axes for line in ax.lines if line.get_marker() == "o"]
    assert marked == pytest.approx([0.02, 0.005, 0.02, 0.02])


def test_the_picture_marks_where_each_value_is_predicted_to_break(points: list[Point]) -> None:
    def row(one: Point, rate: float) -> BreakingRate:
        return BreakingRate(*key_of(one.config), True, "adam", 1.0, rate)

    known = [
        replace(one, breaking_rate=row(one, rate))
        for one in points
        if (rate := {64: 0.03, 256: 99.0}[one.hidden_size or 0])  # that of 256 is beyond the axis
    ]
    figure = transfer_study(WIDTHS, "width_transfer", {"numpy": known})
    for ax in figure.axes:
        assert [float(np.asarray(line.get_xdata())[0]) for line in ax.lines if line.get_marker() == "^"] == [0.03]
    assert "triangle: the predicted breaking rate" in figure.texts[-1].get_text().replace("\n", " ")
    plain = transfer_study(WIDTHS, "width_transfer", {"numpy": points})
    assert not any(line.get_marker() == "^" for ax in plain.axes for line in ax.lines)


def seeded(name: str, size: int, rate: float, best: float, seed: int) -> Point:
    one = point(name, size, rate, best)
    return replace(one, config=one.config.model_copy(update={"seed": seed}))


def test_seeds_are_means_and_say_how_sure_the_shift_is() -> None:
    grid = [(size, rate) for size in (64, 256) for rate in RATES]
    # Each seed has a best rate of its own, a little beside 0.02; that of the larger size moves by a factor of four.
    beside = {1: 1.05, 2: 1.0, 3: 0.96}
    points = [
        seeded(name, size, rate, 0.02 * factor ** (size / 64) * (64 / size) ** falls, seed)
        for name, falls in (("standard", 1), ("maximal_update", 0))
        for size, rate in grid
        for seed, factor in beside.items()
    ]
    assert study_kind(points).name == "widths"
    sizes = best_rates(WIDTHS, points)[STANDARD]
    assert sizes[0].losses[0] == pytest.approx(np.mean([one.outcome.final["train/loss"] for one in points[:3]]))
    assert [sizes[0].by_seed[seed] for seed in beside] == pytest.approx([0.02 * factor for factor in beside.values()])
    standard, update, seeds = transfer_sentences(WIDTHS, points)
    assert standard.startswith("standard parametrization: the best rate shifts (-0.60 ± 0.15 decades): 0.02 at 64, ")
    assert update.startswith("maximal-update parametrization: the best rate hardly shifts (0.00 ± 0.15 decades): ")
    assert seeds == "each loss is the mean over 3 seeds."


def test_seeds_that_do_not_agree_leave_the_shift_open() -> None:
    points = [
        seeded(name, size, rate, 0.02 * (factor if size == 256 else 1), seed)
        for name in ("standard", "maximal_update")
        for size in (64, 256)
        for rate in RATES
        for seed, factor in ((1, 3.0), (2, 0.5))
    ]
    assert "the best rate may shift, which these seeds do not tell (0" in transfer_sentences(WIDTHS, points)[0]


def test_one_more_seed_at_one_point_does_not_make_the_others_sure(points: list[Point]) -> None:
    more = [*points, seeded("standard", 64, 0.01, 0.02, 7)]
    said = transfer_sentences(WIDTHS, more)
    assert said[0] == transfer_sentences(WIDTHS, points)[0]
    assert said[-1] == f"{SOME_SEEDS}."
    assert list(best_rates(WIDTHS, more)[STANDARD][0].by_seed) == [points[0].config.seed]


def test_depths_are_counted_in_hidden_layers() -> None:
    points = []
    for name, falls in (("standard", 1.0), ("maximal_update", 0.0)):
        for further, rate in product(("[]", "[64]", "[64,64,64]"), RATES):
            one = config("experiment=depth_transfer", f"model.parametrization={name}", "model.hidden_size=64",
                         f"model.further_hidden_sizes={further}", f"optimizer.learning_rate={rate}")  # fmt: skip
            depth = 1 + len(one.dense.further_hidden_sizes)
            points.append(replace(point(name, 64, rate, 0.02 / depth**falls), config=one))
    assert study_kind(points).name == "depths"
    assert [best.value for best in best_rates(DEPTHS, points)[STANDARD]] == [1, 2, 4]
    assert list(answers(points))[:2] == [
        f"{STANDARD}: the rate with the lowest loss shifts (-0.6 decades): 0.02 at 1, 0.01 at 2, 0.005 at 4.",
        f"{UPDATE}: the rate with the lowest loss hardly shifts (+0.0 decades): 0.02 at 1, 0.02 at 2, 0.02 at 4.",
    ]
    ((_, lines),) = study_kind(points).sections(points)
    assert "Nothing in this table depends on the depth" in lines[-1]


def test_networks_without_hidden_layers_have_no_depth() -> None:
    assert DEPTHS.value(config("model=linear")) is None


def test_the_committed_page_has_the_sentences_of_the_committed_points() -> None:
    """They are the same for every way of writing this code."""
    with (PROJECT / "reports/points.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if (row["study"], row["backend"]) == ("width_transfer", "numpy")]
    points = []
    for row in rows:
        settings = dict(part.split("=") for part in row["name"].split())
        one = seeded(settings["parametrization"], int(settings["hidden_size"]), float(settings["learning_rate"]), 1,
                     int(settings["seed"]))  # fmt: skip
        one.outcome.final["train/loss"] = float(row["final/train/loss"])
        points.append(replace(one, outcome=replace(one.outcome, outcome="finished", diverged_step=None)))
    page = (PROJECT / "reports/studies/width_transfer.md").read_text()
    assert [f"- numpy: {said}" for said in transfer_sentences(WIDTHS, points)] == [
        line for line in page.splitlines() if line.startswith("- numpy:")
    ][:3]
