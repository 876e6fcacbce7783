"""The sections of the config that make a point a descent on a curve: `data` of kind curve, and `balls`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from pipeline.backends.numpy.expressions import parse
from pipeline.sections import Number, Section, Whole

if TYPE_CHECKING:
    from pipeline.config import Config

MOST_BALLS = 100_000
MAP_KNOBS = {"optimizer.learning_rate", "balls.start"}
NETWORKS_ALONE = {
    "hidden_size": None, "further_hidden_sizes": (), "hidden_activation": "sigmoid", "output_activation": "identity",
    "bias": True, "initializer": "constant", "initial_weight": 0.0, "initial_bias": 0.0, "batch_normalization": False,
    "dropout": 0.0, "drop_connect": 0.0,
}  # fmt: skip
"""The knobs of `model` as conf/model/linear.yaml has them: no curve reads them, and another value is refused."""


class CurveData(Section):
    """A curve over one number x, which balls roll down: an expression, or points with a smooth curve through them."""

    kind: Literal["curve"]
    name: str
    expression: str | None
    points: tuple[tuple[Number, Number], ...] | None
    lowest: Number
    highest: Number

    @field_validator("expression")
    @classmethod
    def expression_is_one(cls, value: str | None) -> str | None:
        if value is not None:
            parse(value)
        return value

    @field_validator("points")
    @classmethod
    def points_go_to_the_right(
        cls, value: tuple[tuple[float, float], ...] | None
    ) -> tuple[tuple[float, float], ...] | None:
        if value is not None and (len(value) < 3 or not (np.diff([x for x, _ in value]) > 0).all()):
            raise ValueError(f"expected three or more [x, height] with rising x, received {len(value)}")
        return value

    @model_validator(mode="after")
    def is_a_curve(self) -> CurveData:
        if (self.expression is None) == (self.points is None):
            raise ValueError("expected either expression or points, and null for the other")
        if not self.lowest < self.highest or not np.isfinite(self.highest - self.lowest):
            raise ValueError(f"highest: expected more than lowest={self.lowest:g}, received {self.highest:g}")
        if self.expression is not None:
            places = np.linspace(self.lowest, self.highest, 1001)
            with np.errstate(all="ignore"):
                gaps = places[~np.isfinite(parse(self.expression)(places).value)]
            if len(gaps):
                raise ValueError(f"expression: expected a height from lowest to highest, none at x={gaps[0]:g}")
        return self


class Balls(Section):
    """Where balls start: a list of places, or so many random ones between the ends of the curve."""

    starts: Annotated[tuple[Number, ...], Field(min_length=1, max_length=MOST_BALLS)] | None
    random: Annotated[Whole, Field(ge=1, le=MOST_BALLS)] | None

    @model_validator(mode="after")
    def one_of_both(self) -> Balls:
        if (self.starts is None) == (self.random is None):
            raise ValueError("expected either starts or random, and null for the other")
        return self

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.starts) if self.starts is not None else self.random or 0


def check_curve(config: Config) -> None:
    """Refuse what has no meaning on a curve, and balls elsewhere.

    Raises:
        ValueError: naming the key, what it must be and what it was.
    """
    on_curve = config.data.kind == "curve"
    if (config.loss == "curve_height") != on_curve:
        raise ValueError(
            "loss: curve_height and a curve as data belong together; "
            f"got loss={config.loss} with data={config.data.name}"
        )
    if not on_curve:
        if config.balls is not None:
            raise ValueError(f"balls: expected null, as balls roll on a curve only; got data={config.data.name}")
        return
    if (config.balls is None) != (config.grid is not None):
        raise ValueError(
            "balls: a curve needs balls.starts or balls.random; of a map (grid.x, grid.y) balls is null, "
            "as balls.start is one of its knobs"
        )
    if config.grid is not None and {axis.knob for axis in config.grid.axes} != MAP_KNOBS:
        raise ValueError("grid: a map of a curve has the knobs optimizer.learning_rate and balls.start")
    training, recording = config.training, config.recording
    needed: list[tuple[str, object, object]] = [
        ("backend", config.backend.name, "numpy"),
        ("gradient", config.gradient, "backpropagation"),
        ("training.batch_size", training.batch_size, None),
        ("training.l1", training.l1, 0.0),
        ("training.l2", training.l2, 0.0),
        ("training.clip_value", training.clip_value, None),
        ("training.clip_norm", training.clip_norm, None),
        ("recording.weight_metrics", recording.weight_metrics, False),
        ("recording.direction_changes", recording.direction_changes, False),
        ("recording.table_epochs", recording.table_epochs, 0),
        ("optimizer.output_learning_rate", getattr(config.optimizer, "output_learning_rate", None), None),
        *((f"model.{key}", getattr(config.model, key), value) for key, value in NETWORKS_ALONE.items()),
    ]
    if config.schedule.name == "reduce_on_plateau":
        raise ValueError(
            "schedule: a curve needs one that does not go by the loss, as schedule=cosine; got reduce_on_plateau"
        )
    for key, received, accepted in needed:
        if received != accepted:
            raise ValueError(f"{key}: a curve, which has no network, needs {key}={_plain(accepted)}; got {received}")


def _plain(value: object) -> str:
    """A value as it is typed on the command line."""
    words = {None: "null", True: "true", False: "false"}
    if isinstance(value, bool) or value is None:
        return words[value]
    return "[]" if isinstance(value, Sequence) and not value else str(value)
