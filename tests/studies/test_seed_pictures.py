"""What figures show of several seeds: means, bands, bars, and which points cannot be told from the best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pipeline.backends.shared.history import History
from pipeline.drawing.plot_data import Curve, log_floor, score_limits
from pipeline.points.point import Point, outcome_of
from pipeline.studies import kinds, sweep_figures
from pipeline.studies.grids import cell_metric, cells
from pipeline.studies.knobs import layout
from pipeline.studies.ranking import rank
from pipeline.studies.result_grids import best_note, result_grid, seeds_note
from pipeline.studies.statistics.intervals import quantile
from tests.support.ended import ended
from tests.support.trained import config

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCURACY = "validation/accuracy"


def texts(figure: Figure) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text) if isinstance(text, Text))


def made(rate: float, seed: int, last: float, diverged: bool = False, size: int = 8) -> Point:
    """A point whose accuracy rises from chance to a last value."""
    one = config(
        "experiment=mnist_grid", f"optimizer.learning_rate={rate}", f"model.hidden_size={size}", f"seed={seed}"
    )
    history = History(diverged_step=3 if diverged else None, epochs=3)
    for epoch, accuracy in enumerate((0.1, last - 0.02, last - 0.01, last)):
        history.record(epoch, {"train/loss": 1 - accuracy, "validation/loss": 1 - accuracy, ACCURACY: accuracy})
    return Point(f"learning_rate={rate} seed={seed}", Path(), one, history, outcome_of(history))


def seeds(rate: float, *last: float) -> list[Point]:
    return [made(rate, seed, value) for seed, value in enumerate(last, start=1)]


@pytest.fixture(scope="module")
def three() -> list[Point]:
    """Two rates that seeds cannot tell apart, and one that is worse for each seed."""
    return [
        *seeds(0.01, 0.971, 0.980, 0.976, 0.972),
        *seeds(0.03, 0.972, 0.978, 0.977, 0.971),
        *seeds(0.1, 0.920, 0.931, 0.926, 0.921),
    ]


def frames(ax: Axes) -> set[int]:
    """The columns of a heat map that have a frame."""
    from matplotlib.patches import Rectangle

    found = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    return {round(patch.get_x() + patch.get_width() / 2) for patch in found}


def edges(ax: Axes) -> set[float]:
    """The rates whose point has a black edge."""
    from matplotlib.colors import to_hex

    edged = [line for line in ax.lines if to_hex(line.get_markeredgecolor()) == "#222222"]
    return {float(np.ravel(line.get_xdata())[0]) for line in edged}


def test_the_text_and_the_pictures_mark_the_same_points(three: list[Point]) -> None:
    wider = [made(one.learning_rate, one.config.seed, one.outcome.final[ACCURACY], size=16) for one in three]
    shown = layout(three)
    ranking = rank(cells(three, shown, ACCURACY), ACCURACY)
    members = {cell.points[0].learning_rate for cell in ranking.members}
    assert members == {0.01, 0.03}
    assert edges(dict(kinds.sweep_figures(three))["loss_by_rate"].axes[1]) == members
    both = dict(kinds.sweep_figures([*three, *wider]))
    assert frames(both["heat_map"].axes[0]) == {0, 1}
    assert "frame: cannot be told from the best with each hidden size" in texts(both["heat_map"]).replace("\n", " ")


def test_cells_have_the_mean_half_the_width_and_the_number_of_seeds(three: list[Point]) -> None:
    grid = result_grid([*three, made(0.1, 5, 0.9, diverged=True)], layout(three), ACCURACY)
    half = quantile(3) * np.std([0.971, 0.980, 0.976, 0.972], ddof=1) / 2
    assert grid.values[0, 0] == pytest.approx(0.97475)
    assert grid.high[0, 0] - grid.values[0, 0] == pytest.approx(half)
    assert grid.texts[0, 0] == "0.975\n± 0.007 (4)"
    assert grid.texts[0, 2].endswith("(4 of 5)")
    assert grid.diverged.tolist() == [[False, False, True]]


def test_curves_are_means_with_a_band_and_their_label_has_the_interval(three: list[Point]) -> None:
    figure = sweep_figures.curves_by_value(three)
    accuracy = figure.axes[1]
    drawn = [np.asarray(line.get_ydata(), dtype=float) for line in accuracy.lines]
    # The strokes to the labels have two ends.
    assert [values[-1] for values in drawn if len(values) == 4] == pytest.approx([0.97475, 0.9745, 0.9245])
    assert len(accuracy.collections) == 3
    assert "0.01: 0.975 ± 0.007" in texts(figure)
    assert "mean and 95 % interval of 4 seeds" in texts(figure)


def test_one_seed_says_that_its_noise_is_unknown(three: list[Point]) -> None:
    alone = [point for point in three if point.config.seed == 1]
    shown = layout(alone)
    assert seeds_note(alone, shown) == "one seed: noise unknown"
    assert best_note(alone, shown, "frame") == "frame: the highest"
    assert not np.isfinite(result_grid(alone, shown, ACCURACY).low).any()
    assert cell_metric(alone) == ACCURACY


def test_a_seed_that_diverged_is_counted_and_no_part_of_the_mean(three: list[Point]) -> None:
    points = [*seeds(0.01, 0.97, 0.98), made(0.01, 3, 0.5, diverged=True), *seeds(0.1, 0.92, 0.93, 0.94)]
    figure = sweep_figures.curves_by_value(points)
    assert "0.01 (2 of 3 trained)" in texts(figure)
    assert "some seeds diverged" in texts(sweep_figures.loss_by_value(points))


def test_seeds_alone_are_lines_of_their_own_around_the_mean() -> None:
    figure = sweep_figures.curves_by_value(seeds(0.01, 0.97, 0.98, 0.96))
    written = texts(figure)
    assert {"1: 0.970", "2: 0.980", "3: 0.960"} <= set(written.split("\n"))
    assert "mean: 0.970 ± 0.025" in written


def curve(*values: float) -> Curve:
    return Curve(np.arange(len(values)), np.array(values), False)


def test_the_axis_of_an_accuracy_shows_where_curves_end() -> None:
    limits = score_limits([curve(0.1, 0.96, 0.97, 0.98), curve(0.1, 0.93, 0.95, 0.96)])
    assert limits == pytest.approx((0.93 - 0.003, 0.98 + 0.003))
    near_chance = score_limits([curve(0.1, 0.96, 0.97, 0.98), curve(0.1, 0.1, 0.11, 0.1)])
    assert near_chance is not None
    assert near_chance[0] < 0.1
    assert score_limits([curve(), curve(np.nan)]) is None
    assert score_limits([curve(0.5)]) == pytest.approx((0.49, 0.51))


@pytest.mark.parametrize(
    ("values", "floor"), [([1e-3, 1.0, 0.0], 1e-4), ([1e-73, 1.0], 1e-16), ([1e-73, 1e-70], 1e-74), ([0.0], 0.1)]
)
def test_final_losses_that_are_rounding_do_not_flatten_the_others(values: Sequence[float], floor: float) -> None:
    assert log_floor(np.array(values)) == pytest.approx(floor)


def lowest_of_bars(figure: Figure) -> list[tuple[float, float]]:
    """Where each bar of an interval ends, and the lower edge of its axes."""
    bars = [(line, ax) for ax in figure.axes for line in ax.lines if line.get_marker() == "_"]
    # A single one is the mark of a training that stalled.
    ends = [(np.array(line.get_ydata(), dtype=np.float64), ax.get_ylim()[0]) for line, ax in bars]
    return [(float(heights.min()), edge) for heights, edge in ends if len(heights) == 2]


@pytest.mark.parametrize(("study", "key"), [("three_bits", "model.hidden_size"), ("methods_three_bits", "optimizer")])
def test_a_bar_whose_end_is_cut_to_0_leaves_a_logarithmic_axis_below(study: str, key: str) -> None:
    values = {"model.hidden_size": (4, 8), "optimizer": ("sgd", "adam")}[key]
    points = []
    for rate, losses in ((0.1, (0.30, 0.31)), (1, (0.001, 0.2)), (10, (0.4, 0.41))):
        for seed, loss in enumerate(losses):
            own = (f"optimizer.learning_rate={rate}", f"seed={seed}")
            points += [ended(loss, f"{key}={value}", *own, common=[f"experiment={study}"]) for value in values]
    bars = lowest_of_bars(kinds.study_figure(study, {"numpy": points}))
    beyond = [low < edge for low, edge in bars]
    # The other two rates have ends that are seen.
    assert beyond.count(True) * 2 == beyond.count(False) > 0
