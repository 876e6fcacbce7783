"""The loss and the output activation that `auto` stands for."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config.defaults import ACTIVATIONS, resolved
from pipeline.config.reading import read_config
from pipeline.config.schema import Config
from pipeline.config.task_rules import LOSSES_OF
from pipeline.system.errors import LabError
from tests.support.trained import config

FILE = {"kind": "file", "name": "own", "path": "own.csv", "target": "y"}
BITS = config("experiment=three_bits").data.model_dump(mode="json")
DATA: dict[str, tuple[dict[str, Any], str, str]] = {
    "a file of classes": ({**FILE, "task": "classification"}, "cross_entropy", "softmax"),
    "a file of two classes": ({**FILE, "task": "binary"}, "binary_cross_entropy", "sigmoid"),
    "a file of numbers": ({**FILE, "task": "regression"}, "mean_squared_error", "identity"),
    "images": ({"kind": "images", "name": "own", "path": "own"}, "cross_entropy", "softmax"),
    "iris": ({"kind": "library", "name": "iris", "source": "sklearn:iris"}, "cross_entropy", "softmax"),
    "tumours": ({"kind": "library", "name": "t", "source": "sklearn:breast_cancer"}, "binary_cross_entropy", "sigmoid"),
    "diabetes": ({"kind": "library", "name": "d", "source": "sklearn:diabetes"}, "mean_squared_error", "identity"),
    "mnist": (config().data.model_dump(mode="json"), "cross_entropy", "softmax"),
    "a table": (BITS, "mean_squared_error", "identity"),
}


def with_data(data: dict[str, Any], loss: str = "auto", activation: str = "auto") -> Config:
    plain = config().model_dump(mode="json")
    model = {**plain["model"], "output_activation": activation}
    return read_config({**plain, "data": data, "loss": loss, "model": model})


@pytest.mark.parametrize(("data", "loss", "activation"), DATA.values(), ids=DATA)
def test_a_data_set_alone_decides_what_fits_it(data: dict[str, Any], loss: str, activation: str) -> None:
    found = with_data(data)
    assert (found.loss, found.output_activation) == (loss, activation)


@pytest.mark.parametrize(("data", "loss", "activation"), DATA.values(), ids=DATA)
def test_a_loss_that_is_typed_is_the_same_point(data: dict[str, Any], loss: str, activation: str) -> None:
    assert with_data(data, loss, activation) == with_data(data)


def test_what_is_typed_stays() -> None:
    data = {**FILE, "task": "binary"}
    assert with_data(data, "huber").output_activation == "identity"
    assert with_data(data, "huber", "sigmoid").output_activation == "sigmoid"
    with pytest.raises(LabError, match=r"needs model.output_activation=sigmoid; received identity"):
        with_data(data, activation="identity")


def test_a_file_needs_a_loss_of_its_task() -> None:
    with pytest.raises(LabError) as error:
        with_data({**FILE, "task": "regression"}, "binary_cross_entropy")
    needed = "mean_squared_error, or half_summed_squared_error, or mean_absolute_error, or huber"
    line = f"loss: data=own, whose task is regression, needs loss={needed}; received binary_cross_entropy; "
    assert f"  {line}loss=auto fits every data set\n" in str(error.value)


def test_every_loss_that_auto_stands_for_fits() -> None:
    for data, loss, activation in DATA.values():
        found = with_data(data)
        assert loss in LOSSES_OF[found.task or found.data.kind]
        assert activation == ACTIVATIONS.get(loss, activation)
        assert activation in ("identity", "sigmoid", "softmax")


@pytest.mark.parametrize("data", [None, 3, [], {}, {"kind": "library", "source": []}, {"kind": "new", "task": []}])
def test_what_cannot_be_resolved_is_left_to_the_sections(data: Any) -> None:
    plain = {"loss": "auto", "model": {"output_activation": "auto"}, "data": data}
    assert resolved(plain) == plain
