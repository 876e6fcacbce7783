"""The config of curves and balls, and the values that it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.system.errors import LabError
from tests.support.curves import changed
from tests.support.trained import config

CURVE, MAP, BITS, PAIRS = "curve_restarts", "curve_basins", "two_bits", "trainability_map"
ENDS = {"logspace": None, "linspace": {"start": 1, "stop": 2, "count": 2}, "list": None}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "code": (CURVE, {"data.expression": "open(1)"}, "data.expression: column 1: expected x"),
    "a gap": (CURVE, {"data.expression": "1 / x"}, "expression: expected a finite height from lowest"),
    "no curve": (CURVE, {"data.expression": None}, "exactly one of expression and points"),
    "two curves": (CURVE, {"data.points": [[0, 1], [1, 0], [2, 1]]}, "exactly one of expression and points"),
    "points that go back": (CURVE, {"data.expression": None, "data.points": [[0, 1], [2, 0], [1, 1]]}, "increasing x"),
    "an empty domain": (CURVE, {"data.highest": -8}, "highest: expected more than lowest"),
    "no balls": (CURVE, {"balls": None}, "balls: a curve needs balls.starts or balls.random"),
    "balls of both kinds": (CURVE, {"balls.starts": [1]}, "balls: expected exactly one of starts and random"),
    "too many balls": (CURVE, {"balls.random": 100_001}, "balls.random"),
    "balls for a network": (BITS, {"balls": {"starts": [1], "random": None}}, "balls: must be null"),
    "another loss": (CURVE, {"loss": "mean_squared_error"},
                     "loss: data=curve_five_minima, a curve, needs loss=curve_height; received mean_squared_error"),
    "the loss without a curve": (BITS, {"loss": "curve_height"}, "; received curve_height; loss=auto fits"),
    "a hidden layer": (CURVE, {"model.hidden_size": 3}, "model.hidden_size: a curve, which has no network, needs "
                       "model.hidden_size=null; received 3"),
    "weights": (CURVE, {"model.initial_weight": 3}, "model.initial_weight=0; received 3"),
    "rates by layer": (CURVE, {"optimizer.output_learning_rate": 1}, "optimizer.output_learning_rate=null"),
    "minibatches": (CURVE, {"training.batch_size": 5}, "training.batch_size=null; received 5"),
    "a penalty": (CURVE, {"training.l2": 0.1}, "training.l2=0; received 0.1"),
    "a schedule that goes by the loss": (
        CURVE, {"schedule": {"name": "reduce_on_plateau", "factor": 0.1, "patience": 2, "min_delta": 0.0}},
        "schedule: a curve, which has no network, needs a schedule that does not depend on the loss",
    ),
    "widths that scale rates": (CURVE, {"model.parametrization": "maximal_update"}, "parametrization=standard"),
    "metrics of weights": (CURVE, {"recording.weight_metrics": True}, "recording.weight_metrics=false"),
    "a map with balls": (MAP, {"balls": {"starts": [1], "random": None}},
                         "for a map (grid.x, grid.y) balls must be null"),
    "a map of other knobs": (MAP, {"grid.x": {"knob": "seed", **ENDS}},
                             "needs the knobs optimizer.learning_rate and balls.start"),
    "starts of a network": (PAIRS, {"grid.y.knob": "balls.start"}, "data=curve_bowl"),
    "a rate below 0": (MAP, {"grid.x.linspace.start": -1}, "expected optimizer.learning_rate above 0"),
}  # fmt: skip


@pytest.mark.parametrize(("experiment", "changes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_meaning_on_a_curve_is_refused(experiment: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError) as error:
        changed(experiment, changes)
    assert message in str(error.value)


def test_keras_has_no_balls() -> None:
    with pytest.raises(LabError, match="backend: a curve, which has no network, needs backend=numpy; received keras"):
        config("experiment=curve_restarts", "backend=keras")


def test_starts_may_be_below_zero_and_are_drawn_on_a_linear_axis() -> None:
    axes = changed(MAP, {"grid.y.linspace": None, "grid.y.list": [-3, 0, 2]}).grid
    assert axes is not None
    assert axes.y.values().tolist() == [-3, 0, 2]
    assert not axes.y.logarithmic
