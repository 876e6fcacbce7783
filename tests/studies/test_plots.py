from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays
from pipeline.drawing import plot_data
from pipeline.drawing.axes import axes_grid, draw_bundle
from pipeline.drawing.colours import RATE_COLOURS, Colour, rate_colour, rate_colours
from pipeline.drawing.layout import save_png
from pipeline.points.point import Point, outcome_of
from pipeline.studies import grids, kinds, network_data, result_grids, sweep_figures
from pipeline.studies import network_figures as plots
from pipeline.studies.kinds import study_figure
from pipeline.studies.knobs import layout
from pipeline.studies.study_pictures import recorded_figure
from tests.support.maps import map_point
from tests.support.trained import config, sweep, trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MNIST = ["experiment=mnist", "model.hidden_size=8", "training.epochs=2", "training.batch_size=20"]


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    save_png(figure, buffer)
    return buffer.getvalue()


def texts(figure: Figure) -> list[str]:
    """Everything that is written on a figure."""
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]


@pytest.fixture(scope="module")
def line() -> list[Point]:
    """A sweep of which the last point diverges: rate 1 with the true gradient."""
    common = ["experiment=line_y3x", "gradient=backpropagation", "training.epochs=40"]
    return sweep(common, [[f"optimizer.learning_rate={rate}"] for rate in ("0.01", "0.1", "1")])


@pytest.fixture(scope="module")
def three_bits() -> list[Point]:
    grid = [
        [f"optimizer.learning_rate={rate}", f"model.hidden_size={size}"] for rate in ("0.1", "10") for size in (4, 32)
    ]
    return sweep(["experiment=three_bits", "training.epochs=300"], grid)


@pytest.fixture(scope="module")
def mnist(tiny_images: Arrays) -> list[Point]:
    return sweep(MNIST, [["optimizer.learning_rate=0.01"], ["optimizer.learning_rate=0.0001"]], tiny_images)


@pytest.fixture(scope="module")
def two_bits() -> Point:
    (point,) = sweep(["experiment=two_bits", "training.epochs=200"], [[]])
    return point


def made_point(rate: float, size: int | None, loss: float, diverged: bool = False) -> Point:
    """A point with one recorded loss, not trained."""
    hidden = [] if size is None else [f"model.hidden_size={size}"]
    one = config("experiment=three_bits", f"optimizer.learning_rate={rate}", *hidden)
    history = History(diverged_step=3 if diverged else None, epochs=1)
    history.record(1, {"train/loss": loss})
    return Point(f"{rate} {size}", Path(), one, history, outcome_of(history))


def test_palette_orders_rates_by_decade_and_is_constant_beyond_its_ends() -> None:
    assert plot_data.palette_position(1e-4) == 0
    assert plot_data.palette_position(1e3) == 1
    assert plot_data.palette_position(0.1) == pytest.approx(3 / 7)
    assert plot_data.palette_position(1e-9) == 0
    assert plot_data.palette_position(1e9) == 1


def test_palette_gets_lighter_all_the_way_and_keeps_its_decades() -> None:
    from matplotlib.colors import to_rgb

    colours = [rate_colour(10.0**power)[:3] for power in range(-4, 4)]
    lightness = [0.2126 * r**2.2 + 0.7152 * g**2.2 + 0.0722 * b**2.2 for r, g, b in colours]
    assert np.all(np.diff(lightness) > 0.01)
    assert lightness[-1] < 0.7, "must be seen on white"
    np.testing.assert_allclose(colours, [to_rgb(colour) for colour in RATE_COLOURS], atol=0.02)


def test_grid_has_results_of_finished_points_and_marks_diverged_ones() -> None:
    points = [
        made_point(0.1, 4, 1.0),
        made_point(0.1, 4, 3.0),
        made_point(0.1, 4, 2.5),
        made_point(10, 4, 7.0, diverged=True),
        made_point(10, 32, 5.0),
    ]
    found = result_grids.result_grid(points, layout(points), "train/loss")
    assert found.across.numbers == [0.1, 10.0]
    assert found.up.ticks == ["4", "32"]
    np.testing.assert_array_equal(found.values, [[2.5, np.nan], [np.nan, 5.0]])
    np.testing.assert_array_equal(found.diverged, [[False, True], [False, False]])
    assert result_grids.seeds_note(points, layout(points)) == "one seed: noise unknown"


def test_cell_metric_is_accuracy_then_error_then_loss(mnist: list[Point], three_bits: list[Point]) -> None:
    assert grids.cell_metric(mnist) == "test/accuracy"
    assert grids.cell_metric(three_bits) == "train/mean_absolute_error"
    assert grids.cell_metric([made_point(1, 4, 1.0)]) == "train/loss"


def test_log_limits_cut_off_an_explosion_and_ignore_zeros() -> None:
    def curve(*values: float) -> plot_data.Curve:
        return plot_data.Curve(np.arange(len(values)), np.array(values), False)

    low, high = plot_data.log_limits([curve(2.0, 1e-3, 0.0), curve(2.0, 1e9)], max_growth=100)
    assert low == pytest.approx(1e-3 / 1.5)
    assert high == pytest.approx(200 * 1.5)
    assert plot_data.log_limits([curve(2.0, 8.0)], max_growth=100) == pytest.approx((2 / 1.5, 8 * 1.5))
    low, high = plot_data.log_limits([curve(0.0)])
    assert 0 < low < high


def test_weight_lines_leave_out_what_is_not_finite() -> None:
    history = History()
    history.snapshot(0, {"layer_0/weights": np.array([[1.0], [2.0]]), "layer_0/bias": np.array([3.0])})
    history.snapshot(5, {"layer_0/weights": np.array([[4.0], [5.0]]), "layer_0/bias": np.array([6.0])})
    history.snapshot(9, {"layer_0/weights": np.array([[7.0], [8.0]]), "layer_0/bias": np.array([np.inf])})
    found = network_data.weight_lines(history.snapshots)
    np.testing.assert_array_equal(found["layer_0/weights"][0], [0, 5])
    np.testing.assert_array_equal(found["layer_0/weights"][1], [[1, 2], [4, 5]])
    np.testing.assert_array_equal(found["layer_0/bias"][1], [[3], [6]])


def test_quantile_bands_by_value_and_with_true_extremes_when_thinned() -> None:
    values = np.arange(101.0)[None]
    np.testing.assert_allclose(plot_data.quantile_bands(values)[:, 0], [0, 5, 25, 50, 75, 95, 100])
    thinned = plot_data.quantile_bands(values, max_weights=10)
    assert thinned[0, 0] == 0
    assert thinned[-1, 0] == 100
    assert thinned[3, 0] == pytest.approx(50, abs=10)


def test_loss_surface_passes_through_the_recorded_losses(two_bits: Point) -> None:
    history = two_bits.history
    steps, path = network_data.weight_lines(history.snapshots)["layer_0/weights"]
    epochs, losses = history.series("train/loss")
    recorded = dict(zip(epochs.tolist(), losses.tolist(), strict=True))
    np.testing.assert_allclose(
        network_data.loss_at(two_bits.config, path), [recorded[step] for step in steps.tolist()], rtol=1e-12
    )


def test_loss_surface_has_the_second_weight_along_its_rows(two_bits: Point) -> None:
    axis, surface = network_data.loss_surface(two_bits.config, span=10, count=5)
    np.testing.assert_array_equal(axis, [-10, -5, 0, 5, 10])
    # Inputs 01, 10 and targets 0, 1: right where the first weight is large and the second is small.
    assert surface[0, -1] == pytest.approx(0, abs=1e-6)
    assert surface[-1, 0] == pytest.approx(2, abs=1e-3)
    assert surface[2, 2] == pytest.approx(0.5)


def test_only_the_two_bit_network_has_an_error_surface(two_bits: Point, line: list[Point]) -> None:
    assert network_data.has_error_surface(two_bits)
    assert not network_data.has_error_surface(line[0])


def test_target_slope_is_the_lines_own() -> None:
    assert network_data.target_slope(config("experiment=line_y2x")) == pytest.approx(2)
    assert network_data.target_slope(config("experiment=line_y3x")) == pytest.approx(3)
    assert network_data.target_slope(config("experiment=three_bits", "model.hidden_size=4")) is None


@given(st.lists(st.floats(0, 1), max_size=40), st.floats(0.001, 0.3))
def test_spread_keeps_order_distance_and_bounds(positions: list[float], gap: float) -> None:
    placed = plot_data.spread(positions, gap)
    room = min(gap, 1 / max(len(positions) - 1, 1))
    ranked = [position for _, _, position in sorted(zip(positions, range(len(positions)), placed, strict=True))]
    assert all(-1e-9 <= position <= 1 + 1e-9 for position in placed)
    assert all(after - before >= room - 1e-9 for before, after in pairwise(ranked))


@given(st.lists(st.integers(0, 9), unique=True, min_size=1))
def test_spread_leaves_labels_that_do_not_collide(tenths: list[int]) -> None:
    positions = [0.05 + tenth / 10 for tenth in tenths]
    assert plot_data.spread(positions, 0.09) == pytest.approx(positions)


@pytest.mark.parametrize("count", [1, 2, 3, 30])
def test_a_bundle_is_what_single_lines_would_be(count: int) -> None:
    steps = np.arange(count) * 7
    values = np.random.default_rng(1).normal(size=(count, 5))
    _, (bundle, single) = axes_grid(1, 2, "")
    draw_bundle(bundle, steps, values, rate_colour(0.1))
    single.plot(steps, values)
    expected = [np.asarray(line.get_xydata()) for line in single.lines]
    drawn = [np.asarray(line.get_xydata()) for line in bundle.lines]
    drawn += [path for lines in bundle.collections for path in lines.get_segments()]  # type: ignore[attr-defined]
    assert np.array_equal(drawn, expected)
    assert bundle.get_ylim() == pytest.approx(single.get_ylim())
    assert bundle.get_xlim() == pytest.approx(single.get_xlim())


def test_point_figures_have_their_names(line: list[Point], two_bits: Point, mnist: list[Point]) -> None:
    def names(point: Point) -> list[str]:
        return [name for name, figure in kinds.point_figures(point) if png(figure)]

    assert names(line[0]) == ["curves", "weights"]
    assert names(two_bits) == ["curves", "weights", "error_surface"]
    assert names(mnist[0]) == ["curves", "weights"]


def test_sweep_figures_have_their_names(line: list[Point], three_bits: list[Point], two_bits: Point) -> None:
    def names(points: Sequence[Point]) -> list[str]:
        return [name for name, figure in kinds.sweep_figures(points) if png(figure)]

    assert names(line) == ["curves_by_rate", "loss_by_rate", "weight_by_rate"]
    assert names(three_bits) == ["curves_by_rate", "loss_by_rate", "heat_map"]
    assert names([two_bits]) == ["curves_by_rate"]
    assert names([]) == []


def test_figures_say_that_a_point_diverged(line: list[Point]) -> None:
    diverged = line[-1]
    step = diverged.history.diverged_step
    assert step is not None
    assert any(f"diverged after {step} updates" in t for t in texts(plots.curves(diverged)))
    assert "1, diverged" in texts(sweep_figures.curves_by_value(line))
    assert "diverged" in texts(sweep_figures.loss_by_value(line))


def test_curves_of_training_and_test_rows_are_drawn_by_value(mnist: list[Point]) -> None:
    figure = plots.curves(mnist[0])
    loss, accuracy = figure.axes
    for ax, name in ((loss, "loss"), (accuracy, "accuracy")):
        drawn = {tuple(np.asarray(line.get_ydata(), dtype=float)) for line in ax.lines}
        for rows in ("train", "test"):
            assert tuple(mnist[0].history.series(f"{rows}/{name}")[1]) in drawn
    assert {"training", "test"} <= set(texts(figure))
    assert loss.get_yscale() == "log"


def test_rates_that_are_drawn_together_have_colours_that_differ() -> None:
    def smallest_distance(colours: Iterable[Colour]) -> float:
        found = np.array([colour[:3] for colour in colours])
        distances = np.linalg.norm(found[:, None] - found[None], axis=2)
        return float(distances[~np.eye(len(found), dtype=bool)].min())

    half_decades = [10 ** (power / 2) for power in range(-6, 1)]
    alone = smallest_distance(map(rate_colour, half_decades))
    assert smallest_distance(rate_colours(half_decades).values()) > 1.3 * alone
    assert smallest_distance(rate_colours([0.01, 0.0100001]).values()) > 0.5
    assert rate_colours([10.0]) == {10.0: rate_colour(10)}


def test_a_rate_has_one_colour_in_the_figures_of_a_sweep(three_bits: list[Point]) -> None:
    from matplotlib.colors import to_rgba

    def drawn(figure: Figure) -> set[tuple[float, ...]]:
        return {to_rgba(line.get_color()) for line in figure.axes[0].lines}

    expected = set(rate_colours(point.learning_rate for point in three_bits).values())
    assert expected <= drawn(sweep_figures.curves_by_value(three_bits))
    assert expected <= drawn(sweep_figures.loss_by_value(three_bits))


def test_heat_map_prints_the_values(three_bits: list[Point]) -> None:
    written = texts(sweep_figures.heat_map(three_bits))
    for point in three_bits:
        assert f"{point.outcome.final['train/mean_absolute_error']:.3g}" in written


def test_zero_losses_stay_on_a_logarithmic_axis() -> None:
    points = [made_point(0.1, 4, 1e-3), made_point(1, 4, 0.0)]
    figure = sweep_figures.loss_by_value(points)
    assert "0" in texts(figure)
    heights = [np.asarray(line.get_ydata(), dtype=float) for line in figure.axes[0].lines]
    assert np.concatenate(heights).min() == pytest.approx(1e-4), "a tenth of the smallest loss that is not 0"
    assert png(sweep_figures.curves_by_value(points))


def test_rates_and_losses_as_far_apart_as_floats_go_can_be_drawn() -> None:
    points = [made_point(5e-324, 4, 5e-324), made_point(1, 4, 1.0), made_point(1.7e308, 4, 1.7e308)]
    figures = [figure for _, figure in kinds.sweep_figures(points)]
    assert all(map(png, figures))
    assert {"1.7e+308", "4.94066e-324"} <= set(texts(figures[-1]))
    assert png(study_figure("three_bits", {"numpy": [*points, made_point(1, 8, 1e-300)]}))


def test_a_network_that_begins_with_infinite_weights_can_be_drawn() -> None:
    one = config("experiment=two_bits")
    history = History(diverged_step=0)
    history.snapshot(0, {"layer_0/weights": np.full((2, 1), np.inf)})
    point = Point("infinite", Path(), one, history, outcome_of(history))
    names = [name for name, figure in kinds.point_figures(point) if png(figure)]
    assert names == ["curves", "weights", "error_surface"]


def test_a_history_that_diverges_at_once_can_be_drawn() -> None:
    one: Config = config("experiment=line_y3x", "optimizer.learning_rate=1e30", "training.epochs=5")
    (history,) = trained(one)
    assert history.diverged_step is not None
    point = Point("at once", Path(), one, history, outcome_of(history))
    assert [name for name, figure in kinds.point_figures(point) if png(figure)] == ["curves", "weights"]


def test_study_pictures(
    line: list[Point], three_bits: list[Point], mnist: list[Point], two_bits: Point, tiny_images: Arrays
) -> None:
    both = study_figure("line_y3x", {"numpy": line, "keras": line[:2]})
    assert {"numpy, rate 1: diverged", "keras, rate 0.01: converged"} <= set(texts(both))
    of_two = texts(study_figure("three_bits", {"numpy": three_bits, "keras": three_bits}))
    assert "three_bits: training mean absolute error (numpy)" in of_two
    assert any("rings: keras" in text for text in of_two)
    assert "numpy, test accuracy" in texts(study_figure("mnist", {"numpy": mnist}))
    assert any("error surface" in text for text in texts(study_figure("two_bits", {"numpy": [two_bits]})))
    wider = sweep([*MNIST, "study=mnist_grid"], [["model.hidden_size=16", "optimizer.learning_rate=0.01"]], tiny_images)
    assert "mnist_grid: final test accuracy" in texts(study_figure("mnist_grid", {"numpy": [*mnist, *wider]}))


def test_a_stalled_point_is_marked_on_the_axis() -> None:
    rates = [["optimizer.learning_rate=0.1"], ["optimizer.learning_rate=1"]]
    points = sweep(["experiment=line_y3x", "recording.snapshots=2", "training.epochs=40"], rates)
    np.testing.assert_array_equal(
        result_grids.result_grid(points, layout(points), "train/loss").stalled, [[False, True]]
    )
    assert "stalled" in texts(sweep_figures.loss_by_value(points))
    assert "stalled" not in texts(sweep_figures.loss_by_value(points[:1]))


def test_recorded_runs_are_drawn_with_their_last_accuracy() -> None:
    epochs = np.arange(1.0, 4.0)
    run = {
        0.01: {
            "train/loss": (epochs, np.array([3.0, 2.0, 1.0])),
            "test/accuracy": (epochs, np.array([0.1, 0.5, 0.925])),
        }
    }
    run[0.1] = {"train/loss": (epochs, np.array([3.0, 3.0, 3.0]))}
    assert "0.01: 0.925" in texts(recorded_figure("long", run))


def test_a_map_is_one_picture_and_not_part_of_those_of_a_sweep() -> None:
    point = map_point()
    assert [name for name, _ in kinds.point_figures(point)] == ["map"]
    assert list(kinds.sweep_figures([point])) == []
    assert "63 points converge" in " ".join(texts(study_figure("map", {"numpy": [point]})))
