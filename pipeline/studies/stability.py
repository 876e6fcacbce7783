"""Does the curvature rise to what the rate allows, and stay there? The edge of stability, in recorded curvatures.

Along the most curved direction a full-batch method is stable while the curvature is below a line: 2 / rate for gradient
descent, and what backends/curvature/breaking.py has for the other methods. With r the curvature divided by the line,

- the line is reached at the first record with r >= 1 - `NEAR`;
- the share near the line is that of the records from there on with |r - 1| <= `NEAR`.

For an adaptive method the curvature is that of the preconditioned Hessian, and the records before update `SETTLED` do
not count: its factors are then those of few gradients. With a full batch each epoch is one update. Sources: Cohen et
al. 2021 (arXiv:2103.00065), and for adaptive methods 2022 (arXiv:2207.14484).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.backends.curvature.breaking import ADAPTIVE, FORMULAS, unclear
from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.drawing.plot_data import Floats
from pipeline.points.point import Point
from pipeline.studies.knobs import NAMES, RATE, layout

# The share of the line by which a curvature near it may differ from it.
NEAR = 0.1
# From this update on an adaptive method's factors count, as in `pipeline.predict` (prediction.py, which imports Keras).
SETTLED = 100
LARGEST = "curvature/largest"
PRECONDITIONED = "curvature/preconditioned"


@dataclass(frozen=True)
class Edge:
    """The curvature of one training beside its line.

    Attributes:
        steps: (records,) the epochs, each one update, of the records that have both.
        curvatures: (records,) the largest eigenvalue of the Hessian, preconditioned for an adaptive method.
        line: (records,) the curvature that the rate allows.
        reached: index of the first record near the line or above it; None if there is none.
        losses: (records from there on,) the training losses; empty if the line was not reached.
    """

    steps: NDArray[np.int64]
    curvatures: Floats
    line: Floats
    reached: int | None
    losses: Floats

    @property
    def ratios(self) -> Floats:
        """The curvatures as multiples of the line, (records,)."""
        with np.errstate(over="ignore"):
            return self.curvatures / self.line

    @property
    def after(self) -> Floats:
        """The ratios from the record on at which the line was reached; empty if it was not."""
        if self.reached is None:
            return np.empty(0)
        return self.ratios[self.reached :]

    @property
    def share(self) -> float:
        """The share of these records that are near the line; NaN if it was not reached."""
        if self.reached is None:
            return float("nan")
        return float(np.mean(np.abs(self.after - 1) <= NEAR))

    @property
    def rises(self) -> int:
        """How many times the loss rose from one of these records to the next."""
        return int((self.losses[1:] > self.losses[:-1]).sum())

    @property
    def fell(self) -> bool:
        """Whether the loss is lower at the last of these records than at the first."""
        return len(self.losses) > 0 and bool(self.losses[-1] < self.losses[0])


def edge_of(point: Point) -> Edge:
    """Compare the recorded curvature of a point with the line of its rate; no records if either is unknown."""
    name = LARGEST
    names = point.history.names()
    if PRECONDITIONED in names or point.config.optimizer.name in ADAPTIVE:
        name = PRECONDITIONED
    steps, curvatures = point.history.series(name)
    line = allowed_curvature(point.config, point.history, steps)
    known = np.isfinite(line) & np.isfinite(curvatures) & (line > 0)
    steps = steps[known]
    curvatures = curvatures[known]
    line = line[known]
    with np.errstate(over="ignore"):
        high = curvatures / line >= 1 - NEAR
    if point.config.optimizer.name in ADAPTIVE:
        high &= steps >= SETTLED
    if not high.any():
        return Edge(steps, curvatures, line, None, np.empty(0))
    reached = int(np.argmax(high))
    recorded, losses = point.history.series("train/loss")
    return Edge(steps, curvatures, line, reached, losses[recorded >= steps[reached]])


def allowed_curvature(config: Config, history: History, steps: NDArray[np.int64]) -> Floats:
    """Return the curvature above which the rate of each step is too large, (steps,); NaN where nothing is known."""
    if unclear(config):
        return np.full(len(steps), np.nan)
    rates = np.full(len(steps), float(config.optimizer.learning_rate))
    recorded, changing = history.series("learning_rate")
    if len(recorded):
        # The rate of a schedule is recorded from the first update on.
        rates = np.interp(steps, recorded, changing)
    # A rate may be so small that the line overflows.
    with np.errstate(over="ignore", divide="ignore"):
        allowed: Floats = FORMULAS[config.optimizer.name].factor(config.optimizer) / rates
    return allowed


def are_full_batch_curvatures(points: Sequence[Point]) -> bool:
    """Whether all points are networks whose curvature was recorded while they trained on full batches."""
    configs = [point.config for point in points]
    recorded = all(one.kind == "network" and one.recording.curvature for one in configs)
    return recorded and all(one.training.batch_size is None for one in configs)


def by_networks(points: Sequence[Point]) -> dict[str, dict[float, list[Point]]]:
    """Arrange points by what they differ in besides rate and seed, such as method and activation, then by rate.

    Returns:
        The points of each rate, ascending, by a name such as `momentum with tanh`; without such differences the name
        is that of the method.
    """
    further = [knob for knob in layout(points).knobs if knob.key != RATE]
    further.sort(key=lambda knob: knob.key not in NAMES)
    found: dict[str, dict[float, list[Point]]] = {}
    for point in points:
        parts: list[str] = []
        for knob in further:
            value = knob.of(point)
            text = knob.said(value)
            # A word says what it is; a number, true or false do not.
            if isinstance(value, str) and value not in ("true", "false"):
                text = value
            parts.append(text)
        parts = parts or [point.config.optimizer.name]
        name = " with ".join(filter(None, [parts[0], " and ".join(parts[1:])]))
        found.setdefault(name, {}).setdefault(point.learning_rate, []).append(point)
    return {name: dict(sorted(rates.items())) for name, rates in found.items()}


def line_formula(config: Config) -> str:
    """Return the line of a method as a function of its rate, such as `2 / rate`; empty if there is none."""
    if unclear(config):
        return ""
    return f"{FORMULAS[config.optimizer.name].factor(config.optimizer):.3g} / rate"
