"""Studies of described data: what judges their points, in figures, sentences, tables and MLflow's views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.backends.choose import trainer
from pipeline.backends.shared.history import History
from pipeline.config.metrics import METRIC_NAMES
from pipeline.points.point import Point, outcome_of, point_name
from pipeline.report.rows import curve_rows, study_metrics
from pipeline.studies.grids import cell_metric
from pipeline.studies.images.stepped import image_keys
from pipeline.studies.kinds import answers, headline, kind_of, point_figures, study_figure, sweep_figures
from pipeline.tracking.pages.sections import LOG_LOSS, grid_sections
from tests.studies.test_plots import png, texts
from tests.support.described import SMALL, config_of, prepared

RATES = ("0.001", "0.05")
BEST = {"iris": "test/accuracy", "breast_cancer": "test/accuracy", "diabetes": "test/mean_absolute_error"}


def points_of(name: str, *overrides: str, test_share: float = 0.2) -> list[Point]:
    data, points = prepared(name, test_share), []
    for rate in RATES:
        for size in (2, 6):
            own = [f"optimizer.learning_rate={rate}", f"model.hidden_size={size}"]
            point = config_of(name, *SMALL, "training.epochs=6", *own, *overrides, test_share=test_share)
            history = History()
            trainer(point)([point], data.loaded(point.dtype), [history], lambda epoch, loss: None)
            outcome = outcome_of(history)
            points.append(Point(point_name(point, own), Path(), point, history, outcome, data.description))
    return points


@pytest.fixture(scope="module", params=BEST)
def study(request: pytest.FixtureRequest) -> tuple[str, list[Point]]:
    return BEST[request.param], points_of(request.param)


def with_metric(points: list[Point], metric: str) -> list[Point]:
    changed = []
    for point in points:
        report = point.config.report.model_copy(update={"metric": metric})
        config = point.config.model_copy(update={"report": report})
        changed.append(Point(point.name, point.folder, config, point.history, point.outcome, point.data))
    return changed


def test_the_metric_of_the_task_judges(study: tuple[str, list[Point]]) -> None:
    metric, points = study
    assert cell_metric(points) == metric
    (value,) = [value for name, value in study_metrics(points)["best"].items() if name == metric]
    choose: Any = max if "accuracy" in metric else min
    # Rounded, as all that the report prints.
    assert value == pytest.approx(choose(point.outcome.final[metric] for point in points), rel=5e-4)
    assert f"{METRIC_NAMES[metric]} {value:.3g}" in headline(points)
    assert METRIC_NAMES[metric] in next(answers(points))
    assert f"{value:.3g}" in next(answers(points))


def test_the_metric_of_the_config_judges() -> None:
    points = points_of("diabetes")
    for metric in ("test/r2", "train/loss", "test/root_mean_squared_error"):
        judged = with_metric(points, metric)
        assert cell_metric(judged) == metric
        choose: Any = max if metric == "test/r2" else min
        best = choose(judged, key=lambda point: point.outcome.final[metric])
        found = study_metrics(judged)["best"]
        assert found[metric] == pytest.approx(best.outcome.final[metric], rel=5e-4)
        assert found["optimizer.learning_rate"] == best.learning_rate
        assert f"final {METRIC_NAMES[metric]}" in " ".join(texts(study_figure("own", {"numpy": judged})))
        assert metric in curve_rows({"numpy": judged})[-1]


def test_a_metric_that_no_point_has_leaves_the_choice_to_the_training_rows() -> None:
    points = points_of("diabetes", test_share=0.0)
    assert cell_metric(points) == "train/mean_absolute_error"
    assert cell_metric(with_metric(points, "test/r2")) == "train/mean_absolute_error"
    classes = points_of("iris", test_share=0.0)
    assert cell_metric(classes) == "train/accuracy"


def test_every_figure_of_a_point_and_a_sweep_can_be_drawn(study: tuple[str, list[Point]]) -> None:
    metric, points = study
    drawn = dict(sweep_figures(points))
    assert set(drawn) == {"curves_by_rate", "loss_by_rate", "heat_map"}
    assert METRIC_NAMES[metric] in " ".join(texts(drawn["curves_by_rate"]))
    for figure in (*drawn.values(), study_figure("own", {"numpy": points, "keras": points})):
        assert png(figure).startswith(b"\x89PNG")
    names = dict(point_figures(points[0]))
    assert set(names) == {"curves", "weights"}
    assert metric.removeprefix("test/") in texts(names["curves"])


def test_images_of_a_point_need_none_of_its_rows(study: tuple[str, list[Point]]) -> None:
    point = study[1][0]
    drawings = kind_of(point.config).images(point.config)
    assert list(drawings) == image_keys(point.config) == ["first_layer", "weight_histograms"]
    epochs = sorted(point.history.snapshots)
    for draw in drawings.values():
        assert len(list(draw(point.config, point.history, epochs))) == len(epochs)


def test_two_inputs_and_one_output_are_no_error_surface_without_rows() -> None:
    point = points_of("diabetes", "model=linear", "model.initializer=uniform", "model.bias=false")[0]
    history = History(metrics=point.history.metrics, epochs=6)
    for epoch, weights in point.history.snapshots.items():
        history.snapshots[epoch] = {"layer_0/weights": weights["layer_0/weights"][:2]}
    small = Point(point.name, point.folder, point.config, history, point.outcome, point.data)
    assert set(dict(point_figures(small))) == {"curves", "weights"}
    assert png(study_figure("own", {"numpy": [small]})).startswith(b"\x89PNG")


def test_the_charts_show_what_judges(study: tuple[str, list[Point]]) -> None:
    metric, points = study
    configs = [point.config for point in points]
    charts = kind_of(configs[0]).charts(configs[0])
    assert charts.judged == metric
    assert charts.second == (metric, "error" in metric)
    assert list(charts.columns) == ["final/train/loss", f"final/{metric}"]
    answer = grid_sections(configs, ["optimizer.learning_rate", "model.hidden_size"], [], repeated=False)[0]
    wanted = "highest accuracy" if "accuracy" in metric else "smallest mean absolute error"
    assert answer.heading == f"Which point ends with the {wanted}?"
    assert answer.charts[0]["selectedMetrics"] == [LOG_LOSS, f"final/{metric}"]


def test_the_charts_of_a_loss_that_judges_show_another_metric_too() -> None:
    (config,) = [point.config for point in with_metric(points_of("iris")[:1], "train/loss")]
    charts = kind_of(config).charts(config)
    assert (charts.judged, charts.second) == ("train/loss", ("test/accuracy", False))
