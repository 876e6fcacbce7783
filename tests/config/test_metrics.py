"""The metrics that a config can be judged by, and which way they are better."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config.metrics import (
    best_of,
    has_test_rows,
    has_validation_rows,
    judged_by,
    judges,
    larger_is_better,
    metrics_of,
    told_by,
)
from pipeline.config.reading import read_config
from pipeline.config.schema import Config
from pipeline.system.errors import LabError
from tests.support.described import config_of
from tests.support.trained import config

# A loss and an output activation that fit any data.
MODEL = config().model_dump(mode="json")["model"] | {"output_activation": "auto"}
AUTO = {"loss": "auto", "model": MODEL}


def with_report(point: Config, metric: str, trained: bool = False) -> Config:
    return read_config({**point.model_dump(mode="json"), "report": {"metric": metric}}, trained)


@pytest.mark.parametrize(
    ("metric", "best"),
    [("train/loss", 1), ("test/r2", 3), ("test/auc", 3), ("train/accuracy", 3), ("test/root_mean_squared_error", 1)],
)
def test_each_metric_has_a_better_end(metric: str, best: float) -> None:
    assert judges(metric)
    assert best_of(metric, [2, 3, 1]) == best
    assert larger_is_better(metric) == (best == 3)


@pytest.mark.parametrize("metric", ["gradient_norm", "train/baseline_loss", "map/best_loss", "weights/norm"])
def test_what_judges_nothing_has_no_best_value(metric: str) -> None:
    assert not judges(metric)


@pytest.mark.parametrize(
    ("point", "metric"),
    [
        (config(), "validation/accuracy"),
        (config("report.metric=test/loss"), "validation/loss"),
        (config("report.metric=train/loss"), "train/loss"),
        (config("report.metric=validation/loss"), "validation/loss"),
        (config("experiment=mnist"), "test/accuracy"),
        (config("experiment=three_bits"), "train/mean_absolute_error"),
        (config_of("iris"), "test/accuracy"),
        (config_of("iris", test_share=0.0), "train/accuracy"),
        (config_of("breast_cancer"), "test/accuracy"),
        (config_of("diabetes"), "test/mean_absolute_error"),
        (config_of("diabetes", "report.metric=test/r2"), "test/r2"),
    ],
)
def test_what_judges_fits_the_task_and_its_rows(point: Config, metric: str) -> None:
    assert judged_by(point) == metric
    assert metric in metrics_of(point)
    told = metric.replace("validation/", "test/")
    assert told_by(point) == told
    assert told in metrics_of(point)


def test_without_test_rows_validation_rows_tell_what_they_have_chosen() -> None:
    point = config_of("iris", test_share=0.0)
    held_back = point.model_copy(update={"data": point.data.model_copy(update={"validation_share": 0.2})})
    assert judged_by(held_back) == told_by(held_back) == "validation/accuracy"
    assert metrics_of(held_back)[:2] == ["validation/loss", "validation/accuracy"]


def test_a_point_of_an_earlier_version_has_no_validation_rows() -> None:
    for point in (config(), config_of("iris")):
        content = point.model_dump(mode="json")
        del content["data"]["validation_share"]
        assert has_validation_rows(read_config(content).data)
        earlier = read_config(content, trained=True)
        assert not has_validation_rows(earlier.data)
        assert judged_by(earlier) == "test/accuracy"


@pytest.mark.parametrize(
    ("data", "share"),
    [
        ({"kind": "library", "source": "keras:cifar10"}, 1 / 6),
        ({"kind": "library", "source": "keras:boston_housing"}, 0.2),
        ({"kind": "library", "source": "sklearn:digits"}, 0.2),
        ({"kind": "library", "source": "keras:cifar10", "validation_share": "1/4"}, 0.25),
        ({"kind": "images", "path": "pictures"}, 1 / 6),
        ({"kind": "file", "path": "own.csv", "target": "y", "task": "regression"}, 0.2),
    ],
)
def test_every_kind_of_data_has_its_share_of_validation_rows(data: dict[str, Any], share: float) -> None:
    point = read_config({**config().model_dump(mode="json"), **AUTO, "data": {"name": "own", **data}})
    assert point.data.model_dump()["validation_share"] == share
    assert has_validation_rows(point.data)


@pytest.mark.parametrize("share", ["1/0", "a/6", "7/6", "1/6/2", -0.1, 1, True])
def test_what_is_no_share_is_refused(share: object) -> None:
    content = config().model_dump(mode="json")
    content["data"]["validation_share"] = share
    with pytest.raises(LabError, match=r"data\.validation_share"):
        read_config(content)


def test_minibatches_have_no_metric_of_all_training_rows() -> None:
    whole = config_of("breast_cancer", "training.batch_size=null")
    names = ["loss", "accuracy", "balanced_accuracy", "auc"]
    assert metrics_of(whole) == [f"{rows}/{name}" for rows in ("test", "train") for name in names]
    assert metrics_of(config_of("breast_cancer"))[-2:] == ["train/loss", "train/accuracy"]


def test_an_unknown_metric_is_refused_with_those_there_are() -> None:
    known = "test/loss, test/accuracy, test/balanced_accuracy, train/loss, train/accuracy"
    with pytest.raises(LabError) as error:
        with_report(config_of("iris"), "test/auc")
    assert f"  report.metric: expected one of {known}; received test/auc\n" in str(error.value)
    with pytest.raises(LabError, match="expected one of train/loss, train/mean_absolute_error; received test/loss"):
        with_report(config("experiment=line_y2x"), "test/loss")


@pytest.mark.parametrize(
    ("size", "hint"),
    [
        ("model.hiden_size", "did you mean report.size=model.hidden_size?"),
        ("hidden_size", "did you mean report.size=model.hidden_size?"),
        ("training.batch", "did you mean report.size=training.batch_size?"),
        ("model.filters", "`--cfg job` prints every key"),
    ],
)
def test_a_size_that_is_no_key_is_refused_with_the_one_that_was_meant(size: str, hint: str) -> None:
    with pytest.raises(LabError) as error:
        config("experiment=mnist", f"report.size={size}")
    assert f"  report.size: expected a key of the config, model.hidden_size for instance; received {size}; {hint}" in (
        str(error.value)
    )
    content = config("experiment=mnist").model_dump(mode="json") | {"report": {"size": size}}
    assert read_config(content, trained=True).report.size == size
    assert config("experiment=mnist", "report.size=training.batch_size").report.size == "training.batch_size"


def test_an_invalid_section_hides_no_size() -> None:
    with pytest.raises(LabError, match=r"model\.hidden_size") as error:
        config("experiment=mnist", "report.size=model.hidden_size", "model.hidden_size=-1")
    assert "report.size" not in str(error.value)


def test_a_trained_point_is_read_whatever_judged_it() -> None:
    assert with_report(config_of("iris"), "test/auc", trained=True).report.metric == "test/auc"


@pytest.mark.parametrize(
    ("changes", "tested"),
    [
        ({"test_share": 0}, False),
        ({}, True),
        ({"test_share": 0, "test_path": "later.csv"}, True),
        ({"test_share": 0, "split_column": "part"}, True),
        ({"kind": "library", "source": "keras:mnist", "test_share": 0}, True),
        ({"kind": "library", "source": "sklearn:iris", "test_share": 0}, False),
    ],
)
def test_the_config_says_whether_there_are_test_rows(changes: dict[str, Any], tested: bool) -> None:
    data = {"kind": "file", "name": "own", "path": "own.csv", "target": "y", "task": "classification", **changes}
    if data["kind"] == "library":
        data = {"name": "own", **changes}
    point = read_config({**config().model_dump(mode="json"), "data": data})
    assert has_test_rows(point.data) == tested


@pytest.mark.parametrize("target", [-0.5, 1.5])
def test_binary_cross_entropy_needs_probabilities(target: float) -> None:
    chosen = ("experiment=two_bits", "loss=binary_cross_entropy", "model.output_activation=sigmoid")
    assert config(*chosen).loss == "binary_cross_entropy"
    with pytest.raises(LabError, match=f"needs targets from 0 to 1; data=two_bits has {target}"):
        config(*chosen, f"data.targets=[[0],[1],[1],[{target}]]")


@pytest.mark.parametrize("loss", ["mean_absolute_error", "huber"])
def test_a_map_has_squared_errors_alone(loss: str) -> None:
    needs = "needs loss=mean_squared_error, or half_summed_squared_error"
    with pytest.raises(LabError, match=rf"loss: a map \(grid.x, grid.y\) {needs}; received {loss}"):
        config("experiment=trainability_map", f"loss={loss}")
