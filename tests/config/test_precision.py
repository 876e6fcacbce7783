"""A number that means something else in the dtype of the training is refused, with the number that it becomes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.optimizer import OWN_TRAINING
from pipeline.config.reading import read_config
from pipeline.config.schema import Config, flatten
from pipeline.system.errors import LabError
from pipeline.system.project import CONF
from tests.support.trained import config, trained

BITS = ("experiment=three_bits", "dtype=float32")
# Computed in float64 whatever the dtype.
FREE = {"schedule.every", "schedule.warm_up", "schedule.rising", "schedule.factor", "schedule.min_delta"}
FREE |= {"optimizer.sampling_learning_rate", "optimizer.uniform_share"}
CHOICES = [
    *(f"optimizer={path.stem}" for path in sorted((CONF / "optimizer").glob("*.yaml"))),
    *(f"schedule={path.stem}" for path in sorted((CONF / "schedule").glob("*.yaml"))),
]


def with_number(plain: dict[str, Any], key: str, number: float) -> dict[str, Any]:
    *sections, name = key.split(".")
    result = dict(plain)
    inner = result
    for section in sections:
        inner[section] = dict(inner[section])
        inner = inner[section]
    inner[name] = number
    return result


def composed(choice: str) -> dict[str, Any]:
    more = [choice]
    if choice == "optimizer=aw_sgd":
        more.append("training.batch_size=2")
    return config(*BITS, *more).model_dump(mode="json")


def float_keys(plain: dict[str, Any]) -> list[str]:
    found = [key for key, value in flatten(read_config(plain)) if isinstance(value, float)]
    return [*found, "training.clip_value", "training.clip_norm"]


def refusal(plain: dict[str, Any]) -> str:
    with pytest.raises(LabError) as caught:
        read_config(plain)
    return str(caught.value)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_number_that_becomes_0_or_infinite_is_refused(choice: str) -> None:
    plain = composed(choice)
    of_scipy = plain["optimizer"]["name"] in set(OWN_TRAINING) - {"aw_sgd"}
    for key in float_keys(plain):
        exempt = key in FREE or (of_scipy and key.startswith("optimizer."))
        for number, becomes in ((1e-46, "0"), (1e39, "inf")):
            try:
                read_config(with_number(plain, key, number))
                message = ""
            except LabError as error:
                message = str(error)
            ours = f"  {key}: {number!r} becomes {becomes} in float32; use "
            # A number outside the range of its key is refused for that.
            if exempt or f"  {key}: input should be" in message:
                assert ours not in message
            else:
                assert ours in message
                assert ("dtype=float64" in message) == (key not in ("model.dropout", "model.drop_connect"))


@pytest.mark.parametrize(
    ("choice", "key"),
    [
        ("optimizer=adam", "beta_1"),
        ("optimizer=adam", "beta_2"),
        ("optimizer=lion", "beta_1"),
        ("optimizer=rmsprop", "rho"),
        ("optimizer=rmsprop", "momentum"),
        ("optimizer=nesterov", "momentum"),
    ],
)
@pytest.mark.parametrize("backend", ["numpy", "keras"])
def test_a_memory_that_becomes_1_is_refused(choice: str, key: str, backend: str) -> None:
    text = refusal(with_number(config(*BITS, choice, f"backend={backend}").model_dump(), f"optimizer.{key}", 1 - 1e-8))
    assert f"  optimizer.{key}: 0.99999999 becomes 1 in float32" in text
    assert "use dtype=float64, or a smaller number" in text


def test_units_are_dropped_in_float32_whatever_the_dtype() -> None:
    text = refusal(with_number(config("dtype=float64").model_dump(), "model.dropout", 0.99999999))
    assert "  model.dropout: 0.99999999 becomes 1 in float32; use a smaller number\n" in text


@pytest.mark.parametrize("study", [("optimizer.beta_2=0.99999999",), ("optimizer.epsilon=1e-46",)])
def test_the_remedy_works(study: tuple[str, ...]) -> None:
    (history,) = trained(
        config(*BITS, "optimizer=adam", "dtype=float64", "optimizer.learning_rate=0.01", "training.epochs=300", *study)
    )
    losses = [metric.value for metric in history.metrics if metric.name == "train/loss"]
    assert losses[-1] < losses[0] / 2


def test_a_subnormal_number_is_used_by_numpy_and_is_0_in_keras() -> None:
    assert config(*BITS, "optimizer=adam", "optimizer.epsilon=1e-40").optimizer.learning_rate
    plain = config(*BITS, "optimizer=adam", "backend=keras").model_dump()
    assert "1e-40 becomes 0 in float32 with Keras; use dtype=float64" in refusal(
        with_number(plain, "optimizer.epsilon", 1e-40)
    )
    plain["dtype"] = "float64"
    text = refusal(with_number(plain, "optimizer.epsilon", 5e-324))
    assert "5e-324 becomes 0 in float64 with Keras; use a number further from 0\n" in text


def test_the_values_of_a_map_and_of_lists_are_checked() -> None:
    grid = "grid.x={knob: optimizer.learning_rate, list: [1e-46, 1], logspace: null}"
    with pytest.raises(LabError, match=r"grid\.x: 1e-46 becomes 0 in float32; use dtype=float64"):
        config("experiment=trainability_map", "dtype=float32", grid)
    with pytest.raises(LabError, match=r"balls\.starts: 1e\+39 becomes inf in float32"):
        config("experiment=curve_restarts", "dtype=float32", "balls={starts: [0, 1e39], random: null}")
    with pytest.raises(LabError, match=r"data\.inputs: -1e\+39 becomes -inf in float32"):
        config(*BITS, "data.inputs=[[0],[1],[-1e39],[1e39]]")


def test_a_number_is_named_together_with_other_mistakes() -> None:
    with pytest.raises(LabError) as caught:
        config(*BITS, "training.epochs=0", "optimizer=adam", "optimizer.epsilon=1e-46")
    text = str(caught.value)
    assert "training.epochs: input should be greater than 0" in text
    assert "optimizer.epsilon: 1e-46 becomes 0 in float32" in text


def test_a_point_that_was_trained_before_can_still_be_read() -> None:
    plain = with_number(config(*BITS, "optimizer=adam").model_dump(), "optimizer.beta_2", 0.99999999)
    plain["tracking"] = {"name": "server", "uri": "sqlite:///SHARED.db"}
    assert isinstance(read_config(plain, trained=True), Config)
    text = refusal(plain)
    assert "optimizer.beta_2" in text
    assert "tracking.uri" in text


@given(
    st.sampled_from(["optimizer.learning_rate", "optimizer.beta_1", "optimizer.epsilon", "training.l1"]),
    st.floats(0, exclude_min=True, allow_infinity=False),
)
def test_what_is_accepted_means_the_same_in_float32(key: str, number: float) -> None:
    plain = with_number(config(*BITS, "optimizer=adam").model_dump(), key, number)
    with np.errstate(over="ignore", under="ignore"):
        held = float(np.float32(number))
    same = 0 < held < math.inf and (key != "optimizer.beta_1" or held < 1)
    if same:
        assert dict(flatten(read_config(plain)))[key] == number
    else:
        assert key in refusal(plain)
