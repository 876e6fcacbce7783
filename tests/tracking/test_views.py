"""Saved views: their content for each kind of study. test_browser.py tests that a browser draws them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.backends.shared.history import History
from pipeline.config.schema import Config, Report, flatten
from pipeline.studies.images.stepped import image_keys
from pipeline.tracking.pages.sections import LOG_LOSS
from pipeline.tracking.pages.views import MOST_RUNS, TAG, TAG_BYTES, own_views, view_tags
from tests.support.maps import map_config, map_point
from tests.support.trained import config, trained

RATES, SIZES = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0), (4, 32)
IMAGES = ["first_layer", "weight_histograms"]
# Metrics that no history has: they are logged at the end.
LOGGED = {LOG_LOSS, "diverged", "diverged_step", "last_finite_loss", "time/seconds"}


@pytest.fixture(scope="module")
def three_bits() -> Config:
    return config("experiment=three_bits")


@pytest.fixture(scope="module")
def mnist() -> Config:
    return config("experiment=mnist_grid")


@pytest.fixture(scope="module")
def line() -> Config:
    return config("experiment=line_y3x")


def grid(
    base: Config, rates: Sequence[float], sizes: Sequence[int], seeds: Sequence[int] = (1,), keras: bool = False
) -> list[Config]:
    backend = {"name": "keras", "line_study_gradient": "backpropagation", "jit_compile": False}
    return [
        Config.model_validate(
            base.model_dump()
            | {"seed": seed, **({"backend": backend, "gradient": "backpropagation"} if keras else {})}
            | {"optimizer": base.optimizer.model_dump() | {"learning_rate": rate}}
            | {"model": base.model.model_dump() | {"hidden_size": size}}
        )
        for rate in rates
        for size in sizes
        for seed in seeds
    ]


def at_rates(base: Config, *rates: float) -> list[Config]:
    changed = [base.optimizer.model_copy(update={"learning_rate": rate}) for rate in rates]
    return [base.model_copy(update={"optimizer": optimizer}) for optimizer in changed]


def views(
    points: Sequence[Config], images: Sequence[str] = (), diverged: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """The states by view, read as MLflow's page reads them."""
    states = {}
    for tag, value in view_tags(points, lambda point: list(images), 1_700_000_000_000, diverged).items():
        assert own_views([tag]) == {tag}
        assert tag.startswith(TAG)
        envelope = json.loads(value)
        assert isinstance(envelope["name"], str)
        assert isinstance(envelope["createdAt"], int)
        states[tag.removeprefix(TAG)] = json.loads(envelope["state"])
    return states


def charts(state: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [chart for chart in state["compareRunCharts"] if chart["type"] == kind]


def params_columns(state: dict[str, Any]) -> list[str]:
    return [column for column in state["selectedColumns"] if column.startswith("params.")]


def params_in(state: dict[str, Any]) -> Iterator[str]:
    for chart in state["compareRunCharts"]:
        yield from chart.get("selectedParams", [])
        axes = [chart[axis] for axis in ("xaxis", "yaxis", "zaxis") if axis in chart]
        yield from (axis["key"] for axis in axes if axis["type"] == "PARAM")
    yield from (key["groupByData"] for key in (state["groupBy"] or {"groupByKeys": []})["groupByKeys"])


def metrics_in(state: dict[str, Any]) -> Iterator[str]:
    for chart in state["compareRunCharts"]:
        yield from [*chart.get("selectedMetrics", []), *([chart["metricKey"]] if "metricKey" in chart else [])]
        axes = [chart[axis] for axis in ("xaxis", "yaxis", "zaxis") if axis in chart]
        yield from (axis["key"] for axis in axes if axis["type"] == "METRIC")


def test_a_grid_over_rates_and_sizes(three_bits: Config) -> None:
    state = views(grid(three_bits, RATES, SIZES), IMAGES)["grid"]
    (parallel,), (contour,) = charts(state, "PARALLEL"), charts(state, "CONTOUR")
    assert parallel["selectedParams"] == ["log10_learning_rate", "model.hidden_size"]
    assert parallel["selectedMetrics"] == [LOG_LOSS]
    assert [contour[axis]["key"] for axis in ("xaxis", "yaxis", "zaxis")] == [
        "log10_learning_rate", "model.hidden_size", LOG_LOSS
    ]  # fmt: skip
    assert {chart["metricKey"]: chart["scaleType"] for chart in charts(state, "LINE")} == {
        "train/loss": "log", "train/mean_absolute_error": "log"
    }  # fmt: skip
    assert [chart["imageKeys"] for chart in charts(state, "IMAGE")] == [["first_layer"], ["weight_histograms"]]
    assert {chart["step"] for chart in charts(state, "IMAGE")} == {three_bits.training.epochs}
    assert state["compareRunSections"][0]["name"].endswith("loss?")


def test_a_study_with_classes_is_judged_by_its_accuracy(mnist: Config) -> None:
    state = views(grid(mnist, (0.001, 0.1), (32, 128)))["grid"]
    assert charts(state, "PARALLEL")[0]["selectedMetrics"] == [LOG_LOSS, "final/validation/accuracy"]
    assert charts(state, "CONTOUR")[0]["zaxis"] == {"key": "final/validation/accuracy", "type": "METRIC"}
    assert {chart["metricKey"]: chart["scaleType"] for chart in charts(state, "LINE")} == {
        "train/loss": "log", "validation/accuracy": "linear"
    }  # fmt: skip
    assert charts(state, "IMAGE") == []
    columns = [f"metrics.`final/{rows}/accuracy`" for rows in ("validation", "test")]
    assert set(columns) <= set(state["selectedColumns"])


def test_a_grid_over_rates_alone(line: Config) -> None:
    state = views(at_rates(line, 0.01, 0.1, 1.0))["grid"]
    assert charts(state, "CONTOUR") == []
    (scatter,) = charts(state, "SCATTER")
    assert (scatter["xaxis"]["key"], scatter["yaxis"]["key"]) == ("log10_learning_rate", LOG_LOSS)
    weights = [chart for chart in charts(state, "LINE") if chart["metricKey"].startswith("weights/")]
    assert [(chart["metricKey"], chart["range"]) for chart in weights] == [
        ("weights/weight", {"yMin": pytest.approx(-6), "yMax": pytest.approx(12)}),
        ("weights/bias", {"yMin": pytest.approx(-6), "yMax": pytest.approx(12)}),
    ]


def test_a_point_alone_has_no_axes(line: Config) -> None:
    state = views([line])["grid"]
    assert {chart["type"] for chart in state["compareRunCharts"]} == {"LINE"}


def test_other_knobs_are_axes_too_and_those_that_do_not_vary_are_no_columns(three_bits: Config) -> None:
    points = grid(three_bits, (0.1,), (4,)) + [
        point.model_copy(update={"dtype": "float32"}) for point in grid(three_bits, (0.1,), (32,))
    ]
    state = views(points)["grid"]
    assert charts(state, "PARALLEL")[0]["selectedParams"] == ["model.hidden_size", "dtype"]
    assert params_columns(state) == [
        "params.`model.hidden_size`", "params.`dtype`"
    ]  # fmt: skip
    assert "tags.`diagnosis`" in state["selectedColumns"]


def test_two_other_numbers_have_the_contour_plot(three_bits: Config) -> None:
    points = [
        three_bits.model_copy(
            update={"training": three_bits.training.model_copy(update={"batch_size": size, "l2": l2})}
        )
        for size in (1, 2)
        for l2 in (0.0, 0.1)
    ]
    (contour,) = charts(views(points)["grid"], "CONTOUR")
    assert [contour[axis]["key"] for axis in ("xaxis", "yaxis")] == ["training.batch_size", "training.l2"]
    (scatter,) = charts(views(points[:2])["grid"], "SCATTER")
    assert scatter["xaxis"]["key"] == "training.l2"
    chosen = [point.model_copy(update={"report": Report(size="training.l2")}) for point in points]
    (contour,) = charts(views(chosen)["grid"], "CONTOUR")
    assert [contour[axis]["key"] for axis in ("xaxis", "yaxis")] == ["training.l2", "training.batch_size"]
    assert params_columns(views(chosen)["grid"]) == ["params.`training.l2`", "params.`training.batch_size`"]


def test_optimizers_and_schedules_come_before_what_belongs_to_one_of_them(three_bits: Config) -> None:
    points = [
        three_bits.model_copy(update={"optimizer": config(f"optimizer={name}").optimizer, "schedule": schedule})
        for name in ("sgd", "momentum", "rmsprop", "lion")
        for schedule in (config().schedule, config("schedule=cosine").schedule)
    ]
    state = views(points, IMAGES)["grid"]
    assert params_columns(state)[:3] == [
        f"params.`{key}`" for key in ("optimizer.learning_rate", "optimizer.name", "schedule.name")
    ]
    (parallel,) = charts(state, "PARALLEL")
    # Not optimizer.momentum and the like, which not all points have: MLflow would leave those out of the chart.
    assert parallel["selectedParams"] == ["log10_learning_rate", "optimizer.name", "schedule.name"]


def test_a_feature_stands_for_what_it_consists_of() -> None:
    points = [
        config("experiment=features_mnist", f"feature={feature}", f"optimizer.learning_rate={rate}")
        for feature in ("plain", "dropout", "tanh")
        for rate in (0.1, 1)
    ]
    (parallel,) = charts(views(points, IMAGES)["grid"], "PARALLEL")
    assert parallel["selectedParams"] == ["log10_learning_rate", "feature"]


def test_seeds_get_means_only_where_they_differ(three_bits: Config) -> None:
    assert "seeds" not in views(grid(three_bits, (0.1, 1.0), SIZES))
    state = views(grid(three_bits, (0.1, 1.0), SIZES, seeds=(1, 2, 3)))["seeds"]
    assert state["groupBy"] == {
        "aggregateFunction": "average",
        "groupByKeys": [
            {"mode": "param", "groupByData": "optimizer.learning_rate"},
            {"mode": "param", "groupByData": "model.hidden_size"},
        ],
    }
    alone = views(grid(three_bits, (0.1,), (4,), seeds=(1, 2)))["seeds"]["groupBy"]["groupByKeys"]
    assert [key["groupByData"] for key in alone] == ["optimizer.learning_rate"]


def test_points_with_several_seeds_are_shown_as_means_and_each_seed_on_its_own() -> None:
    points = grid(config("experiment=mnist_grid"), (0.1, 0.3, 1.0), (32, 128), seeds=(1, 2))
    both = views(points, IMAGES)
    assert set(both) == {"grid", "seeds", "every_seed"}
    assert charts(both["grid"], "PARALLEL")[0]["selectedParams"] == ["log10_learning_rate", "model.hidden_size"]
    (interval, *_) = charts(both["grid"], "LINE")
    names = [f"{end}/validation/accuracy" for end in ("mean", "interval_low", "interval_high")]
    assert (interval["selectedMetricKeys"], interval["scaleType"]) == (names, "linear")
    assert interval["selectedXAxisMetricKey"] == "hp/log10_learning_rate"
    assert charts(both["grid"], "IMAGE") == []
    assert len(charts(both["every_seed"], "IMAGE")) == len(IMAGES)
    assert "seed" in charts(both["every_seed"], "PARALLEL")[0]["selectedParams"]
    assert both["grid"]["selectedColumns"][:2] == ["tags.`result`", "tags.`diagnosis`"]
    alone = views(grid(config("experiment=three_bits"), (0.1, 1.0), (4,), seeds=(1, 2)))["grid"]
    assert charts(alone, "LINE")[0]["scaleType"] == "log", "that of a loss"


def test_each_backend_has_its_own_views(three_bits: Config) -> None:
    numpy, keras = grid(three_bits, (0.1, 1.0), (4,)), grid(three_bits, (0.1, 1.0), (4,), keras=True)
    assert set(views(numpy)) == {"grid"}
    assert " AND tags.backend = 'keras'" in views(keras)["grid"]["searchFilter"]
    both = views([*keras, *numpy], diverged=["numpy", "keras"])
    assert set(both) == {"grid", "divergence", "grid_keras", "divergence_keras", "backends", "difference"}
    assert set(views([*keras, *numpy], diverged=["keras"])) == {*both} - {"divergence"}
    assert " AND tags.backend = 'numpy'" in both["grid"]["searchFilter"]
    assert " AND tags.backend = 'keras'" in both["divergence_keras"]["searchFilter"]
    assert "tags.backend" not in both["backends"]["searchFilter"]
    assert both["backends"]["groupBy"]["groupByKeys"] == [{"mode": "param", "groupByData": "backend.name"}]
    assert both["difference"]["groupBy"] is None
    assert len(charts(both["difference"], "DIFFERENCE")) == 1
    # The gradient goes with the backend; it is not a knob.
    assert charts(both["grid"], "PARALLEL")[0]["selectedParams"] == ["log10_learning_rate"]


def test_differences_are_for_a_handful_of_runs(three_bits: Config) -> None:
    rates = RATES[: MOST_RUNS // 2 + 1]
    assert "difference" not in views(grid(three_bits, rates, (4,)) + grid(three_bits, rates, (4,), keras=True))


def test_the_first_view_is_listed_first(three_bits: Config) -> None:
    both = grid(three_bits, (0.1,), (4,)) + grid(three_bits, (0.1,), (4,), keras=True)
    made = {tag: json.loads(value)["createdAt"] for tag, value in view_tags(both, lambda point: [], 500).items()}
    assert max(made, key=lambda tag: made[tag]) == f"{TAG}grid"
    assert max(made.values()) == 500
    assert len(set(made.values())) == len(made)


def test_a_view_shows_what_runs_have_and_folds_the_rest(line: Config, three_bits: Config) -> None:
    for base in (line, three_bits):
        short = base.model_copy(update={"training": base.training.model_copy(update={"epochs": 2})})
        points = at_rates(short, 0.1, 1.0) if base is line else grid(short, (0.1, 1.0), (4, 8), (1, 2))
        history: History = trained(points[0])[0]
        metrics = LOGGED | set(history.names()) | {f"final/{name}" for name in history.final()}
        if base is three_bits:
            metrics |= {"mean/train/loss"}  # over the seeds
        params = {key for key, _ in flatten(short)} | {"log10_learning_rate"}
        for state in views(points, diverged=["numpy"]).values():
            assert set(metrics_in(state)) <= metrics
            assert set(params_in(state)) <= params
            folded = {section["name"] for section in state["compareRunSections"] if not section["display"]}
            assert {name.rpartition("/")[0] or "Model metrics" for name in metrics} <= folded


def test_mlflow_accepts_the_tags_and_the_filter(three_bits: Config) -> None:
    from mlflow.utils.search_utils import SearchUtils
    from mlflow.utils.validation import MAX_EXPERIMENT_TAG_VAL_LENGTH

    assert TAG_BYTES <= MAX_EXPERIMENT_TAG_VAL_LENGTH
    for state in views(grid(three_bits, (0.1,), (4,)) + grid(three_bits, (0.1,), (4,), keras=True)).values():
        parsed = SearchUtils.parse_search_filter(state["searchFilter"])  # type: ignore[no-untyped-call]
        conditions = {(one["type"], one["key"]): (one["comparator"], one["value"]) for one in parsed}
        expected = {("tag", "lab.newest"): ("!=", "false"), ("tag", "lab.role"): ("=", "point")}
        if ("tag", "lab.role") not in conditions:
            expected = {("tag", "lab.newest"): ("=", "true")}
        assert expected.items() <= conditions.items()


def test_seeds_that_were_added_later_are_seeds_though_they_were_kept_otherwise(three_bits: Config) -> None:
    """With more than eight points, new ones get no figures of their own."""
    first = [
        point.model_copy(update={"recording": point.recording.model_copy(update={"figures": "point"}), "force": True})
        for point in grid(three_bits, RATES[:5], (4,), seeds=(1,))
    ]
    added = [
        point.model_copy(update={"recording": point.recording.model_copy(update={"figures": "sweep"}), "question": "?"})
        for point in grid(three_bits, RATES[:5], (4,), seeds=(2,))
    ]
    found = views([*first, *added])
    assert {"seeds", "every_seed"} <= found.keys()
    assert not {"params.`recording.figures`", "params.`force`"} & set(params_columns(found["every_seed"]))
    assert views(first).keys() == views([*first, *(one.model_copy(update={"force": False}) for one in first)]).keys()


@settings(max_examples=25)
@given(
    st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=6, unique=True),
    st.lists(st.integers(1, 10**6), min_size=1, max_size=3, unique=True),
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=2, unique=True),
    st.lists(st.sampled_from(["first_layer", "weight_histograms", "error_surface", "fit"]), unique=True),
    st.booleans(),
)
def test_any_grid(
    three_bits: Config, rates: list[float], sizes: list[int], seeds: list[int], images: list[str], keras: bool
) -> None:
    points = grid(three_bits, rates, sizes, seeds) + (
        grid(three_bits, rates, sizes, seeds, keras=True) if keras else []
    )
    varied: dict[str, Sequence[float]] = {"seed": seeds, "optimizer.learning_rate": rates, "model.hidden_size": sizes}
    for value in view_tags(points, lambda point: images, 0).values():
        assert len(value.encode()) <= TAG_BYTES
    for name, state in views(points, images).items():
        sections = [section["uuid"] for section in state["compareRunSections"]]
        identifiers = [chart["uuid"] for chart in state["compareRunCharts"]]
        assert len(set(sections)) == len(sections)
        assert len(set(identifiers)) == len(identifiers)
        assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} <= set(sections)
        assert state["runsHiddenMode"] == "SHOW_ALL"
        if name in ("grid", "grid_keras"):
            axes = {"log10_learning_rate" if key == "optimizer.learning_rate" else key
                    for key, values in varied.items() if len(values) > 1 and key != "seed"}  # fmt: skip
            shown = {key for chart in charts(state, "PARALLEL") for key in chart["selectedParams"]}
            assert shown == axes
            assert len(charts(state, "CONTOUR")) == (len(rates) > 1 and len(sizes) > 1)


def test_a_map_is_shown_by_its_picture_and_by_what_it_records_block_by_block() -> None:
    point = map_point()
    tags = view_tags([point.config], image_keys, 17)
    assert list(tags) == [f"{TAG}grid"]
    state = json.loads(json.loads(tags[f"{TAG}grid"])["state"])
    recorded = {f"metrics.`{name}`" for name in point.history.names()}
    assert {column for column in state["selectedColumns"] if column.startswith("metrics")} <= recorded
    picture, *lines = state["compareRunCharts"]
    assert (picture["imageKeys"], picture["step"]) == (["map"], point.config.training.epochs)
    assert {chart["metricKey"] for chart in lines} <= set(point.history.names())
    assert len(lines) == 2


@pytest.mark.parametrize("order", [1, -1])
def test_a_map_and_points_in_one_study_show_their_own_images(three_bits: Config, order: int) -> None:
    the_map = map_config()
    keras = grid(three_bits, (0.1,), (4,), keras=True)[0]
    single = grid(three_bits, (0.1,), (4,))[0]

    def keys(points: Sequence[Config], view: str) -> list[tuple[list[str], int]]:
        state = json.loads(json.loads(view_tags(points[::order], image_keys, 17)[f"{TAG}{view}"])["state"])
        return [(chart["imageKeys"], chart["step"]) for chart in charts(state, "IMAGE")]

    picture = (["map"], the_map.training.epochs)
    weights = [([key], single.training.epochs) for key in image_keys(single)]
    assert keys([the_map, keras], "grid") == [picture]
    assert keys([the_map, keras], "grid_keras") == weights
    assert keys([the_map, single], "grid") == [picture, *weights]


def test_points_whose_curvature_is_recorded_have_a_view_of_stability() -> None:
    plain = [config("experiment=three_bits", "optimizer.learning_rate=1")]
    assert "stability" not in views(plain)
    adam = config("experiment=three_bits", "optimizer=adam", "training.epochs=30", "recording.curvature=true")
    found = views([*plain, adam], image_keys(adam))["stability"]
    curves = {chart["metricKey"] for chart in charts(found, "LINE") if not chart.get("isGenerated")}
    recorded = set(trained(adam)[0].names())
    assert {"curvature/largest", "curvature/preconditioned", "curvature/breaking_rate", "train/loss"} <= curves
    assert curves <= recorded
    assert [chart["imageKeys"] for chart in charts(found, "IMAGE")] == [["curvature"]]
    folded = {section["name"] for section in found["compareRunSections"] if not section["display"]}
    assert {"curvature", "final/curvature", "best/curvature"} <= folded
