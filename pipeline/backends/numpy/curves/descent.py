"""Training a point whose data is a curve: all its balls roll at once, one learning rate for all of them.

The run goes on while a ball is left. It has diverged, as a whole, when the last one has; its loss is the mean height of
those that are left, and so are the other means.
"""

from __future__ import annotations

import numpy as np

from pipeline.backends.numpy.curves.rolling import SETTLED, Rolling
from pipeline.backends.numpy.curves.shape import curve_of
from pipeline.backends.shared.recorder import Recorder, Standing, of_one_point
from pipeline.config.curve import CurveData
from pipeline.config.expressions import Array
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays

FEW = 12
"""Up to so many balls each is a metric of its own."""
POSITIONS = "balls/x"
"""The name of the one array of a snapshot: where the balls are, (balls,)."""


def curve_data(config: Config) -> CurveData:
    """The curve of a point's config.

    Raises:
        TypeError: it has none.
    """
    if not isinstance(config.data, CurveData):
        raise TypeError(f"expected a curve as data, received {config.data.name}")
    return config.data


def starts(config: Config) -> Array:
    """Where the balls of a point start, (balls,)."""
    data, balls = curve_data(config), config.balls
    if balls is None:
        raise ValueError("expected a config with balls")
    if balls.starts is not None:
        return np.array(balls.starts, config.dtype)
    drawn = np.random.default_rng(config.seed).uniform(data.lowest, data.highest, balls.count)
    return drawn.astype(config.dtype)


@of_one_point
def train_balls(config: Config, arrays: Arrays, recorder: Recorder) -> None:
    """Let the balls of one point roll; the curve stands in the config, and `arrays` are not looked at."""
    (history,) = recorder.histories
    curve, first = curve_of(curve_data(config)), starts(config)
    epochs, rate = config.training.epochs, config.optimizer.learning_rate
    rolling = Rolling(curve, first, config.optimizer, schedule=config.schedule, planned=epochs)
    with np.errstate(all="ignore"):
        if recorder.begun:
            rolling.restore(recorder.states[0])
        else:
            recorder.record(0, 0, _standing(rolling, rate))
        for _, epoch in recorder.stops():
            rolling.step()
            if recorder.due(epoch):
                standing = _standing(rolling, rate)
                if recorder.record(epoch, 0, standing):
                    history.last_finite_loss = history.final().get("train/loss")
                    history.tables["balls"] = _table(rolling, first)
                recorder.report(epoch, standing.measures.get("train/loss", np.nan))
            recorder.keep(epoch, lambda: [rolling.state()])


def _standing(rolling: Rolling, rate: float) -> Standing:
    """How all balls together stand; the mean height before the last of them diverged is left to the history."""
    positions = {POSITIONS: rolling.x}
    if (rolling.lost >= 0).all():
        return Standing({}, positions, int(rolling.lost.max()), np.nan)
    measures = _metrics(rolling)
    if rolling.factors is not None and rolling.updates:
        measures["learning_rate"] = rate * float(rolling.factors[rolling.updates - 1])
    return Standing(measures, positions, -1, np.nan)


def _metrics(rolling: Rolling) -> dict[str, float]:
    """What is recorded at a step; each ball's own place and height where there are few."""
    heights, slopes = rolling.curve.at(rolling.x)
    left, resting = rolling.lost < 0, rolling.settled >= 0
    values = {
        "train/loss": float(np.mean(heights[left], dtype=np.float64)),
        "gradient_norm": float(np.mean(np.abs(slopes[left]), dtype=np.float64)),
        "balls/settled_share": float(np.mean(resting)),
        "balls/diverged_share": float(np.mean(~left)),
        "balls/minima_found": float(len(np.unique(rolling.minimum()[resting]))),
        "balls/largest_x": float(np.abs(rolling.x).max()),
    }
    if len(rolling.x) <= FEW:
        for ball in np.flatnonzero(left):
            values |= {f"balls/x_{ball}": float(rolling.x[ball]), f"balls/height_{ball}": float(heights[ball])}
    return values


def _table(rolling: Rolling, first: Array) -> list[dict[str, float]]:
    """A row for each ball: where it started and ended, and how."""
    outcomes, minimum, ended = rolling.outcomes(), rolling.minimum(), rolling.ended()
    return [
        {
            "ball": ball,
            "start": float(first[ball]),
            "end": float(rolling.x[ball]),
            "outcome": int(outcome),
            "minimum": int(minimum[ball]) if outcome == SETTLED else -1,
            "updates": int(ended[ball]),
        }
        for ball, outcome in enumerate(outcomes)
    ]
