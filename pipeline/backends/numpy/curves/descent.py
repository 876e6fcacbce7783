"""Training of a point whose data is a curve: all its balls roll at once, with one learning rate.

The run continues while any ball has not diverged; when all have, the point counts as diverged. Its loss is the mean
height of the balls that have not diverged, and the other means are over the same balls.
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

# The largest number of balls for which each has metrics of its own.
FEW = 12
# The name of the only array of a snapshot: the positions of the balls, (balls,).
POSITIONS = "balls/x"


def curve_data(config: Config) -> CurveData:
    """Return the curve of a point's config.

    Raises:
        TypeError: the data is not a curve.
    """
    if not isinstance(config.data, CurveData):
        raise TypeError(f"expected a curve as data, received {config.data.name}")
    return config.data


def starts(config: Config) -> Array:
    """Return the positions that the balls of a point start from, (balls,).

    Raises:
        ValueError: the config has no balls.
    """
    data = curve_data(config)
    balls = config.balls
    if balls is None:
        raise ValueError("expected a config with balls")
    if balls.starts is not None:
        return np.array(balls.starts, config.dtype)
    # Drawn in float64 and rounded, so that both dtypes start from the same positions.
    drawn = np.random.default_rng(config.seed).uniform(data.lowest, data.highest, balls.count)
    return drawn.astype(config.dtype)


@of_one_point
def train_balls(config: Config, _arrays: Arrays, recorder: Recorder) -> None:
    """Let the balls of one point roll. The config contains the curve; `_arrays` are not used."""
    (history,) = recorder.histories
    curve = curve_of(curve_data(config))
    first = starts(config)
    rate = config.optimizer.learning_rate
    epochs = config.training.epochs
    rolling = Rolling(curve, first, config.optimizer, schedule=config.schedule, planned=epochs)
    # Balls that roll uphill without end overflow, which is one of the results.
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
    """Return the state of all balls together. `train_balls` adds the last finite loss to the history."""
    positions = {POSITIONS: rolling.x}
    if (rolling.lost >= 0).all():
        return Standing({}, positions, int(rolling.lost.max()), np.nan)
    measures = _metrics(rolling)
    if rolling.factors is not None and rolling.updates:
        measures["learning_rate"] = rate * float(rolling.factors[rolling.updates - 1])
    return Standing(measures, positions, -1, np.nan)


def _metrics(rolling: Rolling) -> dict[str, float]:
    """Return the metrics of an update; if there are few balls, also the position and height of each."""
    heights, slopes = rolling.curve.at(rolling.x)
    left = rolling.lost < 0
    resting = rolling.settled >= 0
    # Means in float64, also for balls in float32.
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
    """Return a row for each ball: its start, its end, and its outcome."""
    outcomes = rolling.outcomes()
    minimum = rolling.minimum()
    ended = rolling.ended()
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
