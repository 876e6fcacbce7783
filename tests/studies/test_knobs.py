"""Studies over any knobs: which are the axes, what is said, and what is drawn."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipeline.backends.shared.history import History
from pipeline.drawing.layout import save_png
from pipeline.points.breaking_rates import BreakingRate, key_of
from pipeline.points.point import Point, outcome_of, point_name
from pipeline.report.breaking_page import breaking_lines
from pipeline.report.earlier import Earlier
from pipeline.report.rows import curve_rows, points_rows, study_metrics
from pipeline.report.study_page import study_page
from pipeline.studies import kinds
from pipeline.studies.certainty import ONE_SEED
from pipeline.studies.grids import cells, profile
from pipeline.studies.kinds import answers, headline, study_figure, study_kind
from pipeline.studies.knobs import Knob, layout, numeric_keys, varying
from pipeline.studies.result_grids import result_grid
from tests.support.trained import config

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMMON = ("experiment=three_bits", "optimizer=momentum", "optimizer.learning_rate=1", "model.hidden_size=4")
RATE = "optimizer.learning_rate"
BATCH = "training.batch_size"
MOMENTUM = "optimizer.momentum"
ACTIVATION = "model.hidden_activation"


def made(loss: float, *overrides: str, diverged: bool = False) -> Point:
    """A point that ended with this loss, not trained."""
    one = config(*COMMON, *overrides)
    history = History(diverged_step=3 if diverged else None, epochs=2)
    history.record(0, {"train/loss": 1.0})
    history.record(2, {"train/loss": loss})
    return Point(point_name(one, overrides), Path(), one, history, outcome_of(history))


Axes = Mapping[str, Sequence[Any]]


def grid(axes: Axes, losses: Sequence[float] = ()) -> list[Point]:
    """A point for each combination, with these losses or 1, 2, 3, ..."""
    combinations = list(product(*axes.values()))
    return [
        made(loss, *(f"{key}={value}" for key, value in zip(axes, values, strict=True)))
        for values, loss in zip(combinations, losses or range(1, len(combinations) + 1), strict=True)
    ]


def axes_of(points: Sequence[Point]) -> tuple[str, str, str | None, list[str]]:
    shown = layout(points)
    panels = None if shown.panels is None else shown.panels.key
    return shown.across.key, shown.up.key, panels, [knob.key for knob in shown.further]


def texts(figure: Figure) -> list[str]:
    from matplotlib.text import Text

    save_png(figure, io.BytesIO())
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]


# --- which knobs there are


def test_the_rate_comes_first_then_the_size_then_the_others_in_order() -> None:
    sizes: dict[str, Sequence[Any]] = {"model.hidden_size": (4, 8)}
    rates: dict[str, Sequence[Any]] = {RATE: (0.1, 1)}
    batches: dict[str, Sequence[Any]] = {BATCH: (1, 2)}
    assert axes_of(grid(rates)) == (RATE, "model.hidden_size", None, [])
    assert axes_of(grid(sizes)) == ("model.hidden_size", "", None, [])
    assert axes_of(grid(batches)) == (BATCH, "model.hidden_size", None, [])
    assert axes_of(grid(batches | rates)) == (RATE, BATCH, None, [])
    assert axes_of(grid(batches | sizes)) == ("model.hidden_size", BATCH, None, [])
    assert axes_of(grid(batches | sizes | rates)) == (RATE, "model.hidden_size", None, [BATCH])
    assert axes_of(grid(batches | {MOMENTUM: (0, 0.9)} | rates)) == (RATE, MOMENTUM, None, [BATCH])
    assert axes_of(grid(batches | {"report.size": ["training.batch_size"]} | sizes | rates)) == (
        RATE, BATCH, None, ["model.hidden_size"]
    )  # fmt: skip


def test_names_have_panels_and_seeds_are_no_axis() -> None:
    points = grid({ACTIVATION: ("relu", "tanh"), "model.bias": ("true", "false"), "seed": (1, 2)})
    assert axes_of(points) == (RATE, "model.hidden_size", ACTIVATION, ["model.bias"])
    assert layout(points).seeds == (1, 2)
    assert [knob.key for knob in layout(points).knobs] == [ACTIVATION, "model.bias"]


def test_null_has_no_place_on_the_horizontal_axis() -> None:
    points = grid({BATCH: ("null", 1, 2)})
    assert axes_of(points) == (RATE, BATCH, None, [])
    assert layout(points).up.values == (None, 1, 2)
    assert axes_of(grid({BATCH: ("null", 1, 2), MOMENTUM: (0, 0.5)})) == (MOMENTUM, BATCH, None, [])


def test_a_method_stands_for_the_keys_that_it_brings() -> None:
    points = grid({"optimizer": ("sgd", "adam"), BATCH: (1, 2)})
    # Each method has a rate and other keys of its own.
    assert axes_of(points) == (BATCH, "model.hidden_size", "optimizer.name", [])
    both = grid({"optimizer": ("sgd", "adam"), RATE: (0.1, 1)})
    assert axes_of(both)[0] == RATE
    assert study_kind(both).name == "variants"
    assert study_kind(points).name == "network"
    assert study_kind(grid({"optimizer": ("sgd", "adam"), RATE: (0.1, 1), "seed": (1, 2)})).name == "variants"


def test_what_follows_from_a_knob_is_none_and_what_was_typed_is_one() -> None:
    derived = [made(1, f"{BATCH}={size}", "training.l2=${training.batch_size}") for size in (1, 2)]
    assert varying([point.settings for point in derived]) == [BATCH, "training.l2"]
    # Not typed: the name of the point has no l2.
    unnamed = [Point(f"batch_size={i}", p.folder, p.config, p.history, p.outcome) for i, p in enumerate(derived)]
    assert [knob.key for knob in layout(unnamed).knobs] == [BATCH]
    assert {knob.key for knob in layout(derived).knobs} == {BATCH, "training.l2"}


def test_where_data_was_downloaded_and_the_order_of_keys_are_no_knobs() -> None:
    one, other = ([("kind", "npz"), ("path", "x")] for _ in range(2))
    settings_of_both = [
        {"data.sources": ["https://one"], "data.files": dict(one), RATE: 0.1},
        {"data.sources": ["https://other"], "data.files": dict(reversed(other)), RATE: 1},
    ]
    assert varying(settings_of_both) == [RATE]


@given(st.dictionaries(st.sampled_from(["a", "b", "c", "seed"]), st.integers(1, 3), min_size=1))
def test_in_a_full_grid_each_key_with_several_values_varies(sizes: dict[str, int]) -> None:
    settings_of_all = [dict(zip(sizes, values, strict=True)) for values in product(*map(range, sizes.values()))]
    varied = varying(settings_of_all)
    assert sorted(varied) == sorted(key for key, size in sizes.items() if size > 1)
    assert "seed" not in varied[:-1]


@pytest.mark.parametrize(
    ("values", "logarithmic"),
    [
        ((4, 8, 16, 32), True),
        ((1, 3, 10), True),
        ((16, 64), False),
        ((1, 100), True),
        ((10, 20, 30), False),
        ((0, 0.001, 0.1), False),
        ((0.5, 0.9, 0.99), False),
        ((-1, 1, 10), False),
        ((None, 1, 10, 100), False),
        (("a", "b"), False),
        ((1,), False),
    ],
)
def test_an_axis_is_logarithmic_where_its_values_are_more_even_on_it(
    values: tuple[Any, ...], logarithmic: bool
) -> None:
    assert Knob("training.l2", values).logarithmic is logarithmic


def test_values_are_written_short_but_different_ones_differently() -> None:
    knob = Knob("training.l2", (0.1 + 0.2, 0.3))
    assert [knob.text(value) for value in knob.values] == ["0.30000000000000004", "0.3"]
    assert Knob(BATCH, ()).said(1000000) == "batch_size 1000000"
    assert Knob("model.hidden_size", ()).said(None) == "no hidden layer"
    assert Knob("optimizer.name", ()).said("sgd") == "optimizer sgd"


# --- numbers


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(1e-3, 1e3), min_size=12, max_size=12))
def test_a_cell_is_the_best_over_further_knobs_of_the_means_over_seeds(losses: list[float]) -> None:
    axes = {RATE: (0.1, 1), "model.hidden_size": (4, 8), "seed": (1, 2, 3)}
    points = grid(axes, losses)
    shown = layout(points)
    found = result_grid(points, shown, "train/loss")
    expected = np.array(losses).reshape(2, 2, 3)
    np.testing.assert_allclose(found.values.T, expected.mean(axis=2))
    axes = {RATE: (0.1, 1), "model.hidden_size": (4, 8), BATCH: (1, 2, 4)}
    points = grid(axes, losses)
    shown = layout(points)
    np.testing.assert_allclose(result_grid(points, shown, "train/loss").values.T, expected.min(axis=2))
    best = [cell.value for cell in profile(points, shown, shown.further[0], "train/loss") if cell is not None]
    np.testing.assert_allclose(best, expected.min(axis=(0, 1)))


def test_a_combination_of_which_all_points_diverged_is_not_the_best() -> None:
    points = [made(1, f"{BATCH}=1", diverged=True), made(3, f"{BATCH}=2"), made(4, f"{BATCH}=2", "seed=2")]
    shown = layout(points)
    values = [cell.value for cell in cells(points, shown, "train/loss")]
    assert math.isnan(values[0])
    assert values[1] == 3.5
    assert result_grid(points, shown, "train/loss").diverged.tolist() == [[True, False]]


# --- sentences


def test_sentences_are_about_the_knob_that_varies() -> None:
    said = list(answers(grid({BATCH: (1, 2, 4)}, [0.3, 0.1, 0.2])))
    assert said[0] == f"the lowest training loss is 0.1, at batch_size 2 ({ONE_SEED})."
    assert not any("rate" in sentence for sentence in said)
    two = list(answers(grid({RATE: (0.1, 1), BATCH: (1, 2)}, [0.3, 0.1, 0.2, 0.4])))
    lowest = "0.2 for batch_size 1 at rate 1; 0.1 for batch_size 2 at rate 0.1"
    assert two[0] == f"the lowest training loss is {lowest} ({ONE_SEED})."
    assert not any("depends" in sentence for sentence in two)


def test_a_size_of_ones_own_choice() -> None:
    points = grid({"report.size": [BATCH], RATE: (0.1, 1), BATCH: (1, 2)}, [0.3, 0.1, 0.2, 0.4])
    assert next(answers(points)).startswith("the lowest training loss is 0.2 for batch_size 1 at rate 1; 0.1 for ")
    assert headline(points).startswith("lowest training loss 0.1 at rate 0.1 with batch_size 2 (one seed); ")


def test_values_that_diverge_are_named() -> None:
    points = [made(0.2, f"{BATCH}=1", diverged=True), made(0.1, f"{BATCH}=2"), made(0.2, f"{BATCH}=4", diverged=True)]
    said = list(answers(points))
    assert "batch_size 1 and 4 diverge; 2 still improves." in said
    assert any(sentence.startswith("at batch_size 1, the loss was not a finite number after ") for sentence in said)


def test_panels_profiles_and_seeds_are_stated() -> None:
    axes = {RATE: (0.1, 1), BATCH: (1, 2), ACTIVATION: ("relu", "tanh"), "training.l2": (0, 0.1), "seed": (1, 2)}
    points = grid(axes)
    # The last combination ends lowest: rate 1, batch_size 2, tanh, l2 0.1.
    points[-2:] = [made(0.25, *_typed(points[-2])), made(0.75, *_typed(points[-1]))]
    said = list(answers(points))
    assert any(sentence.startswith("by l2, the best over all other knobs: training loss ") for sentence in said)
    assert any(sentence.startswith("by hidden_activation, the best over all other knobs: ") for sentence in said)
    assert len(said) <= 7
    # The headline is about the groups of the sentences.
    first = headline(points)
    assert first.startswith("the best rate depends on hidden_activation and batch_size; lowest training loss 0 ± 3 at ")
    assert " at rate 1 with batch_size 2, hidden_activation tanh and l2 0.1 (2 seeds); " in first
    assert "; of 32 trainings " in first


def _typed(point: Point) -> list[str]:
    """The overrides of a point of the test above."""
    keys = (RATE, BATCH, ACTIVATION, "training.l2", "seed")
    return [f"{key}={point.settings[key]!s}" for key in keys]


def test_seeds_alone_have_a_spread() -> None:
    said = list(answers(grid({"seed": (1, 2, 3)}, [0.1, 0.4, 0.2])))
    assert said[0] == "over 3 seeds, the training loss is 0.2 ± 0.4 (0.1 to 0.4)."
    lost = [made(0.1, "seed=1"), made(0.2, "seed=2"), made(1, "seed=3", diverged=True)]
    assert "2 of 3 points still improve; 2 of 3 seeds trained." in answers(lost)


# --- tables


def test_tables_have_a_column_for_each_knob() -> None:
    points = grid({RATE: (0.1, 1), BATCH: (1, 2), MOMENTUM: (0, 0.9), "seed": (1, 2)})
    page = study_page("own", {"numpy": points}, {})
    assert "The same in all rows: backend numpy, hidden size 4." in page
    assert "| rate | momentum | batch_size | diagnosis | training loss | evidence |" in page
    # The seeds are one row: losses 1 and 2, with t = 12.7.
    assert "| 0.1 | 0 | 1 | too slow (1 of 2), stalled (rate too large) (1 of 2) | 2 ± 6 (2) |" in page
    assert "<summary>All 8 points</summary>" in page
    assert "- numpy: 8 points of 2 seeds, trained for 60,000 epochs." in page
    assert "- numpy: 8 points of up to 2 seeds, " in study_page("own", {"numpy": points[:-1]}, {})
    rows = points_rows({"own": {"numpy": points}}, Earlier())
    assert [row[MOMENTUM] for row in rows[:4]] == [0, 0, 0.9, 0.9]
    best = study_metrics(points)["best"]
    # Not the luckiest seed, whose loss is 1.
    assert (best["train/loss"], best["interval_low"], best["seeds"]) == (1.5, 0.0, 2)
    assert best["interval_high"] == pytest.approx(1.5 + 12.706 * 0.5, rel=1e-3)
    assert [best[key] for key in (RATE, "model.hidden_size", MOMENTUM, BATCH)] == [0.1, 4, 0, 1]
    of_groups = "rate 0.1 with momentum 0 and batch_size 1; rate 0.1 with momentum 0.9 and batch_size 1"
    assert best["cannot_be_told_apart"] == of_groups
    assert {row[BATCH] for row in curve_rows({"numpy": points})} == {1, 2}


def test_mlflow_shows_the_numbers_that_vary() -> None:
    points = grid({BATCH: (1, 2), MOMENTUM: (0, 0.9), ACTIVATION: ("relu", "tanh"), "seed": (1, 2)})
    assert numeric_keys([point.config for point in points]) == [MOMENTUM, BATCH]


# --- figures


def test_each_panel_has_a_heat_map_and_each_further_knob_a_profile() -> None:
    points = grid({RATE: (0.1, 1), BATCH: (1, 2), ACTIVATION: ("relu", "tanh"), "training.l2": (0, 0.1)})
    names = [name for name, _ in kinds.sweep_figures(points)]
    assert names == ["curves_by_rate", "loss_by_rate", "heat_map", "profiles"]
    figures = dict(kinds.sweep_figures(points))
    written = texts(figures["heat_map"])
    assert {"relu", "tanh", "learning rate", "batch_size"} <= set(written)
    assert any("for each hidden_activation" in text.replace("\n", " ") for text in written)
    assert any("best over l2" in text for text in written)
    # The best over l2 of each cell: losses count up with l2.
    assert {f"{loss:.3g}" for loss in range(1, 17, 2)} <= set(written)
    study = study_figure("own", {"numpy": points, "keras": points[:4]})
    assert {"numpy, relu", "keras, tanh", "numpy, profile of l2", "keras, profile of hidden_activation"} <= set(
        texts(study)
    )


def test_another_knob_than_the_rate_names_its_figures() -> None:
    points = grid({BATCH: (1, 2, 4)})
    assert [name for name, _ in kinds.sweep_figures(points)] == ["curves_by_batch_size", "loss_by_batch_size"]
    assert [name for name, _ in kinds.sweep_figures(grid({"model.hidden_size": (4, 8)}))] == [
        "curves_by_hidden_size", "loss_by_hidden_size"
    ]  # fmt: skip
    assert "batch_size" in texts(study_figure("own", {"numpy": points}))
    assert "own: curves by seed" in [
        text.replace("single_run", "own").replace("three_bits (numpy)", "own")
        for text in texts(study_figure("own", {"numpy": grid({"seed": (1, 2)})}))
    ]


def test_lines_join_numbers_and_not_names() -> None:
    points = grid({ACTIVATION: ("relu", "tanh"), BATCH: (1, 2)})
    names, numbers = (dict(kinds.sweep_figures(grid))["profiles"].axes[0] for grid in (points, _three_numbers()))
    assert all(line.get_linestyle() == "None" or len(np.atleast_1d(line.get_xdata())) == 1 for line in names.lines)
    assert any(len(np.atleast_1d(line.get_xdata())) == 2 for line in numbers.lines)


def _three_numbers() -> list[Point]:
    return grid({RATE: (0.1, 1), MOMENTUM: (0, 0.9), BATCH: (1, 2)})


# Without looking for a smaller example, which takes minutes where each one is drawn.
@pytest.mark.slow
@given(st.data())
@settings(max_examples=6, suppress_health_check=list(HealthCheck), phases=(Phase.generate,))
def test_any_knobs_can_be_drawn_and_described(data: st.DataObject) -> None:
    possible: dict[str, Sequence[Any]] = {
        RATE: (1e-300, 0.1, 1e300),
        "model.hidden_size": (1, 4, 9999),
        BATCH: ("null", 1, 2, 4),
        MOMENTUM: (0, 0.5, 0.99),
        ACTIVATION: ("relu", "tanh"),
        "training.clip_norm": ("null", 1e-300, 1),
        "seed": (1, 2),
    }
    chosen = data.draw(st.lists(st.sampled_from(list(possible)), min_size=1, max_size=4, unique=True))
    combinations = list(product(*(possible[key] for key in chosen)))
    kept = data.draw(st.lists(st.sampled_from(combinations), min_size=1, max_size=10, unique=True))
    loss = st.one_of(st.floats(0, 1e300), st.sampled_from((0.0, 5e-324, 1.7e308)))
    points = [
        made(
            data.draw(loss),
            *(f"{key}={value}" for key, value in zip(chosen, values, strict=True)),
            diverged=data.draw(st.booleans()),
        )
        for values in kept
    ]
    rate = data.draw(st.sampled_from((None, 5e-324, 0.3, 1e300)), label="the predicted breaking rate")
    points = [
        replace(point, breaking_rate=BreakingRate(*key_of(point.config), True, "sgd", 2.0, rate)) for point in points
    ]
    for _, figure in kinds.sweep_figures(points):
        assert texts(figure)
    assert texts(study_figure("own", {"numpy": points, "keras": points[-1:]}))
    assert all(answers(points))
    assert headline(points)
    assert study_page("own", {"numpy": points}, {})
    assert breaking_lines({"own": {"numpy": points}})
