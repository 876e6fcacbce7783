"""Training a point whose data is a curve: all its balls roll at once, one learning rate for all of them.

The run goes on while a ball is left. It has diverged, as a whole, when the last one has; its loss is the mean height of
those that are left, and so are the other means.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from pipeline.backends.numpy.curves.rolling import SETTLED, Rolling
from pipeline.backends.numpy.curves.shape import curve_of
from pipeline.backends.shared.history import History, record_epochs, snapshot_epochs
from pipeline.config.curve import CurveData
from pipeline.config.expressions import Array
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays
from pipeline.points.checkpoint import Checkpoints

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


def train_balls(
    points: Sequence[Config],
    arrays: Arrays,
    histories: Sequence[History],
    report: Callable[[int, float], None],
    checkpoints: Checkpoints | None = None,
) -> None:
    """Let the balls of one point roll.

    Args:
        points: its config, alone.
        arrays: not looked at; the curve stands in the config.
        histories: its history, filled here.
        report: called at every recorded step with the step and the mean height.
        checkpoints: where to begin, and what keeps the balls; the result is the same, bit for bit, however often
            training was stopped and begun again.
    """
    (config,), (history,) = points, histories
    curve, begun = curve_of(curve_data(config)), checkpoints.epoch if checkpoints else 0
    first = starts(config)
    epochs, rate = config.training.epochs, config.optimizer.learning_rate
    rolling = Rolling(curve, first, config.optimizer, schedule=config.schedule, planned=epochs)
    recorded = record_epochs(epochs, config.recording.metrics_every)
    due, snapshots = frozenset(recorded), snapshot_epochs(recorded, config.recording.snapshots)
    before, started = history.seconds, time.perf_counter()
    with np.errstate(all="ignore"):
        if checkpoints and begun:
            rolling.restore(checkpoints.states[0])
        else:
            history.record(0, _metrics(rolling))
            history.snapshot(0, {POSITIONS: rolling.x})
        for epoch in range(begun + 1, epochs + 1):
            rolling.step()
            if epoch in due:
                lost = bool((rolling.lost >= 0).all())
                values = {} if lost else _metrics(rolling)
                if rolling.factors is not None and not lost:
                    values["learning_rate"] = rate * float(rolling.factors[epoch - 1])
                history.record(epoch, values)
                if lost or epoch in snapshots:
                    history.snapshot(epoch, {POSITIONS: rolling.x})
                report(epoch, values.get("train/loss", np.nan))
                if lost or epoch == epochs:
                    _end(epoch, rolling, first, history)
                    break
            if checkpoints and checkpoints.due():
                history.seconds = before + time.perf_counter() - started
                checkpoints.keep(epoch, [rolling.state()])
    history.seconds = before + time.perf_counter() - started


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


def _end(epoch: int, rolling: Rolling, first: Array, history: History) -> None:
    if (rolling.lost >= 0).all():
        history.diverged_step = int(rolling.lost.max())
    last = history.series("train/loss")[1]
    history.last_finite_loss = float(last[-1]) if len(last) else None
    history.epochs = epoch
    outcomes, minimum, ended = rolling.outcomes(), rolling.minimum(), rolling.ended()
    history.tables["balls"] = [
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
