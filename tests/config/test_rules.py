"""Settings that BFGS, L-BFGS, annealing or AW-SGD do not support are refused in one message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.backends.choose import trainer
from pipeline.backends.numpy.training import train
from pipeline.config.optimizer import OWN_TRAINING
from pipeline.config.reading import read_config
from pipeline.data.arrays import load
from pipeline.points.point import point_name
from pipeline.sweep.grouping import memory, stacks
from pipeline.system.errors import LabError
from pipeline.system.project import CONF
from tests.support.trained import config

BITS = ("experiment=three_bits",)


def fitting(method: str) -> tuple[str, ...]:
    return (*BITS, f"optimizer={method}", *(["training.batch_size=2"] if method == "aw_sgd" else []))


def test_dvc_trains_every_method_that_keras_has() -> None:
    named = yaml.safe_load((CONF / "pipeline.yaml").read_text())["keras_methods"].split(",")
    assert sorted(named) == sorted({file.stem for file in (CONF / "optimizer").glob("*.yaml")} - set(OWN_TRAINING))


@pytest.mark.parametrize("method", OWN_TRAINING)
def test_what_does_not_go_together_is_named_with_what_does(method: str) -> None:
    plain = config(*fitting(method)).model_dump(mode="json")
    other = config(*BITS, "backend=keras", "schedule=cosine").model_dump(mode="json")
    refused: dict[str, tuple[dict[str, Any], str]] = {
        "backend": ({"backend": other["backend"]}, "backend=numpy; received keras"),
        "gradient": ({"gradient": "finite_difference"}, "gradient=backpropagation; received finite_difference"),
        "schedule": ({"schedule": other["schedule"]}, "schedule=constant; received cosine"),
    }
    for section, key, value, fix in (
        ("training", "clip_value", 1.0, "null"),
        ("training", "clip_norm", 2.0, "null"),
        ("model", "dropout", 0.5, "0"),
        ("model", "drop_connect", 0.5, "0"),
        ("model", "batch_normalization", True, "false"),
    ):
        name = f"{section}.{key}"
        refused[name] = ({section: plain[section] | {key: value}}, f"{name}={fix}; received {str(value).lower()}")
    for key, (change, words) in refused.items():
        with pytest.raises(LabError) as caught:
            read_config(plain | change)
        assert f"  {key}: optimizer={method} needs {words}" in str(caught.value)


def test_a_map_is_of_other_methods() -> None:
    with pytest.raises(LabError, match="grid: optimizer=bfgs needs grid=null; received a map"):
        config("experiment=trainability_map", "optimizer=bfgs")


@pytest.mark.parametrize("method", OWN_TRAINING)
def test_each_wants_its_batches(method: str) -> None:
    minibatches = method == "aw_sgd"
    with pytest.raises(LabError) as caught:
        config(*BITS, f"optimizer={method}", f"training.batch_size={'null' if minibatches else 2}")
    wanted = "minibatches, training.batch_size=NUMBER; received null" if minibatches else "null; received 2"
    assert wanted in str(caught.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.l1=0.1", "training.l1=0; received 0.1"),
        ("training.l2=0.1", "training.l2=0; received 0.1"),
        ("model.hidden_activation=gelu", "an activation other than gelu; received gelu"),
    ],
)
def test_aw_sgd_refuses_what_its_gradient_has_not(override: str, words: str) -> None:
    with pytest.raises(LabError) as caught:
        config(*fitting("aw_sgd"), override)
    assert words in str(caught.value)


def test_annealing_takes_on_small_networks_of_tables() -> None:
    study = (*fitting("annealing"), "model.bias=true")
    assert config(*study, "model.hidden_size=199").model.hidden_size == 199  # 4 * 199 + 200
    with pytest.raises(LabError, match=r"model.hidden_size: .* at most 1000 weights and biases; received one of 1,001"):
        config(*study, "model.hidden_size=200")
    with pytest.raises(LabError, match=r"data: optimizer=annealing needs a table, .*; received mnist"):
        config("experiment=mnist", "optimizer=annealing", "training.batch_size=null")


@pytest.mark.parametrize("method", OWN_TRAINING)
def test_their_points_have_a_train_of_their_own_and_searches_go_alone(method: str) -> None:
    point, plain = config(*fitting(method)), config(*BITS)
    assert trainer(point) is not train
    assert trainer(plain) is train
    arrays = load(point.data, point.dtype, Path())
    own = [[0, 2], [1, 3]] if method == "aw_sgd" else [[0], [1, 3], [2]]
    assert stacks([(one, arrays) for one in (point, plain, point, plain)]) == own


def test_what_scipy_keeps_counts_as_memory() -> None:
    arrays = load(config(*BITS).data, "float64", Path())
    needed = {name: memory(config(*BITS, f"optimizer={name}"), arrays) for name in ("sgd", "bfgs", "lbfgs")}
    weights = 4 * 128
    assert needed["bfgs"] - needed["sgd"] == 8 * 5 * weights**2
    assert needed["lbfgs"] - needed["sgd"] == 8 * 32 * weights


@pytest.mark.parametrize("method", OWN_TRAINING)
def test_a_point_is_named_by_its_method(method: str) -> None:
    overrides = [f"optimizer={method}", "optimizer.learning_rate=2"]
    point = config(*fitting(method), *overrides)
    assert point_name(point, overrides) == f"learning_rate=2 hidden_size=128 optimizer={method}"
