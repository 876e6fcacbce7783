"""What is called the best: a set, from seeds; and what is said where there is no best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.points.point import Point
from pipeline.report.rows import study_metrics
from pipeline.studies.certainty import ONE_SEED, SOME_SEEDS
from pipeline.studies.grids import best_cell, cell_metric, cells
from pipeline.studies.groups import best_points, groups
from pipeline.studies.kinds import answers, headline, study_kind
from pipeline.studies.knobs import layout
from pipeline.studies.named_values import span
from pipeline.studies.ranking import nothing_learned, rank, resolution
from pipeline.studies.reach import judged_together
from pipeline.studies.result_grids import result_grid
from pipeline.studies.row_numbers import IDX_TEST_ROWS
from tests.support.ended import COMMON, ended

# Without validation rows, so that test rows choose.
MNIST = ("experiment=mnist_grid", "model.hidden_size=32", "data.validation_share=0")
SEEDS = range(1, 6)
# Deviations of five seeds from their mean 0.
NOISE = (-0.002, 0.001, 0.0, 0.003, -0.002)


def seeds(
    mean: float, *overrides: str, turn: int = 0, metric: str = "train/loss", common: Sequence[str] = COMMON
) -> list[Point]:
    """Five seeds with this mean; each turn of the noise is another one, so that it does not cancel in pairs."""
    noise = [*NOISE[turn:], *NOISE[:turn]]
    return [
        ended(mean + own, *overrides, f"seed={seed}", metric=metric, common=common)
        for seed, own in zip(SEEDS, noise, strict=True)
    ]


def rates(
    means: dict[float, float], *overrides: str, metric: str = "train/loss", common: Sequence[str] = COMMON
) -> list[Point]:
    found = []
    for turn, (rate, mean) in enumerate(means.items()):
        found += seeds(mean, f"optimizer.learning_rate={rate}", *overrides, turn=turn, metric=metric, common=common)
    return found


def test_values_that_seeds_cannot_tell_apart_are_a_set() -> None:
    said = list(answers(rates({0.1: 0.3, 1: 0.201, 10: 0.2, 100: 0.25})))
    assert said[0].startswith(
        "rates 1 and 10 cannot be told apart (training loss 0.2000 ± 0.0026 at 10, 5 seeds); 0.1 is worse by 0.100 ± "
    )
    assert " and 100 by 0.050 ± " in said[0]
    assert not any("the best" in sentence for sentence in said)


def test_one_value_that_is_told_apart_is_the_best() -> None:
    points = rates({0.1: 0.3, 1: 0.1, 10: 0.2})
    assert next(answers(points)).startswith(
        "the best rate is 1 (training loss 0.1000 ± 0.0026, 5 seeds); 0.1 is worse by 0.200 ± "
    )
    assert headline(points).startswith("best: rate 1, training loss 0.1000 ± 0.0026 (5 seeds); ")


def test_the_best_at_the_edge_of_the_grid_may_not_be_the_best_of_all() -> None:
    larger = next(answers(rates({0.1: 0.3, 1: 0.2, 10: 0.1})))
    assert larger.endswith("; 10 is at the edge of the grid: a larger rate may be better.")
    smaller = next(answers(rates({0.1: 0.1, 1: 0.2, 10: 0.3})))
    assert smaller.endswith("; 0.1 is at the edge of the grid: a smaller rate may be better.")
    one_seed = [ended(loss, f"optimizer.learning_rate={rate}") for rate, loss in ((0.1, 0.3), (1, 0.2), (10, 0.1))]
    assert "10 is at the edge of the grid" in next(answers(one_seed))


SETS = {
    "the best rate is the same for every hidden size: 1 (": ((0.3, 0.1, 0.2), (0.4, 0.1, 0.2)),
    "for every hidden size, rates 1 and 10 cannot be told apart (": ((0.3, 0.101, 0.1), (0.4, 0.201, 0.2)),
    "the best rate depends on the hidden size.": ((0.3, 0.1, 0.2), (0.4, 0.2, 0.1)),
    "one rate, 1, is among the best for every hidden size.": ((0.3, 0.101, 0.1), (0.101, 0.1, 0.3)),
    "for every hidden size, rates 0.1 to 10, which are all, cannot be told apart (": ((0.1, 0.101, 0.102),) * 2,
}


@pytest.mark.parametrize("sentence", SETS)
def test_that_the_best_moves_is_said_only_if_the_sets_say_so(sentence: str) -> None:
    points = []
    for size, means in zip((4, 8), SETS[sentence], strict=True):
        points += rates(dict(zip((0.1, 1, 10), means, strict=True)), f"model.hidden_size={size}")
    said = list(answers(points))
    assert any(one.startswith(sentence) for one in said)
    relations = [one for one in said if "every hidden size" in one or "depends on" in one]
    assert len(relations) == 1
    assert len(said) <= 5


def test_many_sizes_have_one_sentence() -> None:
    points = []
    for size, means in {4: (0.1, 0.2), 8: (0.1, 0.2), 16: (0.1, 0.1), 32: (0.2, 0.1)}.items():
        points += rates(dict(zip((1, 10), means, strict=True)), f"model.hidden_size={size}")
    said = list(answers(points))
    assert said[0].startswith("the rates that cannot be told from the best: 1 for hidden size 4; 1 for 8; ")
    assert said[1] == "the best rate depends on the hidden size."


def test_what_sizes_do_not_share_is_in_a_section_with_the_values() -> None:
    points = [
        *rates({0.1: 0.3, 1: 0.1, 10: 0.2}, "model.hidden_size=4"),
        *rates({0.1: 0.3, 1: 0.2, 10: 0.1}, "model.hidden_size=8"),
    ]
    assert next(answers(points)).endswith("; 10 is at the edge of the grid: a larger rate may be better.")
    ((heading, (small, large)),) = study_kind(points).sections(points)
    assert heading == "The best rates for every hidden size"
    assert small.startswith("- for hidden size 4, the best rate is 1 (training loss 0.1000 ± 0.0026, 5 seeds); 0.1 is ")
    assert large.startswith("- for hidden size 8, the best rate is 10 (training loss 0.1000 ")
    # One seed does not tell what is best.
    assert study_kind(points).sections([point for point in points if point.config.seed == 1]) == []
    assert study_kind(points).sections([point for point in points if point.settings["model.hidden_size"] == 4]) == []


def test_accuracies_differ_by_percentage_points() -> None:
    accuracy = {0.001: 0.85, 0.01: 0.976, 0.1: 0.972}
    said = next(answers(rates(accuracy, metric="test/accuracy", common=MNIST)))
    assert said.startswith("rates 0.01 and 0.1 cannot be told apart (test accuracy 0.9760 ± 0.0026 at 0.01, 0.972")
    assert said.endswith(" percentage points.")
    assert "; 0.001 is worse by 12.6 ± 0." in said


def test_a_rate_with_seeds_that_diverged_says_how_many_trained() -> None:
    points = rates({0.1: 0.3, 1: 0.2, 10: 0.1})
    points[-1] = ended(math.inf, "optimizer.learning_rate=10", "seed=5")
    said = list(answers(points))
    # The lower mean of four seeds is no candidate beside rates of which all seeds trained, but then none is the best.
    assert said[0].startswith(
        "rate 1 has the lowest training loss 0.2000 ± 0.0026 where every seed trains (5 seeds); "
        "rate 10 is better where it trains (0.100 ± 0.004, 4 of 5 seeds); 0.1 is worse by "
    )
    assert any("; at rate 10, 4 of 5 seeds trained." in sentence for sentence in said)
    assert headline(points).startswith(
        "rate 10 is better where it trains (0.100 ± 0.004, 4 of 5 seeds); "
        "lowest training loss 0.2000 ± 0.0026 where every seed trains: rate 1 (5 seeds); "
    )
    assert "cannot_be_told_apart" not in study_metrics(points)["best"]
    found = result_grid(points, layout(points), "train/loss")
    assert not found.best.any()


def test_a_rate_that_has_lost_a_seed_and_is_worse_takes_nothing_away() -> None:
    points = rates({0.1: 0.3, 1: 0.2, 10: 0.25})
    points[-1] = ended(math.inf, "optimizer.learning_rate=10", "seed=5")
    assert next(answers(points)).startswith("the best rate is 1 (training loss 0.2000 ")


def test_no_edge_is_named_where_a_rate_that_has_lost_a_seed_is_better() -> None:
    points = rates({0.1: 0.2, 1: 0.3, 10: 0.1})
    points[-1] = ended(math.inf, "optimizer.learning_rate=10", "seed=5")
    said = next(answers(points))
    assert said.startswith("rate 0.1 has the lowest training loss ")
    assert "edge" not in said
    assert "best" not in said


def test_a_size_at_which_a_better_rate_has_lost_a_seed_has_no_best_rate() -> None:
    points = []
    for size, lowest in ((4, 0.2), (8, 0.1), (16, 0.1), (32, 0.1)):
        points += rates({0.1: 0.4, 1: 0.3, 10: lowest}, f"model.hidden_size={size}")
    points[14] = ended(math.inf, "model.hidden_size=4", "optimizer.learning_rate=10", "seed=5")
    better = "rate 10 with hidden size 4 is better where it trains (0.200 ± 0.004, 4 of 5 seeds)"
    said = list(answers(points))
    assert said[0].startswith(
        "the rates that cannot be told from the best where every seed trains: 1 for hidden size 4; "
    )
    assert f" (5 seeds); {better}; 10 is at the edge" in said[0]
    assert not any("every hidden size" in sentence for sentence in said)
    assert headline(points).startswith(f"{better}; lowest training loss where every seed trains 0.1000 ± ")


def test_too_large_a_rate_is_called_slow_only_if_the_seeds_tell_it_apart() -> None:
    def slow(means: dict[float, float]) -> list[str]:
        # All end at a loss that still falls, above what is low.
        points = judged_together(rates(means))
        return [sentence for sentence in answers(points) if "too large a rate is slow too" in sentence]

    assert slow({0.1: 0.3, 1: 0.2, 10: 0.3}) == [
        "rate 10 is behind after the same epochs: too large a rate is slow too."
    ]
    assert slow({0.1: 0.3, 1: 0.2, 10: 0.201}) == []
    assert slow({0.1: 0.3, 1: 0.2, 10: 0.1}) == []


def test_with_one_seed_nothing_is_the_best() -> None:
    points = [ended(loss, f"optimizer.learning_rate={rate}") for rate, loss in ((0.1, 0.3), (1, 0.1), (10, 0.2))]
    said = list(answers(points))
    assert said[0] == f"the lowest training loss is 0.1, at rate 1 ({ONE_SEED})."
    assert sum("one seed" in sentence for sentence in said) == 1
    assert headline(points).startswith("lowest training loss 0.1 at rate 1 (one seed); ")
    assert not any(word in sentence for sentence in said for word in ("best", "told apart"))


def test_two_seeds_are_enough_for_a_set() -> None:
    points = [
        ended(loss, f"optimizer.learning_rate={rate}", f"seed={seed}")
        for rate, losses in ((0.1, (0.3, 0.31)), (1, (0.1, 0.12)), (10, (0.11, 0.1)))
        for seed, loss in enumerate(losses)
    ]
    assert next(answers(points)).startswith(
        "rates 1 and 10 cannot be told apart (training loss 0.11 ± 0.06 at 10, 2 seeds)"
    )


def test_ties_are_said() -> None:
    points = [ended(loss, f"optimizer.learning_rate={rate}") for rate, loss in ((0.1, 0.1), (1, 0.1), (10, 0.2))]
    assert next(answers(points)).startswith(
        "the lowest training loss is 0.1, at rates 0.1 and 1, which tie; 0.1 is at "
    )


def test_values_that_are_not_numbers_do_not_count() -> None:
    points = [ended(loss, f"optimizer.learning_rate={rate}") for rate, loss in ((0.1, 0.3), (1, 0.2))]
    points[1].outcome.final["train/loss"] = math.nan
    assert next(answers(points)).startswith("the lowest training loss is 0.3, at rate 0.1 (")


def test_all_diverged_has_no_best() -> None:
    points = [ended(math.inf, f"optimizer.learning_rate={rate}", f"seed={seed}") for rate in (1, 10) for seed in SEEDS]
    said = list(answers(points))
    assert said[:2] == ["no point trained to the end.", "rates 1 and 10 diverge."]
    assert headline(points) == "all diverged; rates 1 and 10 diverge"


def test_one_point_has_its_diagnosis() -> None:
    (said,) = answers([ended(0.3)])
    assert said.startswith("improving: loss ")


def test_results_at_chance_level_are_no_best() -> None:
    points = [
        ended(accuracy, f"optimizer.learning_rate={rate}", metric="test/accuracy", common=MNIST)
        for rate, accuracy in ((0.1, 0.0980), (1, 0.1135))
    ]
    for point in points:
        point.history.metrics[:] = []
        point.history.record(2, {"train/loss": 2.31})
    again = [Point(p.name, p.folder, p.config, p.history, p.outcome) for p in points]
    assert next(answers(again)) == "no point learns: the best test accuracy, 0.114, is what a constant answer reaches."
    assert headline(again).startswith("no point learns: test accuracy 0.114 is what a constant answer reaches; ")
    # A loss that is large because the network is too sure of its answers is no sign of chance.
    found = cells(again, layout(again), "test/accuracy")
    again[1].outcome.final["test/accuracy"] = 0.9
    assert not nothing_learned(again, "test/accuracy", replace(found[1]))


def test_the_test_rows_tell_what_the_validation_rows_chose() -> None:
    points = []
    for rate, value, told in ((0.01, 0.9, 0.95), (0.1, 0.98, 0.97)):
        for point in seeds(value, f"optimizer.learning_rate={rate}", metric="validation/accuracy", common=MNIST):
            point.outcome.final["test/accuracy"] = told
            report = point.config.report.model_copy(update={"metric": "validation/accuracy"})
            points.append(replace(point, config=point.config.model_copy(update={"report": report})))
    assert cell_metric(points) == "validation/accuracy"
    said = list(answers(points))
    assert said[0].startswith("the best rate is 0.1 (validation accuracy 0.980")
    assert said[1] == "test accuracy there: 0.97 ± 0."
    assert headline(points).startswith(
        "best: rate 0.1, validation accuracy 0.9800 ± 0.0026 (5 seeds), test accuracy there"
    )
    # With one value across there are no sentences on its values, and the test rows tell nevertheless.
    alone = [point for point in points if point.learning_rate == 0.1]
    assert "test accuracy there 0.97 ± 0." in answers(alone)


def test_the_headline_is_about_the_groups_that_the_sentences_name() -> None:
    points = [
        *rates({0.1: 0.3, 1: 0.2, 10: 0.201}, "model.hidden_size=4"),
        *rates({0.1: 0.3, 1: 0.1, 10: 0.2}, "model.hidden_size=8"),
    ]
    assert headline(points).startswith(
        "rate 1 is among the best for every hidden size; lowest training loss 0.1000 ± 0.0026 at rate 1 with hidden "
        "size 8 (5 seeds); "
    )
    best = study_metrics(points)["best"]
    assert best["cannot_be_told_apart"] == "rates 1 and 10 with hidden size 4; rate 1 with hidden size 8"
    moved = [*rates({0.1: 0.3, 1: 0.1}, "model.hidden_size=4"), *rates({0.1: 0.1, 1: 0.2}, "model.hidden_size=8")]
    assert headline(moved).startswith("the best rate depends on the hidden size: 1 for hidden size 4 and 0.1 for 8; ")
    same = [*rates({0.1: 0.3, 1: 0.1}, "model.hidden_size=4"), *rates({0.1: 0.3, 1: 0.2}, "model.hidden_size=8")]
    assert headline(same).startswith("best: rate 1 for every hidden size; lowest training loss 0.1000 ")


def test_the_number_of_points_that_are_as_good_does_not_count_the_best() -> None:
    points = []
    for size, means in zip(
        range(1, 8), ((0.1, 0.3), (0.3, 0.1), (0.1, 0.1), (0.1, 0.3), *[(0.3, 0.4)] * 3), strict=True
    ):
        points += rates(dict(zip((1, 10), means, strict=True)), f"model.hidden_size={size}")
    assert headline(points).startswith("4 of 14 points cannot be told from the best, rate ")


def test_an_accuracy_cannot_tell_less_than_a_row_apart() -> None:
    point = ended(0.5, metric="test/accuracy", common=MNIST)
    found = cells([point], layout([point]), "test/accuracy")
    assert resolution(found, "test/accuracy") == 1 / IDX_TEST_ROWS
    assert resolution(found, "test/loss") == 0
    table = ended(0.5, metric="train/accuracy")
    assert resolution(cells([table], layout([table]), "train/accuracy"), "train/accuracy") == 1 / 4


@pytest.mark.parametrize("loss", [0.15, 0.1, 0.05])
def test_a_point_with_one_seed_beside_others_with_several(loss: float) -> None:
    points = [*rates({0.1: 0.3, 1: 0.1}), ended(loss, "optimizer.learning_rate=5", "seed=1")]
    points[-1].outcome.final["train/loss"] = loss
    said = next(answers(points))
    short = headline(points)
    found = result_grid(points, layout(points), "train/loss")
    if loss > 0.1:
        assert said.startswith(
            "the best rate is 1 (training loss 0.1000 ± 0.0026, 5 seeds, 1 point with one seed left "
        )
        assert short.startswith(
            "best: rate 1, training loss 0.1000 ± 0.0026 (5 seeds, 1 point with one seed left out); "
        )
        assert found.best.tolist() == [[False, True, False]]
    elif loss == 0.05:
        assert said.startswith("the lowest training loss is 0.05, at rate 5; ")
        assert short.startswith("lowest training loss 0.05 at rate 5 (some points have one seed); ")
        assert found.best.tolist() == [[False, False, True]]
    if loss <= 0.1:
        assert f"({SOME_SEEDS})" in said
        assert "the best rate" not in said


@given(
    st.lists(st.lists(st.one_of(st.floats(0, 1), st.just(math.inf)), min_size=3, max_size=3), min_size=1, max_size=4)
)
def test_figures_and_sentences_have_the_same_best(losses: list[list[float]]) -> None:
    points = [
        ended(loss, f"optimizer.learning_rate={10**rank}", f"seed={seed}")
        for rank, by_seed in enumerate(losses)
        for seed, loss in enumerate(by_seed)
    ]
    found = cells(points, layout(points), "train/loss")
    ranking = rank(found, "train/loss")
    assert ranking.best is best_cell(found, "train/loss")
    assert (ranking.best in ranking.members) == any(math.isfinite(loss) for by_seed in losses for loss in by_seed)
    assert study_kind(points).name == "network"
    assert all(answers(points))
    assert headline(points)
    for group in groups(points, layout(points)):
        assert ranking.best is not None
        assert group.best.points[0] is ranking.best.points[0]


def test_values_are_named_as_runs() -> None:
    knob = layout(rates({0.1: 1, 1: 1})).across
    tried = [0.001, 0.01, 0.1, 1, 10]
    assert span([0.1], tried, knob) == "0.1"
    assert span([0.001, 0.1, 1, 10], tried, knob) == "0.001 and 0.1 to 10"
    assert span([0.001, 0.01, 1], tried, knob) == "0.001, 0.01 and 1"


def test_points_that_share_a_value_are_told_by_their_further_knob() -> None:
    points = []
    for turn, penalty in enumerate((0, 0.1)):
        for rate, mean in ((0.1, 0.3), (1, 0.1)):
            for momentum in (0, 0.9):
                own = [f"optimizer.learning_rate={rate}", f"optimizer.momentum={momentum}", f"training.l2={penalty}"]
                points += seeds(mean + momentum / 10, "optimizer=momentum", *own, turn=turn)
    said = list(answers(points))
    assert said[0].startswith("the best rate is the same for every value of momentum: 1 (training loss 0.1000 ")
    assert said[-1].startswith("by l2, the best over all other knobs: training loss 0.1000 ± 0.0026 at 0 and 0.1000 ")
    assert said[-1].endswith("; 0 and 0.1 cannot be told apart.")
    alone = [point for point in points if point.settings["optimizer.momentum"] == 0]
    other = seeds(0.05, "optimizer=momentum", "optimizer.momentum=0.9", "optimizer.learning_rate=0.1", turn=2)
    worse = seeds(0.5, "optimizer=momentum", "optimizer.momentum=0.9", "optimizer.learning_rate=1")
    mixed = [*alone, *other, *worse]
    assert next(answers(mixed)).startswith(
        "the rates that cannot be told from the best: 1 for momentum 0; 0.1 for 0.9 "
    )
    ((heading, said),) = study_kind(mixed).sections(mixed)
    assert heading == "The best rates for every value of momentum"
    assert said[0].startswith("- for momentum 0, rate 1 with l2 0 and 0.1 cannot be told apart (training loss ")


def test_a_seed_that_was_trained_twice_counts_once() -> None:
    points = [
        ended(loss, f"optimizer.learning_rate={rate}", "seed=1", f"recording.snapshots={snapshots}")
        for rate, loss in ((0.1, 0.3), (1, 0.1))
        for snapshots in (2, 6)
    ]
    found = cells(points, layout(points), "train/loss")
    assert [cell.estimate.text for cell in found] == ["0.3", "0.1"]
    assert headline(points).startswith("lowest training loss 0.1 at rate 1 (one seed); ")


def test_where_a_size_cannot_be_tested_the_headline_calls_nothing_the_best_either() -> None:
    one = [
        ended(loss, f"optimizer.learning_rate={rate}", "model.hidden_size=4", "seed=1")
        for rate, loss in ((0.1, 0.3), (1, 0.25))
    ]
    points = [*one, *rates({0.1: 0.2, 1: 0.1}, "model.hidden_size=8")]
    assert "(some points have one seed" in next(answers(points))
    assert headline(points).startswith(
        "lowest training loss 0.1000 ± 0.0026 at rate 1 with hidden size 8 (some points have one seed); "
    )
    assert "cannot_be_told_apart" not in study_metrics(points)["best"]


def test_where_nothing_learns_no_group_has_a_best_value() -> None:
    points = []
    for size in (32, 64):
        for accuracy, rate in ((0.0980, 0.1), (0.1135, 1)):
            settings = (f"optimizer.learning_rate={rate}", f"model.hidden_size={size}")
            points += seeds(accuracy, *settings, metric="test/accuracy", common=MNIST)
    for point in points:
        point.history.metrics[:] = []
        point.history.record(2, {"train/loss": 2.31})
    points = [Point(one.name, one.folder, one.config, one.history, one.outcome) for one in points]
    assert next(answers(points)).startswith("no point learns: ")
    assert study_kind(points).sections(points) == []


def test_the_heading_of_groups_says_whether_all_are_known() -> None:
    known = rates({0.1: 0.3, 1: 0.1}, "model.hidden_size=4")
    known += rates({0.1: 0.3, 1: 0.1}, "model.hidden_size=8")
    ((heading, _),) = study_kind(known).sections(known)
    assert heading == "The best rates for every hidden size"
    ((heading, section),) = study_kind(known).sections([*known[:10], known[10], known[15]])
    assert (heading, len(section)) == ("The best rates for every hidden size of which they are known", 1)


def test_each_backend_has_a_best_point() -> None:
    def at(rate: float, loss: float, backend: str) -> Point:
        return ended(loss, f"optimizer.learning_rate={rate}", f"backend={backend}")

    points = [at(rate, loss, "numpy") for rate, loss in ((0.1, 0.3), (1, 0.01), (10, 0.4))]
    points += [at(rate, loss, "keras") for rate, loss in ((0.1, 0.2), (1, 0.5), (10, 0.4))]
    assert best_points(points) == [points[1], points[3]]
